/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pool - the buffer pool: alignment, merging, waiting in order.
 */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "core/pool.h"

struct waiting {
	struct pool_waiter waiter;
	void *buffer;
	unsigned int order;
};

static unsigned int ready_count;

static void
on_ready(struct pool_waiter *waiter, void *buffer)
{
	struct waiting *waiting = container_of(waiter, struct waiting, waiter);

	waiting->buffer = buffer;
	waiting->order = ++ready_count;
}

static void
test_buffers_are_aligned_to_their_size_and_do_not_overlap(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct pool *pool = pool_new(loop, 64 << 20, NULL);
	static const size_t lengths[] = { 1,	   4096,    4097,   65536,
					  1 << 20, 5 << 20, 100000, POOL_MAX };
	char *buffers[8];

	(void)state;
	assert_non_null(pool);
	for (unsigned int i = 0; i < 8; i++) {
		size_t aligned = POOL_MIN;

		while (aligned < lengths[i])
			aligned *= 2;
		buffers[i] = pool_get(pool, lengths[i]);
		assert_non_null(buffers[i]);
		assert_int_equal((uintptr_t)buffers[i] % aligned, 0);
		memset(buffers[i], (int)i, lengths[i]);
	}
	for (unsigned int i = 0; i < 8; i++) {
		for (size_t at = 0; at < lengths[i]; at += 511)
			assert_int_equal(buffers[i][at], i);
		pool_put(pool, buffers[i]);
	}
	assert_int_equal(pool_in_use(pool), 0);
	pool_free(pool);
	loop_free(loop);
}

/* P2: what was cut up grows together again, whatever the order of return. */
static void
test_freed_buffers_merge_until_the_largest_fits_again(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct pool *pool = pool_new(loop, POOL_MAX, NULL);
	static void *buffers[POOL_MAX / POOL_MIN];
	size_t count = 0;
	void *all;

	(void)state;
	srandom(7);
	while ((buffers[count] = pool_get(pool, POOL_MIN)) != NULL) {
		if (++count == POOL_MAX / POOL_MIN)
			break;
	}
	assert_int_equal(count, POOL_MAX / POOL_MIN);
	assert_null(pool_get(pool, 1));
	for (size_t left = count; left > 0; left--) {
		size_t pick = (size_t)random() % left;

		pool_put(pool, buffers[pick]);
		buffers[pick] = buffers[left - 1];
	}
	all = pool_get(pool, POOL_MAX);
	assert_non_null(all);
	pool_put(pool, all);
	pool_free(pool);
	loop_free(loop);
}

static void
test_a_large_request_at_the_head_is_not_overtaken(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct pool *pool = pool_new(loop, POOL_MAX, NULL);
	void *half = pool_get(pool, POOL_MAX / 2);
	struct waiting large = { .order = 0 }, small = { .order = 0 };

	(void)state;
	ready_count = 0;
	pool_waiter_init(&large.waiter, on_ready);
	pool_waiter_init(&small.waiter, on_ready);
	pool_wait(pool, &large.waiter, POOL_MAX);
	pool_wait(pool, &small.waiter, POOL_MIN);
	loop_run_until_idle(loop);
	assert_int_equal(small.order, 0);
	assert_null(pool_get(pool, POOL_MIN));

	pool_put(pool, half);
	loop_run_until_idle(loop);
	assert_int_equal(large.order, 1);
	assert_int_equal(small.order, 0);
	pool_put(pool, large.buffer);
	loop_run_until_idle(loop);
	assert_int_equal(small.order, 2);
	pool_put(pool, small.buffer);
	pool_free(pool);
	loop_free(loop);
}

static void
test_a_waiter_that_gives_up_lets_the_next_go(void **state)
{
	struct loop *loop = loop_new_simulated();
	struct pool *pool = pool_new(loop, POOL_MAX, NULL);
	void *half = pool_get(pool, POOL_MAX / 2);
	struct waiting large = { .order = 0 }, small = { .order = 0 };

	(void)state;
	ready_count = 0;
	pool_waiter_init(&large.waiter, on_ready);
	pool_waiter_init(&small.waiter, on_ready);
	pool_wait(pool, &large.waiter, POOL_MAX);
	pool_wait(pool, &small.waiter, POOL_MIN);
	pool_cancel(pool, &large.waiter);
	loop_run_until_idle(loop);
	assert_int_equal(large.order, 0);
	assert_int_equal(small.order, 1);
	pool_put(pool, small.buffer);
	pool_put(pool, half);
	pool_free(pool);
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_buffers_are_aligned_to_their_size_and_do_not_overlap),
		cmocka_unit_test(
			test_freed_buffers_merge_until_the_largest_fits_again),
		cmocka_unit_test(
			test_a_large_request_at_the_head_is_not_overtaken),
		cmocka_unit_test(test_a_waiter_that_gives_up_lets_the_next_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

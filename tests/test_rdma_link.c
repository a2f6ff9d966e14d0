/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rdma_link - two links over RDMA, while the fake device does wrong: what
 * the link promises (K1 to K6) holds, whatever the transport below it meets.
 * Each seed is another story; SEED=n tells that one again.
 */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io.h"
#include "core/pool.h"
#include "tests/fake_verbs.h"
#include "tests/link_host.h"
#include "tests/rdma_pair.h"

#define URL	   "rdma://" PAIR_URL
#define SEEDS	   20
#define STEPS	   40
#define POOL_BYTES (32u << 20)

struct two {
	struct loop *loop;
	struct io *io;
	struct pool *pool;
	struct host *a, *b;
	uint64_t random;
};

static unsigned int
draw(struct two *two, unsigned int below)
{
	two->random ^= two->random << 13;
	two->random ^= two->random >> 7;
	two->random ^= two->random << 17;
	return (unsigned int)(two->random >> 33) % below;
}

static void
begin(struct two *two, uint64_t seed)
{
	struct transport_context context = {
		.key = seed % 2 ? (const unsigned char *)PAIR_KEY : NULL,
		.key_length = seed % 2 ? strlen(PAIR_KEY) : 0,
	};

	memset(two, 0, sizeof(*two));
	two->random = seed * 0x9e3779b97f4a7c15ull | 1;
	fabric_open();
	fabric.inline_max = draw(two, 2) ? 400 : 0;
	fabric.wr_max = draw(two, 3) ? 1024 : 16;
	two->loop = loop_new(NULL);
	loop_set_busy_poll(two->loop, 100 * NS_PER_US);
	two->io = io_new(two->loop, "libaio", NULL);
	two->pool = pool_new(two->loop, POOL_BYTES, NULL);
	assert_non_null(two->pool);
	context.loop = two->loop;
	context.io = two->io;
	context.pool = two->pool;
	two->b = host_new_in(&context, URL, NULL, false);
	two->a = host_new_in(&context, NULL, URL, true);
}

static void
end(struct two *two)
{
	two->a = host_free(two->a);
	two->b = host_free(two->b);
	io_drain(two->io);
	assert_int_equal(pool_in_use(two->pool), 0);
	pool_free(two->pool);
	io_free(two->io);
	loop_free(two->loop);
	fabric_close();
}

static void
one_fault(struct two *two)
{
	switch (draw(two, 10)) {
	case 0:
		fabric.fail_send_in = 1 + (int)draw(two, 20);
		break;
	case 1:
		fabric.fail_receive_in = 1 + (int)draw(two, 20);
		break;
	case 2:
		fabric.cut_in = 1 + (int)draw(two, 40);
		break;
	case 3:
		fabric_cut();
		break;
	case 4:
		fabric.damage = true;
		break;
	case 5:
		fabric.starve = true;
		break;
	case 6:
		fabric.hold_sends = true;
		break;
	case 7:
		fabric.hold_receives = true;
		break;
	case 8:
		fabric.hold_wire = true;
		break;
	case 9:
		fabric.no_flush = draw(two, 2);
		fabric.flush_twice = draw(two, 2);
		break;
	}
}

/* From now on all goes well. */
static void
mend(void)
{
	fabric.fail_send_in = 0;
	fabric.fail_receive_in = 0;
	fabric.cut_in = 0;
	fabric.damage = false;
	fabric.starve = false;
	fabric.no_flush = false;
	fabric.flush_twice = false;
	fabric_release();
}

/* Every message arrived once and in order, and came back well, in one
 * session. */
static void
assert_all_well(const struct two *two)
{
	assert_int_equal(two->a->lost + two->b->lost, 0);
	assert_int_equal(two->a->up, 1);
	assert_int_equal(two->b->got_count, two->a->sent_count);
	for (unsigned int i = 0; i < two->b->got_count; i++)
		assert_int_equal(two->b->got[i], i);
	for (unsigned int i = 0; i < two->a->sent_count; i++) {
		assert_int_equal(two->a->sends[i].ended, 1);
		assert_int_equal(two->a->sends[i].status, 0);
	}
}

static void
one_story(uint64_t seed)
{
	struct two two;

	begin(&two, seed);
	pair_until(&two, two.a->up == 1);
	for (int step = 0; step < STEPS; step++) {
		host_send(two.a, 1 + draw(&two, 40));
		if (draw(&two, 3) == 0)
			one_fault(&two);
		for (unsigned int i = draw(&two, 6); i > 0; i--)
			(void)loop_turn(two.loop, NS_PER_MS);
		if (draw(&two, 3) == 0)
			mend();
	}
	mend();
	pair_until(&two, two.a->ended_count == two.a->sent_count);
	assert_all_well(&two);
	end(&two);
}

static void
test_a_session_outlives_what_the_device_does_wrong(void **state)
{
	const char *only = getenv("SEED");

	(void)state;
	if (only != NULL) {
		one_story(strtoull(only, NULL, 10));
		return;
	}
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		printf("seed %d\n", (int)seed);
		one_story(seed);
	}
}

/* The device is removed and comes back: within the grace time it costs
 * nothing. */
static void
test_a_removed_device_costs_a_pause(void **state)
{
	struct two two;

	(void)state;
	begin(&two, 1);
	pair_until(&two, two.a->up == 1);
	host_send(two.a, 100);
	fabric_remove();
	pair_until(&two, two.a->broken == 1 && fabric.regions == 0);
	host_send(two.a, 100);
	fabric_return();
	pair_until(&two, two.a->ended_count == 200);
	assert_all_well(&two);
	end(&two);
}

/* M7: who leaves hears of the end when its goodbye is out, or it would cut it
 * off itself. */
static void
test_a_goodbye_is_out_before_the_end_is_told(void **state)
{
	struct two two;

	(void)state;
	begin(&two, 2);
	pair_until(&two, two.a->up == 1);
	fabric.hold_wire = true;
	link_goodbye(two.a->link, "it leaves");
	for (int i = 0; i < 20; i++)
		(void)loop_turn(two.loop, NS_PER_MS);
	assert_int_equal(two.a->lost, 0);
	assert_true(link_is_parting(two.a->link));
	fabric_release();
	pair_until(&two, two.a->lost == 1 && two.b->goodbyes == 1);
	assert_false(link_is_parting(two.a->link));
	end(&two);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_a_session_outlives_what_the_device_does_wrong),
		cmocka_unit_test(test_a_removed_device_costs_a_pause),
		cmocka_unit_test(test_a_goodbye_is_out_before_the_end_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

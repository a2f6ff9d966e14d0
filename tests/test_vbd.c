/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_vbd - the life of requests and the states of a disk: V1 to V5 of
 * core/vbd.h, R1 and R2 of core/request.h.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/reason.h"
#include "core/vbd.h"
#include "tests/fake_driver.h"

#define REQUESTS 600

struct ask {
	struct request request;
	int result; /* 1 until done */
	unsigned int done, released;
	unsigned int order;
	char data[8192];
};

struct world {
	struct loop *loop;
	struct vbd *vbd;
	struct fake *fake; /* the leaf */
	struct ask asks[REQUESTS];
	unsigned int done_count;
	struct vbd_waiter waiter;
	unsigned int waited;
	int waiter_error;
	char waiter_reason[REASON_MAX];
};

static struct world world;

static void
on_done(struct request *request, int result)
{
	struct ask *ask = container_of(request, struct ask, request);

	ask->result = result;
	ask->done++;
	ask->order = ++world.done_count;
}

static void
on_release(struct request *request)
{
	struct ask *ask = container_of(request, struct ask, request);

	assert_int_equal(ask->done, 1); /* R2: after on_done */
	ask->released++;
}

static void
on_waited(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	(void)waiter;
	world.waited++;
	world.waiter_error = error;
	if (reason != NULL)
		(void)snprintf(world.waiter_reason, sizeof(world.waiter_reason),
			       "%s", reason->text);
}

static void
find_leaf(void)
{
	struct image_stack *stack = vbd_images(world.vbd);

	world.fake = fake_of(stack, stack->count - 1);
}

static void
open_disk(const char *image, td_flag_t flags)
{
	struct vbd_options options = { .image = image,
				       .flags = flags,
				       .timeout_s = 10 };

	assert_int_equal(vbd_open(world.vbd, &options, NULL), 0);
	find_leaf();
}

static int
set_up(void **state)
{
	(void)state;
	memset(&world, 0, sizeof(world));
	log_set_level(-1);
	world.loop = loop_new_simulated();
	world.vbd = vbd_new(world.loop, NULL, fake_types);
	world.waiter.on_done = on_waited;
	open_disk("fake:64", 0);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	if (vbd_state(world.vbd) != VBD_CLOSED) {
		if (vbd_state(world.vbd) != VBD_PAUSED) {
			find_leaf(); /* another one after an unpause */
			world.fake->hold = false;
			world.fake->error = 0;
			world.fake->busy = 0;
		}
		vbd_close(world.vbd, &world.waiter);
		loop_run_until_idle(world.loop);
	}
	vbd_free(world.vbd);
	loop_free(world.loop);
	return 0;
}

static struct ask *
submit(unsigned int index, int op, uint64_t offset, uint64_t length,
       uint32_t flags)
{
	struct ask *ask = &world.asks[index];

	ask->request.op = op;
	ask->request.offset = offset;
	ask->request.length = length;
	ask->request.flags = flags;
	ask->request.buffer = ask->data;
	ask->request.on_done = on_done;
	ask->request.on_release = on_release;
	ask->result = 1;
	ask->done = ask->released = 0;
	vbd_submit(world.vbd, &ask->request);
	return ask;
}

static void
run(void)
{
	loop_run_until_idle(world.loop);
}

static void
test_a_request_is_done_and_released_once_and_not_inside_submit(void **state)
{
	struct ask *write, *read;

	(void)state;
	memset(world.asks[0].data, 7, 4096);
	write = submit(0, TD_OP_WRITE, 512, 4096, 0);
	assert_int_equal(write->done, 0); /* R1 */
	run();
	assert_int_equal(write->result, 0);
	assert_int_equal(write->released, 1);
	read = submit(1, TD_OP_READ, 512, 4096, 0);
	run();
	assert_int_equal(read->result, 0);
	assert_memory_equal(read->data, write->data, 4096);
}

static void
test_bad_requests_end_with_the_right_errno(void **state)
{
	static const struct {
		int op;
		uint64_t offset, length;
		int error;
	} rows[] = {
		{ TD_OP_READ, 0, 0, -EINVAL },
		{ TD_OP_READ, 1, 512, -EINVAL },
		{ TD_OP_READ, 0, 511, -EINVAL },
		{ TD_OP_READ, 64 * 512, 512, -EINVAL },
		{ TD_OP_READ, UINT64_MAX - 511, 512, -EINVAL },
		{ TD_OP_READ, 512, UINT64_MAX - 511, -EINVAL },
		{ TD_OP_WRITE, 64 * 512, 512, -ENOSPC },
		{ TD_OP_WRITE, 63 * 512, 1024, -ENOSPC },
		{ TD_OP_DISCARD, 0, 512, -EOPNOTSUPP },
		{ TD_OP_DISCARD, 0, UINT64_C(1) << 50, -EINVAL },
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ask *ask = submit(i, rows[i].op, rows[i].offset,
					 rows[i].length, 0);

		run();
		assert_int_equal(ask->result, rows[i].error);
		assert_int_equal(ask->released, 1);
	}
}

/* V1, A4 */
static void
test_overlapping_writes_are_never_in_flight_together(void **state)
{
	struct ask *first, *second, *third, *apart, *read;

	(void)state;
	world.fake->hold = true;
	first = submit(0, TD_OP_WRITE, 0, 4096, 0);
	second = submit(1, TD_OP_WRITE, 2048, 4096, 0);
	third = submit(2, TD_OP_WRITE, 4096, 4096, 0); /* only with second */
	apart = submit(3, TD_OP_WRITE, 16384, 512, 0);
	read = submit(4, TD_OP_READ, 0, 4096, 0);
	run();
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 2);
	assert_int_equal(world.fake->queued[TD_OP_READ], 1);
	while (world.fake->held_count > 0) {
		fake_release(world.fake, world.fake->held_count - 1, 0);
		run();
	}
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 4);
	assert_true(first->order < second->order);
	assert_true(second->order < third->order);
	assert_int_equal(apart->result, 0);
	assert_int_equal(read->result, 0);
}

/* V2 */
static void
test_no_more_than_the_depth_is_in_flight(void **state)
{
	(void)state;
	world.fake->hold = true;
	for (unsigned int i = 0; i < REQUESTS; i++)
		submit(i, TD_OP_READ, 0, 512, 0);
	run();
	assert_int_equal(world.fake->held_count, VBD_DEPTH);
	assert_int_equal(vbd_pending(world.vbd), REQUESTS);
	while (world.fake->held_count > 0) {
		fake_release(world.fake, 0, 0);
		run();
		assert_in_range(world.fake->held_count, 0, VBD_DEPTH);
	}
	for (unsigned int i = 0; i < REQUESTS; i++) {
		assert_int_equal(world.asks[i].done, 1);
		assert_int_equal(world.asks[i].released, 1);
	}
}

/* V3, D3 */
static void
test_busy_is_tried_again_and_other_errors_are_not(void **state)
{
	struct ask *ask;

	(void)state;
	world.fake->busy = 3;
	ask = submit(0, TD_OP_WRITE, 0, 512, 0);
	loop_advance(world.loop, NS_PER_S);
	assert_int_equal(ask->result, 0);
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 4);

	world.fake->error = -EIO;
	ask = submit(0, TD_OP_WRITE, 0, 512, 0);
	loop_advance(world.loop, NS_PER_S);
	assert_int_equal(ask->result, -EIO);
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 5);
}

static void
test_a_driver_that_is_busy_for_ever_times_out(void **state)
{
	struct ask *ask;

	(void)state;
	world.fake->busy = 1000000;
	ask = submit(0, TD_OP_WRITE, 0, 512, 0);
	loop_advance(world.loop, 9 * NS_PER_S);
	assert_int_equal(ask->done, 0);
	loop_advance(world.loop, 2 * NS_PER_S);
	assert_int_equal(ask->result, -ETIMEDOUT);
	assert_int_equal(ask->released, 1);
}

/* V4, F4 of the replication rules */
static void
test_a_request_past_its_time_is_done_but_keeps_buffer_and_range(void **state)
{
	struct ask *hung, *behind;

	(void)state;
	world.fake->hold = true;
	hung = submit(0, TD_OP_WRITE, 0, 4096, 0);
	loop_advance(world.loop, 11 * NS_PER_S);
	assert_int_equal(hung->result, -ETIMEDOUT);
	assert_int_equal(hung->released, 0);

	behind = submit(1, TD_OP_WRITE, 1024, 512, 0);
	run();
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 1);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(hung->done, 1);
	assert_int_equal(hung->released, 1);
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 2);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(behind->result, 0);
}

/* D1: a part that never comes back shows as a time-out that names its driver */
static void
test_a_lost_part_is_named_by_the_time_limit(void **state)
{
	struct ask *ask;

	(void)state;
	world.fake->lose = 1;
	ask = submit(0, TD_OP_WRITE, 0, 4096, 0);
	loop_advance(world.loop, 11 * NS_PER_S);
	assert_int_equal(ask->result, -ETIMEDOUT);
	assert_ptr_equal(image_stack_holder(vbd_images(world.vbd)),
			 vbd_images(world.vbd)->top);
	/* give it back by hand, so that the disk can be closed */
	td_complete_request(
		(td_request_t){ .op = TD_OP_WRITE,
				.image = vbd_images(world.vbd)->top,
				.sec = 7,
				.secs = 1,
				.cb = vbd_images(world.vbd)->core_callback,
				.cb_data = &ask->request,
				.id = ask->request.id },
		0);
	run();
	assert_int_equal(ask->released, 1);
}

static void
test_fua_is_a_write_and_then_a_flush(void **state)
{
	struct ask *ask;

	(void)state;
	world.fake->hold = true;
	ask = submit(0, TD_OP_WRITE, 0, 512, REQUEST_FUA);
	run();
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 0);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(ask->done, 0);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 1);
	fake_release(world.fake, 0, -EIO);
	run();
	assert_int_equal(ask->result, -EIO);
}

static void
test_write_zeroes_without_a_driver_for_it_writes_zeros(void **state)
{
	struct ask *ask;

	(void)state;
	memset(world.fake->bytes, 7, 64 * 512);
	ask = submit(0, TD_OP_WRITE_ZEROES, 1024, 30 * 512, 0);
	run();
	assert_int_equal(ask->result, 0);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(world.fake->bytes[i * 512 + 5],
				 i >= 2 && i < 32 ? 0 : 7);
	ask = submit(0, TD_OP_WRITE_ZEROES, 0, 512, REQUEST_FAST);
	run();
	assert_int_equal(ask->result, -EOPNOTSUPP);
}

static void
test_pause_lets_requests_end_flushes_and_makes_new_ones_wait(void **state)
{
	struct ask *before, *during;

	(void)state;
	world.fake->hold = true;
	before = submit(0, TD_OP_WRITE, 0, 512, 0);
	vbd_pause(world.vbd, &world.waiter);
	run();
	during = submit(1, TD_OP_READ, 0, 512, 0);
	run();
	assert_int_equal(vbd_state(world.vbd), VBD_PAUSING);
	assert_int_equal(world.fake->queued[TD_OP_READ], 0);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(before->result, 0);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 1);
	assert_int_equal(world.waited, 0);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(world.waited, 1);
	assert_int_equal(vbd_state(world.vbd), VBD_PAUSED);

	loop_advance(world.loop, 1000 * NS_PER_S); /* waiting is no time-out */
	assert_int_equal(during->done, 0);
	assert_int_equal(vbd_unpause(world.vbd, NULL, NULL), 0);
	run();
	assert_int_equal(during->result, 0);
}

static void
test_a_pause_whose_flush_fails_is_called_off_and_says_so(void **state)
{
	struct ask *ask;

	(void)state;
	world.fake->error = -EIO;
	vbd_pause(world.vbd, &world.waiter);
	run();
	assert_int_equal(world.waiter_error, -EIO);
	assert_non_null(strstr(world.waiter_reason, "flush failed"));
	assert_int_equal(vbd_state(world.vbd), VBD_RUNNING);
	world.fake->error = 0;
	ask = submit(0, TD_OP_READ, 0, 512, 0);
	run();
	assert_int_equal(ask->result, 0);
}

static void
test_unpause_refuses_a_smaller_disk_and_stays_paused(void **state)
{
	struct reason reason = { .text = "" };

	(void)state;
	vbd_pause(world.vbd, &world.waiter);
	run();
	assert_int_equal(vbd_unpause(world.vbd, "fake:32", &reason),
			 -EMEDIUMTYPE);
	assert_non_null(strstr(reason.text, "stays paused"));
	assert_int_equal(vbd_unpause(world.vbd, "fake:64,4k", &reason),
			 -EMEDIUMTYPE);
	assert_int_equal(vbd_state(world.vbd), VBD_PAUSED);
	assert_int_equal(vbd_unpause(world.vbd, "fake:128", &reason), 0);
	assert_int_equal(vbd_size(world.vbd), 128 * 512);
	assert_string_equal(vbd_image_name(world.vbd), "fake:128");
}

static void
test_close_ends_the_waiting_and_waits_for_the_held(void **state)
{
	struct ask *held, *waiting, *late;

	(void)state;
	world.fake->hold = true;
	held = submit(0, TD_OP_WRITE, 0, 512, 0);
	waiting = submit(1, TD_OP_WRITE, 0, 512, 0);
	vbd_close(world.vbd, &world.waiter);
	late = submit(2, TD_OP_READ, 0, 512, 0);
	run();
	assert_int_equal(waiting->result, -ESHUTDOWN);
	assert_int_equal(late->result, -ESHUTDOWN);
	assert_int_equal(held->done, 0);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(held->result, 0);
	fake_release(world.fake, 0, 0); /* the flush */
	run();
	assert_int_equal(world.waited, 1);
	assert_int_equal(vbd_state(world.vbd), VBD_CLOSED);
}

static void
test_drain_waits_for_everything_submitted(void **state)
{
	(void)state;
	world.fake->hold = true;
	submit(0, TD_OP_WRITE, 0, 512, 0);
	submit(1, TD_OP_WRITE, 0, 512, 0);
	vbd_drain(world.vbd, &world.waiter);
	run();
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(world.waited, 0);
	fake_release(world.fake, 0, 0);
	run();
	assert_int_equal(world.waited, 1);
	world.fake->hold = false;
}

static void
test_resize_grows_and_refuses_to_shrink(void **state)
{
	struct reason reason = { .text = "" };
	struct ask *ask;

	(void)state;
	assert_int_equal(vbd_resize(world.vbd, 32 * 512, &reason), -EINVAL);
	assert_non_null(strstr(reason.text, "cannot shrink"));
	assert_int_equal(vbd_resize(world.vbd, 1000, &reason), -EINVAL);
	assert_int_equal(vbd_resize(world.vbd, 128 * 512, &reason), 0);
	ask = submit(0, TD_OP_WRITE, 127 * 512, 512, 0);
	run();
	assert_int_equal(ask->result, 0);
}

static void
test_a_read_only_disk_takes_no_change(void **state)
{
	struct ask *ask;

	(void)state;
	vbd_close(world.vbd, &world.waiter);
	run();
	open_disk("fake:64", TD_OPEN_RDONLY);
	assert_true(vbd_is_read_only(world.vbd));
	ask = submit(0, TD_OP_WRITE, 0, 512, 0);
	run();
	assert_int_equal(ask->result, -EPERM);
	ask = submit(0, TD_OP_WRITE_ZEROES, 0, 512, 0);
	run();
	assert_int_equal(ask->result, -EPERM);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_is_done_and_released_once_and_not_inside_submit),
		TEST(test_bad_requests_end_with_the_right_errno),
		TEST(test_overlapping_writes_are_never_in_flight_together),
		TEST(test_no_more_than_the_depth_is_in_flight),
		TEST(test_busy_is_tried_again_and_other_errors_are_not),
		TEST(test_a_driver_that_is_busy_for_ever_times_out),
		TEST(test_a_request_past_its_time_is_done_but_keeps_buffer_and_range),
		TEST(test_a_lost_part_is_named_by_the_time_limit),
		TEST(test_fua_is_a_write_and_then_a_flush),
		TEST(test_write_zeroes_without_a_driver_for_it_writes_zeros),
		TEST(test_pause_lets_requests_end_flushes_and_makes_new_ones_wait),
		TEST(test_a_pause_whose_flush_fails_is_called_off_and_says_so),
		TEST(test_unpause_refuses_a_smaller_disk_and_stays_paused),
		TEST(test_close_ends_the_waiting_and_waits_for_the_held),
		TEST(test_drain_waits_for_everything_submitted),
		TEST(test_resize_grows_and_refuses_to_shrink),
		TEST(test_a_read_only_disk_takes_no_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

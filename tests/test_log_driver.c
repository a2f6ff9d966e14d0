/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_log_driver - the filter that TD_OPEN_LOG_DIRTY stacks: that it stands on
 * top, and that no change touches the image before its intent is durable (A2).
 */
#include "tests/test.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "core/image.h"
#include "core/reason.h"
#include "replication/log.h"
#include "replication/remus.h"
#include "replication/tracker.h"
#include "tests/fake_driver.h"
#include "tests/fake_store.h"

#define SECTORS 32768 /* 16 MiB: 4 extents */

static struct loop *loop;
static struct image_stack stack;
static struct fake_file file;
static struct driver_type types[8];
static unsigned int ended;
static int last_error;

static struct store *
open_store(struct io *io, const char *path, bool create, struct reason *reason)
{
	(void)io;
	(void)path;
	(void)create;
	(void)reason;
	return fake_store_open(&file, loop);
}

const struct remus_program remus_program = { .open_store = open_store };

static void
on_done(td_request_t treq, int res)
{
	ended += (unsigned int)treq.secs;
	if (res < 0)
		last_error = res;
}

static void
run(void)
{
	loop_run_until_idle(loop);
	while (loop_next(loop) <= loop_now(loop) + NS_PER_S) {
		loop_advance(loop, loop_next(loop) - loop_now(loop));
		loop_run_until_idle(loop);
	}
}

static int
setup(void **state)
{
	size_t count = 0;

	(void)state;
	while (fake_types[count].name != NULL) {
		types[count] = fake_types[count];
		count++;
	}
	types[count] =
		(struct driver_type){ "log", DISK_TYPE_LOG, &tapdisk_log, "" };
	loop = loop_new_simulated();
	fake_file_init(&file, 1);
	file.delay_ns = NS_PER_MS;
	image_stack_init(&stack, loop, NULL, types, on_done);
	ended = 0;
	last_error = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	image_stack_close(&stack, NULL);
	image_stack_done(&stack);
	fake_file_done(&file);
	loop = loop_free(loop);
	return 0;
}

static void
open_tracked(const char *name)
{
	struct reason reason = { "" };

	assert_int_equal(
		image_stack_open(&stack, name, TD_OPEN_LOG_DIRTY, &reason), 0);
	run();
	assert_int_equal(stack.service, TD_SERVICE_OPEN);
}

static void
queue(int op, td_sector_t sec, int secs)
{
	static char bytes[1 << 20];

	td_queue_request(stack.top, (td_request_t){ .op = op,
						    .buf = bytes,
						    .sec = sec,
						    .secs = secs,
						    .cb = on_done });
}

static struct fake *
leaf(void)
{
	return fake_of(&stack, stack.leaf);
}

static void
test_the_flag_puts_it_on_top_once(void **state)
{
	struct reason reason = { "" };

	(void)state;
	open_tracked("log:meta=x|able:32768");
	assert_int_equal(stack.count, 2);
	image_stack_close(&stack, NULL);
	open_tracked("pass:|log:meta=x|able:32768");
	assert_int_equal(stack.count, 3);
	image_stack_close(&stack, NULL);
	/* put there by itself it has no file to lay metadata beside here */
	assert_int_equal(image_stack_open(&stack, "able:32768",
					  TD_OPEN_LOG_DIRTY, &reason),
			 -EINVAL);
	assert_non_null(strstr(reason.text, "log:"));
	assert_non_null(strstr(reason.text, "meta=FILE"));
}

static void
test_no_change_touches_the_image_before_its_intent_is_durable(void **state)
{
	static const int ops[] = { TD_OP_WRITE, TD_OP_DISCARD,
				   TD_OP_WRITE_ZEROES };

	(void)state;
	open_tracked("log:meta=x|able:32768");
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int flushes = file.flushes;

		queue(ops[i], i * 8192ull, 8);
		loop_run_until_idle(loop);
		assert_int_equal(leaf()->queued[ops[i]], 0);
		run();
		assert_int_equal(leaf()->queued[ops[i]], 1);
		assert_int_equal(file.flushes, flushes + 1);
		/* and once it is, nothing waits */
		queue(ops[i], i * 8192ull + 16, 8);
		assert_int_equal(leaf()->queued[ops[i]], 2);
	}
	run();
	assert_int_equal(ended, 48);
	assert_int_equal(last_error, 0);
}

/* What the command fails with, as soon as it does. */
static const char *
refusal(const char *command, int error)
{
	static struct reason reason;
	json_t *result = json_object();

	assert_int_equal(
		image_stack_command(&stack, "log", command, result, &reason),
		error);
	json_decref(result);
	return reason.text;
}

static void
test_who_asks_too_early_or_too_late_is_told_so(void **state)
{
	struct reason reason = { "" };

	(void)state;
	assert_int_equal(image_stack_open(&stack, "log:meta=x|able:32768",
					  TD_OPEN_LOG_DIRTY, &reason),
			 0);
	assert_non_null(strstr(refusal("changed monday", -EBUSY), "try again"));
	run();
	assert_non_null(strstr(refusal("changed monday", -ENOENT), "monday"));
	file.fail_write_at = file.writes + 1;
	file.error = -ENOSPC;
	queue(TD_OP_WRITE, 0, 8);
	run();
	assert_non_null(
		strstr(refusal("changed monday", -EIO), "No space left"));
}

static void
test_with_its_metadata_lost_no_change_is_taken(void **state)
{
	(void)state;
	open_tracked("log:meta=x|able:32768");
	file.fail_write_at = file.writes + 1;
	queue(TD_OP_WRITE, 0, 8);
	run();
	assert_int_equal(last_error, -EIO);
	assert_int_equal(ended, 8);
	assert_int_equal(leaf()->queued[TD_OP_WRITE], 0);
	assert_int_equal(stack.service, TD_SERVICE_REFUSED);
	queue(TD_OP_WRITE, 0, 8);
	run();
	assert_int_equal(leaf()->queued[TD_OP_WRITE], 0);
	queue(TD_OP_READ, 0, 8);
	run();
	assert_int_equal(leaf()->queued[TD_OP_READ], 1);
}

/* It was flushing the image for extents that left, when it lost them. */
static void
test_with_its_metadata_lost_it_ends_when_the_image_is_idle(void **state)
{
	unsigned int before;

	(void)state;
	open_tracked("log:meta=x|able:32768");
	queue(TD_OP_WRITE, 0, 8);
	run();
	leaf()->hold = true;
	for (int i = 0; i < 12 && leaf()->held_count == 0; i++) {
		loop_advance(loop, NS_PER_S);
		run();
	}
	assert_int_equal(leaf()->held_count, 1);
	file.fail_write_at = file.writes + 1;
	queue(TD_OP_WRITE, 16384, 8);
	run();
	assert_int_equal(stack.service, TD_SERVICE_REFUSED);
	td_queue_request(stack.top, (td_request_t){ .op = TD_OP_FLUSH,
						    .secs = 1,
						    .flags = TD_REQUEST_LAST,
						    .cb = on_done });
	run();
	assert_int_equal(leaf()->held_count, 2);
	before = ended;
	fake_release(leaf(), 1, 0);
	run();
	assert_int_equal(ended, before);
	fake_release(leaf(), 0, 0);
	run();
	assert_int_equal(ended, before + 1);
}

static void
test_a_change_longer_than_the_log_goes_in_parts(void **state)
{
	(void)state;
	open_tracked("log:meta=x,extent=64K,extents=64|able:32768");
	queue(TD_OP_WRITE_ZEROES, 0, SECTORS);
	run();
	assert_int_equal(ended, SECTORS);
	assert_int_equal(last_error, 0);
	assert_true(leaf()->queued[TD_OP_WRITE_ZEROES] >= 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_the_flag_puts_it_on_top_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_no_change_touches_the_image_before_its_intent_is_durable,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_who_asks_too_early_or_too_late_is_told_so, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_with_its_metadata_lost_no_change_is_taken, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			test_with_its_metadata_lost_it_ends_when_the_image_is_idle,
			setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_change_longer_than_the_log_goes_in_parts, setup,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

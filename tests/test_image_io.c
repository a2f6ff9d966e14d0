/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_image_io - a replica's own reads and writes of the image below it.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "replication/image_io.h"
#include "tests/fake_driver.h"

#define SECTORS 8192
#define MIB	(1u << 20)

struct world {
	struct loop *loop;
	struct image_stack stack;
	struct image_io io;
	struct image_op op;
	char *buffer;
	unsigned int ended;
	int error;
	bool inside; /* image_io_start() */
};

static struct world world;

static void
on_part_of_nobody(td_request_t treq, int res)
{
	(void)treq;
	(void)res;
	fail_msg("the core's callback is not the replica's");
}

static void
open_on(const char *name)
{
	int r;

	memset(&world, 0, sizeof(world));
	world.loop = loop_new_simulated();
	image_stack_init(&world.stack, world.loop, NULL, fake_types,
			 on_part_of_nobody);
	r = image_stack_open(&world.stack, name, 0, NULL);
	assert_int_equal(r, 0);
	image_io_init(&world.io, world.loop, world.stack.top);
	world.buffer = malloc(4 * MIB);
	assert_non_null(world.buffer);
}

static int
setup(void **state)
{
	(void)state;
	open_on("fake:8192");
	return 0;
}

static int
setup_able(void **state)
{
	(void)state;
	open_on("able:8192");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	image_io_done(&world.io);
	image_stack_close(&world.stack, NULL);
	image_stack_done(&world.stack);
	loop_free(world.loop);
	free(world.buffer);
	return 0;
}

static struct fake *
leaf(void)
{
	return fake_of(&world.stack, world.stack.leaf);
}

static void
on_done(struct image_op *op, int error)
{
	assert_ptr_equal(op, &world.op);
	assert_false(world.inside);
	world.ended++;
	world.error = error;
}

static void
start(int op, uint64_t offset, uint64_t length)
{
	world.op = (struct image_op){
		.op = op,
		.offset = offset,
		.length = length,
		.buffer = world.buffer,
		.on_done = on_done,
	};
	world.ended = 0;
	world.inside = true;
	image_io_start(&world.io, &world.op);
	world.inside = false;
	loop_run_until_idle(world.loop);
}

/* Shortages take time to go by. */
static void
pass(unsigned int ms)
{
	while (ms-- > 0 && world.ended == 0) {
		loop_advance(world.loop, NS_PER_MS);
		loop_run_until_idle(world.loop);
	}
}

static void
assert_ended(int error)
{
	assert_int_equal(world.ended, 1);
	assert_int_equal(world.error, error);
	assert_int_equal(world.io.pending, 0);
}

static void
test_what_is_written_is_read_back(void **state)
{
	(void)state;
	memset(world.buffer, 'w', 64 * 512);
	start(TD_OP_WRITE, 4096, 64 * 512);
	assert_ended(0);
	memset(world.buffer, 0, 64 * 512);
	start(TD_OP_READ, 4096, 64 * 512);
	assert_ended(0);
	for (int i = 0; i < 64 * 512; i++)
		assert_int_equal(world.buffer[i], 'w');
	assert_int_equal(leaf()->bytes[4095], 0);
	assert_int_equal(leaf()->bytes[4096 + 64 * 512], 0);
	start(TD_OP_FLUSH, 0, 0);
	assert_ended(0);
}

static void
test_an_error_ends_it_once(void **state)
{
	(void)state;
	leaf()->error = -EIO;
	start(TD_OP_WRITE, 0, 4096);
	assert_ended(-EIO);
	start(TD_OP_FLUSH, 0, 0);
	assert_int_equal(world.ended, 1);
}

static void
test_it_ends_when_its_last_part_is_back(void **state)
{
	struct fake *fake = leaf();

	(void)state;
	fake->hold = true;
	start(TD_OP_READ, 0, 4096);
	assert_int_equal(world.ended, 0);
	assert_int_equal(world.io.pending, 1);
	fake->hold = false;
	fake_release(fake, 0, 0);
	loop_run_until_idle(world.loop);
	assert_ended(0);
}

static void
test_a_busy_image_is_asked_again(void **state)
{
	(void)state;
	leaf()->busy = 3;
	start(TD_OP_READ, 0, 4096);
	assert_int_equal(world.ended, 0);
	pass(100);
	assert_ended(0);
	assert_int_equal(leaf()->queued[TD_OP_READ], 4);
}

static void
test_an_image_with_less_room_gets_smaller_pieces(void **state)
{
	struct fake *fake = leaf();
	unsigned int pieces = 0;

	(void)state;
	for (int i = 0; i < 64 * 512; i++)
		world.buffer[i] = (char)(i / 512 + 1);
	/* it never takes more than 8 sectors, and has no room for the rest */
	fake->hold = true;
	start(TD_OP_WRITE, 512, 64 * 512);
	while (world.ended == 0) {
		td_request_t rest = fake->held[0], part = rest;

		assert_int_equal(fake->held_count, 1);
		assert_true(++pieces < 100);
		fake->held_count = 0;
		if (rest.secs > 8) {
			part.secs = 8;
			memcpy(fake->bytes + part.sec * 512, part.buf, 4096);
			td_complete_request(part, 0);
			rest.sec += 8;
			rest.secs -= 8;
			td_complete_request(rest, -EBUSY);
		} else {
			memcpy(fake->bytes + part.sec * 512, part.buf,
			       (size_t)part.secs * 512);
			td_complete_request(part, 0);
		}
		loop_run_until_idle(world.loop);
		if (world.ended == 0 && fake->held_count == 0) {
			loop_advance(world.loop, NS_PER_MS);
			loop_run_until_idle(world.loop);
		}
	}
	assert_ended(0);
	assert_memory_equal(fake->bytes + 512, world.buffer, 64 * 512);
	assert_int_equal(fake->bytes[511], 0);
	assert_int_equal(fake->bytes[512 + 64 * 512], 0);
}

static void
test_zeros_are_written_out_where_the_image_knows_none(void **state)
{
	struct fake *fake = leaf();

	(void)state;
	memset(fake->bytes, 'x', SECTORS * 512);
	start(TD_OP_WRITE_ZEROES, 512, 3 * MIB);
	assert_ended(0);
	for (size_t i = 512; i < 512 + 3 * MIB; i++)
		assert_int_equal(fake->bytes[i], 0);
	assert_int_equal(fake->bytes[511], 'x');
	assert_int_equal(fake->bytes[512 + 3 * MIB], 'x');
	assert_true(fake->queued[TD_OP_WRITE] >= 3);
}

static void
test_zeros_go_down_as_zeros_where_it_does(void **state)
{
	(void)state;
	memset(leaf()->bytes, 'x', SECTORS * 512);
	start(TD_OP_WRITE_ZEROES, 0, 3 * MIB);
	assert_ended(0);
	assert_int_equal(leaf()->queued[TD_OP_WRITE_ZEROES], 1);
	assert_int_equal(leaf()->queued[TD_OP_WRITE], 0);
	assert_int_equal(leaf()->bytes[3 * MIB - 1], 0);
	assert_int_equal(leaf()->bytes[3 * MIB], 'x');
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_written_is_read_back),
		TEST(test_an_error_ends_it_once),
		TEST(test_it_ends_when_its_last_part_is_back),
		TEST(test_a_busy_image_is_asked_again),
		TEST(test_an_image_with_less_room_gets_smaller_pieces),
		TEST(test_zeros_are_written_out_where_the_image_knows_none),
		cmocka_unit_test_setup_teardown(
			test_zeros_go_down_as_zeros_where_it_does, setup_able,
			teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd_refused - requests that the NBD frontend refuses, and errors of the
 * disk: each with its number and words, and the next request is found.
 */
#include "tests/test.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "tests/nbd_peer.h"

#define SECTORS 8192
#define SIZE	(SECTORS * 512ull)
#define KIB	1024u
#define MIB	(1u << 20)

static struct nbd_world world;
static struct peer *peer;

static void
open_world(const char *image, bool structured)
{
	log_set_level(LOG_ERR);
	nbd_world_open(&world, image, NULL);
	peer = peer_connect(&world, structured);
}

static int
setup(void **state)
{
	(void)state;
	open_world("able:8192", true);
	return 0;
}

static int
setup_simple(void **state)
{
	(void)state;
	open_world("able:8192", false);
	return 0;
}

static int
setup_sectors(void **state)
{
	(void)state;
	open_world("able:8192,4k", true);
	return 0;
}

static int
setup_large(void **state)
{
	(void)state;
	open_world("ram:128M", true);
	return 0;
}

static int
setup_read_only(void **state)
{
	struct nbd_options options = { .group = -1, .read_only = true };

	(void)state;
	log_set_level(LOG_ERR);
	nbd_world_open(&world, "able:8192", &options);
	peer = peer_connect(&world, true);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	peer_free(peer);
	nbd_world_close(&world);
	return 0;
}

/* A structured error with its words. */
static void
expect_error(uint64_t cookie, uint32_t error, const char *words)
{
	struct peer_answer answer = peer_hear_answer(peer, 0);

	assert_true(answer.structured);
	assert_int_equal(answer.cookie, cookie);
	assert_int_equal(answer.error, error);
	if (strstr(answer.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", answer.text, words);
}

static void
turns(int count)
{
	while (count-- > 0)
		nbd_world_turn(&world);
}

/* --- what is refused --- */

static const uint16_t ranged[] = {
	NBD_CMD_READ,  NBD_CMD_WRITE,	     NBD_CMD_TRIM,
	NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS,
};

/* Each command refuses the range, and the next header is found. */
static void
expect_refused(uint64_t offset, uint32_t length, uint32_t error,
	       uint32_t error_of_fills, const char *words)
{
	char *junk = calloc(1, length + 1);

	assert_non_null(junk);
	for (unsigned int i = 0; i < sizeof(ranged) / sizeof(*ranged); i++) {
		bool fills = ranged[i] == NBD_CMD_WRITE ||
			     ranged[i] == NBD_CMD_WRITE_ZEROES;

		peer_command(peer, 0, ranged[i], i, offset, length);
		if (ranged[i] == NBD_CMD_WRITE)
			peer_say(peer, junk, length);
		expect_error(i, fills ? error_of_fills : error, words);
	}
	free(junk);
	for (int op = 0; op < TD_OP_COUNT; op++)
		assert_int_equal(world.fake->queued[op], 0);
	peer_command(peer, 0, NBD_CMD_FLUSH, 99, 0, 0);
	peer_expect_answer(peer, 99, 0);
	world.fake->queued[TD_OP_FLUSH] = 0;
}

static void
test_requests_that_are_not_aligned_are_refused(void **state)
{
	const char *words = "minimum block size";

	(void)state;
	expect_refused(512, 4096, NBD_EINVAL, NBD_EINVAL, words);
	expect_refused(4096, 512, NBD_EINVAL, NBD_EINVAL, words);
	expect_refused(1, 4096, NBD_EINVAL, NBD_EINVAL, words);
	expect_refused(0, 1, NBD_EINVAL, NBD_EINVAL, words);
}

static void
test_requests_past_the_end_are_refused(void **state)
{
	const char *words = "past the end";

	(void)state;
	expect_refused(SIZE, 512, NBD_EINVAL, NBD_ENOSPC, words);
	expect_refused(SIZE - 512, 1024, NBD_EINVAL, NBD_ENOSPC, words);
	expect_refused(0, (uint32_t)SIZE + 512, NBD_EINVAL, NBD_ENOSPC, words);
	expect_refused(UINT64_MAX - 511, 512, NBD_EINVAL, NBD_ENOSPC, words);
	expect_refused(1ull << 63, 512, NBD_EINVAL, NBD_ENOSPC, words);
}

static void
test_requests_of_no_length_are_refused(void **state)
{
	(void)state;
	expect_refused(0, 0, NBD_EINVAL, NBD_EINVAL, "zero");
}

static void
test_a_read_longer_than_any_is_refused(void **state)
{
	(void)state;
	peer_command(peer, 0, NBD_CMD_READ, 1, 0, NBD_PAYLOAD_MAX + 512);
	expect_error(1, NBD_EINVAL, "maximum block size");
	/* the others have no payload, so they may be as long */
	peer_command(peer, 0, NBD_CMD_WRITE_ZEROES, 2, 0, 100 * MIB);
	peer_expect_answer(peer, 2, 0);
	peer_command(peer, 0, NBD_CMD_CACHE, 3, 0, 100 * MIB);
	peer_expect_answer(peer, 3, 0);
}

static void
test_a_write_longer_than_any_ends_the_client(void **state)
{
	(void)state;
	peer_command(peer, 0, NBD_CMD_WRITE, 1, 0, NBD_PAYLOAD_MAX + 512);
	expect_error(1, NBD_EINVAL, "maximum block size");
	peer_expect_end(peer);
}

static void
test_unknown_commands_and_flags_are_refused(void **state)
{
	static const uint16_t flags[][2] = {
		{ NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE },
		{ NBD_CMD_READ, 0x8000 },
		{ NBD_CMD_FLUSH, NBD_CMD_FLAG_DF },
		{ NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE },
		{ NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_REQ_ONE },
		{ NBD_CMD_BLOCK_STATUS, 0x20 },
		{ NBD_CMD_CACHE, NBD_CMD_FLAG_FAST_ZERO },
	};

	(void)state;
	peer_command(peer, 0, 8, 1, 0, 512);
	expect_error(1, NBD_EINVAL, "unknown command");
	peer_command(peer, 0, 0xffff, 2, 0, 512);
	expect_error(2, NBD_EINVAL, "unknown command");
	for (unsigned int i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		peer_command(peer, flags[i][1], flags[i][0], i, 0, 512);
		expect_error(i, NBD_EINVAL, "flag");
	}
	peer_command(peer, NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 3, 0, 512);
	peer_say(peer, peer->data, 512);
	expect_error(3, NBD_EINVAL, "flag");
	peer_command(peer, 0, NBD_CMD_FLUSH, 4, 0, 0);
	peer_expect_answer(peer, 4, 0);
}

static void
test_a_read_only_export_refuses_to_change(void **state)
{
	static const uint16_t changes[] = { NBD_CMD_WRITE, NBD_CMD_TRIM,
					    NBD_CMD_WRITE_ZEROES };

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		peer_command(peer, 0, changes[i], i, 0, 40 * KIB);
		if (changes[i] == NBD_CMD_WRITE)
			peer_say(peer, peer->data, 40 * KIB);
		expect_error(i, NBD_EPERM, "read-only");
	}
	peer_command(peer, 0, NBD_CMD_FLUSH, 4, 0, 0);
	peer_expect_answer(peer, 4, 0);
	peer_command(peer, 0, NBD_CMD_READ, 5, 0, 512);
	assert_int_equal(peer_hear_answer(peer, 0).error, 0);
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 0);
}

/* --- errors --- */

static const struct {
	int error;
	uint32_t wire;
} errors[] = {
	{ EPERM, NBD_EPERM },
	{ EROFS, NBD_EPERM },
	{ EIO, NBD_EIO },
	{ ENOMEM, NBD_ENOMEM },
	{ EINVAL, NBD_EINVAL },
	{ ENOSPC, NBD_ENOSPC },
	{ EDQUOT, NBD_ENOSPC },
	{ EFBIG, NBD_ENOSPC },
	{ ENOTSUP, NBD_ENOTSUP },
	{ EOVERFLOW, NBD_EOVERFLOW },
	{ ESHUTDOWN, NBD_ESHUTDOWN },
	{ ENODEV, NBD_EIO },
	{ ETIMEDOUT, NBD_EIO },
};
#define ERRORS (sizeof(errors) / sizeof(errors[0]))

static void
test_errors_of_the_disk_have_their_number_and_words(void **state)
{
	struct peer_answer answer;

	(void)state;
	for (unsigned int i = 0; i < ERRORS; i++) {
		world.fake->error = -errors[i].error;
		peer_command(peer, 0, NBD_CMD_READ, i, 4096, 512);
		answer = peer_hear_answer(peer, 0);
		assert_int_equal(answer.type, NBD_REPLY_TYPE_ERROR_OFFSET);
		assert_int_equal(answer.error, errors[i].wire);
		assert_int_equal(answer.where, 4096);
		if (errors[i].error != ETIMEDOUT)
			assert_string_equal(answer.text,
					    strerror(errors[i].error));
		peer_command(peer, 0, NBD_CMD_WRITE, i, 0, 512);
		peer_say(peer, peer->data, 512);
		assert_int_equal(peer_hear_answer(peer, 0).error,
				 errors[i].wire);
	}
	world.fake->error = 0;
}

static void
test_errors_of_simple_replies_are_sixteen_bytes(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ERRORS; i++) {
		world.fake->error = -errors[i].error;
		peer_command(peer, 0, NBD_CMD_READ, i, 0, 512);
		peer_expect_answer(peer, i, errors[i].wire);
		peer_expect_silence(peer);
	}
	world.fake->error = 0;
}

static void
test_a_request_past_its_time_is_answered_and_its_buffer_held(void **state)
{
	struct peer_answer answer;

	(void)state;
	world.fake->hold = true;
	peer_command(peer, 0, NBD_CMD_READ, 6, 0, 4096);
	answer = peer_hear_answer(peer, 0); /* after a second */
	assert_int_equal(answer.error, NBD_EIO);
	assert_string_equal(answer.text, "the disk did not answer in time");
	turns(3);
	assert_int_equal(pool_in_use(world.pool), 4096);
	fake_release(world.fake, 0, 0);
	turns(3);
	assert_int_equal(pool_in_use(world.pool), 0);
	peer_expect_silence(peer);
}

static void
test_a_closed_disk_is_told_of_as_shut_down(void **state)
{
	(void)state;
	nbd_world_close_disk(&world);
	peer_command(peer, 0, NBD_CMD_READ, 6, 0, 4096);
	expect_error(6, NBD_ESHUTDOWN, "");
}

#define TEST_ON(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)
#define TEST(name)	  TEST_ON(name, setup)
#define TEST_SIMPLE(name) TEST_ON(name, setup_simple)
#define TEST_LARGE(name)  TEST_ON(name, setup_large)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_ON(test_requests_that_are_not_aligned_are_refused,
			setup_sectors),
		TEST(test_requests_past_the_end_are_refused),
		TEST(test_requests_of_no_length_are_refused),
		TEST_LARGE(test_a_read_longer_than_any_is_refused),
		TEST_LARGE(test_a_write_longer_than_any_ends_the_client),
		TEST(test_unknown_commands_and_flags_are_refused),
		TEST_ON(test_a_read_only_export_refuses_to_change,
			setup_read_only),
		TEST(test_errors_of_the_disk_have_their_number_and_words),
		TEST_SIMPLE(test_errors_of_simple_replies_are_sixteen_bytes),
		TEST(test_a_request_past_its_time_is_answered_and_its_buffer_held),
		TEST(test_a_closed_disk_is_told_of_as_shut_down),
	};

	return cmocka_run_group_tests_name("nbd refused", tests, NULL, NULL);
}

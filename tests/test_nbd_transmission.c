/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd_transmission - commands of the NBD frontend, by a client that speaks
 * the bytes itself: what reaches the disk, what comes back, with which error.
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
setup_poor(void **state)
{
	(void)state;
	open_world("fake:8192", true);
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
teardown(void **state)
{
	(void)state;
	peer_free(peer);
	nbd_world_close(&world);
	return 0;
}

/* Pseudo-random, and never zero. */
static void
pattern(char *data, size_t length, unsigned int seed)
{
	for (size_t i = 0; i < length; i++) {
		seed = seed * 1103515245u + 12345u;
		data[i] = (char)((seed >> 16) | 1);
	}
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

/* --- reads and writes --- */

static void
test_a_structured_read_is_one_chunk_byte_by_byte(void **state)
{
	static const char head[] =
		"\x66\x8e\x33\xef"		   /* magic */
		"\x00\x01\x00\x01"		   /* done; offset and data */
		"\x01\x02\x03\x04\x05\x06\x07\x08" /* cookie */
		"\x00\x00\x04\x08"		   /* 8 and 1024 bytes */
		"\x00\x00\x00\x00\x00\x00\x02\x00";

	(void)state;
	pattern(world.fake->bytes, SIZE, 1);
	peer_command(peer, 0, NBD_CMD_READ, 0x0102030405060708, 512, 1024);
	peer_hear(peer, peer->data, sizeof(head) - 1);
	assert_memory_equal(peer->data, head, sizeof(head) - 1);
	peer_hear(peer, peer->data, 1024);
	assert_memory_equal(peer->data, world.fake->bytes + 512, 1024);
	peer_expect_silence(peer);
}

static void
test_a_simple_read_is_sixteen_bytes_and_the_data(void **state)
{
	static const char head[] = "\x67\x44\x66\x98\x00\x00\x00\x00"
				   "\x01\x02\x03\x04\x05\x06\x07\x08";

	(void)state;
	pattern(world.fake->bytes, SIZE, 1);
	peer_command(peer, 0, NBD_CMD_READ, 0x0102030405060708, 0, 512);
	peer_hear(peer, peer->data, 16);
	assert_memory_equal(peer->data, head, 16);
	peer_hear(peer, peer->data, 512);
	assert_memory_equal(peer->data, world.fake->bytes, 512);
	peer_expect_silence(peer);
}

static void
test_a_write_is_on_the_disk_when_it_is_answered(void **state)
{
	char data[4096];

	(void)state;
	pattern(data, sizeof(data), 2);
	peer_command(peer, 0, NBD_CMD_WRITE, 5, SIZE - 4096, 4096);
	peer_say(peer, data, sizeof(data));
	peer_expect_answer(peer, 5, 0);
	assert_memory_equal(world.fake->bytes + SIZE - 4096, data, 4096);
	peer_expect_silence(peer);
}

/* Every way into the server's buffers: payloads that lie in it, lie partly in
 * it, go past it; one behind the other in the same breath. */
static void
test_writes_of_all_sizes_arrive_whole(void **state)
{
	static const uint32_t lengths[] = { 512,       96 * KIB, 4 * KIB,
					    31 * KIB,  32 * KIB, 100 * KIB,
					    128 * KIB, 512,	 130 * KIB,
					    MIB,       512,	 2 * KIB };
	const unsigned int count = sizeof(lengths) / sizeof(lengths[0]);
	static char data[2 * MIB], stream[2 * MIB + 28 * 12];
	char *at = stream;
	uint64_t offset = 0;

	(void)state;
	pattern(data, sizeof(data), 3);
	for (unsigned int i = 0; i < count; i++) {
		nbd_put32(&at, NBD_REQUEST_MAGIC);
		nbd_put16(&at, 0);
		nbd_put16(&at, NBD_CMD_WRITE);
		nbd_put64(&at, i);
		nbd_put64(&at, offset);
		nbd_put32(&at, lengths[i]);
		memcpy(at, data + offset, lengths[i]);
		at += lengths[i];
		offset += lengths[i];
	}
	peer_say(peer, stream, (size_t)(at - stream));
	for (unsigned int i = 0; i < count; i++)
		peer_expect_answer(peer, i, 0);
	assert_memory_equal(world.fake->bytes, data, offset);
}

static void
test_a_command_may_come_byte_by_byte(void **state)
{
	char bytes[NBD_REQUEST_BYTES + 512], *at = bytes;

	(void)state;
	nbd_put32(&at, NBD_REQUEST_MAGIC);
	nbd_put16(&at, NBD_CMD_FLAG_FUA);
	nbd_put16(&at, NBD_CMD_WRITE);
	nbd_put64(&at, 77);
	nbd_put64(&at, 1024);
	nbd_put32(&at, 512);
	pattern(at, 512, 4);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(world.fake->queued[TD_OP_WRITE], 0);
		peer_say(peer, bytes + i, 1);
	}
	peer_expect_answer(peer, 77, 0);
	assert_memory_equal(world.fake->bytes + 1024, at, 512);
}

static void
test_the_longest_write_and_read_go_through(void **state)
{
	char *data = malloc(NBD_PAYLOAD_MAX), *back = malloc(NBD_PAYLOAD_MAX);
	char head[NBD_STRUCTURED_BYTES + 8];

	(void)state;
	assert_non_null(data);
	assert_non_null(back);
	pattern(data, NBD_PAYLOAD_MAX, 5);
	peer_command(peer, 0, NBD_CMD_WRITE, 1, MIB, NBD_PAYLOAD_MAX);
	peer_say(peer, data, NBD_PAYLOAD_MAX);
	peer_expect_answer(peer, 1, 0);
	peer_command(peer, NBD_CMD_FLAG_DF, NBD_CMD_READ, 2, MIB,
		     NBD_PAYLOAD_MAX);
	peer_hear(peer, head, sizeof(head));
	assert_memory_equal(head, "\x66\x8e\x33\xef\x00\x01\x00\x01", 8);
	peer_hear(peer, back, NBD_PAYLOAD_MAX);
	assert_memory_equal(data, back, NBD_PAYLOAD_MAX);
	free(data);
	free(back);
}

static void
test_replies_come_as_requests_end_not_as_they_came(void **state)
{
	(void)state;
	world.fake->hold = true;
	for (uint64_t i = 0; i < 3; i++)
		peer_command(peer, 0, NBD_CMD_READ, i, i * 4096, 4096);
	turns(3);
	assert_int_equal(world.fake->held_count, 3);
	for (uint64_t i = 3; i-- > 0;) {
		fake_release(world.fake, (unsigned int)i, 0);
		assert_int_equal(peer_hear_answer(peer, 0).cookie, i);
	}
}

static void
test_dont_fragment_needs_structured_replies(void **state)
{
	(void)state;
	peer_command(peer, NBD_CMD_FLAG_DF, NBD_CMD_READ, 1, 0, 512);
	peer_expect_answer(peer, 1, NBD_EINVAL);
}

/* --- flush and FUA --- */

static void
test_a_flush_flushes_the_disk(void **state)
{
	(void)state;
	world.fake->hold = true;
	peer_command(peer, 0, NBD_CMD_FLUSH, 9, 0, 0);
	peer_expect_silence(peer);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 1);
	fake_release(world.fake, 0, 0);
	peer_expect_answer(peer, 9, 0);
	peer_command(peer, 0, NBD_CMD_FLUSH, 10, 0, 512);
	expect_error(10, NBD_EINVAL, "flush");
}

static void
test_a_failed_flush_is_told(void **state)
{
	(void)state;
	world.fake->error = -EIO;
	peer_command(peer, 0, NBD_CMD_FLUSH, 9, 0, 0);
	expect_error(9, NBD_EIO, strerror(EIO));
	world.fake->error = 0;
}

/* `op` and then a flush: nothing is answered before both are over. */
static void
expect_fua(uint16_t type, int op, const char *payload, size_t length)
{
	unsigned int flushes = world.fake->queued[TD_OP_FLUSH];

	world.fake->hold = true;
	peer_command(peer, NBD_CMD_FLAG_FUA, type, 3, 4096, 4096);
	peer_say(peer, payload, length);
	turns(3);
	assert_int_equal(world.fake->held_count, 1);
	assert_int_equal(world.fake->held[0].op, op);
	fake_release(world.fake, 0, 0);
	peer_expect_silence(peer);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], flushes + 1);
	fake_release(world.fake, 0, 0);
	peer_expect_answer(peer, 3, 0);
	world.fake->hold = false;
}

static void
test_fua_is_answered_after_a_flush(void **state)
{
	char data[4096];

	(void)state;
	pattern(data, sizeof(data), 6);
	expect_fua(NBD_CMD_WRITE, TD_OP_WRITE, data, sizeof(data));
	expect_fua(NBD_CMD_TRIM, TD_OP_DISCARD, "", 0);
	expect_fua(NBD_CMD_WRITE_ZEROES, TD_OP_WRITE_ZEROES, "", 0);
}

static void
test_fua_on_what_changes_nothing_means_nothing(void **state)
{
	(void)state;
	peer_command(peer, NBD_CMD_FLAG_FUA, NBD_CMD_READ, 1, 0, 512);
	assert_int_equal(peer_hear_answer(peer, 0).error, 0);
	peer_command(peer, NBD_CMD_FLAG_FUA, NBD_CMD_CACHE, 2, 0, 512);
	peer_expect_answer(peer, 2, 0);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 0);
	peer_command(peer, NBD_CMD_FLAG_FUA, NBD_CMD_FLUSH, 3, 0, 0);
	peer_expect_answer(peer, 3, 0);
	assert_int_equal(world.fake->queued[TD_OP_FLUSH], 1);
}

/* --- trim, write zeroes, cache --- */

static void
test_a_trim_is_a_discard(void **state)
{
	(void)state;
	pattern(world.fake->bytes, SIZE, 7);
	peer_command(peer, 0, NBD_CMD_TRIM, 1, 8192, SIZE - 8192);
	peer_expect_answer(peer, 1, 0);
	assert_int_equal(world.fake->last.op, TD_OP_DISCARD);
	assert_int_equal(world.fake->last.sec, 16);
	assert_int_equal(world.fake->last.secs, SECTORS - 16);
}

static void
test_flags_of_write_zeroes_reach_the_driver(void **state)
{
	static const struct {
		uint16_t said;
		uint32_t heard;
	} flags[] = {
		{ 0, 0 },
		{ NBD_CMD_FLAG_NO_HOLE, TD_REQUEST_NO_UNMAP },
		{ NBD_CMD_FLAG_FAST_ZERO, TD_REQUEST_FAST },
		{ NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
		  TD_REQUEST_NO_UNMAP | TD_REQUEST_FAST },
	};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		pattern(world.fake->bytes, SIZE, 8);
		peer_command(peer, flags[i].said, NBD_CMD_WRITE_ZEROES, i, 4096,
			     4096);
		peer_expect_answer(peer, i, 0);
		assert_int_equal(world.fake->last.op, TD_OP_WRITE_ZEROES);
		assert_int_equal(world.fake->last.flags, flags[i].heard);
		for (size_t at = 0; at < 4096; at++)
			assert_int_equal(world.fake->bytes[4096 + at], 0);
		assert_int_not_equal(world.fake->bytes[4095], 0);
		assert_int_not_equal(world.fake->bytes[8192], 0);
	}
}

static void
test_zeroes_that_no_driver_has_are_written_but_never_fast(void **state)
{
	(void)state;
	pattern(world.fake->bytes, SIZE, 9);
	peer_command(peer, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 1, 0,
		     4096);
	expect_error(1, NBD_ENOTSUP, "");
	assert_int_not_equal(world.fake->bytes[0], 0);
	peer_command(peer, 0, NBD_CMD_WRITE_ZEROES, 2, 0, 3 * MIB);
	peer_expect_answer(peer, 2, 0);
	assert_int_equal(world.fake->queued[TD_OP_WRITE], 3);
	for (size_t at = 0; at < 3 * MIB; at++)
		assert_int_equal(world.fake->bytes[at], 0);
	assert_int_not_equal(world.fake->bytes[3 * MIB], 0);
}

static void
test_a_trim_that_no_driver_has_is_refused(void **state)
{
	(void)state;
	peer_command(peer, 0, NBD_CMD_TRIM, 1, 0, 4096);
	expect_error(1, NBD_EINVAL, "does not support");
}

static void
test_a_cache_command_reads_all_of_its_range_and_sends_none(void **state)
{
	(void)state;
	peer_command(peer, 0, NBD_CMD_CACHE, 4, 512, 2 * MIB + 512);
	peer_expect_answer(peer, 4, 0);
	peer_expect_silence(peer);
	assert_int_equal(world.fake->queued[TD_OP_READ], 3);
	assert_int_equal(world.fake->last.sec, 1 + 4096);
	assert_int_equal(world.fake->last.secs, 1);
	world.fake->error = -EIO;
	peer_command(peer, 0, NBD_CMD_CACHE, 5, 0, 2 * MIB);
	expect_error(5, NBD_EIO, "");
	assert_int_equal(world.fake->queued[TD_OP_READ], 4);
	world.fake->error = 0;
}

/* --- block status --- */

static const struct td_extent three[] = {
	{ 0, 16, 0 },
	{ 16, 100, TD_EXTENT_HOLE | TD_EXTENT_ZERO },
	{ 116, SECTORS - 116, TD_EXTENT_ZERO },
};

static void
test_block_status_tells_extents_byte_by_byte(void **state)
{
	static const char reply[] =
		"\x66\x8e\x33\xef"
		"\x00\x01\x00\x05" /* done; block status */
		"\x00\x00\x00\x00\x00\x00\x00\x07"
		"\x00\x00\x00\x1c" /* context and three extents */
		"\x00\x00\x00\x01"
		"\x00\x00\x20\x00\x00\x00\x00\x00"
		"\x00\x00\xc8\x00\x00\x00\x00\x03"
		"\x00\x3f\x18\x00\x00\x00\x00\x02";

	(void)state;
	world.fake->extents = three;
	world.fake->extent_count = 3;
	peer_command(peer, 0, NBD_CMD_BLOCK_STATUS, 7, 0, (uint32_t)SIZE);
	peer_hear(peer, peer->data, sizeof(reply) - 1);
	assert_memory_equal(peer->data, reply, sizeof(reply) - 1);
	peer_expect_silence(peer);
}

/* One descriptor: its length and flags. */
static void
expect_extent(const char **at, uint32_t length, uint32_t flags)
{
	assert_int_equal(nbd_get32(at), length);
	assert_int_equal(nbd_get32(at), flags);
}

static void
test_block_status_of_one_extent_is_cut_to_the_request(void **state)
{
	static const struct td_extent one[] = { { 8, 200, TD_EXTENT_HOLE } };
	struct peer_answer answer;
	const char *at = peer->data + 4;

	(void)state;
	world.fake->extents = one;
	world.fake->extent_count = 1;
	peer_command(peer, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 1, 4096,
		     1024);
	answer = peer_hear_answer(peer, 0);
	assert_int_equal(answer.type, NBD_REPLY_TYPE_BLOCK_STATUS);
	assert_int_equal(answer.length, 4 + 8);
	expect_extent(&at, 1024, 1);

	world.fake->extents = three;
	world.fake->extent_count = 3;
	at = peer->data + 4;
	peer_command(peer, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 2, 0,
		     (uint32_t)SIZE);
	assert_int_equal(peer_hear_answer(peer, 0).length, 4 + 8);
	expect_extent(&at, 8192, 0);
}

static void
test_block_status_of_too_many_extents_is_cut_short(void **state)
{
	static struct td_extent many[TD_EXTENTS_MAX + 10];
	struct peer_answer answer;
	const char *at = peer->data + 4;

	(void)state;
	for (unsigned int i = 0; i < TD_EXTENTS_MAX + 10; i++)
		many[i] = (struct td_extent){ i, 1, i % 2 };
	world.fake->extents = many;
	world.fake->extent_count = TD_EXTENTS_MAX + 10;
	peer_command(peer, 0, NBD_CMD_BLOCK_STATUS, 2, 0, (uint32_t)SIZE);
	answer = peer_hear_answer(peer, 0);
	assert_int_equal(answer.length, 4 + 8 * TD_EXTENTS_MAX);
	for (unsigned int i = 0; i < TD_EXTENTS_MAX; i++)
		expect_extent(&at, 512, i % 2);
}

static void
test_where_no_driver_tells_extents_all_is_data(void **state)
{
	const char *at = peer->data + 4;

	(void)state;
	peer_command(peer, 0, NBD_CMD_BLOCK_STATUS, 2, 512, 1024);
	assert_int_equal(peer_hear_answer(peer, 0).length, 4 + 8);
	expect_extent(&at, 1024, 0);
}

static void
test_block_status_without_a_context_is_refused(void **state)
{
	(void)state;
	peer_command(peer, 0, NBD_CMD_BLOCK_STATUS, 2, 0, 4096);
	peer_expect_answer(peer, 2, NBD_EINVAL);
}

/* --- the end --- */

static void
test_a_disconnect_waits_for_what_was_asked(void **state)
{
	(void)state;
	world.fake->hold = true;
	peer_command(peer, 0, NBD_CMD_READ, 1, 0, 4096);
	peer_command(peer, 0, NBD_CMD_DISC, 2, 0, 0);
	peer_expect_silence(peer);
	fake_release(world.fake, 0, 0);
	assert_int_equal(peer_hear_answer(peer, 0).cookie, 1);
	peer_expect_end(peer); /* and DISC itself has no answer */
	turns(2);
	assert_int_equal(nbd_server_clients(world.server), 0);
}

#define TEST_ON(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)
#define TEST(name)	  TEST_ON(name, setup)
#define TEST_SIMPLE(name) TEST_ON(name, setup_simple)
#define TEST_POOR(name)	  TEST_ON(name, setup_poor)
#define TEST_LARGE(name)  TEST_ON(name, setup_large)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_structured_read_is_one_chunk_byte_by_byte),
		TEST_SIMPLE(test_a_simple_read_is_sixteen_bytes_and_the_data),
		TEST(test_a_write_is_on_the_disk_when_it_is_answered),
		TEST(test_writes_of_all_sizes_arrive_whole),
		TEST(test_a_command_may_come_byte_by_byte),
		TEST_LARGE(test_the_longest_write_and_read_go_through),
		TEST(test_replies_come_as_requests_end_not_as_they_came),
		TEST_SIMPLE(test_dont_fragment_needs_structured_replies),
		TEST(test_a_flush_flushes_the_disk),
		TEST(test_a_failed_flush_is_told),
		TEST(test_fua_is_answered_after_a_flush),
		TEST(test_fua_on_what_changes_nothing_means_nothing),
		TEST(test_a_trim_is_a_discard),
		TEST(test_flags_of_write_zeroes_reach_the_driver),
		TEST_POOR(
			test_zeroes_that_no_driver_has_are_written_but_never_fast),
		TEST_POOR(test_a_trim_that_no_driver_has_is_refused),
		TEST(test_a_cache_command_reads_all_of_its_range_and_sends_none),
		TEST(test_block_status_tells_extents_byte_by_byte),
		TEST(test_block_status_of_one_extent_is_cut_to_the_request),
		TEST(test_block_status_of_too_many_extents_is_cut_short),
		TEST_POOR(test_where_no_driver_tells_extents_all_is_data),
		TEST_SIMPLE(test_block_status_without_a_context_is_refused),
		TEST(test_a_disconnect_waits_for_what_was_asked),
	};

	return cmocka_run_group_tests_name("nbd transmission", tests, NULL,
					   NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd_clients - NBD clients that do not keep up or mean harm: who takes no
 * answers, sends half of what was promised, or asks without end holds no more
 * than a share (B2), and not for long (B3).
 */
#include "tests/test.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/log.h"
#include "tests/nbd_peer.h"

#define KIB   1024u
#define MIB   (1u << 20)
#define SHARE (8u << 20) /* a quarter of the pool of nbd_peer.c */
#define LIMIT (200 * NS_PER_MS)
#define NEVER (600 * NS_PER_S)

static struct nbd_world world;

static void
open_world(uint64_t handshake_ns, uint64_t stall_ns)
{
	static const char *const names[] = { "disk", NULL };
	struct nbd_options options = { .exports = names,
				       .group = -1,
				       .handshake_ns = handshake_ns,
				       .stall_ns = stall_ns };

	log_set_level(LOG_ERR);
	nbd_world_open(&world, "ram:64M", &options);
	assert_int_equal(pool_size(world.pool), 4 * SHARE);
}

static void
turns(int count)
{
	for (int i = 0; i < count; i++)
		nbd_world_turn(&world);
}

/* Of the server's first client. */
static json_int_t
first_client(const char *member)
{
	json_t *json = nbd_server_json(world.server);
	json_int_t value = json_integer_value(json_object_get(
		json_array_get(json_object_get(json, "clients"), 0), member));

	json_decref(json);
	return value;
}

static void
wait_until_gone(unsigned int clients)
{
	for (int i = 0; i < 5000; i++) {
		if (nbd_server_clients(world.server) == clients)
			return;
		nbd_world_turn(&world);
	}
	fail_msg("nobody was dropped");
}

/* As many bytes as are taken; how many. */
static size_t
push(struct peer *peer, const char *bytes, size_t length, size_t max)
{
	size_t pushed = 0;
	int idle = 0;

	while (pushed < max && idle < 20) {
		size_t begin = pushed % length;
		ssize_t n = send(peer->fd, bytes + begin, length - begin,
				 MSG_NOSIGNAL);

		if (n > 0)
			pushed += (size_t)n;
		else if (errno != EAGAIN)
			break;
		idle = n > 0 ? 0 : idle + 1;
		nbd_world_turn(&world);
	}
	return pushed;
}

static void
ask_for(struct peer *peer, int count, uint32_t length)
{
	for (int i = 0; i < count; i++)
		peer_command(peer, 0, NBD_CMD_READ, (uint64_t)i, 0, length);
	turns(5);
}

/* --- answers that are not taken --- */

static void
test_who_takes_no_answers_holds_a_share_and_is_dropped(void **state)
{
	struct peer *deaf, *other;

	(void)state;
	open_world(NEVER, 5 * LIMIT);
	deaf = peer_connect(&world, true);
	ask_for(deaf, 60, MIB);
	assert_int_equal(first_client("buffers"), SHARE);
	assert_int_equal(pool_in_use(world.pool), SHARE);
	other = peer_connect(&world, true);
	peer_command(other, 0, NBD_CMD_READ, 7, 0, MIB);
	assert_int_equal(peer_hear_answer(other, 0).length, MIB);
	wait_until_gone(1);
	assert_int_equal(pool_in_use(world.pool), 0);
	peer_command(other, 0, NBD_CMD_READ, 8, 0, MIB);
	assert_int_equal(peer_hear_answer(other, 0).length, MIB);
	peer_free(deaf);
	peer_free(other);
	nbd_world_close(&world);
}

static void
test_who_takes_no_answers_has_few_requests(void **state)
{
	struct peer *deaf;
	char command[NBD_REQUEST_BYTES] = { 0 }, *at = command;

	(void)state;
	open_world(NEVER, NEVER);
	deaf = peer_connect(&world, false);
	nbd_put32(&at, NBD_REQUEST_MAGIC);
	at = command + 24;
	nbd_put32(&at, 64 * KIB);
	/* what is not read stays with the client: it cannot go on */
	assert_true(push(deaf, command, sizeof(command), 64 * MIB) < 2 * MIB);
	assert_int_equal(first_client("in_flight"), NBD_REQUESTS_MAX);
	assert_int_equal(pool_in_use(world.pool), NBD_REQUESTS_MAX * 64 * KIB);
	peer_free(deaf);
	wait_until_gone(0);
	assert_int_equal(pool_in_use(world.pool), 0);
	nbd_world_close(&world);
}

static void
test_who_waits_behind_the_deaf_is_served_in_the_end(void **state)
{
	struct peer *deaf[4], *other;

	(void)state;
	open_world(NEVER, 5 * LIMIT);
	for (int i = 0; i < 4; i++)
		deaf[i] = peer_connect(&world, false);
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 8; j++)
			peer_command(deaf[i], 0, NBD_CMD_READ, 1, 0, MIB);
	other = peer_connect(&world, true);
	peer_command(other, 0, NBD_CMD_READ, 7, 0, MIB);
	assert_int_equal(peer_hear_answer(other, 0).length, MIB);
	wait_until_gone(1);
	for (int i = 0; i < 4; i++)
		peer_free(deaf[i]);
	peer_free(other);
	nbd_world_close(&world);
}

static void
test_who_takes_answers_slowly_stays(void **state)
{
	struct peer_answer answer;
	struct peer *slow;
	uint64_t begin;

	(void)state;
	open_world(NEVER, 4 * LIMIT);
	slow = peer_connect(&world, true);
	ask_for(slow, 8, MIB);
	begin = loop_now(world.loop);
	for (int i = 0; i < 8; i++) {
		uint64_t until = begin + (uint64_t)(i + 1) * LIMIT;

		answer = peer_hear_answer(slow, 0);
		assert_int_equal(answer.cookie, i);
		assert_int_equal(answer.length, MIB);
		while (loop_now(world.loop) < until)
			nbd_world_turn(&world);
	}
	/* and who was silent for long, with nothing owed, too */
	for (begin = loop_now(world.loop);
	     loop_now(world.loop) < begin + 5 * LIMIT;)
		nbd_world_turn(&world);
	ask_for(slow, 1, 4096);
	assert_int_equal(peer_hear_answer(slow, 0).length, 4096);
	peer_free(slow);
	nbd_world_close(&world);
}

/* --- what was promised and does not come --- */

static void
test_half_a_write_is_forgotten_with_its_client(void **state)
{
	static const uint32_t lengths[] = { 4096, 20 * KIB, MIB, 8 * MIB };
	static char bytes[3000];
	struct peer *peer;

	(void)state;
	memset(bytes, 0xee, sizeof(bytes));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		open_world(NEVER, LIMIT);
		peer = peer_connect(&world, true);
		peer_command(peer, 0, NBD_CMD_WRITE, 1, 0, lengths[i]);
		peer_say(peer, bytes, sizeof(bytes));
		peer_free(peer);
		wait_until_gone(0);
		assert_int_equal(pool_in_use(world.pool), 0);
		peer = peer_connect(&world, true);
		peer_command(peer, 0, NBD_CMD_READ, 2, 0, 4096);
		assert_int_equal(peer_hear_answer(peer, 0).length, 4096);
		for (int at = 0; at < 4096; at++)
			assert_int_equal(peer->data[at], 0);
		peer_free(peer);
		nbd_world_close(&world);
	}
}

static void
test_who_stops_within_a_write_is_dropped(void **state)
{
	static const uint32_t lengths[] = { 4096, 20 * KIB, MIB };
	struct peer *peer;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		open_world(NEVER, LIMIT);
		peer = peer_connect(&world, true);
		peer_command(peer, 0, NBD_CMD_WRITE, 1, 0, lengths[i]);
		peer_say(peer, "begun", 5);
		wait_until_gone(0);
		assert_int_equal(pool_in_use(world.pool), 0);
		peer_free(peer);
		nbd_world_close(&world);
	}
}

static void
test_who_stops_within_a_refused_write_is_dropped(void **state)
{
	struct peer *peer;

	(void)state;
	open_world(NEVER, LIMIT);
	peer = peer_connect(&world, true);
	peer_command(peer, 0, NBD_CMD_WRITE, 1, 1, MIB); /* not aligned */
	assert_int_equal(peer_hear_answer(peer, 0).error, NBD_EINVAL);
	peer_say(peer, "begun", 5);
	wait_until_gone(0);
	peer_free(peer);
	nbd_world_close(&world);
}

/* --- handshakes --- */

static void
test_options_whose_replies_are_not_read_are_not_read(void **state)
{
	static char option[NBD_OPTION_BYTES];
	char *at = option;
	struct peer *peer;

	(void)state;
	open_world(NEVER, NEVER);
	peer = peer_new(&world);
	peer_greet(peer, NBD_FLAG_C_FIXED_NEWSTYLE);
	nbd_put64(&at, NBD_OPTION_MAGIC);
	nbd_put32(&at, NBD_OPT_LIST);
	nbd_put32(&at, 0);
	assert_true(push(peer, option, sizeof(option), 64 * MIB) < 2 * MIB);
	assert_true(first_client("bytes_out") < 2 * MIB);
	peer_free(peer);
	wait_until_gone(0);
	nbd_world_close(&world);
}

static void
test_options_without_end_end_with_the_handshakes_time(void **state)
{
	struct peer *peer;
	int options = 0;

	(void)state;
	open_world(4 * LIMIT, NEVER);
	peer = peer_new(&world);
	peer_greet(peer, NBD_FLAG_C_FIXED_NEWSTYLE);
	while (nbd_server_clients(world.server) > 0 && options < 1000000) {
		char option[NBD_OPTION_BYTES], *at = option;

		nbd_put64(&at, NBD_OPTION_MAGIC);
		nbd_put32(&at, NBD_OPT_LIST);
		nbd_put32(&at, 0);
		(void)send(peer->fd, option, sizeof(option), MSG_NOSIGNAL);
		nbd_world_turn(&world);
		(void)recv(peer->fd, peer->data, sizeof(peer->data), 0);
		options++;
	}
	assert_int_equal(nbd_server_clients(world.server), 0);
	assert_true(options > 10); /* it was heard until then */
	peer_free(peer);
	nbd_world_close(&world);
}

static void
test_a_handshake_that_drips_ends_with_its_time(void **state)
{
	static const uint32_t lengths[] = { 16 * KIB, MIB };
	struct peer *peer;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		char option[NBD_OPTION_BYTES], *at = option;
		uint32_t dripped = 0;
		uint64_t begin;

		open_world(2 * LIMIT, NEVER);
		peer = peer_new(&world);
		peer_greet(peer, NBD_FLAG_C_FIXED_NEWSTYLE);
		nbd_put64(&at, NBD_OPTION_MAGIC);
		nbd_put32(&at, NBD_OPT_GO);
		nbd_put32(&at, lengths[i]);
		peer_say(peer, option, sizeof(option));
		begin = loop_now(world.loop);
		while (nbd_server_clients(world.server) > 0 &&
		       loop_now(world.loop) < begin + 200 * LIMIT) {
			if (dripped + 1 < lengths[i])
				dripped += send(peer->fd, "x", 1,
						MSG_NOSIGNAL) == 1;
			nbd_world_turn(&world);
		}
		assert_int_equal(nbd_server_clients(world.server), 0);
		peer_free(peer);
		nbd_world_close(&world);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_who_takes_no_answers_holds_a_share_and_is_dropped),
		cmocka_unit_test(test_who_takes_no_answers_has_few_requests),
		cmocka_unit_test(
			test_who_waits_behind_the_deaf_is_served_in_the_end),
		cmocka_unit_test(test_who_takes_answers_slowly_stays),
		cmocka_unit_test(
			test_half_a_write_is_forgotten_with_its_client),
		cmocka_unit_test(test_who_stops_within_a_write_is_dropped),
		cmocka_unit_test(
			test_who_stops_within_a_refused_write_is_dropped),
		cmocka_unit_test(
			test_options_whose_replies_are_not_read_are_not_read),
		cmocka_unit_test(
			test_options_without_end_end_with_the_handshakes_time),
		cmocka_unit_test(
			test_a_handshake_that_drips_ends_with_its_time),
	};

	return cmocka_run_group_tests_name("nbd clients", tests, NULL, NULL);
}

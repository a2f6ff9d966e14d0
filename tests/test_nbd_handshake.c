/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_nbd_handshake - options of the NBD frontend, by a client that speaks
 * the bytes itself: what is told, what is refused and with which words.
 */
#include "tests/test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"
#include "core/tls.h"
#include "tests/credentials.h"
#include "tests/nbd_peer.h"

#define SECTORS 2048
#define SIZE	(SECTORS * 512)
#define MODERN	(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)

static struct nbd_world world;

static int
setup(void **state)
{
	(void)state;
	log_set_level(LOG_ERR);
	nbd_world_open(&world, "fake:2048", NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	nbd_world_close(&world);
	return 0;
}

static struct peer *
greeted(void)
{
	struct peer *peer = peer_new(&world);

	peer_greet(peer, MODERN);
	return peer;
}

static void
negotiate_structured(struct peer *peer)
{
	peer_option(peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
	peer_expect_reply(peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK);
}

/* --- EXPORT_NAME --- */

static void
test_export_name_begins_transmission(void **state)
{
	struct peer *peer = greeted();
	const char *at = peer->data;

	(void)state;
	peer_option(peer, NBD_OPT_EXPORT_NAME, "disk", 4);
	peer_hear(peer, peer->data, NBD_EXPORT_BYTES);
	assert_int_equal(nbd_get64(&at), SIZE);
	assert_true(nbd_get16(&at) & NBD_FLAG_HAS_FLAGS);
	peer_command(peer, 0, NBD_CMD_FLUSH, 7, 0, 0);
	peer_expect_answer(peer, 7, 0);
	peer_free(peer);
}

static void
test_export_name_pads_with_zeroes_for_old_clients(void **state)
{
	struct peer *peer = peer_new(&world);

	(void)state;
	peer_greet(peer, NBD_FLAG_C_FIXED_NEWSTYLE);
	peer_option(peer, NBD_OPT_EXPORT_NAME, "", 0);
	memset(peer->data, 'x', NBD_EXPORT_BYTES + NBD_EXPORT_ZEROES);
	peer_hear(peer, peer->data, NBD_EXPORT_BYTES + NBD_EXPORT_ZEROES);
	for (int i = 0; i < NBD_EXPORT_ZEROES; i++)
		assert_int_equal(peer->data[NBD_EXPORT_BYTES + i], 0);
	peer_command(peer, 0, NBD_CMD_FLUSH, 7, 0, 0);
	peer_expect_answer(peer, 7, 0);
	peer_free(peer);
}

static void
test_export_name_of_no_export_is_cut_off(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	peer_option(peer, NBD_OPT_EXPORT_NAME, "other", 5);
	peer_expect_end(peer);
	peer_free(peer);
}

/* --- INFO, GO, LIST --- */

static void
test_go_tells_what_was_asked_for(void **state)
{
	static const uint16_t infos[] = { NBD_INFO_NAME, NBD_INFO_BLOCK_SIZE,
					  NBD_INFO_BLOCK_SIZE, 77 };
	struct peer *peer = greeted();
	const char *at = peer->data;
	char data[64];
	size_t length;

	(void)state;
	peer_option(peer, NBD_OPT_GO, data, peer_go_data(data, "", infos, 4));
	assert_int_equal(peer_option_reply(peer, NBD_OPT_GO, &length),
			 NBD_REP_INFO);
	assert_int_equal(length, 12);
	assert_int_equal(nbd_get16(&at), NBD_INFO_EXPORT);
	assert_int_equal(nbd_get64(&at), SIZE);
	assert_int_equal(
		nbd_get16(&at),
		NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
			NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |
			NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO);

	at = peer->data;
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO);
	assert_int_equal(nbd_get16(&at), NBD_INFO_NAME);
	assert_string_equal(at, "disk");

	at = peer->data;
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO);
	assert_int_equal(nbd_get16(&at), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(nbd_get32(&at), 512);
	assert_int_equal(nbd_get32(&at), 4096);
	assert_int_equal(nbd_get32(&at), 32 << 20);

	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_ACK);
	peer_command(peer, 0, NBD_CMD_FLUSH, 1, 0, 0);
	peer_expect_answer(peer, 1, 0);
	peer_free(peer);
}

static void
test_info_stays_in_the_handshake(void **state)
{
	struct peer *peer = greeted();
	char data[64];

	(void)state;
	for (int i = 0; i < 3; i++) {
		peer_option(peer, NBD_OPT_INFO, data,
			    peer_go_data(data, "second", NULL, 0));
		peer_expect_reply(peer, NBD_OPT_INFO, NBD_REP_INFO);
		peer_expect_reply(peer, NBD_OPT_INFO, NBD_REP_ACK);
	}
	peer_free(peer);
}

static void
test_an_unknown_export_is_refused_with_its_name(void **state)
{
	struct peer *peer = greeted();
	char data[64];

	(void)state;
	peer_option(peer, NBD_OPT_GO, data,
		    peer_go_data(data, "nothing", NULL, 0));
	peer_expect_refusal(peer, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN,
			    "no export \"nothing\"");
	peer_option(peer, NBD_OPT_GO, data, peer_go_data(data, "", NULL, 0));
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO);
	peer_free(peer);
}

static void
test_malformed_go_is_refused(void **state)
{
	struct peer *peer = greeted();
	char data[64], *at = data;
	uint16_t info = NBD_INFO_NAME;
	size_t length;

	(void)state;
	nbd_put32(&at, 60); /* a name longer than the data */
	memcpy(at, "disk\0\0", 6);
	peer_option(peer, NBD_OPT_GO, data, 10);
	peer_expect_refusal(peer, NBD_OPT_GO, NBD_REP_ERR_INVALID, "name");

	at = data;
	nbd_put32(&at, 0xffffffff);
	peer_option(peer, NBD_OPT_INFO, data, 10);
	peer_expect_refusal(peer, NBD_OPT_INFO, NBD_REP_ERR_INVALID, "name");

	length = peer_go_data(data, "disk", &info, 1);
	peer_option(peer, NBD_OPT_GO, data, length - 1);
	peer_expect_refusal(peer, NBD_OPT_GO, NBD_REP_ERR_INVALID,
			    "1 information requests");
	peer_option(peer, NBD_OPT_GO, data, 3);
	peer_expect_refusal(peer, NBD_OPT_GO, NBD_REP_ERR_INVALID, "name");
	peer_free(peer);
}

static void
test_list_names_all_exports(void **state)
{
	struct peer *peer = greeted();
	size_t length;

	(void)state;
	peer_option(peer, NBD_OPT_LIST, "", 0);
	assert_int_equal(peer_option_reply(peer, NBD_OPT_LIST, &length),
			 NBD_REP_SERVER);
	assert_int_equal(length, 8);
	assert_memory_equal(peer->data, "\0\0\0\4disk", 8);
	peer_expect_reply(peer, NBD_OPT_LIST, NBD_REP_SERVER);
	assert_memory_equal(peer->data, "\0\0\0\6second", 10);
	peer_expect_reply(peer, NBD_OPT_LIST, NBD_REP_ACK);
	peer_option(peer, NBD_OPT_LIST, "x", 1);
	peer_expect_refusal(peer, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "no data");
	peer_free(peer);
}

/* --- the others --- */

static void
test_abort_is_acknowledged_and_ends(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	peer_option(peer, NBD_OPT_ABORT, "bye", 3);
	peer_expect_reply(peer, NBD_OPT_ABORT, NBD_REP_ACK);
	peer_expect_end(peer);
	assert_int_equal(nbd_server_clients(world.server), 0);
	peer_free(peer);
}

static void
test_unknown_options_are_unsupported(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	peer_option(peer, 11, "", 0); /* extended headers */
	peer_expect_refusal(peer, 11, NBD_REP_ERR_UNSUP, "option 11");
	peer_option(peer, 0xfffffff0, "data", 4);
	peer_expect_reply(peer, 0xfffffff0, NBD_REP_ERR_UNSUP);
	peer_free(peer);
}

static void
test_an_oversized_option_is_refused_and_skipped(void **state)
{
	struct peer *peer = greeted();
	char *data = calloc(1, 100000);

	(void)state;
	peer_option(peer, NBD_OPT_GO, data, 100000);
	peer_expect_refusal(peer, NBD_OPT_GO, NBD_REP_ERR_TOO_BIG,
			    "100000 bytes");
	peer_option(peer, NBD_OPT_ABORT, "", 0);
	peer_expect_reply(peer, NBD_OPT_ABORT, NBD_REP_ACK);
	free(data);
	peer_free(peer);
}

static void
test_an_absurd_option_is_cut_off(void **state)
{
	struct peer *peer = greeted();
	char head[NBD_OPTION_BYTES], *at = head;

	(void)state;
	nbd_put64(&at, NBD_OPTION_MAGIC);
	nbd_put32(&at, NBD_OPT_GO);
	nbd_put32(&at, 0xffffffff);
	peer_say(peer, head, sizeof(head));
	peer_expect_end(peer);
	peer_free(peer);
}

static void
test_pipelined_options_are_answered_in_order(void **state)
{
	struct peer *peer = peer_new(&world);
	char data[4 + 5 * NBD_OPTION_BYTES], *at = data;

	(void)state;
	nbd_put32(&at, MODERN);
	for (uint32_t i = 0; i < 5; i++) {
		nbd_put64(&at, NBD_OPTION_MAGIC);
		nbd_put32(&at, 100 + i);
		nbd_put32(&at, 0);
	}
	peer_say(peer, data, sizeof(data)); /* before the greeting was read */
	peer_hear(peer, peer->data, NBD_GREETING_BYTES);
	for (uint32_t i = 0; i < 5; i++)
		peer_expect_reply(peer, 100 + i, NBD_REP_ERR_UNSUP);
	peer_free(peer);
}

static void
test_garbage_is_cut_off(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	peer_say(peer, "GET / HTTP/1.0\r\n\r\n", 18);
	peer_expect_end(peer);
	peer_free(peer);
	peer = peer_new(&world);
	peer_greet(peer, 0x80000001); /* flags that nobody offered */
	peer_expect_end(peer);
	peer_free(peer);
}

/* --- metadata contexts --- */

static void
test_contexts_need_structured_replies(void **state)
{
	struct peer *peer = greeted();
	char data[64];

	(void)state;
	peer_option(peer, NBD_OPT_SET_META_CONTEXT, data,
		    peer_context_data(data, "", "base:allocation"));
	peer_expect_refusal(peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID,
			    "structured");
	peer_free(peer);
}

static void
expect_contexts(struct peer *peer, uint32_t option, const char *query,
		unsigned int count)
{
	char data[64];
	size_t length;

	peer_option(peer, option, data, peer_context_data(data, "disk", query));
	while (count-- > 0) {
		assert_int_equal(peer_option_reply(peer, option, &length),
				 NBD_REP_META_CONTEXT);
		assert_int_equal(length, 4 + 15);
		assert_string_equal(peer->data + 4, "base:allocation");
	}
	peer_expect_reply(peer, option, NBD_REP_ACK);
}

static void
test_contexts_are_listed_by_name_and_namespace(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	negotiate_structured(peer);
	expect_contexts(peer, NBD_OPT_LIST_META_CONTEXT, NULL, 1);
	expect_contexts(peer, NBD_OPT_LIST_META_CONTEXT, "base:", 1);
	expect_contexts(peer, NBD_OPT_LIST_META_CONTEXT, "base:allocation", 1);
	expect_contexts(peer, NBD_OPT_LIST_META_CONTEXT, "qemu:", 0);
	expect_contexts(peer, NBD_OPT_LIST_META_CONTEXT, "base:alloc", 0);
	expect_contexts(peer, NBD_OPT_SET_META_CONTEXT, NULL, 0);
	expect_contexts(peer, NBD_OPT_SET_META_CONTEXT, "base:", 0);
	expect_contexts(peer, NBD_OPT_SET_META_CONTEXT, "base:allocation", 1);
	peer_free(peer);
}

static void
test_malformed_queries_are_refused(void **state)
{
	struct peer *peer = greeted();
	char data[64];
	size_t length;

	(void)state;
	negotiate_structured(peer);
	length = peer_context_data(data, "", "base:allocation");
	peer_option(peer, NBD_OPT_SET_META_CONTEXT, data, length - 1);
	peer_expect_refusal(peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID,
			    "queries");
	data[7] = 2; /* one query more than there is data for */
	peer_option(peer, NBD_OPT_SET_META_CONTEXT, data, length);
	peer_expect_refusal(peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID,
			    "queries");
	peer_option(peer, NBD_OPT_LIST_META_CONTEXT, data, 3);
	peer_expect_refusal(peer, NBD_OPT_LIST_META_CONTEXT,
			    NBD_REP_ERR_INVALID, "queries");
	peer_free(peer);
}

static void
test_contexts_of_an_unknown_export_are_refused(void **state)
{
	struct peer *peer = greeted();
	char data[64];

	(void)state;
	negotiate_structured(peer);
	peer_option(peer, NBD_OPT_SET_META_CONTEXT, data,
		    peer_context_data(data, "other", "base:allocation"));
	peer_expect_refusal(peer, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_UNKNOWN,
			    "\"other\"");
	peer_free(peer);
}

static void
test_contexts_of_another_export_do_not_count(void **state)
{
	struct peer *peer = greeted();
	struct peer_answer answer;
	char data[64];

	(void)state;
	negotiate_structured(peer);
	expect_contexts(peer, NBD_OPT_SET_META_CONTEXT, "base:allocation", 1);
	peer_option(peer, NBD_OPT_GO, data,
		    peer_go_data(data, "second", NULL, 0));
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_INFO);
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_ACK);
	peer_command(peer, 0, NBD_CMD_BLOCK_STATUS, 1, 0, 4096);
	answer = peer_hear_answer(peer, 0);
	assert_int_equal(answer.error, NBD_EINVAL);
	assert_string_equal(answer.text, "no metadata context was set");
	peer_free(peer);
}

/* --- clients --- */

static void
test_an_abandoned_handshake_is_dropped(void **state)
{
	static const char *const names[] = { "disk", NULL };
	struct nbd_options options = { .exports = names,
				       .group = -1,
				       .handshake_ns = 500 * NS_PER_MS };
	struct peer *peer;
	uint64_t begin;

	(void)state;
	nbd_world_open(&world, "fake:2048", &options);
	peer = peer_new(&world);
	peer_greet(peer, MODERN);
	peer_expect_end(peer);
	peer_free(peer);
	/* who is through stays as long as it likes */
	peer = peer_connect(&world, false);
	begin = loop_now(world.loop);
	while (loop_now(world.loop) < begin + 2 * options.handshake_ns)
		nbd_world_turn(&world);
	peer_command(peer, 0, NBD_CMD_FLUSH, 1, 0, 0);
	peer_expect_answer(peer, 1, 0);
	peer_free(peer);
	nbd_world_close(&world);
}

static void
test_one_client_too_many_is_turned_away(void **state)
{
	struct nbd_options options = { .group = -1, .clients_max = 2 };
	struct peer *peers[3];
	json_t *json;

	(void)state;
	nbd_world_open(&world, "fake:2048", &options);
	for (int i = 0; i < 3; i++)
		peers[i] = peer_new(&world);
	peer_expect_end(peers[2]);
	peer_greet(peers[1], MODERN);
	peer_free(peers[0]);
	for (int i = 0; i < 5; i++)
		nbd_world_turn(&world);
	peer_free(peers[2]);
	peers[2] = peer_connect(&world, true);
	json = nbd_server_json(world.server);
	assert_int_equal(json_integer_value(json_object_get(json, "refused")),
			 1);
	assert_int_equal(json_integer_value(json_object_get(json, "accepted")),
			 3);
	assert_int_equal(json_array_size(json_object_get(json, "clients")), 2);
	json_decref(json);
	peer_free(peers[1]);
	peer_free(peers[2]);
	nbd_world_close(&world);
}

static void
test_bad_options_of_a_server_get_a_sentence(void **state)
{
	static const char *const taken[] = { "tcp:127.0.0.1:99999", NULL };
	struct nbd_options options = { .group = -1, .listen = taken };
	struct reason reason = { "" };

	(void)state;
	assert_null(nbd_server_new(world.loop, world.vbd, world.pool, &options,
				   &reason));
	assert_non_null(strstr(reason.text, "99999"));
	options = (struct nbd_options){ .group = -1, .tls = NBD_TLS_REQUIRE };
	assert_null(nbd_server_new(world.loop, world.vbd, world.pool, &options,
				   &reason));
	assert_non_null(strstr(reason.text, "TLS"));
}

/* --- TLS --- */

static void
test_starttls_without_tls_is_against_the_policy(void **state)
{
	struct peer *peer = greeted();

	(void)state;
	peer_option(peer, NBD_OPT_STARTTLS, "", 0);
	peer_expect_refusal(peer, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "TLS");
	peer_free(peer);
}

static void
open_with_tls(enum nbd_tls mode, struct tls_context **ret_context,
	      char *directory)
{
	static const char template[] = "/tmp/tapdisk-nbd-XXXXXX";
	char keys[128];
	struct tls_options tls = { .psk = keys, .server = true };
	struct nbd_options options = { .group = -1, .tls = mode };

	memcpy(directory, template, sizeof(template));
	assert_non_null(mkdtemp(directory));
	credentials_make(directory);
	(void)snprintf(keys, sizeof(keys), "%s/keys.psk", directory);
	*ret_context = tls_context_new(&tls, NULL);
	assert_non_null(*ret_context);
	options.tls_context = *ret_context;
	nbd_world_open(&world, "fake:2048", &options);
}

static void
test_required_tls_is_required_before_anything_is_told(void **state)
{
	struct tls_context *context;
	char directory[64], data[64];
	struct peer *peer;

	(void)state;
	open_with_tls(NBD_TLS_REQUIRE, &context, directory);
	peer = greeted();
	peer_option(peer, NBD_OPT_LIST, "", 0);
	peer_expect_refusal(peer, NBD_OPT_LIST, NBD_REP_ERR_TLS_REQD,
			    "STARTTLS");
	peer_option(peer, NBD_OPT_GO, data, peer_go_data(data, "x", NULL, 0));
	peer_expect_reply(peer, NBD_OPT_GO, NBD_REP_ERR_TLS_REQD);
	peer_option(peer, NBD_OPT_STRUCTURED_REPLY, "", 0);
	peer_expect_reply(peer, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_TLS_REQD);
	peer_option(peer, NBD_OPT_EXPORT_NAME, "", 0);
	peer_expect_end(peer);
	peer_free(peer);
	nbd_world_close(&world);
	tls_context_free(context);
	credentials_remove(directory);
}

static void
test_words_behind_starttls_are_not_heard(void **state)
{
	struct tls_context *context;
	char directory[64], data[2 * NBD_OPTION_BYTES], *at = data;
	struct peer *peer;

	(void)state;
	open_with_tls(NBD_TLS_ON, &context, directory);
	peer = greeted();
	for (uint32_t i = 0; i < 2; i++) {
		nbd_put64(&at, NBD_OPTION_MAGIC);
		nbd_put32(&at, i == 0 ? NBD_OPT_STARTTLS : NBD_OPT_LIST);
		nbd_put32(&at, 0);
	}
	peer_say(peer, data, sizeof(data));
	peer_expect_end(peer);
	peer_free(peer);
	/* and a handshake that is none ends */
	peer = greeted();
	peer_option(peer, NBD_OPT_STARTTLS, "", 0);
	peer_expect_reply(peer, NBD_OPT_STARTTLS, NBD_REP_ACK);
	peer_option(peer, NBD_OPT_LIST, "", 0);
	for (int i = 0; i < 5; i++)
		nbd_world_turn(&world);
	assert_int_equal(nbd_server_clients(world.server), 0);
	peer_free(peer);
	nbd_world_close(&world);
	tls_context_free(context);
	credentials_remove(directory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_export_name_begins_transmission),
		TEST(test_export_name_pads_with_zeroes_for_old_clients),
		TEST(test_export_name_of_no_export_is_cut_off),
		TEST(test_go_tells_what_was_asked_for),
		TEST(test_info_stays_in_the_handshake),
		TEST(test_an_unknown_export_is_refused_with_its_name),
		TEST(test_malformed_go_is_refused),
		TEST(test_list_names_all_exports),
		TEST(test_abort_is_acknowledged_and_ends),
		TEST(test_unknown_options_are_unsupported),
		TEST(test_an_oversized_option_is_refused_and_skipped),
		TEST(test_an_absurd_option_is_cut_off),
		TEST(test_pipelined_options_are_answered_in_order),
		TEST(test_garbage_is_cut_off),
		TEST(test_contexts_need_structured_replies),
		TEST(test_contexts_are_listed_by_name_and_namespace),
		TEST(test_malformed_queries_are_refused),
		TEST(test_contexts_of_an_unknown_export_are_refused),
		TEST(test_contexts_of_another_export_do_not_count),
		TEST(test_bad_options_of_a_server_get_a_sentence),
		TEST(test_starttls_without_tls_is_against_the_policy),
		cmocka_unit_test(test_an_abandoned_handshake_is_dropped),
		cmocka_unit_test(test_one_client_too_many_is_turned_away),
		cmocka_unit_test(
			test_required_tls_is_required_before_anything_is_told),
		cmocka_unit_test(test_words_behind_starttls_are_not_heard),
	};

	return cmocka_run_group_tests_name("nbd handshake", tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_link_peer - a link and a puppet: who is not let in, sessions of the past
 * played again, and messages that cannot be.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/bytes.h"
#include "tests/fake_transport.h"
#include "tests/link_host.h"

#define SECRET	"0123456789abcdef0123456789abcdef"
#define OTHER	"fedcba9876543210fedcba9876543210"
#define SESSION 0x5e5510f

/* A puppet that has proved itself, as the source of a session with b. */
static void
open_puppet(struct fixture *f)
{
	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->keep_acks = true;
	puppet_call(f->puppet, "b");
	puppet_begin(f->puppet, SESSION);
	assert_int_equal(f->puppet->heard[WIRE_BEGUN], 1);
	assert_int_equal(f->b->up, 1);
}

/* --- who is not let in --- */

static void
call_and_be_refused(struct fixture *f, const char *key, const char *text)
{
	if (f->b == NULL)
		f->b = host_new(f->loop, "fake://b", NULL, false, key);
	puppet_call(f->puppet, "b");
	pass_ms(f, 100);
	assert_int_equal(f->puppet->heard[WIRE_REFUSE], 1);
	assert_true(f->puppet->closed);
	assert_said(f->puppet->text, text); /* the peer hears why */
	assert_int_equal(f->b->met, 0);
	if (f->b->up == 0) {
		assert_int_equal(f->b->refused, 1);
		assert_said(f->b->text, text); /* and so does this host */
	}
}

static void
test_a_speaker_of_the_next_version_is_told_whom_to_upgrade(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->hello.version_min = WIRE_VERSION_MAX + 1;
	f->puppet->hello.version_max = WIRE_VERSION_MAX + 1;
	call_and_be_refused(f, NULL,
			    "the peer speaks protocol versions 2 to 2, this "
			    "side 1 to 1: upgrade tapdisk on the host that "
			    "speaks 1 to 1");
}

static void
test_a_speaker_of_both_versions_is_let_in(void **state)
{
	struct fixture *f = *state;

	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->hello.version_max = WIRE_VERSION_MAX + 1;
	f->puppet->hello.features_compatible = 0x80000000;
	puppet_call(f->puppet, "b");
	assert_int_equal(f->b->met, 1);
}

static void
test_an_unknown_feature_is_refused(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->hello.features_incompatible = 0x8;
	call_and_be_refused(f, NULL, "needs protocol features 0x8");
}

static void
test_an_impossible_hello_is_refused(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->hello.sector_size = 513;
	call_and_be_refused(f, NULL, "impossible sector size");
}

static void
test_another_key_is_refused(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_new(f->loop, OTHER);
	call_and_be_refused(f, SECRET, "has another key");
}

static void
test_a_key_on_one_side_only_is_refused(void **state)
{
	struct fixture *f = *state;

	f->puppet = puppet_new(f->loop, NULL);
	call_and_be_refused(f, SECRET, "a key and the other has none");
}

static void
test_a_proof_sent_back_to_its_maker_is_none(void **state)
{
	struct fixture *f = *state;
	struct wire_header header = { .type = WIRE_AUTH };
	unsigned char mac[WIRE_MAC] = { 0 };

	f->puppet = puppet_new(f->loop, SECRET);
	f->puppet->mute = true;
	f->b = host_new(f->loop, "fake://b", NULL, false, SECRET);
	puppet_call(f->puppet, "b");
	puppet_say(f->puppet, header, mac, sizeof(mac));
	pass_ms(f, 10);
	assert_int_equal(f->puppet->heard[WIRE_AUTH], 1);
	assert_said(f->puppet->text, "has another key");
	assert_int_equal(f->b->met, 0);
}

static void
test_a_third_replica_does_not_disturb_a_session(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->puppet = puppet_new(f->loop, NULL);
	memset(f->puppet->hello.replica_id, 0x99, WIRE_ID);
	f->b->met = 0;
	call_and_be_refused(f, NULL, "is speaking with another one");
	host_send(f->a, 10);
	pass_ms(f, 100);
	assert_all_arrived(f);
	assert_int_equal(f->b->lost, 0);
}

/* --- sessions of the past --- */

/* All that a said in a session, again. */
static void
play(struct puppet *puppet, const unsigned char *tape, size_t length)
{
	for (size_t at = 0; at < length && puppet->channel != NULL;) {
		size_t payload = get32(tape + at + 40);

		puppet_say_bytes(puppet, tape + at, tape + at + WIRE_HEADER,
				 payload);
		at += WIRE_HEADER + payload;
		loop_run_until_idle(puppet->loop);
	}
}

static void
record_and_play(struct fixture *f, const char *key, bool in_session,
		const char *text)
{
	unsigned char *tape;
	size_t length;

	f->b = host_new(f->loop, "fake://b", NULL, false, key);
	f->a = host_new(f->loop, NULL, "fake://b", true, key);
	pass_ms(f, 100);
	host_send(f->a, 10);
	pass_ms(f, 100);
	assert_all_arrived(f);
	length = fake_network.tape_length;
	assert_true(length > 10 * (WIRE_HEADER + 8));
	tape = malloc(length);
	memcpy(tape, fake_network.tape, length);
	if (!in_session) {
		f->a = host_free(f->a);
		pass_ms(f, 20000);
	}
	f->b->met = 0;
	f->b->got_count = 0;

	f->puppet = puppet_new(f->loop, key);
	f->puppet->silent = f->puppet->mute = true;
	puppet_call(f->puppet, "b");
	play(f->puppet, tape, length);
	pass_ms(f, 100);
	free(tape);
	assert_true(f->puppet->closed);
	assert_said(f->puppet->text, text);
	assert_int_equal(f->b->met, 0);
	assert_int_equal(f->b->got_count, 0);
}

static void
test_a_recorded_session_played_again_is_refused(void **state)
{
	record_and_play(*state, SECRET, false, "has another key");
}

static void
test_it_is_refused_without_a_key_too(void **state)
{
	record_and_play(*state, NULL, false, "answers another hello");
}

static void
test_it_does_not_disturb_the_session_that_it_was(void **state)
{
	struct fixture *f = *state;

	record_and_play(f, SECRET, true, "has another key");
	host_send(f->a, 1);
	pass_ms(f, 10);
	assert_int_equal(f->b->got_count, 1);
	assert_int_equal(f->a->ended_count, f->a->sent_count);
	assert_int_equal(f->b->broken + f->b->lost, 0);
}

/* --- lies --- */

static struct wire_header
a_write(uint64_t sequence)
{
	return (struct wire_header){ .type = WIRE_WRITE,
				     .session = SESSION,
				     .sequence = sequence,
				     .length = 8 };
}

/* b gives the puppet's connection, or the session, up. */
static void
say_and_be_dropped(struct fixture *f, struct wire_header header,
		   const void *payload, size_t length)
{
	puppet_say(f->puppet, header, payload, length);
	pass_ms(f, 10);
	assert_true(f->puppet->closed);
	assert_int_equal(f->b->got_count, 0);
}

static void
test_a_write_before_the_proof_is_dropped(void **state)
{
	struct fixture *f = *state;

	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->mute = true;
	puppet_call(f->puppet, "b");
	say_and_be_dropped(f, a_write(1), "12345678", 8);
	assert_int_equal(f->b->met, 0);
}

static void
test_a_write_before_the_session_is_dropped(void **state)
{
	struct fixture *f = *state;

	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->puppet = puppet_new(f->loop, NULL);
	puppet_call(f->puppet, "b");
	assert_int_equal(f->b->met, 1);
	say_and_be_dropped(f, a_write(1), "12345678", 8);
}

static void
test_a_write_of_another_session_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct wire_header header = a_write(1);

	open_puppet(f);
	header.session = SESSION + 1;
	say_and_be_dropped(f, header, "12345678", 8);
	assert_said(f->b->text, "out of turn");
}

static void
test_a_gap_in_the_sequence_ends_the_session(void **state)
{
	struct fixture *f = *state;

	open_puppet(f);
	say_and_be_dropped(f, a_write(2), "12345678", 8);
	assert_int_equal(f->b->lost, 1);
	assert_said(f->b->text, "sent message 2 after 0");
}

static void
test_more_than_the_window_ends_the_session(void **state)
{
	struct fixture *f = *state;

	open_puppet(f);
	f->b->keep_acks = true;
	for (uint64_t i = 1; i <= LINK_WINDOW_MAX; i++)
		puppet_say(f->puppet, a_write(i), "12345678", 8);
	pass_ms(f, 10);
	assert_int_equal(f->b->got_count, LINK_WINDOW_MAX);
	puppet_say(f->puppet, a_write(LINK_WINDOW_MAX + 1), "12345678", 8);
	pass_ms(f, 10);
	assert_int_equal(f->b->got_count, LINK_WINDOW_MAX);
	assert_int_equal(f->b->lost, 1);
}

static void
test_a_message_that_comes_twice_is_delivered_once(void **state)
{
	struct fixture *f = *state;

	open_puppet(f);
	for (int i = 0; i < 3; i++)
		puppet_say(f->puppet, a_write(1), "12345678", 8);
	pass_ms(f, 10);
	assert_int_equal(f->b->got_count, 1);
	assert_false(f->puppet->closed);
}

static void
say_acks(struct fixture *f, uint64_t session, uint64_t sequence)
{
	struct wire_ack ack = { .sequence = sequence,
				.kind = WIRE_ACK_WRITTEN };
	struct wire_header header = { .type = WIRE_ACK, .session = session };
	unsigned char bytes[WIRE_ACK_BYTES];

	wire_encode_acks(&ack, 1, bytes);
	say_and_be_dropped(f, header, bytes, sizeof(bytes));
}

static void
test_an_acknowledgement_of_nothing_ends_the_session(void **state)
{
	struct fixture *f = *state;

	open_puppet(f);
	say_acks(f, SESSION, 1);
	assert_int_equal(f->b->lost, 1);
	assert_said(f->b->text, "acknowledged what it never got");
}

static void
test_an_acknowledgement_of_another_session_counts_nothing(void **state)
{
	struct fixture *f = *state;

	open_puppet(f);
	host_send(f->b, 1);
	pass_ms(f, 10);
	say_acks(f, SESSION - 1, 1);
	assert_int_equal(f->b->ended_count, 0);
}

/* Room for four; then, in the header of whatever comes, for two more. */
static void
test_no_more_is_sent_than_the_peer_has_room_for(void **state)
{
	struct fixture *f = *state;
	struct wire_header header = { .type = WIRE_PONG,
				      .session = SESSION,
				      .acknowledged = 4,
				      .credits = 2 };

	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->keep_acks = true;
	f->puppet->hello.window = 4;
	puppet_call(f->puppet, "b");
	puppet_begin(f->puppet, SESSION);
	host_send(f->b, 20);
	pass_ms(f, 100);
	assert_int_equal(f->puppet->heard[WIRE_WRITE], 4);
	puppet_say(f->puppet, header, NULL, 0);
	pass_ms(f, 100);
	assert_int_equal(f->puppet->heard[WIRE_WRITE], 6);
}

static void
test_what_is_out_of_turn_ends_the_connection(void **state)
{
	static const struct {
		enum wire_type type;
		size_t length;
	} wrong[] = { { WIRE_BEGIN, WIRE_BEGIN_BYTES }, { WIRE_BEGUN, 0 } };
	static const unsigned char zeros[WIRE_BEGIN_BYTES];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct fixture *f = *state;
		struct wire_header header = { .type = wrong[i].type,
					      .session = SESSION };

		open_puppet(f);
		say_and_be_dropped(f, header, zeros, wrong[i].length);
		f->puppet = puppet_free(f->puppet);
		f->b = host_free(f->b);
	}
}

static void
test_credit_that_cannot_be_is_not_believed(void **state)
{
	struct fixture *f = *state;
	struct wire_header header = { .type = WIRE_PONG,
				      .session = SESSION,
				      .credits = UINT32_MAX,
				      .acknowledged = 1000000 };

	open_puppet(f);
	puppet_say(f->puppet, header, NULL, 0);
	pass_ms(f, 10);
	host_send(f->b, LINK_WINDOW_MAX + 10);
	pass_ms(f, 10);
	assert_int_equal(f->puppet->heard[WIRE_WRITE], LINK_WINDOW_MAX);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, link_setup, link_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_speaker_of_the_next_version_is_told_whom_to_upgrade),
		TEST(test_a_speaker_of_both_versions_is_let_in),
		TEST(test_an_unknown_feature_is_refused),
		TEST(test_an_impossible_hello_is_refused),
		TEST(test_another_key_is_refused),
		TEST(test_a_key_on_one_side_only_is_refused),
		TEST(test_a_proof_sent_back_to_its_maker_is_none),
		TEST(test_a_third_replica_does_not_disturb_a_session),
		TEST(test_a_recorded_session_played_again_is_refused),
		TEST(test_it_is_refused_without_a_key_too),
		TEST(test_it_does_not_disturb_the_session_that_it_was),
		TEST(test_a_write_before_the_proof_is_dropped),
		TEST(test_a_write_before_the_session_is_dropped),
		TEST(test_a_write_of_another_session_is_dropped),
		TEST(test_a_gap_in_the_sequence_ends_the_session),
		TEST(test_more_than_the_window_ends_the_session),
		TEST(test_a_message_that_comes_twice_is_delivered_once),
		TEST(test_an_acknowledgement_of_nothing_ends_the_session),
		TEST(test_an_acknowledgement_of_another_session_counts_nothing),
		TEST(test_no_more_is_sent_than_the_peer_has_room_for),
		TEST(test_what_is_out_of_turn_ends_the_connection),
		TEST(test_credit_that_cannot_be_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

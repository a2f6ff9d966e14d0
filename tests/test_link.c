/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_link - the promises K1 to K5 of link.h: two links over a network that
 * holds back, breaks and damages.  Peers that lie: test_link_peer.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake_transport.h"
#include "tests/link_host.h"

/* --- a session --- */

static void
test_messages_arrive_once_and_in_order(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	host_send(f->a, 2000);
	pass_ms(f, 100);
	assert_all_arrived(f);
}

static void
test_without_credit_a_message_waits(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, LINK_WINDOW_MAX + 10);
	pass_ms(f, 100);
	assert_int_equal(f->b->got_count, LINK_WINDOW_MAX);
	assert_false(link_has_room(f->a->link));

	/* The window begins at the oldest: a later one makes no room. */
	host_acknowledge(f->b, 2);
	pass_ms(f, 100);
	assert_int_equal(f->a->ended_count, 1);
	assert_int_equal(f->b->got_count, LINK_WINDOW_MAX);
	host_acknowledge(f->b, 1);
	pass_ms(f, 2000); /* by the next ping, if nothing else */
	assert_int_equal(f->b->got_count, LINK_WINDOW_MAX + 2);
	for (uint64_t i = 3; i <= LINK_WINDOW_MAX + 2; i++)
		host_acknowledge(f->b, i);
	f->b->keep_acks = false;
	pass_ms(f, 2000);
	assert_all_arrived(f);
}

static void
test_acknowledgements_come_in_any_order(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, 3);
	pass_ms(f, 10);
	host_acknowledge(f->b, 3);
	link_acknowledge(f->b->link, 1, WIRE_ACK_WRITTEN, -EIO);
	pass_ms(f, 10);
	assert_int_equal(f->a->sends[2].ended, 1);
	assert_int_equal(f->a->sends[0].status, -EIO);
	assert_int_equal(f->a->sends[1].ended, 0);
	host_acknowledge(f->b, 2);
	pass_ms(f, 10);
	assert_int_equal(f->a->sends[1].ended, 1);
	assert_int_equal(f->a->sends[1].status, 0);
}

static void
test_the_end_gives_everything_back(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, LINK_WINDOW_MAX + 10);
	pass_ms(f, 10);
	link_stop(f->a->link);
	assert_int_equal(f->a->ended_count, LINK_WINDOW_MAX + 10);
	assert_int_equal(f->a->failed_count, LINK_WINDOW_MAX + 10);
	assert_int_equal(f->a->sends[0].status, -ENOTCONN);
	assert_int_equal(f->a->lost, 0);
}

static void
test_goodbye_ends_the_session_at_both_ends(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	host_send(f->a, 3);
	pass_ms(f, 10);
	link_goodbye(f->b->link, "it is late");
	pass_ms(f, 10);
	assert_int_equal(f->a->goodbyes, 1);
	assert_int_equal(f->a->lost, 1);
	assert_said(f->a->text, "it is late");
}

/* --- reconnects --- */

static void
test_a_flap_at_any_message_delivers_each_once(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	for (int i = 0; i < 20 * 8; i++) {
		fake_network.cut_in = 1 + i / 8;
		host_send(f->a, 20);
		loop_run_until_idle(f->loop);
		fake_network.cut_in = i % 8; /* again, in hello or replay */
		pass_ms(f, 200);
		fake_network.cut_in = 0;
		pass_ms(f, 2000);
		assert_all_arrived(f);
	}
	assert_true(f->a->resumed >= 20 * 8);
	assert_int_equal(f->a->lost, 0);
	assert_int_equal(f->a->up, 1);
}

static void
test_a_lost_acknowledgement_is_sent_again(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	host_send(f->a, 1);
	loop_run_until_idle(f->loop);
	assert_int_equal(f->a->ended_count, 1);
	f->b->keep_acks = true;
	host_send(f->a, 5);
	pass_ms(f, 10);
	assert_int_equal(f->b->got_count, 6);
	fake_network_hold(true);
	for (uint64_t i = 2; i <= 6; i++)
		host_acknowledge(f->b, i);
	pass_ms(f, 10);
	fake_network_cut();
	fake_network_hold(false);
	pass_ms(f, 1000);
	assert_int_equal(f->a->resumed, 1);
	assert_all_arrived(f);
}

static void
test_what_is_acknowledged_meanwhile_is_told_afterwards(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, 5);
	pass_ms(f, 10);
	fake_network.down = true;
	fake_network_cut();
	pass_ms(f, 1000);
	assert_int_equal(f->b->broken, 1);
	for (uint64_t i = 1; i <= 5; i++)
		host_acknowledge(f->b, i);
	host_send(f->a, 5); /* waits */
	f->b->keep_acks = false;
	fake_network.down = false;
	pass_ms(f, 1000);
	assert_all_arrived(f);
}

static void
test_after_the_grace_time_all_comes_back(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, 5);
	pass_ms(f, 10);
	fake_network.down = true;
	fake_network_cut();
	pass_ms(f, 9000);
	assert_int_equal(f->a->lost, 0);
	assert_int_equal(f->a->ended_count, 0);
	pass_ms(f, 2000);
	assert_int_equal(f->a->lost, 1);
	assert_int_equal(f->b->lost, 1);
	assert_said(f->a->text, "did not come back within 10000 ms");
	assert_int_equal(f->a->failed_count, 5);

	/* A session anew, and nothing of the old one counts. */
	fake_network.down = false;
	f->b->keep_acks = false;
	pass_ms(f, 2000);
	assert_int_equal(f->a->up, 2);
	assert_int_equal(f->b->got_count, 0);
}

static void
test_a_host_that_began_anew_ends_the_session_at_once(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->b->keep_acks = true;
	host_send(f->a, 5);
	pass_ms(f, 10);
	host_free(f->b);
	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	pass_ms(f, 2000);
	assert_int_equal(f->a->lost, 1);
	assert_said(f->a->text, "does not know the session any more");
	assert_int_equal(f->a->failed_count, 5);
	assert_int_equal(f->a->up, 2);
	assert_int_equal(f->b->got_count, 0);
}

static void
test_a_damaged_payload_is_sent_again(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	fake_network.damage = true;
	host_send(f->a, 5);
	pass_ms(f, 1000);
	assert_int_equal(f->b->broken, 1);
	assert_said(f->b->text, "arrived damaged");
	assert_all_arrived(f);
}

/* --- silence --- */

static void
test_an_idle_link_stays_up(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	pass_ms(f, 60000);
	assert_int_equal(f->a->broken + f->b->broken, 0);
	host_send(f->a, 1);
	pass_ms(f, 10);
	assert_all_arrived(f);
}

static void
test_a_dead_peer_is_noticed_within_the_dead_time(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	pass_ms(f, 3000);
	fake_network_hold(true);
	pass_ms(f, 3900);
	assert_int_equal(f->a->broken, 0);
	pass_ms(f, 1300);
	assert_int_equal(f->a->broken, 1);
	assert_int_equal(f->b->broken, 1);
	assert_said(f->a->text, "has been silent for 5000 ms");
}

static void
test_who_takes_the_call_and_says_nothing_is_given_up(void **state)
{
	struct fixture *f = *state;

	fake_network_hold(true);
	f->b = host_new(f->loop, "fake://b", NULL, false, NULL);
	f->a = host_new(f->loop, NULL, "fake://b", true, NULL);
	pass_ms(f, 4000);
	assert_int_equal(fake_network.channels, 2);
	assert_int_equal(link_state(f->a->link), LINK_CONNECTING);
	fake_network_hold(false);
	fake_network_hold(true);
	pass_ms(f, 20000); /* hello, and then silence, again and again */
	assert_int_equal(f->a->met, 0);
	assert_true(fake_network.channels <= 4);
	fake_network_hold(false);
	pass_ms(f, 6000);
	assert_int_equal(f->a->up, 1);
}

static void
test_a_silent_stranger_does_not_disturb_a_session(void **state)
{
	struct fixture *f = *state;

	open_pair(f);
	f->puppet = puppet_new(f->loop, NULL);
	f->puppet->silent = f->puppet->mute = true;
	puppet_call(f->puppet, "b");
	host_send(f->a, 10);
	pass_ms(f, 4000);
	assert_false(f->puppet->closed);
	pass_ms(f, 2000);
	assert_true(f->puppet->closed);
	assert_all_arrived(f);
	assert_int_equal(f->b->broken, 0);
}

static void
test_strangers_without_end_leave_room_for_a_session(void **state)
{
	struct fixture *f = *state;
	struct puppet *strangers[10];

	open_pair(f);
	for (int i = 0; i < 10; i++) {
		strangers[i] = puppet_new(f->loop, NULL);
		strangers[i]->silent = strangers[i]->mute = true;
		puppet_call(strangers[i], "b");
	}
	host_send(f->a, 10);
	pass_ms(f, 100);
	assert_all_arrived(f);
	for (int i = 0; i < 10; i++)
		puppet_free(strangers[i]);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, link_setup, link_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_messages_arrive_once_and_in_order),
		TEST(test_without_credit_a_message_waits),
		TEST(test_acknowledgements_come_in_any_order),
		TEST(test_the_end_gives_everything_back),
		TEST(test_goodbye_ends_the_session_at_both_ends),
		TEST(test_a_flap_at_any_message_delivers_each_once),
		TEST(test_a_lost_acknowledgement_is_sent_again),
		TEST(test_what_is_acknowledged_meanwhile_is_told_afterwards),
		TEST(test_after_the_grace_time_all_comes_back),
		TEST(test_a_host_that_began_anew_ends_the_session_at_once),
		TEST(test_a_damaged_payload_is_sent_again),
		TEST(test_an_idle_link_stays_up),
		TEST(test_a_dead_peer_is_noticed_within_the_dead_time),
		TEST(test_who_takes_the_call_and_says_nothing_is_given_up),
		TEST(test_a_silent_stranger_does_not_disturb_a_session),
		TEST(test_strangers_without_end_leave_room_for_a_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

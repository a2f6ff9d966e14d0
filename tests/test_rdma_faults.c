/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rdma_faults - the RDMA transport over a fake device that does wrong what
 * devices and networks do wrong: every event in every state, completions that
 * come late, twice or never, posts that fail, receives that are missing, a
 * device that is removed.
 *
 * Whatever comes, an end hears of its end at most once, every send ends exactly
 * once, close() returns at once, and nothing is left (fabric_close() of the
 * teardown looks).
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "core/pool.h"
#include "tests/rdma_pair.h"

#define CLOSE_MAX_NS (5 * NS_PER_S) /* C4: on a loaded machine, too */

#define assert_says(text, part)                                                \
	do {                                                                   \
		if (strstr(text, part) == NULL)                                \
			fail_msg("\"%s\" does not say \"%s\"", text, part);    \
	} while (0)

/* --- every event in every state --- */

enum stage {
	AT_ADDRESS,
	AT_ROUTE,
	AT_CONNECT,
	AT_ACCEPT_CALLER, /* of the two ends, who called */
	AT_ACCEPT_CALLED,
	AT_OPEN_CALLER,
	AT_OPEN_CALLED,
	AT_OPEN_BUSY, /* with sends under way */
	AT_BROKEN,    /* has failed, and its owner has not closed yet */
	STAGES,
};

static const enum rdma_cm_event_type types[] = {
	RDMA_CM_EVENT_ADDR_RESOLVED,   RDMA_CM_EVENT_ADDR_ERROR,
	RDMA_CM_EVENT_ROUTE_RESOLVED,  RDMA_CM_EVENT_ROUTE_ERROR,
	RDMA_CM_EVENT_CONNECT_REQUEST, RDMA_CM_EVENT_CONNECT_RESPONSE,
	RDMA_CM_EVENT_CONNECT_ERROR,   RDMA_CM_EVENT_UNREACHABLE,
	RDMA_CM_EVENT_REJECTED,	       RDMA_CM_EVENT_ESTABLISHED,
	RDMA_CM_EVENT_DISCONNECTED,    RDMA_CM_EVENT_DEVICE_REMOVAL,
	RDMA_CM_EVENT_MULTICAST_JOIN,  RDMA_CM_EVENT_MULTICAST_ERROR,
	RDMA_CM_EVENT_ADDR_CHANGE,     RDMA_CM_EVENT_TIMEWAIT_EXIT,
};

#define TYPES (sizeof(types) / sizeof(types[0]))

static enum fabric_stop
stop_of(enum stage stage)
{
	switch (stage) {
	case AT_ADDRESS:
		return FABRIC_STOP_ADDRESS;
	case AT_ROUTE:
		return FABRIC_STOP_ROUTE;
	case AT_CONNECT:
		return FABRIC_STOP_CONNECT;
	case AT_ACCEPT_CALLER:
	case AT_ACCEPT_CALLED:
		return FABRIC_STOP_ACCEPT;
	case AT_OPEN_CALLER:
	case AT_OPEN_CALLED:
	case AT_OPEN_BUSY:
	case AT_BROKEN:
	case STAGES:
		break;
	}
	return FABRIC_GO_ON;
}

/* Bring a connection there; the id that the event is for. */
static struct rdma_cm_id *
reach(struct rdma_pair *pair, enum stage stage)
{
	bool called = stage == AT_ACCEPT_CALLED || stage == AT_OPEN_CALLED;

	fabric.stop = stop_of(stage);
	pair_call(pair);
	if (fabric.stop == FABRIC_GO_ON)
		pair_until(pair, pair->caller.opened && pair->called.opened);
	else
		pair_until(pair, fabric_id(fabric.stop == FABRIC_STOP_ACCEPT));
	pair_turn(pair);
	if (stage == AT_OPEN_BUSY) {
		fabric.hold_wire = true;
		for (int i = 0; i < 20; i++)
			end_send(&pair->caller, 70000, true);
		pair_turn(pair);
	}
	if (stage == AT_BROKEN) {
		pair->caller.keep_open = true;
		fabric_cut();
		pair_until(pair, pair->caller.closed);
	}
	return fabric_id(called ? 1 : 0);
}

static void
end_close_quickly(struct rdma_pair *pair, struct rdma_end *end)
{
	uint64_t begin = loop_now(pair->loop);

	end_close(end);
	assert_true(loop_now(pair->loop) - begin < CLOSE_MAX_NS);
}

static void
one_event(struct rdma_pair *pair, enum stage stage,
	  enum rdma_cm_event_type type, int status, bool again)
{
	struct rdma_cm_id *id = reach(pair, stage);

	assert_non_null(id);
	fabric_event(id, type, status);
	if (again)
		fabric_event(id, type, status);
	pair_turn(pair);
	assert_true(pair->caller.closed <= 1);
	assert_true(pair->called.closed <= 1);
	assert_true(pair->caller.opened <= 1);
	assert_true(pair->called.opened <= 1);
	end_close_quickly(pair, &pair->caller);
	pair_turn(pair);
	end_close_quickly(pair, &pair->called);
	assert_each_ended_once(&pair->caller);
}

static void
reset(struct rdma_pair *pair)
{
	transport_rdma.stop(pair->acceptor);
	pair->acceptor = NULL;
	pair->caller.sent = 0;
	pair->caller.keep_open = false;
	pair->called.opened = 0;
	pair->called.closed = 0;
	fabric.hold_wire = false;
	fabric.stop = FABRIC_GO_ON;
	if (fabric_is_let_go()) /* that is what a removal means */
		fabric_return();
}

static void
test_every_event_in_every_state(void **state)
{
	struct rdma_pair *pair = *state;

	for (int stage = 0; stage < STAGES; stage++) {
		for (size_t i = 0; i < TYPES; i++) {
			for (int again = 0; again < 2; again++) {
				pair_listen(pair);
				one_event(pair, (enum stage)stage, types[i],
					  i % 3 == 0 ? 0 : -ETIMEDOUT, again);
				assert_int_equal(fabric.pairs, 0);
				assert_int_equal(fabric.queues, 0);
				assert_int_equal(fabric.events, 0);
				reset(pair);
			}
		}
	}
}

/* The owner may close in any of them, with nothing said before. */
static void
test_close_in_every_state(void **state)
{
	struct rdma_pair *pair = *state;

	for (int stage = 0; stage < STAGES; stage++) {
		pair_listen(pair);
		(void)reach(pair, (enum stage)stage);
		end_close_quickly(pair, &pair->caller);
		assert_each_ended_once(&pair->caller);
		pair_turn(pair);
		end_close_quickly(pair, &pair->called);
		assert_int_equal(fabric.pairs, 0);
		reset(pair);
	}
}

/* --- completions --- */

/* Whatever is done to the pair, both hear of it, once. */
static void
assert_both_end(struct rdma_pair *pair)
{
	pair_until(pair, pair->caller.closed && pair->called.closed);
	pair_turn(pair);
	assert_int_equal(pair->caller.closed, 1);
	assert_int_equal(pair->called.closed, 1);
	assert_each_ended_once(&pair->caller);
	assert_each_ended_once(&pair->called);
}

static void
send_some(struct rdma_pair *pair)
{
	for (int i = 0; i < 10; i++) {
		end_send(&pair->caller, 4096, false);
		end_send(&pair->caller, 100000, true);
		end_ping(&pair->called);
	}
}

static void
test_flushes_that_never_come_hold_up_nobody(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.no_flush = true;
	fabric.hold_wire = true;
	send_some(pair);
	pair_turn(pair);
	end_close_quickly(pair, &pair->caller);
	assert_int_equal(pair->caller.cancelled, 20);
	pair_until(pair, pair->called.closed);
}

static void
test_flushes_that_come_twice_end_nothing_twice(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.flush_twice = true;
	fabric.hold_wire = true;
	send_some(pair);
	pair_turn(pair);
	fabric_cut();
	assert_both_end(pair);
}

static void
test_completions_that_come_twice_end_nothing_twice(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	pair_pass_ms(pair, 2);
	fabric.twice = true;
	for (int i = 0; i < 20; i++)
		end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->called.got == 20 && pair->caller.done == 20);
	assert_int_equal(pair->caller.closed + pair->called.closed, 0);
	assert_each_ended_once(&pair->caller);
}

/* Answers before the completion of what they answer, and the other way. */
static void
test_completions_in_any_order(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	for (int i = 0; i < 30; i++) {
		fabric.hold_sends = i % 2 == 0;
		fabric.hold_receives = i % 3 == 0;
		end_send(&pair->caller, 4096, false);
		end_send(&pair->called, 512, true);
		pair_turn(pair);
		fabric_release();
	}
	pair_until(pair, pair->called.got == 30 && pair->caller.got == 30);
	pair_until(pair, pair->caller.done == 30 && pair->called.done == 30);
	assert_int_equal(pair->caller.cancelled + pair->called.cancelled, 0);
}

/* Q2: between the last poll and the arming. */
static void
test_a_completion_just_before_arming_is_not_missed(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	for (unsigned int i = 1; i <= 20; i++) {
		pair_pass_ms(pair, 15); /* it sleeps, and polls no more */
		fabric.hold_receives_in = 1;
		fabric.late = true;
		end_send(&pair->caller, 4096, false);
		end_send(&pair->caller, 4096, false);
		pair_until(pair, pair->called.got == 2 * i);
		fabric.late = false;
	}
}

/* A wire that stands still fills the queue, and then goes on. */
static void
test_a_full_queue_waits(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	end_send(&pair->caller, 512, true);
	pair_until(pair, pair->called.got == 1);
	fabric.hold_wire = true;
	for (int i = 0; i < 400; i++)
		end_send(&pair->caller, 512, true);
	pair_pass_ms(pair, 5);
	assert_int_equal(pair->called.got, 1);
	fabric_release();
	for (int i = 0; pair->called.got < 401 && i < 100; i++)
		pair_pass_ms(pair, 1);
	pair_until(pair, pair->called.got == 401);
	assert_int_equal(fabric.rnr, 0);
}

/* --- posts --- */

/* S5: the n-th post, whichever it is. */
static void
test_a_post_that_fails_is_a_lost_connection(void **state)
{
	struct rdma_pair *pair = *state;

	for (int n = 1; n <= 12; n++) {
		pair_open(pair);
		pair->caller.sent = 0;
		pair->called.sent = 0;
		fabric.fail_send_in = n;
		send_some(pair);
		assert_both_end(pair);
		assert_int_equal(fabric.fail_send_in, 0);
	}
}

static void
test_a_receive_that_fails_is_a_lost_connection(void **state)
{
	struct rdma_pair *pair = *state;

	for (int n = 1; n <= 12; n++) {
		pair_open(pair);
		pair->caller.sent = 0;
		pair->called.sent = 0;
		fabric.fail_receive_in = n;
		send_some(pair);
		assert_both_end(pair);
		fabric.fail_receive_in = 0;
	}
}

static void
test_a_missing_receive_is_told(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.starve = true;
	end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->caller.closed);
	assert_says(pair->caller.text, "no receive");
}

static void
test_a_receive_that_fails_at_the_start_leaves_nothing(void **state)
{
	struct rdma_pair *pair = *state;

	pair_listen(pair);
	fabric.fail_receive_in = 1;
	pair_call(pair);
	pair_until(pair, pair->caller.closed);
	fabric.fail_receive_in = 0;
	assert_int_equal(fabric.pairs, 0);
	/* that of who is called */
	fabric.stop = FABRIC_STOP_ROUTE;
	pair_call(pair);
	pair_until(pair, fabric_id(0) != NULL);
	pair_turn(pair);
	fabric.fail_receive_in = 17; /* behind the caller's */
	fabric_event(fabric_id(0), RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
	pair_until(pair, pair->caller.closed);
	assert_int_equal(pair->accepted, 0);
	assert_says(pair->caller.text, "no room");
}

/* --- the link --- */

static void
test_a_cut_link_is_told_with_what_was_under_way(void **state)
{
	struct rdma_pair *pair = *state;

	for (int n = 1; n < 12; n++) {
		pair_open(pair);
		pair->caller.sent = 0;
		pair->called.sent = 0;
		fabric.cut_in = n;
		send_some(pair);
		assert_both_end(pair);
	}
}

static void
test_damage_is_noticed(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.damage = true;
	end_ping(&pair->caller);
	pair_until(pair, pair->called.closed);
	assert_int_equal(pair->called.error, -EPROTO);
}

static void
test_rejections_are_told_by_their_cause(void **state)
{
	static const struct {
		int cause;
		const char *text;
	} rejections[] = { { 8, "nobody listens" },
			   { 10, "older connection" },
			   { 24, "cause 24" },
			   { 28, "no tapdisk" } };
	struct rdma_pair *pair = *state;

	pair_listen(pair);
	for (size_t i = 0; i < sizeof(rejections) / sizeof(rejections[0]);
	     i++) {
		fabric.reject = rejections[i].cause;
		pair_call(pair);
		pair_until(pair, pair->caller.closed);
		assert_says(pair->caller.text, rejections[i].text);
	}
}

/* --- the device --- */

/* D3: nothing is asked of it any more (the fabric looks), all is freed, and
 * when it is back all goes well. */
static void
test_a_removed_device_is_let_go_and_comes_back(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.hold_wire = true;
	send_some(pair);
	pair_turn(pair);
	fabric_remove();
	assert_both_end(pair);
	assert_says(pair->caller.text, "removed");
	pair_until(pair, fabric.regions == 0 && fabric.ids == 0);
	assert_int_equal(fabric.domains, 0);
	assert_true(fabric_is_let_go());

	fabric.hold_wire = false;
	fabric_return();
	pair->caller.sent = 0;
	pair->called.sent = 0;
	/* the listener looks again by itself */
	pair_until(pair, fabric.ids == 1);
	pair_open(pair);
	end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->called.got == 1);
}

static void
test_an_idle_device_that_is_removed_is_let_go(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	pair_close(pair);
	assert_int_equal(fabric.regions, 1);
	fabric_remove();
	pair_until(pair, fabric.regions == 0);
	assert_true(fabric_is_let_go());
	fabric_return();
}

static void
test_events_of_the_device(void **state)
{
	static const struct {
		enum ibv_event_type type;
		bool of_pair, ends;
	} events[] = {
		{ IBV_EVENT_QP_FATAL, true, true },
		{ IBV_EVENT_QP_REQ_ERR, true, true },
		{ IBV_EVENT_QP_ACCESS_ERR, true, true },
		{ IBV_EVENT_PORT_ERR, false, true },
		{ IBV_EVENT_COMM_EST, true, false },
		{ IBV_EVENT_PORT_ACTIVE, false, false },
		{ IBV_EVENT_GID_CHANGE, false, false },
	};
	struct rdma_pair *pair = *state;

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		pair_open(pair);
		fabric_async(events[i].type,
			     events[i].of_pair ? fabric_id(0)->qp : NULL);
		if (events[i].ends)
			pair_until(pair, pair->caller.closed);
		pair_turn(pair);
		assert_int_equal(pair->caller.closed, events[i].ends);
		pair_close(pair);
	}
}

/* The set-up's last word is lost, and data come: they establish it. */
static void
test_data_establish_a_connection(void **state)
{
	struct rdma_pair *pair = *state;

	pair_listen(pair);
	fabric.stop = FABRIC_STOP_ACCEPT;
	pair_call(pair);
	pair_until(pair, pair->accepted == 1);
	fabric_async(IBV_EVENT_COMM_EST, fabric_id(1)->qp);
	pair_until(pair, pair->called.opened == 1);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_event_in_every_state),
		TEST(test_close_in_every_state),
		TEST(test_flushes_that_never_come_hold_up_nobody),
		TEST(test_flushes_that_come_twice_end_nothing_twice),
		TEST(test_completions_that_come_twice_end_nothing_twice),
		TEST(test_completions_in_any_order),
		TEST(test_a_completion_just_before_arming_is_not_missed),
		TEST(test_a_full_queue_waits),
		TEST(test_a_post_that_fails_is_a_lost_connection),
		TEST(test_a_receive_that_fails_is_a_lost_connection),
		TEST(test_a_missing_receive_is_told),
		TEST(test_a_receive_that_fails_at_the_start_leaves_nothing),
		TEST(test_a_cut_link_is_told_with_what_was_under_way),
		TEST(test_damage_is_noticed),
		TEST(test_rejections_are_told_by_their_cause),
		TEST(test_a_removed_device_is_let_go_and_comes_back),
		TEST(test_an_idle_device_that_is_removed_is_let_go),
		TEST(test_events_of_the_device),
		TEST(test_data_establish_a_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

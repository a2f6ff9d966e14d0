/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_rdma - the RDMA transport over a fake device that does no wrong:
 * promises C1 to C5 of transport.h, credits, chains, memory, limits, and the
 * sentences that people read.  What goes wrong: test_rdma_faults.
 */
#include "tests/test.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "core/pool.h"
#include "tests/rdma_pair.h"

#define SLOT	     (64u << 10)
#define ALL_RECEIVES (128 * SLOT)

#define assert_says(text, part)                                                \
	do {                                                                   \
		if (strstr(text, part) == NULL)                                \
			fail_msg("\"%s\" does not say \"%s\"", text, part);    \
	} while (0)

/* --- messages --- */

static void
test_messages_arrive_whole_and_in_order(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	for (int i = 0; i < 100; i++)
		end_send(&pair->caller, 4096, false);
	for (int i = 0; i < 30; i++)
		end_send(&pair->called, 512, true);
	end_ping(&pair->caller);
	pair_until(pair, pair->called.got == 100 && pair->caller.got == 30 &&
				 pair->called.got_control == 1);
	pair_until(pair, pair->caller.done == 101 && pair->called.done == 30);
	assert_int_equal(pair->caller.cancelled, 0);
	assert_int_equal(fabric.rnr, 0);
}

static void
test_a_payload_lands_where_it_can_be_written_from(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	end_send(&pair->caller, 4096, false);
	end_send(&pair->caller, SLOT, false);
	pair_until(pair, pair->called.got == 2);
	assert_true(pair->called.landed);
}

/* So that the peer has posted all its receives, and has told of them. */
static void
warm_up(struct rdma_pair *pair)
{
	pair_open(pair);
	end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->called.got == 1 && pair->caller.done == 1 &&
				 pool_in_use(pair->pool) >= ALL_RECEIVES);
	pair_turn(pair);
}

static void
test_a_long_message_is_one_chain_with_one_signal(void **state)
{
	struct rdma_pair *pair = *state;
	unsigned int doorbells, signalled;

	warm_up(pair);
	doorbells = fabric.doorbells;
	signalled = fabric.signalled;
	end_send(&pair->caller, 1 << 20, false);
	pair_until(pair, pair->called.got == 2 && pair->caller.done == 2);
	assert_int_equal(fabric.doorbells - doorbells, 1);
	assert_int_equal(fabric.signalled - signalled, 1);
	assert_int_equal(pair->called.got_bytes, 4096 + (1 << 20));
}

static void
test_what_is_sent_in_one_turn_is_one_chain(void **state)
{
	struct rdma_pair *pair = *state;
	unsigned int doorbells;

	warm_up(pair);
	doorbells = fabric.doorbells;
	for (int i = 0; i < 10; i++)
		end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->called.got == 11);
	assert_int_equal(fabric.doorbells - doorbells, 1);
}

static void
test_short_messages_go_along_with_the_request(void **state)
{
	struct rdma_pair *pair = *state;

	unsigned int inlined;

	warm_up(pair);
	inlined = fabric.inlined;
	end_ping(&pair->caller);
	end_send(&pair->caller, 16, true);
	pair_until(pair, pair->called.got == 2);
	assert_int_equal(fabric.inlined, inlined + 2);
	end_send(&pair->caller, 4096, true);
	pair_until(pair, pair->called.got == 3);
	assert_int_equal(fabric.inlined, inlined + 2);
}

/* S2: an acknowledgement of the peer may be here first. */
static void
test_a_send_is_done_when_it_completed_not_before(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.hold_sends = true;
	end_send(&pair->caller, 4096, false);
	end_send(&pair->caller, 8192, true);
	pair_until(pair, pair->called.got == 2);
	end_ping(&pair->called); /* the "acknowledgement" */
	pair_until(pair, pair->caller.got_control == 1);
	pair_pass_ms(pair, 5);
	assert_int_equal(pair->caller.done, 0);
	fabric_release();
	pair_until(pair, pair->caller.done == 2);
}

/* A completion of a send that nothing else brings to light is reaped. */
static void
test_a_lone_completion_is_not_forgotten(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	pair_pass_ms(pair, 20); /* it sleeps */
	end_ping(&pair->caller);
	pair_until(pair, pair->caller.done == 1);
}

/* --- flow --- */

/* R1, S4: out of buffers the peer is not overrun, and control goes on. */
static void
test_a_peer_without_buffers_slows_the_sender(void **state)
{
	struct rdma_pair *pair = *state;
	unsigned int got;

	pair_open(pair);
	pair->called.keep = true;
	for (int i = 0; i < 480; i++)
		end_send(&pair->caller, 2048, true);
	pair_until(pair, pair->called.channel->stalled);
	got = pair->called.got;
	assert_true(got < 480);
	assert_int_equal(fabric.rnr, 0);
	/* the other way all goes well */
	end_ping(&pair->called);
	pair_until(pair, pair->caller.got_control == 1);
	pair->called.keep = false;
	end_drop(&pair->called);
	pair_until(pair, pair->called.got == 480);
	assert_int_equal(fabric.rnr, 0);
	pair_until(pair, !pair->called.channel->stalled);
}

static void
test_credit_comes_back_by_itself(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	/* one way only, far beyond what is posted */
	for (int i = 0; i < 500; i++)
		end_ping(&pair->caller);
	pair_until(pair, pair->called.got_control == 500);
	assert_int_equal(fabric.rnr, 0);
	assert_int_equal(pair->caller.closed + pair->called.closed, 0);
}

static void
test_both_ways_at_once_nobody_starves(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	for (int i = 0; i < 250; i++) {
		end_ping(&pair->caller);
		end_ping(&pair->called);
		end_send(&pair->caller, 600, true);
		end_send(&pair->called, 70000, true);
	}
	pair_until(pair, pair->called.got == 250 && pair->caller.got == 250);
	pair_until(pair, pair->called.got_control == 250 &&
				 pair->caller.got_control == 250);
	assert_int_equal(fabric.rnr, 0);
}

/* R3 */
static void
test_little_is_pinned_until_data_come(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	assert_true(pool_in_use(pair->pool) <= 4u << 20); /* of both */
	end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->called.got == 1);
	pair_until(pair, pool_in_use(pair->pool) >= ALL_RECEIVES);
	assert_true(pool_in_use(pair->pool) <= 12u << 20);
}

/* --- limits of devices --- */

static void
exchange(struct rdma_pair *pair)
{
	pair_open(pair);
	for (int i = 0; i < 40; i++)
		end_send(&pair->caller, i % 2 ? 4096 : 200000, true);
	end_ping(&pair->called);
	pair_until(pair,
		   pair->called.got == 40 && pair->caller.got_control == 1);
	assert_int_equal(fabric.rnr, 0);
}

static void
test_a_device_without_inline_data_does(void **state)
{
	fabric.inline_max = 0;
	exchange(*state);
	assert_int_equal(fabric.inlined, 0);
}

static void
test_a_device_with_the_shortest_queues_does(void **state)
{
	fabric.wr_max = 8;
	fabric.cqe_max = 8;
	exchange(*state);
	assert_true(fabric.send_depth <= 8);
}

static void
test_a_device_that_gives_less_than_it_says_does(void **state)
{
	fabric.inline_max = 60;
	fabric.queue_max = 20;
	exchange(*state);
	assert_true(fabric.send_depth <= 20);
}

static void
assert_refused_to_call(struct rdma_pair *pair, const char *what)
{
	if (pair->acceptor == NULL)
		pair_listen(pair);
	pair_call(pair);
	pair_until(pair, pair->caller.closed);
	assert_int_equal(pair->caller.opened, 0);
	assert_says(pair->caller.text, what);
}

static void
test_a_device_that_is_too_small_is_refused(void **state)
{
	fabric.sge_max = 1;
	assert_refused_to_call(*state, "too small");
}

static void
test_a_device_without_a_queue_pair_to_give_is_refused(void **state)
{
	fabric.queue_max = 4;
	assert_refused_to_call(*state, "gives no queue pair");
}

/* --- sentences --- */

static void
test_too_little_locked_memory_is_explained(void **state)
{
	fabric.memlock = true;
	assert_refused_to_call(*state, "cannot be");
}

static void
test_nobody_there_is_told(void **state)
{
	struct rdma_pair *pair = *state;

	pair_call(pair);
	pair_until(pair, pair->caller.closed);
	assert_says(pair->caller.text, "nobody listens there");
	assert_int_equal(pair->caller.error, -ECONNREFUSED);
}

static void
test_a_wrong_address_is_told(void **state)
{
	struct rdma_pair *pair = *state;
	struct reason reason = { "" };

	pair_listen(pair);
	fabric.elsewhere = true;
	assert_refused_to_call(pair, "no RDMA device of this host");
	assert_null(transport_rdma.listen(
		&pair->called.context, FAKE_ADDRESS ":7", NULL, NULL, &reason));
	assert_says(reason.text, "no RDMA device of this host");
	assert_null(transport_rdma.listen(&pair->called.context, "nonsense",
					  NULL, NULL, &reason));
	assert_says(reason.text, "HOST:PORT");
}

static void
test_a_host_without_rdma_is_told(void **state)
{
	struct rdma_pair *pair = *state;
	struct reason reason = { "" };

	fabric.absent = true;
	assert_null(transport_rdma.listen(&pair->called.context, PAIR_URL, NULL,
					  NULL, &reason));
	assert_says(reason.text, "modprobe rdma_ucm");
	assert_null(transport_rdma.connect(&pair->called.context, PAIR_URL,
					   NULL, NULL, &reason));
	assert_says(reason.text, "modprobe rdma_ucm");
}

/* --- keys --- */

static void
test_with_a_key_every_message_is_sealed(void **state)
{
	struct rdma_pair *pair = *state;
	unsigned char one[WIRE_MAC], other[WIRE_MAC], zero[WIRE_MAC] = { 0 };

	pair_key(pair, PAIR_KEY, PAIR_KEY);
	exchange(pair);
	assert_true(transport_rdma.is_authentic(pair->caller.channel));
	assert_false(transport_rdma.is_private(pair->caller.channel));
	transport_rdma.bind(pair->caller.channel, one);
	transport_rdma.bind(pair->called.channel, other);
	assert_memory_equal(one, other, WIRE_MAC);
	assert_memory_not_equal(one, zero, WIRE_MAC);

	/* C5: one wrong byte ends it */
	fabric.damage = true;
	end_ping(&pair->caller);
	pair_until(pair, pair->called.closed);
	assert_says(pair->called.text, "wrong proof");
}

static void
test_another_key_is_noticed(void **state)
{
	struct rdma_pair *pair = *state;

	pair_key(pair, PAIR_KEY, "another key, another key, 01234567");
	pair_open(pair);
	end_ping(&pair->caller);
	pair_until(pair, pair->called.closed);
	assert_int_equal(pair->called.error, -EPERM);
	assert_says(pair->called.text, "another key");
}

static void
test_a_key_on_one_side_is_told_on_both(void **state)
{
	struct rdma_pair *pair = *state;

	pair_key(pair, PAIR_KEY, NULL);
	assert_refused_to_call(pair, "one of the two hosts has a key");
	assert_int_equal(pair->caller.error, -EPERM);
	assert_int_equal(pair->accepted, 0);
}

static void
test_the_mac_is_a_matter_of_both(void **state)
{
	struct rdma_pair *pair = *state;

	pair_key(pair, PAIR_KEY, PAIR_KEY);
	pair->caller.context.no_mac = true;
	assert_refused_to_call(pair, "--rdma-mac");
	assert_false(transport_rdma.is_safe(&pair->caller.context));
	assert_true(transport_rdma.is_safe(&pair->called.context));
	transport_rdma.stop(pair->acceptor);
	pair->acceptor = NULL;
	pair->called.context.no_mac = true;
	exchange(pair);
	assert_false(transport_rdma.is_authentic(pair->caller.channel));
}

/* --- the end --- */

/* C2 */
static void
test_the_peer_s_close_is_heard_after_what_it_sent(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.hold_sends = true; /* so that nothing is done early */
	for (int i = 0; i < 10; i++)
		end_send(&pair->caller, 4096, false);
	while (fabric.sends < 10)
		(void)loop_turn(pair->loop, 0);
	end_close(&pair->caller);
	pair_until(pair, pair->called.closed);
	assert_int_equal(pair->called.got, 10);
	assert_int_equal(pair->called.closed, 1);
	assert_int_equal(pair->called.error, -ECONNRESET);
}

/* C3 */
static void
test_close_gives_every_send_back(void **state)
{
	struct rdma_pair *pair = *state;

	pair_open(pair);
	fabric.hold_wire = true;
	for (int i = 0; i < 300; i++)
		end_send(&pair->caller, 600, true);
	pair_pass_ms(pair, 5);
	assert_int_equal(pair->caller.done, 0);
	end_close(&pair->caller);
	assert_int_equal(pair->caller.done, 300);
	assert_int_equal(pair->caller.cancelled, 300);
	/* Q5: the device could not read them any more */
	assert_int_equal(pair->caller.pairs, 1);
	assert_each_ended_once(&pair->caller);
}

static void
test_a_handler_may_close(void **state)
{
	struct rdma_pair *pair = *state;

	pair->caller.close_at_open = true;
	pair_listen(pair);
	pair_call(pair);
	pair_until(pair, pair->caller.opened);
	pair->caller.close_at_open = false;
	pair_until(pair, pair->called.channel == NULL);

	pair_open(pair);
	pair->called.close_at_message = true;
	for (int i = 0; i < 5; i++)
		end_send(&pair->caller, 4096, false);
	pair_until(pair, pair->caller.closed);
	assert_int_equal(pair->called.got, 1);
}

static unsigned int
open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(directory);
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

/* Nothing is left of a connection; what is kept is the device's. */
static void
test_500_rounds_leave_everything_as_it_was(void **state)
{
	struct rdma_pair *pair = *state;
	struct fabric first = { 0 };
	size_t in_use = 0;
	unsigned int descriptors = 0;

	for (int round = 0; round < 500; round++) {
		pair_open(pair);
		end_send(&pair->caller, 4096, false);
		pair_until(pair, pair->called.got == (unsigned int)round + 1);
		if (round % 3 == 0)
			end_close(&pair->called);
		if (round % 3 == 1)
			fabric_cut();
		end_close(&pair->caller);
		pair_until(pair, pair->called.channel == NULL);
		pair->caller.sent = 0;
		if (round == 0) {
			first = fabric;
			descriptors = open_descriptors();
			in_use = pool_in_use(pair->pool);
		}
	}
	assert_int_equal(fabric.ids, first.ids);
	assert_int_equal(fabric.channels, first.channels);
	assert_int_equal(fabric.domains, first.domains);
	assert_int_equal(fabric.regions, first.regions);
	assert_int_equal(fabric.registered, first.registered);
	assert_int_equal(fabric.queues, first.queues);
	assert_int_equal(fabric.pairs, 0);
	assert_int_equal(open_descriptors(), descriptors);
	assert_int_equal(pool_in_use(pair->pool), in_use);
}

#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_messages_arrive_whole_and_in_order),
		TEST(test_a_payload_lands_where_it_can_be_written_from),
		TEST(test_a_long_message_is_one_chain_with_one_signal),
		TEST(test_what_is_sent_in_one_turn_is_one_chain),
		TEST(test_short_messages_go_along_with_the_request),
		TEST(test_a_send_is_done_when_it_completed_not_before),
		TEST(test_a_lone_completion_is_not_forgotten),
		TEST(test_a_peer_without_buffers_slows_the_sender),
		TEST(test_credit_comes_back_by_itself),
		TEST(test_both_ways_at_once_nobody_starves),
		TEST(test_little_is_pinned_until_data_come),
		TEST(test_a_device_without_inline_data_does),
		TEST(test_a_device_with_the_shortest_queues_does),
		TEST(test_a_device_that_gives_less_than_it_says_does),
		TEST(test_a_device_that_is_too_small_is_refused),
		TEST(test_a_device_without_a_queue_pair_to_give_is_refused),
		TEST(test_too_little_locked_memory_is_explained),
		TEST(test_nobody_there_is_told),
		TEST(test_a_wrong_address_is_told),
		TEST(test_a_host_without_rdma_is_told),
		TEST(test_with_a_key_every_message_is_sealed),
		TEST(test_another_key_is_noticed),
		TEST(test_a_key_on_one_side_is_told_on_both),
		TEST(test_the_mac_is_a_matter_of_both),
		TEST(test_the_peer_s_close_is_heard_after_what_it_sent),
		TEST(test_close_gives_every_send_back),
		TEST(test_a_handler_may_close),
		TEST(test_500_rounds_leave_everything_as_it_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

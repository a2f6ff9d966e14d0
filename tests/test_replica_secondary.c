/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_replica_secondary - a secondary, and a puppet for its primary: what it
 * says that it has, and what it becomes, at the moments at which a rule decides
 * it.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "tests/replica_rig.h"

#define AT	(16u << 10)
#define ELSE_AT (512u << 10)
#define EPOCH	5 /* of the puppet's timeline */

#define assert_state(rig, is) assert_int_equal(rig_replica(rig)->state, is)

static const unsigned char data[RIG_REGION] = { 1, 2, 3 };

static uint64_t
send_change(struct rig *rig, enum wire_type type, uint64_t offset,
	    uint16_t flags)
{
	uint64_t sequence =
		puppet_send(rig->puppet,
			    (struct wire_header){ .type = type,
						  .flags = flags,
						  .epoch = EPOCH,
						  .offset = offset,
						  .length = RIG_REGION },
			    data, sizeof(data));

	rig_pass(rig, 10);
	return sequence;
}

static void
release(struct rig *rig, int result)
{
	rig_image(rig)->hold = false;
	fake_release(rig_image(rig), 0, result);
	rig_pass(rig, 1);
}

/* M1, AP2 */
static void
test_it_becomes_a_member_when_all_that_came_before_is_written(void **state)
{
	struct rig *rig = *state;
	uint64_t sequence;
	unsigned int flushes;

	meet_as_secondary(rig);
	rig_image(rig)->hold = true;
	send_change(rig, WIRE_COPY, AT, 0);
	flushes = rig_image(rig)->queued[TD_OP_FLUSH];
	sequence = offer(rig);
	rig_pass(rig, 1000);
	assert_int_equal(rig_image(rig)->queued[TD_OP_FLUSH], flushes);
	assert_null(puppet_ack_of(rig->puppet, sequence));
	assert_state(rig, REPLICA_TARGET);
	release(rig, 0);
	rig_pass(rig, 100);
	assert_state(rig, REPLICA_SYNCED);
	assert_int_equal(puppet_ack_of(rig->puppet, sequence)->kind,
			 WIRE_ACK_DURABLE);
}

/* F2 */
static void
test_a_failure_is_told_when_it_is_durable_that_it_failed(void **state)
{
	struct rig *rig = *state;
	uint64_t sequence;

	pair_as_secondary(rig);
	rig_image(rig)->hold = true;
	sequence = send_change(rig, WIRE_WRITE, AT, 0);
	rig->file.delay_ns = 500 * NS_PER_MS;
	release(rig, -EIO);
	rig_pass(rig, 100);
	assert_null(puppet_ack_of(rig->puppet, sequence));
	rig->file.delay_ns = 0;
	rig_pass(rig, 3000);
	assert_int_equal(puppet_ack_of(rig->puppet, sequence)->status, -EIO);
	rig_crash(rig);
	rig_open(rig, METADATA_SECONDARY);
	assert_false(replica_durable(rig_replica(rig))->consistent);
}

/* M4: done here, and not known to be done there; or not even done here. */
static void
test_what_is_not_proven_is_named_when_the_two_meet_again(void **state)
{
	struct rig *rig = *state;
	uint64_t sequence;

	pair_as_secondary(rig);
	sequence = send_change(rig, WIRE_WRITE, AT, 0);
	assert_int_equal(puppet_ack_of(rig->puppet, sequence)->status, 0);
	rig_image(rig)->hold = true;
	send_change(rig, WIRE_WRITE, ELSE_AT, 0);
	lose_peer(rig);
	release(rig, 0);
	call_again(rig);
	assert_true(rig->puppet->heard[WIRE_REGIONS] > 0);
	assert_true(puppet_was_named(rig->puppet, AT));
	assert_true(puppet_was_named(rig->puppet, ELSE_AT));
	assert_false(puppet_was_named(rig->puppet, 2 * AT));
}

static void
test_what_is_proven_is_not_named(void **state)
{
	struct rig *rig = *state;

	pair_as_secondary(rig);
	puppet_send(rig->puppet,
		    (struct wire_header){ .type = WIRE_FLUSH,
					  .proven = (uint32_t)send_change(
						  rig, WIRE_WRITE, AT, 0) },
		    NULL, 0);
	rig_pass(rig, 10);
	lose_peer(rig);
	call_again(rig);
	assert_true(rig->puppet->heard[WIRE_REGIONS] > 0);
	assert_false(puppet_was_named(rig->puppet, AT));
}

/* M5: at level received, memory counts. */
static void
test_it_is_promoted_when_all_that_it_acknowledged_is_written(void **state)
{
	struct rig *rig = *state;

	pair_as_secondary(rig);
	rig_image(rig)->hold = true;
	send_change(rig, WIRE_WRITE, AT, WIRE_FLAG_RECEIVED);
	assert_int_equal(rig->puppet->acks[rig->puppet->acked - 1].kind,
			 WIRE_ACK_RECEIVED);
	lose_peer(rig);
	assert_int_equal(rig_order(rig, "promote"), 0);
	rig_pass(rig, 5000);
	assert_state(rig, REPLICA_SECONDARY);
	assert_int_equal(rig->stack.service, TD_SERVICE_REFUSED);
	release(rig, 0);
	rig_pass(rig, 100);
	assert_state(rig, REPLICA_SOLO);
	assert_memory_equal(rig_image(rig)->bytes + AT, data, sizeof(data));
}

/* A10: nobody knows what is in it, and which timeline its stamps are of. */
static void
test_all_of_it_counts_as_changed_if_it_is_promoted_by_force(void **state)
{
	struct rig *rig = *state;
	struct dirty_map_run run;
	uint64_t before;

	pair_as_secondary(rig);
	rig_image(rig)->hold = true;
	send_change(rig, WIRE_WRITE, AT, 0);
	release(rig, -EIO);
	rig_pass(rig, 100);
	lose_peer(rig);
	assert_false(replica_durable(rig_replica(rig))->consistent);
	before = replica_durable(rig_replica(rig))->epoch;
	assert_true(rig_order(rig, "promote") < 0);
	assert_int_equal(rig_order(rig, "promote --force"), 0);
	rig_pass(rig, 5000);
	assert_state(rig, REPLICA_SOLO);
	tracker_next(&rig_replica(rig)->tracker, before, 0, TRACKER_REGIONS,
		     &run);
	assert_int_equal(run.offset, 0);
	assert_int_equal(run.length, replica_durable(rig_replica(rig))->size);
	assert_false(tracker_is_exact(&rig_replica(rig)->tracker, before));
}

/* M7 */
static void
test_who_leaves_a_primary_that_goes_on_is_out_of_date(void **state)
{
	struct rig *rig = *state;

	pair_as_secondary(rig);
	assert_true(rig_stop(rig));
	assert_int_equal(rig->puppet->heard[WIRE_GOODBYE], 1);
	rig_open(rig, METADATA_SECONDARY);
	assert_true(replica_durable(rig_replica(rig))->outdated);
	assert_int_equal(rig_order(rig, "promote"), -ESTALE);
}

/* H8 */
static void
test_a_copy_that_it_knows_nothing_of_does_not_go_on(void **state)
{
	struct rig *rig = *state;

	meet_as_secondary(rig);
	send_change(rig, WIRE_COPY, AT, 0);
	rig_crash(rig); /* what it was copied may be lost */
	rig_open(rig, METADATA_SECONDARY);
	rig->begin_like.resume_copy = true;
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_REFUSE], 1);
	assert_non_null(strstr(rig->puppet->text, "decided the meeting"));
	assert_int_equal(rig->puppet->heard[WIRE_BEGUN], 0);
}

/* H0 */
static void
test_a_source_that_was_rolled_back_is_not_followed(void **state)
{
	struct rig *rig = *state;

	pair_as_secondary(rig);
	lose_peer(rig);
	rig->puppet->hello.met = rig->puppet->hello.stood = 0;
	rig->puppet->hello.incarnation += 5;
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_REFUSE], 1);
	assert_non_null(strstr(rig->puppet->text, "rolled back"));
	assert_int_equal(rig->puppet->heard[WIRE_BEGUN], 0);
}

/* H0: an acknowledgement belongs to the session whose message it is for. */
static void
test_it_meets_nobody_while_a_write_of_before_is_under_way(void **state)
{
	struct rig *rig = *state;

	pair_as_secondary(rig);
	rig_image(rig)->hold = true;
	send_change(rig, WIRE_WRITE, AT, 0);
	lose_peer(rig);
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_REFUSE], 1);
	assert_non_null(strstr(rig->puppet->text, "still on their way"));
	assert_int_equal(rig->puppet->heard[WIRE_BEGUN], 0);
	release(rig, 0);
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_BEGUN], 1);
}

int
main(void)
{
#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_it_becomes_a_member_when_all_that_came_before_is_written),
		TEST(test_a_failure_is_told_when_it_is_durable_that_it_failed),
		TEST(test_what_is_not_proven_is_named_when_the_two_meet_again),
		TEST(test_what_is_proven_is_not_named),
		TEST(test_it_is_promoted_when_all_that_it_acknowledged_is_written),
		TEST(test_all_of_it_counts_as_changed_if_it_is_promoted_by_force),
		TEST(test_who_leaves_a_primary_that_goes_on_is_out_of_date),
		TEST(test_a_copy_that_it_knows_nothing_of_does_not_go_on),
		TEST(test_a_source_that_was_rolled_back_is_not_followed),
		TEST(test_it_meets_nobody_while_a_write_of_before_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

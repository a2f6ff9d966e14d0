/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_replica_primary - a primary, and a puppet for its secondary: what a
 * guest is told, and whom it goes on with, at the moments at which a rule
 * decides it.
 */
#include "tests/test.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "core/reason.h"
#include "tests/replica_rig.h"

#define AT	(16u << 10)  /* where guests write: a region of its own, */
#define ELSE_AT (512u << 10) /* and another */

#define assert_state(rig, is) assert_int_equal(rig_replica(rig)->state, is)

/* It answers for the last message of a type that it heard. */
static void
answer(struct rig *rig, enum wire_type type)
{
	const struct wire_header *last = puppet_last(rig->puppet, type);

	assert_non_null(last);
	puppet_acknowledge(rig->puppet, last->sequence, WIRE_ACK_WRITTEN, 0);
	rig_pass(rig, 1);
}

static unsigned int
heard(const struct rig *rig, enum wire_type type)
{
	return (unsigned int)rig->puppet->heard[type];
}

/* --- in sync (W4) --- */

static void
test_a_write_waits_for_the_peer(void **state)
{
	struct rig *rig = *state;
	struct guest_request *write;

	pair_as_primary(rig);
	rig->puppet->keep_acks = true;
	write = rig_ask(rig, TD_OP_WRITE, AT);
	rig_pass(rig, 100);
	assert_false(write->done);
	answer(rig, WIRE_WRITE);
	assert_true(write->done);
	assert_int_equal(write->result, 0);
}

/* A8: the peer may have been promoted meanwhile. */
static void
test_nothing_is_read_while_the_connection_is_broken(void **state)
{
	struct rig *rig = *state;
	struct guest_request *read;

	pair_as_primary(rig);
	puppet_hang_up(rig->puppet);
	read = rig_ask(rig, TD_OP_READ, AT);
	rig_pass(rig, RIG_GRACE_MS / 2);
	assert_state(rig, REPLICA_PAIRED);
	assert_false(read->done);
	rig_pass(rig, RIG_LOST_MS);
	assert_state(rig, REPLICA_SOLO); /* M3 */
	assert_true(read->done);
	assert_int_equal(read->result, 0);
}

/* --- before it is in sync (M1) --- */

/* The copies are sent and not acknowledged. */
static void
begin_copying(struct rig *rig)
{
	rig_open(rig, METADATA_PRIMARY);
	rig->puppet->keep_acks = true;
	call_again(rig);
	assert_state(rig, REPLICA_RESYNC);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY_ZERO, AT));
}

static void
answer_copies(struct rig *rig)
{
	struct puppet *puppet = rig->puppet;

	for (unsigned int i = 0; i < puppet->logged; i++) {
		const struct wire_header *header = &puppet->log[i];

		if (header->type == WIRE_COPY_ZERO || header->type == WIRE_COPY)
			puppet_acknowledge(puppet, header->sequence,
					   WIRE_ACK_WRITTEN, 0);
	}
	rig_pass(rig, 100);
}

static void
test_membership_is_not_offered_before_the_peer_has_what_guests_were_told(
	void **state)
{
	struct rig *rig = *state;
	struct guest_request *write;

	begin_copying(rig);
	write = rig_ask(rig, TD_OP_WRITE, AT);
	assert_true(write->done); /* nobody waits for who is no member */
	assert_int_equal(heard(rig, WIRE_WRITE), 1);
	answer_copies(rig);
	assert_state(rig, REPLICA_PAIRED);
	assert_int_equal(heard(rig, WIRE_SYNCED), 0);
	answer(rig, WIRE_WRITE);
	assert_int_equal(heard(rig, WIRE_SYNCED), 1);
}

static void
test_membership_is_not_offered_while_a_guests_write_is_under_way_here(
	void **state)
{
	struct rig *rig = *state;

	begin_copying(rig);
	rig_image(rig)->hold = true;
	rig_ask(rig, TD_OP_WRITE, AT);
	answer(rig, WIRE_WRITE);
	answer_copies(rig);
	assert_state(rig, REPLICA_PAIRED);
	assert_int_equal(heard(rig, WIRE_SYNCED), 0);
	rig_image(rig)->hold = false;
	fake_release(rig_image(rig), 0, 0);
	rig_pass(rig, 1);
	assert_int_equal(heard(rig, WIRE_SYNCED), 1);
}

/* Two regions are sent to a peer that lacks them, and one is acknowledged. */
static void
copy_half(struct rig *rig)
{
	pair_as_primary(rig);
	lose_peer(rig);
	assert_state(rig, REPLICA_SOLO);
	rig_ask(rig, TD_OP_WRITE, AT);
	rig_ask(rig, TD_OP_WRITE, ELSE_AT);
	rig->puppet->keep_acks = true;
	call_again(rig);
	assert_false(rig->puppet->begin.resume_copy);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, ELSE_AT));
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, AT));
	for (unsigned int i = 0; i < rig->puppet->logged; i++) {
		if (rig->puppet->log[i].offset == AT)
			puppet_acknowledge(rig->puppet,
					   rig->puppet->log[i].sequence,
					   WIRE_ACK_WRITTEN, 0);
	}
	rig_pass(rig, 1);
}

/* M0, H8: what was sent beside the copies and not acknowledged may not be
 * there, though its region had been copied. */
static void
test_a_write_that_was_on_its_way_is_copied_when_the_copying_goes_on(
	void **state)
{
	struct rig *rig = *state;

	copy_half(rig);
	rig_ask(rig, TD_OP_WRITE, AT);
	assert_true(puppet_was_sent(rig->puppet, WIRE_WRITE, AT));
	lose_peer(rig);

	rig->puppet->hello.flags |= WIRE_COPYING;
	call_again(rig);
	assert_true(rig->puppet->begin.resume_copy);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, AT));
}

/* H8: the copies that were acknowledged are made; no others are. */
static void
test_a_copy_that_was_on_its_way_is_made_when_the_copying_goes_on(void **state)
{
	struct rig *rig = *state;

	copy_half(rig);
	lose_peer(rig);
	rig->puppet->hello.flags |= WIRE_COPYING;
	call_again(rig);
	assert_true(rig->puppet->begin.resume_copy);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, ELSE_AT));
	assert_false(puppet_was_sent(rig->puppet, WIRE_COPY, AT));
}

/* H8 */
static void
test_a_copy_goes_on_only_with_a_target_that_has_not_begun_anew(void **state)
{
	struct rig *rig = *state;

	copy_half(rig);
	lose_peer(rig);
	rig->puppet->hello.flags |= WIRE_COPYING;
	rig->puppet->hello.incarnation++;
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_BEGIN), 1);
	assert_false(rig->puppet->begin.resume_copy);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, AT));
}

/* Between the two sessions nothing kept the guest out of what was being read.
 */
static void
test_what_was_read_for_one_session_is_not_copied_in_the_next(void **state)
{
	struct rig *rig = *state;
	struct fake *image;
	unsigned int reads;

	pair_as_primary(rig);
	lose_peer(rig);
	rig_ask(rig, TD_OP_WRITE, AT);
	image = rig_image(rig);
	image->hold = true;
	call_again(rig);
	assert_int_equal(image->held_count, 1);
	lose_peer(rig);
	image->hold = false;
	assert_true(rig_ask(rig, TD_OP_WRITE, AT)->done);
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_COPY), 1); /* of another copy */
	puppet_forget(rig->puppet);
	reads = image->queued[TD_OP_READ];
	fake_release(image, 0, 0);
	rig_pass(rig, 100);
	assert_int_equal(heard(rig, WIRE_COPY), 1);
	assert_int_equal(image->queued[TD_OP_READ], reads + 1);
	assert_true(rig_replica(rig)->in_sync);
}

/* A new epoch begins. */
static void
cut_checkpoint(struct rig *rig)
{
	struct reason reason = { "" };
	json_t *result = json_object();

	assert_int_equal(replica_command(rig_replica(rig),
					 "checkpoint create monday", result,
					 &reason),
			 0);
	json_decref(result);
	rig_pass(rig, 10);
}

/* A10: a copy has one stamp for all that it carries. */
static void
test_what_was_written_while_it_was_compared_keeps_its_stamp(void **state)
{
	struct rig *rig = *state;
	const struct wire_header *verify;

	rig->options.digest = true;
	pair_as_primary(rig);
	lose_peer(rig);
	rig_ask(rig, TD_OP_WRITE, AT);
	rig_ask(rig, TD_OP_WRITE, AT + RIG_REGION);
	rig->puppet->hello.features_compatible |= WIRE_FEATURE_VERIFY;
	rig->puppet->keep_acks = true;
	call_again(rig);
	verify = puppet_last(rig->puppet, WIRE_VERIFY);
	assert_non_null(verify);
	assert_int_equal(verify->offset, AT);
	assert_int_equal(verify->length, 2 * RIG_REGION);
	cut_checkpoint(rig);
	rig_ask(rig, TD_OP_WRITE, AT + RIG_REGION);
	assert_true(puppet_last(rig->puppet, WIRE_WRITE)->epoch >
		    verify->epoch);
	puppet_acknowledge(rig->puppet, verify->sequence, WIRE_ACK_WRITTEN,
			   -EILSEQ);
	rig_pass(rig, 100);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY, AT));
	assert_false(puppet_was_sent(rig->puppet, WIRE_COPY, AT + RIG_REGION));
	assert_int_equal(heard(rig, WIRE_VERIFY), 2);
}

/* --- the hand-over (M6) --- */

/* One that was taken before the order is done before it; none is after. */
static void
test_a_write_that_waits_for_its_intent_is_done_before_the_hand_over(
	void **state)
{
	struct rig *rig = *state;
	struct guest_request *write, *late;

	pair_as_primary(rig);
	rig->file.delay_ns = 500 * NS_PER_MS;
	write = rig_ask(rig, TD_OP_WRITE, AT);
	assert_int_equal(heard(rig, WIRE_WRITE), 0);
	assert_int_equal(rig_order(rig, "demote"), 0);
	late = rig_ask(rig, TD_OP_WRITE, ELSE_AT);
	assert_int_equal(late->result, -ESHUTDOWN);
	assert_false(write->done);
	rig_pass(rig, 5000);
	assert_true(write->done);
	assert_int_equal(write->result, 0);
	assert_true(puppet_was_sent(rig->puppet, WIRE_WRITE, AT));
	assert_int_equal(heard(rig, WIRE_HANDOVER), 1);
	assert_state(rig, REPLICA_SYNCED);
}

/* What the peer has, and this host has not yet. */
static void
test_a_hand_over_waits_for_a_write_that_is_under_way_here(void **state)
{
	struct rig *rig = *state;
	struct fake *image;

	pair_as_primary(rig);
	image = rig_image(rig);
	image->hold = true;
	rig_ask(rig, TD_OP_WRITE, AT);
	assert_int_equal(image->held_count, 1);
	assert_int_equal(rig_order(rig, "demote"), 0);
	rig_pass(rig, 500);
	assert_int_equal(image->held_count, 1); /* and no flush */
	assert_int_equal(heard(rig, WIRE_HANDOVER), 0);
	image->hold = false;
	fake_release(image, 0, 0);
	rig_pass(rig, 1000);
	assert_int_equal(heard(rig, WIRE_HANDOVER), 1);
	assert_state(rig, REPLICA_SYNCED);
}

/* --- failures here (F1, F3) --- */

/* The tracker's last word with the image, on extents that are idle, may come in
 * between. */
static void
test_a_hand_over_waits_for_the_trackers_flush(void **state)
{
	struct rig *rig = *state;

	pair_as_primary(rig);
	rig_ask(rig, TD_OP_WRITE, AT);
	rig_image(rig)->hold = true;
	for (int i = 0; i < 12 && rig_image(rig)->held_count == 0; i++)
		rig_pass(rig, 1000);
	assert_int_equal(rig_image(rig)->held_count, 1);
	assert_int_equal(rig_order(rig, "demote"), 0);
	rig_pass(rig, 1000);
	assert_int_equal(heard(rig, WIRE_HANDOVER), 0);
	rig_image(rig)->hold = false;
	fake_release(rig_image(rig), 0, 0);
	rig_pass(rig, 1000);
	assert_int_equal(heard(rig, WIRE_HANDOVER), 1);
}

/* M2: the peer is told again, from what can be read; till then it may be
 * otherwise. */
static void
test_a_region_is_suspect_until_a_failed_write_is_repaired(void **state)
{
	struct rig *rig = *state;

	pair_as_primary(rig);
	rig_image(rig)->error = -EIO;
	rig_ask(rig, TD_OP_WRITE, AT);
	rig_pass(rig, 2000);
	assert_true(rig_replica(rig)->in_sync);
	assert_true(dirty_map_is_suspect(&rig_replica(rig)->tracker.map, AT));
	rig_image(rig)->error = 0;
	rig_pass(rig, 10000);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY_ZERO, AT));
	assert_false(dirty_map_is_suspect(&rig_replica(rig)->tracker.map, AT));
}

static void
fail_a_flush(struct rig *rig)
{
	struct guest_request *write;

	rig->options.ack = REPLICA_ACK_DURABLE;
	pair_as_primary(rig);
	rig_image(rig)->hold = true;
	write = rig_ask(rig, TD_OP_WRITE, AT);
	fake_release(rig_image(rig), 0, 0);
	rig_pass(rig, 1);
	assert_int_equal(rig_image(rig)->held[0].op, TD_OP_FLUSH);
	rig_image(rig)->hold = false;
	fake_release(rig_image(rig), 0, -EIO);
	rig_pass(rig, 100);
	assert_int_equal(write->result, -EIO);
}

/* A9: what it reads may not be what was written. */
static void
test_a_source_whose_flush_failed_copies_no_more(void **state)
{
	struct rig *rig = *state;
	struct guest_request *flush;

	begin_copying(rig);
	rig_image(rig)->hold = true;
	flush = rig_ask(rig, TD_OP_FLUSH, 0);
	rig_image(rig)->hold = false;
	fake_release(rig_image(rig), 0, -EIO);
	rig_pass(rig, 100);
	assert_int_equal(flush->result, -EIO);
	assert_true(rig->puppet->closed);
	assert_int_equal(heard(rig, WIRE_SYNCED), 0);
	assert_state(rig, REPLICA_SOLO); /* the guest decides */
	rig->puppet->keep_acks = false;
	rig_pass(rig, 1000);
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_BEGIN), 0);
	assert_int_equal(heard(rig, WIRE_REFUSE), 1);
}

/* It is no copy to fall back on until it has been copied to again. */
static void
test_a_primary_whose_flush_failed_is_copied_to_after_the_hand_over(void **state)
{
	struct rig *rig = *state;
	struct wire_hello *hello;

	fail_a_flush(rig);
	hello = &rig->puppet->hello;
	assert_int_equal(rig_order(rig, "demote"), 0);
	rig_pass(rig, 100);
	assert_int_equal(heard(rig, WIRE_HANDOVER), 1);
	assert_true(rig->puppet->closed);
	assert_state(rig, REPLICA_SECONDARY);
	hello->role = WIRE_PRIMARY;
	hello->flags |= WIRE_ACTIVE | WIRE_PRIMARY_LAST;
	rig_pass(rig, 1000);
	call_again(rig);
	assert_false(rig->puppet->other.flags & WIRE_CONSISTENT);
	assert_state(rig, REPLICA_TARGET);
	assert_true(puppet_was_named(rig->puppet, AT));
	offer(rig);
	rig_pass(rig, 100);
	assert_state(rig, REPLICA_SYNCED);
	assert_true(replica_durable(rig_replica(rig))->consistent);
}

static void
test_a_primary_whose_flush_failed_does_not_go_on_alone(void **state)
{
	struct rig *rig = *state;

	fail_a_flush(rig);
	lose_peer(rig);
	rig_pass(rig, 60000);
	assert_state(rig, REPLICA_LOST);
	assert_int_equal(rig->stack.service, TD_SERVICE_HELD);
}

static void
test_a_primary_whose_flush_failed_says_so_for_ever(void **state)
{
	struct rig *rig = *state;

	fail_a_flush(rig);
	assert_false(rig_replica(rig)->spoil);
	rig_crash(rig);
	rig_open(rig, METADATA_PRIMARY);
	assert_state(rig, REPLICA_WAITING);
	call_again(rig);
	assert_false(rig->puppet->other.flags & WIRE_CONSISTENT);
}

/* --- starting (C2, H10) --- */

static void
test_a_primary_that_had_a_member_waits_for_it(void **state)
{
	struct rig *rig = *state;

	pair_as_primary(rig);
	rig_crash(rig);
	rig_open(rig, METADATA_PRIMARY);
	rig_pass(rig, 60000);
	assert_state(rig, REPLICA_WAITING);
	assert_int_equal(rig->stack.service, TD_SERVICE_REFUSED);
	call_again(rig);
	assert_state(rig, REPLICA_PAIRED);
	assert_int_equal(rig->stack.service, TD_SERVICE_OPEN);
}

/* The one that was secondary is started as primary, and meets an empty one. */
static void
test_a_source_serves_when_it_is_durable_that_it_may_have_written(void **state)
{
	struct rig *rig = *state;
	struct wire_hello *hello;

	pair_as_secondary(rig);
	rig_crash(rig);
	rig_open(rig, METADATA_PRIMARY);
	assert_state(rig, REPLICA_WAITING);
	assert_false(replica_durable(rig_replica(rig))->active);

	rig->puppet = puppet_free(rig->puppet);
	rig->puppet = puppet_new(rig->loop, NULL);
	rig->puppet->hesitant = true;
	hello = &rig->puppet->hello;
	hello->role = WIRE_SECONDARY;
	hello->replica_id[0] = 0x99;
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_BEGIN), 1);
	rig->file.delay_ns = 500 * NS_PER_MS;
	puppet_agree(rig->puppet);
	rig_pass(rig, 100);
	assert_state(rig, REPLICA_WAITING);
	rig->file.delay_ns = 0;
	rig_pass(rig, 2000);
	assert_state(rig, REPLICA_RESYNC);
	rig_crash(rig);
	rig_open(rig, METADATA_PRIMARY);
	assert_true(replica_durable(rig_replica(rig))->active);
}

/* --- meetings (H0) --- */

static void
test_a_primary_that_was_rolled_back_is_not_copied_from(void **state)
{
	struct rig *rig = *state;

	rig_open(rig, METADATA_PRIMARY);
	memcpy(rig->puppet->hello.partner,
	       replica_durable(rig_replica(rig))->replica_id, WIRE_ID);
	rig->puppet->hello.peer_incarnation = 1000;
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_REFUSE), 1);
	assert_non_null(strstr(rig->puppet->text, "rolled back"));
	assert_int_equal(heard(rig, WIRE_BEGIN), 0);
}

/* It says what it said before the last meeting, however often it was opened. */
static void
forget_meeting(struct rig *rig)
{
	pair_as_primary(rig);
	lose_peer(rig);
	rig->puppet->hello.met = rig->puppet->hello.stood = 0;
	rig->puppet->hello.incarnation += 5;
	call_again(rig);
}

static void
test_a_target_that_was_rolled_back_is_copied_to_as_a_whole(void **state)
{
	struct rig *rig = *state;

	forget_meeting(rig);
	assert_int_equal(heard(rig, WIRE_BEGIN), 1);
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY_ZERO, AT));
	assert_true(puppet_was_sent(rig->puppet, WIRE_COPY_ZERO, ELSE_AT));
	assert_true(rig_replica(rig)->in_sync);
	lose_peer(rig);
	call_again(rig); /* and then it is as any other */
	assert_true(rig_replica(rig)->in_sync);
	assert_false(puppet_was_sent(rig->puppet, WIRE_COPY_ZERO, AT));
}

/* It may have gone on as one since. */
static void
test_an_author_that_was_rolled_back_is_given_up_by_the_operator_only(
	void **state)
{
	struct rig *rig = *state;

	pair_as_primary(rig);
	lose_peer(rig);
	rig->puppet->hello.met = rig->puppet->hello.stood = 0;
	rig->puppet->hello.flags |= WIRE_ACTIVE;
	call_again(rig);
	assert_int_equal(heard(rig, WIRE_BEGIN), 0);
	assert_non_null(strstr(rig->puppet->text, "when it was the primary"));
	rig->puppet->hello.flags |= WIRE_DISCARD;
	rig_pass(rig, 1000);
	call_again(rig);
	assert_true(rig_replica(rig)->in_sync);
}

static void
test_a_hello_that_does_not_hold_any_more_decides_nothing(void **state)
{
	struct rig *rig = *state;

	rig_open(rig, METADATA_PRIMARY);
	rig->puppet->silent = true;
	puppet_call(rig->puppet, RIG_ADDRESS);
	rig_pass(rig, 1);
	assert_int_equal(heard(rig, WIRE_HELLO), 1);
	cut_checkpoint(rig); /* of whose epoch the hello did not tell */
	puppet_greet(rig->puppet);
	rig_pass(rig, 10);
	assert_int_equal(heard(rig, WIRE_REFUSE), 1);
	assert_non_null(strstr(rig->puppet->text, "changing its state"));
	assert_int_equal(heard(rig, WIRE_BEGIN), 0);
}

int
main(void)
{
#define TEST(name)                                                             \
	cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_write_waits_for_the_peer),
		TEST(test_nothing_is_read_while_the_connection_is_broken),
		TEST(test_membership_is_not_offered_before_the_peer_has_what_guests_were_told),
		TEST(test_membership_is_not_offered_while_a_guests_write_is_under_way_here),
		TEST(test_a_write_that_was_on_its_way_is_copied_when_the_copying_goes_on),
		TEST(test_a_copy_that_was_on_its_way_is_made_when_the_copying_goes_on),
		TEST(test_a_copy_goes_on_only_with_a_target_that_has_not_begun_anew),
		TEST(test_what_was_read_for_one_session_is_not_copied_in_the_next),
		TEST(test_what_was_written_while_it_was_compared_keeps_its_stamp),
		TEST(test_a_write_that_waits_for_its_intent_is_done_before_the_hand_over),
		TEST(test_a_hand_over_waits_for_the_trackers_flush),
		TEST(test_a_hand_over_waits_for_a_write_that_is_under_way_here),
		TEST(test_a_region_is_suspect_until_a_failed_write_is_repaired),
		TEST(test_a_source_whose_flush_failed_copies_no_more),
		TEST(test_a_primary_whose_flush_failed_is_copied_to_after_the_hand_over),
		TEST(test_a_primary_whose_flush_failed_does_not_go_on_alone),
		TEST(test_a_primary_whose_flush_failed_says_so_for_ever),
		TEST(test_a_primary_that_had_a_member_waits_for_it),
		TEST(test_a_source_serves_when_it_is_durable_that_it_may_have_written),
		TEST(test_a_primary_that_was_rolled_back_is_not_copied_from),
		TEST(test_a_target_that_was_rolled_back_is_copied_to_as_a_whole),
		TEST(test_an_author_that_was_rolled_back_is_given_up_by_the_operator_only),
		TEST(test_a_hello_that_does_not_hold_any_more_decides_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

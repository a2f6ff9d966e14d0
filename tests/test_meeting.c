/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_meeting - two replicas meet: each of the rules H1 to H5 by name, from
 * both sides' view, and what must hold of any pair of histories.
 */
#include "tests/test.h"

#include <string.h>

#include "core/reason.h"
#include "drivers/random.h"
#include "replication/history.h"

struct replica {
	struct history history;
	struct meeting_side side;
};

static struct replica ra, rb;
static struct reason reason;

/* Both went through `common` timelines, ten epochs each, from epoch 1 on; they
 * are consistent, and nothing else. */
static void
begin(unsigned int common)
{
	memset(&ra, 0, sizeof(ra));
	for (unsigned int i = 0; i < common; i++)
		history_append(&ra.history, 100 + i, 1 + 10 * i, 0);
	ra.side.epoch = 10 * common;
	ra.side.consistent = true;
	rb = ra;
	ra.side.history = &ra.history;
	rb.side.history = &rb.history;
}

/* It went on alone. */
static void
go_on(struct replica *replica, uint64_t timeline, uint64_t epochs,
      uint32_t flags)
{
	history_append(&replica->history, timeline, replica->side.epoch + 1,
		       flags);
	replica->side.epoch += epochs;
}

/* What is decided; from the other's view it must be the mirror image. */
static struct meeting
meet(void)
{
	struct reason other = { "" };
	struct meeting seen, meeting;

	reason.text[0] = '\0';
	meeting = meeting_decide(&ra.side, &rb.side, &reason);
	seen = meeting_decide(&rb.side, &ra.side, &other);
	assert_int_equal(seen.outcome, meeting_mirror(meeting.outcome));
	assert_int_equal(meeting_mirror(seen.outcome), meeting.outcome);
	assert_int_equal(seen.timeline, meeting.timeline);
	assert_int_equal(seen.epoch, meeting.epoch);
	/* words go with a question or a refusal, and only with those */
	assert_int_equal(reason.text[0] != '\0',
			 meeting.outcome == MEETING_REFUSE ||
				 meeting.outcome == MEETING_DIVERGED);
	assert_int_equal(other.text[0] != '\0', reason.text[0] != '\0');
	return meeting;
}

static void
expect(enum meeting_outcome outcome, uint64_t timeline, uint64_t epoch)
{
	struct meeting meeting = meet();

	if (meeting.outcome != outcome)
		fail_msg("%s instead of %s: %s", meeting_name(meeting.outcome),
			 meeting_name(outcome), reason.text);
	assert_int_equal(meeting.timeline, timeline);
	assert_int_equal(meeting.epoch, epoch);
}

static void
expect_words(enum meeting_outcome outcome, const char *words)
{
	struct meeting meeting = meet();

	assert_int_equal(meeting.outcome, outcome);
	if (strstr(reason.text, words) == NULL)
		fail_msg("says: %s", reason.text);
}

/* --- H1 --- */

static void
test_h1_unrelated_histories_are_refused(void **state)
{
	(void)state;
	begin(0);
	go_on(&ra, 1, 5, 0);
	go_on(&rb, 2, 5, 0);
	expect_words(MEETING_REFUSE, "nothing in common");
	/* whatever else is said */
	ra.side.discard = true;
	rb.side.active = true;
	expect_words(MEETING_REFUSE, "nothing in common");
	/* the same timeline with another beginning is another one */
	begin(0);
	go_on(&ra, 1, 5, 0);
	rb.side.epoch = 3;
	go_on(&rb, 1, 5, 0);
	expect_words(MEETING_REFUSE, "nothing in common");
}

static void
test_h1_a_new_replica_is_copied_to_in_full(void **state)
{
	(void)state;
	begin(0);
	rb.side.consistent = false;
	go_on(&ra, 1, 5, 0);
	expect(MEETING_WE_SOURCE, 0, 0);
	/* and an unfinished first copy changes nothing */
	ra.side.active = true;
	expect(MEETING_WE_SOURCE, 0, 0);
}

static void
test_h1_two_new_replicas_are_refused(void **state)
{
	(void)state;
	begin(0);
	ra.side.consistent = rb.side.consistent = false;
	expect_words(MEETING_REFUSE, "both replicas are new");
}

static void
test_h1_an_inconsistent_replica_is_no_source_for_a_new_one(void **state)
{
	(void)state;
	begin(0);
	rb.side.consistent = false;
	go_on(&ra, 1, 5, 0);
	ra.side.consistent = false;
	expect_words(MEETING_REFUSE, "not consistent");
}

/* --- H2 --- */

static void
test_h2_of_equal_histories_the_active_one_is_the_source(void **state)
{
	(void)state;
	begin(2);
	ra.side.active = true;
	rb.side.primary_last = true;
	rb.side.epoch = 17;
	expect(MEETING_EQUAL_WE_SOURCE, 101, 17);
	ra.side.active = false;
	rb.side.active = true;
	expect(MEETING_EQUAL_PEER_SOURCE, 101, 17);
}

static void
test_h2_with_both_or_neither_active_it_is_who_was_primary_last(void **state)
{
	(void)state;
	for (int active = 0; active < 2; active++) {
		begin(2);
		ra.side.active = rb.side.active = active;
		rb.side.primary_last = true;
		expect(MEETING_EQUAL_PEER_SOURCE, 101, 20);
		rb.side.primary_last = false;
		ra.side.primary_last = true;
		expect(MEETING_EQUAL_WE_SOURCE, 101, 20);
	}
}

static void
test_h2_without_any_difference_the_operator_says(void **state)
{
	(void)state;
	begin(2);
	expect_words(MEETING_REFUSE, "--discard");
	ra.side.primary_last = rb.side.primary_last = true;
	expect_words(MEETING_REFUSE, "--discard");
	rb.side.discard = true;
	expect(MEETING_EQUAL_WE_SOURCE, 101, 20);
	ra.side.discard = true;
	expect_words(MEETING_REFUSE, "--discard");
	begin(2);
	rb.side.epoch--;
	expect(MEETING_EQUAL_WE_SOURCE, 101, 19);
}

static void
test_h2_flags_make_no_difference_between_histories(void **state)
{
	(void)state;
	begin(2);
	ra.history.entry[1].flags = HISTORY_FORCED;
	ra.side.active = true;
	expect(MEETING_EQUAL_WE_SOURCE, 101, 20);
}

/* --- H3 --- */

static void
test_h3_the_longer_history_is_the_source(void **state)
{
	(void)state;
	begin(2);
	rb.side.epoch = 18;
	go_on(&ra, 7, 5, 0);
	rb.side.active = true;
	rb.side.primary_last = true;
	/* the shorter's epoch, */
	expect(MEETING_WE_SOURCE, 101, 18);
	go_on(&ra, 8, 5, 0);
	expect(MEETING_WE_SOURCE, 101, 18);
	/* or the end of the common timeline if the shorter went beyond */
	rb.side.epoch = 23;
	expect(MEETING_WE_SOURCE, 101, 20);
}

static void
test_h3_a_forced_entry_asks_the_operator(void **state)
{
	(void)state;
	begin(2);
	go_on(&ra, 7, 5, 0);
	go_on(&ra, 8, 5, HISTORY_FORCED);
	expect_words(MEETING_DIVERGED, "force");
	assert_int_equal(meet().epoch, 20);
	ra.side.discard = true;
	expect(MEETING_PEER_SOURCE, 101, 20);
	ra.side.discard = false;
	rb.side.discard = true;
	expect(MEETING_WE_SOURCE, 101, 20);
	ra.side.discard = true;
	expect_words(MEETING_DIVERGED, "both sides");
}

static void
test_h3_a_forced_entry_that_both_have_asks_nobody(void **state)
{
	(void)state;
	begin(2);
	go_on(&ra, 7, 5, HISTORY_FORCED);
	go_on(&rb, 7, 5, HISTORY_FORCED);
	go_on(&ra, 8, 5, 0);
	expect(MEETING_WE_SOURCE, 7, 25);
}

/* --- H4 --- */

static void
test_h4_diverged_replicas_ask_for_the_side_to_discard(void **state)
{
	(void)state;
	begin(3);
	go_on(&ra, 7, 5, 0);
	rb.side.epoch = 27;
	go_on(&rb, 8, 50, 0);
	expect_words(MEETING_DIVERGED, "written to");
	/* the position is where the earlier of the two began */
	assert_int_equal(meet().timeline, 102);
	assert_int_equal(meet().epoch, 27);
	ra.side.discard = true;
	expect(MEETING_PEER_SOURCE, 102, 27);
	ra.side.discard = false;
	rb.side.discard = true;
	expect(MEETING_WE_SOURCE, 102, 27);
	ra.side.discard = true;
	expect_words(MEETING_DIVERGED, "both sides");
}

static void
test_h4_neither_role_nor_activity_decides(void **state)
{
	(void)state;
	begin(1);
	go_on(&ra, 7, 5, 0);
	go_on(&rb, 8, 5, 0);
	for (unsigned int i = 0; i < 16; i++) {
		ra.side.active = i & 1;
		rb.side.active = i & 2;
		ra.side.primary_last = i & 4;
		rb.side.primary_last = i & 8;
		expect_words(MEETING_DIVERGED, "written to");
	}
}

/* --- H5 --- */

static void
test_h5_an_inconsistent_replica_is_the_target(void **state)
{
	(void)state;
	begin(2); /* H2 */
	ra.side.consistent = false;
	ra.side.active = true;
	expect(MEETING_EQUAL_PEER_SOURCE, 101, 20);
	go_on(&rb, 7, 5, 0); /* H3, the shorter */
	expect(MEETING_PEER_SOURCE, 101, 20);
	go_on(&ra, 8, 5, 0); /* H4, without asking */
	expect(MEETING_PEER_SOURCE, 101, 20);
	begin(2); /* H3 with a forced entry on the good side */
	rb.side.consistent = false;
	go_on(&ra, 7, 5, HISTORY_FORCED);
	expect(MEETING_WE_SOURCE, 101, 20);
}

static void
test_h5_what_the_longer_side_wrote_alone_is_not_given_up_unasked(void **state)
{
	(void)state;
	begin(2); /* its disk failed a flush while it was alone (F3) */
	go_on(&ra, 7, 5, 0);
	ra.side.consistent = false;
	expect_words(MEETING_DIVERGED, "--discard");
	rb.side.discard = true; /* it cannot be copied from */
	expect_words(MEETING_DIVERGED, "take that back");
	rb.side.discard = false;
	ra.side.discard = true;
	expect(MEETING_PEER_SOURCE, 101, 20);
}

static void
test_h5_two_inconsistent_replicas_are_refused(void **state)
{
	(void)state;
	for (int longer = 0; longer < 3; longer++) {
		begin(2);
		if (longer > 0)
			go_on(&ra, 7, 5, 0);
		if (longer > 1)
			go_on(&rb, 8, 5, 0);
		ra.side.consistent = rb.side.consistent = false;
		ra.side.discard = true;
		expect_words(MEETING_REFUSE, "neither replica is consistent");
	}
}

/* --- H0: dropped entries --- */

/* The same timelines on both, far more than are kept. */
static void
begin_long(uint64_t count)
{
	begin(0);
	for (uint64_t i = 0; i < count; i++) {
		history_append(&ra.history, 100 + i, 1 + i, 0);
		history_append(&rb.history, 100 + i, 1 + i, 0);
	}
	ra.side.epoch = rb.side.epoch = count;
}

static void
test_h0_dropped_entries_are_compared_by_their_digest(void **state)
{
	(void)state;
	begin_long(3 * HISTORY_MAX);
	ra.side.active = true;
	expect(MEETING_EQUAL_WE_SOURCE, 99 + 3 * HISTORY_MAX, 3 * HISTORY_MAX);
	ra.history.digest[5] ^= 1;
	expect_words(MEETING_REFUSE, "parted longer ago");
	begin_long(3 * HISTORY_MAX);
	go_on(&ra, 7, 5, 0);
	go_on(&rb, 8, 5, 0);
	expect_words(MEETING_DIVERGED, "written to");
	assert_int_equal(meet().epoch, 3 * HISTORY_MAX);
}

static void
test_h0_a_replica_may_be_behind_by_all_that_is_kept(void **state)
{
	(void)state;
	begin_long(10);
	for (unsigned int i = 0; i < HISTORY_MAX; i++)
		go_on(&ra, 5000 + i, 1, 0);
	/* the last common entry is the newest that ra has dropped: rb has it */
	assert_int_equal(ra.history.dropped, 10);
	expect(MEETING_WE_SOURCE, 109, 10);
	go_on(&ra, 9999, 1, 0);
	expect_words(MEETING_REFUSE, "parted longer ago");
	/* both at once */
	begin_long(10);
	for (unsigned int i = 0; i < HISTORY_MAX; i++) {
		go_on(&ra, 5000 + i, 1, 0);
		go_on(&rb, 7000 + i, 1, 0);
	}
	expect_words(MEETING_REFUSE, "parted longer ago");
}

/* --- any pair --- */

static uint64_t
below(uint64_t *random, uint64_t limit)
{
	return (uint64_t)(random_next(random) * (double)limit);
}

static void
grow(struct replica *replica, uint64_t *random, unsigned int timelines)
{
	for (unsigned int i = 0; i < timelines; i++)
		go_on(replica, 1 + below(random, 1ull << 40),
		      1 + below(random, 4),
		      below(random, 8) == 0 ? HISTORY_FORCED : 0);
}

static void
any_pair(uint64_t *random, unsigned int common, unsigned int own)
{
	begin(0);
	grow(&ra, random, (unsigned int)below(random, common + 1));
	rb.history = ra.history;
	rb.side.epoch = ra.side.epoch;
	if (below(random, 3) > 0)
		grow(&ra, random, (unsigned int)below(random, own + 1));
	if (below(random, 3) > 0)
		grow(&rb, random, (unsigned int)below(random, own + 1));
	ra.side.epoch += below(random, 3);
	rb.side.epoch += below(random, 3);
	ra.side.active = below(random, 2);
	rb.side.active = below(random, 2);
	ra.side.consistent = ra.history.count > 0 && below(random, 4) > 0;
	rb.side.consistent = rb.history.count > 0 && below(random, 4) > 0;
	ra.side.primary_last = below(random, 2);
	rb.side.primary_last = below(random, 2);
	ra.side.discard = below(random, 4) == 0;
	rb.side.discard = below(random, 4) == 0;
}

static bool
has_last_of(const struct replica *replica, const struct replica *of)
{
	const struct history_entry *last = history_last(&of->history);

	return last == NULL || history_holds(&replica->history, last->timeline,
					     last->first_epoch);
}

static void
check_source(const struct replica *source, const struct replica *target,
	     const struct meeting *meeting)
{
	/* S2 */
	assert_true(source->side.consistent);
	assert_true(source->history.count > 0);
	/* S3: what the target wrote alone goes by the operator's word, or
	 * because it was given up before (H5) */
	if (!has_last_of(source, target))
		assert_true(target->side.discard || !target->side.consistent);
	if (target->history.count == 0) {
		assert_int_equal(meeting->timeline, 0);
		assert_int_equal(meeting->epoch, 0);
		return;
	}
	assert_true(meeting->epoch <= source->side.epoch);
	assert_true(meeting->epoch <= target->side.epoch);
	if (source->history.dropped == 0)
		assert_true(history_holds(&source->history, meeting->timeline,
					  meeting->epoch));
	if (target->history.dropped == 0)
		assert_true(history_holds(&target->history, meeting->timeline,
					  meeting->epoch));
}

static void
test_any_pair_decides_alike_on_both_sides_and_safely(void **state)
{
	unsigned int seen[MEETING_DIVERGED + 1] = { 0 };
	uint64_t random = 7;

	(void)state;
	for (unsigned int i = 0; i < 20000; i++) {
		struct meeting meeting;

		any_pair(&random, 3, 3);
		meeting = meet();
		seen[meeting.outcome]++;
		if (meeting.outcome == MEETING_WE_SOURCE ||
		    meeting.outcome == MEETING_EQUAL_WE_SOURCE)
			check_source(&ra, &rb, &meeting);
		if (meeting.outcome == MEETING_PEER_SOURCE ||
		    meeting.outcome == MEETING_EQUAL_PEER_SOURCE)
			check_source(&rb, &ra, &meeting);
	}
	for (unsigned int i = 0; i <= MEETING_DIVERGED; i++)
		assert_true(seen[i] > 200);
}

/* As if nothing had been dropped, or refused because of it. */
static void
test_dropped_entries_change_no_decision_but_into_a_refusal(void **state)
{
	unsigned int decided = 0, refused = 0;
	uint64_t random = 8;

	(void)state;
	for (unsigned int i = 0; i < 300; i++) {
		static struct replica short_a, short_b;
		struct meeting meeting, expected;
		uint64_t past = 1900 + below(&random, 300);

		/* the same tails behind a short past and a long one */
		any_pair(&random, 3, 2);
		short_a = ra;
		short_b = rb;
		if (ra.history.count == 0 || rb.history.count == 0)
			continue;
		short_a.side.history = &short_a.history;
		short_b.side.history = &short_b.history;
		expected = meeting_decide(&short_a.side, &short_b.side, NULL);
		begin_long(past);
		for (uint32_t j = 0; j < short_a.history.count; j++)
			history_append(
				&ra.history, short_a.history.entry[j].timeline,
				10000 + short_a.history.entry[j].first_epoch,
				short_a.history.entry[j].flags);
		for (uint32_t j = 0; j < short_b.history.count; j++)
			history_append(
				&rb.history, short_b.history.entry[j].timeline,
				10000 + short_b.history.entry[j].first_epoch,
				short_b.history.entry[j].flags);
		ra.side = short_a.side;
		rb.side = short_b.side;
		ra.side.history = &ra.history;
		rb.side.history = &rb.history;
		ra.side.epoch += 10000;
		rb.side.epoch += 10000;
		meeting = meet();
		if (expected.outcome == MEETING_REFUSE) {
			refused++;
			continue;
		}
		assert_int_equal(meeting.outcome, expected.outcome);
		assert_int_equal(meeting.timeline, expected.timeline);
		assert_int_equal(meeting.epoch, expected.epoch + 10000);
		decided++;
	}
	assert_true(decided > 100 && refused > 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_h1_unrelated_histories_are_refused),
		cmocka_unit_test(test_h1_a_new_replica_is_copied_to_in_full),
		cmocka_unit_test(test_h1_two_new_replicas_are_refused),
		cmocka_unit_test(
			test_h1_an_inconsistent_replica_is_no_source_for_a_new_one),
		cmocka_unit_test(
			test_h2_of_equal_histories_the_active_one_is_the_source),
		cmocka_unit_test(
			test_h2_with_both_or_neither_active_it_is_who_was_primary_last),
		cmocka_unit_test(
			test_h2_without_any_difference_the_operator_says),
		cmocka_unit_test(
			test_h2_flags_make_no_difference_between_histories),
		cmocka_unit_test(test_h3_the_longer_history_is_the_source),
		cmocka_unit_test(test_h3_a_forced_entry_asks_the_operator),
		cmocka_unit_test(
			test_h3_a_forced_entry_that_both_have_asks_nobody),
		cmocka_unit_test(
			test_h4_diverged_replicas_ask_for_the_side_to_discard),
		cmocka_unit_test(test_h4_neither_role_nor_activity_decides),
		cmocka_unit_test(test_h5_an_inconsistent_replica_is_the_target),
		cmocka_unit_test(
			test_h5_what_the_longer_side_wrote_alone_is_not_given_up_unasked),
		cmocka_unit_test(test_h5_two_inconsistent_replicas_are_refused),
		cmocka_unit_test(
			test_h0_dropped_entries_are_compared_by_their_digest),
		cmocka_unit_test(
			test_h0_a_replica_may_be_behind_by_all_that_is_kept),
		cmocka_unit_test(
			test_any_pair_decides_alike_on_both_sides_and_safely),
		cmocka_unit_test(
			test_dropped_entries_change_no_decision_but_into_a_refusal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_checkpoint - named positions: which names are taken, and which questions
 * are refused.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/reason.h"
#include "replication/checkpoint.h"
#include "tests/state.h"

static struct metadata_state state_a;
static struct reason reason;

static int
setup(void **state)
{
	(void)state;
	state_fill(&state_a, 2);
	state_a.checkpoints = 0;
	memset(state_a.checkpoint, 0, sizeof(state_a.checkpoint));
	state_a.consistent = true;
	reason.text[0] = '\0';
	return 0;
}

static uint64_t
timeline(void)
{
	return history_last(&state_a.history)->timeline;
}

static void
test_a_cut_names_the_epoch_that_it_ends(void **state)
{
	uint64_t epoch = state_a.epoch;
	struct metadata_checkpoint *row;

	(void)state;
	assert_int_equal(checkpoint_cut(&state_a, "monday", &reason), 0);
	assert_int_equal(state_a.epoch, epoch + 1);
	row = checkpoint_find(&state_a, "monday", &reason);
	assert_non_null(row);
	assert_int_equal(row->timeline, timeline());
	assert_int_equal(row->epoch, epoch);
	assert_false(row->confirmed);
	assert_int_equal(
		checkpoints_check(state_a.checkpoint, state_a.checkpoints), 0);
}

static void
test_bad_names_are_refused_in_a_sentence(void **state)
{
	char name[METADATA_CHECKPOINT_NAME + 1];
	uint64_t epoch = state_a.epoch;

	(void)state;
	assert_int_equal(checkpoint_cut(&state_a, "", &reason), -EINVAL);
	assert_true(reason.text[0] != '\0');
	assert_int_equal(checkpoint_cut(&state_a, "a b", &reason), -EINVAL);
	assert_int_equal(checkpoint_cut(&state_a, "a/b", &reason), -EINVAL);
	assert_int_equal(checkpoint_cut(&state_a, "\xc3\xa4", &reason),
			 -EINVAL);
	memset(name, 'x', sizeof(name));
	name[64] = '\0';
	assert_int_equal(checkpoint_cut(&state_a, name, &reason),
			 -ENAMETOOLONG);
	assert_int_equal(state_a.epoch, epoch);
	name[63] = '\0';
	assert_int_equal(checkpoint_cut(&state_a, name, &reason), 0);
	assert_int_equal(checkpoint_cut(&state_a, name, &reason), -EEXIST);
	assert_int_equal(state_a.epoch, epoch + 1);
	state_a.consistent = false;
	assert_int_equal(checkpoint_cut(&state_a, "b", &reason), -EPERM);
	assert_null(checkpoint_find(&state_a, "b", &reason));
}

static void
test_the_table_is_bounded_and_a_deleted_name_is_free_again(void **state)
{
	char name[16];

	(void)state;
	for (int i = 0; i < METADATA_CHECKPOINTS; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		assert_int_equal(checkpoint_cut(&state_a, name, &reason), 0);
	}
	assert_int_equal(checkpoint_cut(&state_a, "more", &reason), -ENOSPC);
	assert_int_equal(checkpoint_delete(&state_a, "c7", &reason), 0);
	assert_int_equal(checkpoint_delete(&state_a, "c7", &reason), -ENOENT);
	assert_non_null(checkpoint_find(&state_a, "c255", &reason));
	assert_int_equal(
		checkpoints_check(state_a.checkpoint, state_a.checkpoints), 0);
	assert_int_equal(checkpoint_cut(&state_a, "c7", &reason), 0);
	assert_int_equal(
		checkpoints_check(state_a.checkpoint, state_a.checkpoints), 0);
}

static void
test_what_is_not_on_the_history_or_not_confirmed_is_not_answered(void **state)
{
	struct metadata_checkpoint *row;

	(void)state;
	checkpoint_cut(&state_a, "a", &reason);
	row = checkpoint_find(&state_a, "a", &reason);
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason),
			 -EAGAIN);
	row->confirmed = true;
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason), 0);
	/* as after a resync from another host: its epoch is not over here */
	state_a.epoch = row->epoch;
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason),
			 -EAGAIN);
	state_a.epoch++;
	row->timeline ^= 1;
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason),
			 -ESTALE);
	row->timeline ^= 1;
	/* a new timeline began before what the checkpoint holds had ended */
	history_append(&state_a.history, 0xfeed, row->epoch, 0);
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason),
			 -ESTALE);
	state_a.history.count--;
	state_a.consistent = false;
	assert_int_equal(checkpoint_may_answer(&state_a, row, &reason), -EPERM);
}

#define test(name) cmocka_unit_test_setup(name, setup)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_a_cut_names_the_epoch_that_it_ends),
		test(test_bad_names_are_refused_in_a_sentence),
		test(test_the_table_is_bounded_and_a_deleted_name_is_free_again),
		test(test_what_is_not_on_the_history_or_not_confirmed_is_not_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

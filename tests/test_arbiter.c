/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_arbiter - which arbiter a name means, what none says, and the lists.
 * What a replica does with the answers is the simulator's (tests/sim).
 */
#include "tests/test.h"

#include <string.h>

#include "core/reason.h"
#include "replication/arbiter.h"

static const unsigned char a[ARBITER_ID] = { 'a' }, b[ARBITER_ID] = { 'b' };

static void
test_a_record_lists_each_replica_once(void **state)
{
	struct arbiter_record record = { .count = 0 };

	(void)state;
	arbiter_record_add(&record, a);
	arbiter_record_add(&record, a);
	assert_int_equal(record.count, 1);
	assert_true(arbiter_record_lists(&record, a));
	assert_false(arbiter_record_lists(&record, b));
	arbiter_record_add(&record, b);
	assert_true(arbiter_record_lists(&record, b));
}

struct asked {
	struct arbiter_call call;
	unsigned int answers;
	int error;
};

static void
on_done(struct arbiter_call *call, int error)
{
	struct asked *asked = (struct asked *)call;

	asked->answers++;
	asked->error = error;
}

static void
test_none_agrees_at_once(void **state)
{
	const struct arbiter_context context = { .disk = "disk" };
	struct asked asked = { .call.on_done = on_done, .error = -1 };
	struct arbiter *none = arbiter_open(NULL, &context, "none", NULL);

	(void)state;
	assert_non_null(none);
	assert_false(none->decides);
	arbiter_record_add(&asked.call.record, a);
	none->ops->read(none, &asked.call);
	assert_int_equal(asked.answers, 1);
	assert_int_equal(asked.error, 0);
	assert_true(asked.call.record.revision > 0);
	assert_true(arbiter_record_lists(&asked.call.record, a));
	none->ops->swap(none, &asked.call);
	assert_int_equal(asked.answers, 2);
	assert_int_equal(asked.error, 0);
	assert_null(arbiter_close(none));
}

static void
test_unknown_arbiters_are_refused_by_name(void **state)
{
	const struct arbiter_context context = { .disk = "disk" };
	struct reason reason;

	(void)state;
	assert_null(arbiter_open(NULL, &context, "judge:7", &reason));
	assert_string_equal(reason.text, "there is no arbiter 'judge'");
	assert_null(arbiter_open(NULL, &context, "none:7", &reason));
	assert_string_equal(reason.text, "the arbiter none takes no '7'");
	assert_null(arbiter_close(NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_record_lists_each_replica_once),
		cmocka_unit_test(test_none_agrees_at_once),
		cmocka_unit_test(test_unknown_arbiters_are_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

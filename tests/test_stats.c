/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_stats - percentiles against the numbers they were made from.
 */
#include "tests/test.h"

#include <jansson.h>
#include <string.h>

#include "core/stats.h"

static void
test_percentiles_are_at_most_an_eighth_too_high_and_never_too_low(void **state)
{
	static struct stats stats;

	(void)state;
	memset(&stats, 0, sizeof(stats));
	for (uint64_t i = 1; i <= 1000; i++)
		stats_count(&stats, TD_OP_READ, 512, i * 1000, 0);
	for (unsigned int permille = 100; permille <= 1000; permille += 100) {
		uint64_t exact = permille * 1000;
		uint64_t told =
			stats_percentile(&stats.op[TD_OP_READ], permille);

		assert_in_range(told, exact, exact + exact / 8 + 1);
	}
	assert_int_equal(stats.op[TD_OP_READ].bytes, 512000);
}

static void
test_extreme_latencies_stay_inside_the_scale(void **state)
{
	static struct stats stats;

	(void)state;
	memset(&stats, 0, sizeof(stats));
	stats_count(&stats, TD_OP_WRITE, 1, 0, 0);
	assert_int_equal(stats_percentile(&stats.op[TD_OP_WRITE], 1000), 0);
	for (unsigned int power = 0; power < 64; power++)
		stats_count(&stats, TD_OP_FLUSH, 0, UINT64_C(1) << power, 0);
	assert_true(stats_percentile(&stats.op[TD_OP_FLUSH], 1000) >
		    UINT64_C(1) << 41);
	assert_int_equal(stats_percentile(&stats.op[TD_OP_READ], 500), 0);
}

static void
test_errors_count_but_move_no_bytes(void **state)
{
	static struct stats stats;
	json_t *object;

	(void)state;
	memset(&stats, 0, sizeof(stats));
	stats_begin(&stats);
	stats_begin(&stats);
	stats_end(&stats, TD_OP_WRITE, 4096, 10, -5);
	stats_end(&stats, TD_OP_WRITE, 4096, 10, 0);
	object = stats_json(&stats);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(object, "write"), "errors")),
			 1);
	assert_int_equal(json_integer_value(json_object_get(
				 json_object_get(object, "write"), "bytes")),
			 4096);
	assert_int_equal(
		json_integer_value(json_object_get(object, "depth_max")), 2);
	assert_int_equal(json_integer_value(json_object_get(object, "depth")),
			 0);
	json_decref(object);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_percentiles_are_at_most_an_eighth_too_high_and_never_too_low),
		cmocka_unit_test(test_extreme_latencies_stay_inside_the_scale),
		cmocka_unit_test(test_errors_count_but_move_no_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_pace - a copier beside a guest on a simulated disk, which does one thing
 * after the other: the guest's requests stay within the budget, on a fast disk
 * as on a slow one, and the copy comes to an end.
 */
#include "tests/test.h"

#include <string.h>

#include "replication/pace.h"

#define US	    1000ull
#define MS	    1000000ull
#define PIECES	    8	 /* under way at most */
#define PIECE_COSTS 4	 /* guest's requests of one piece */
#define REQUESTS    6000 /* of a run; the first half is for getting there */

/* A disk, a guest who asks every `every_ns`, and a copier. */
struct bench {
	struct pace pace;
	uint64_t service_ns; /* of a request of the guest */
	uint64_t now_ns, free_ns;
	uint64_t piece_ends[PIECES], piece_began[PIECES];
	unsigned int pieces, copied;
	struct stats latency; /* of the second half */
};

static uint64_t
disk(struct bench *bench, uint64_t cost_ns)
{
	if (bench->free_ns < bench->now_ns)
		bench->free_ns = bench->now_ns;
	bench->free_ns += cost_ns;
	return bench->free_ns;
}

/* Everything that has ended by `until` ends, and what may begin begins. */
static void
copy(struct bench *bench, uint64_t until_ns)
{
	for (;;) {
		uint64_t next = UINT64_MAX;

		while (bench->pieces < PIECES &&
		       pace_admits(&bench->pace, bench->pieces,
				   bench->now_ns)) {
			bench->piece_began[bench->pieces] = bench->now_ns;
			bench->piece_ends[bench->pieces++] =
				disk(bench, PIECE_COSTS * bench->service_ns);
		}
		if (bench->pieces > 0)
			next = bench->piece_ends[0];
		if (pace_next(&bench->pace, bench->now_ns) < next)
			next = pace_next(&bench->pace, bench->now_ns);
		if (next > until_ns)
			break;
		bench->now_ns = next;
		if (bench->pieces == 0 || bench->piece_ends[0] > next)
			continue;
		pace_piece(&bench->pace, next - bench->piece_began[0], next);
		bench->copied++;
		bench->pieces--;
		memmove(bench->piece_ends, bench->piece_ends + 1,
			bench->pieces * sizeof(bench->piece_ends[0]));
		memmove(bench->piece_began, bench->piece_began + 1,
			bench->pieces * sizeof(bench->piece_began[0]));
	}
	bench->now_ns = until_ns;
}

/* The disk is busy with the guest for a fifth of the time. */
static void
run(struct bench *bench, uint64_t service_ns, uint64_t budget_ns)
{
	memset(bench, 0, sizeof(*bench));
	bench->service_ns = service_ns;
	bench->now_ns = 1;
	pace_init(&bench->pace, budget_ns, PIECES);
	pace_begin(&bench->pace, bench->now_ns);
	for (int i = 0; i < REQUESTS; i++) {
		uint64_t began = bench->now_ns;
		uint64_t ends = disk(bench, service_ns);

		copy(bench, ends);
		pace_note(&bench->pace, ends - began, ends);
		if (i >= REQUESTS / 2)
			stats_count(&bench->latency, TD_OP_WRITE, 0,
				    ends - began, 0);
		copy(bench, ends + 4 * service_ns);
	}
}

static uint64_t
nine_of_ten(const struct bench *bench)
{
	return stats_percentile(&bench->latency.op[TD_OP_WRITE], 900);
}

static void
test_the_guest_stays_within_its_budget_on_any_disk(void **state)
{
	static const uint64_t service[] = { 20 * US, 200 * US, 5 * MS };

	(void)state;
	for (size_t i = 0; i < sizeof(service) / sizeof(service[0]); i++) {
		/* a piece in its way, and a half */
		uint64_t budget = 7 * service[i];
		static struct bench free, held;

		run(&free, service[i], 0);
		run(&held, service[i], budget);
		/* or there would be nothing to hold back */
		assert_true(nine_of_ten(&free) > 3 * budget);
		assert_true(nine_of_ten(&held) <= budget + budget / 4);
		assert_true(pace_holds_back(&held.pace));
		/* but what the budget leaves is used */
		assert_true(held.copied > REQUESTS / 20);
	}
}

static void
test_a_wide_budget_costs_the_copy_nothing(void **state)
{
	static struct bench free, wide;

	(void)state;
	run(&free, 200 * US, 0);
	run(&wide, 200 * US, 1000 * MS);
	assert_true(wide.copied >= free.copied - free.copied / 10);
	assert_false(pace_holds_back(&wide.pace));
}

/* PC1 */
static void
test_a_budget_that_cannot_be_met_does_not_stop_the_copy(void **state)
{
	static struct bench bench;

	(void)state;
	run(&bench, 5 * MS, 1 * MS);
	assert_true(bench.pace.share <= PACE_SHARE_MIN);
	assert_true(bench.pace.share >= PACE_SHARE_MIN);
	assert_true(bench.copied > 0);
	/* no pause is longer than the longest */
	assert_true(bench.now_ns <=
		    bench.copied * (PACE_PAUSE_NS + PACE_WINDOW_NS));
}

static void
test_who_has_no_guest_goes_at_full_speed_soon(void **state)
{
	static struct bench bench;
	uint64_t now;

	(void)state;
	run(&bench, 5 * MS, 1 * MS);
	now = bench.now_ns;
	copy(&bench, now + 24 * PACE_WINDOW_NS);
	assert_false(pace_holds_back(&bench.pace));
	assert_int_equal(bench.pace.latency_ns, 0);
}

static void
test_a_few_requests_are_judged_together(void **state)
{
	struct pace pace;
	uint64_t now = 1;

	(void)state;
	pace_init(&pace, 10 * MS, PIECES);
	pace_begin(&pace, now);
	/* one slow request in a window is no verdict yet */
	pace_note(&pace, 50 * MS, now + PACE_WINDOW_NS);
	assert_true(pace.share >= 1);
	pace_note(&pace, 50 * MS, now + PACE_WINDOWS * PACE_WINDOW_NS);
	assert_true(pace.share < 1);
}

static void
test_it_feels_its_way_up(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 10 * MS, PIECES);
	pace_begin(&pace, 1);
	assert_true(pace_admits(&pace, 0, 1));
	assert_false(pace_admits(&pace, 1, 1));
	for (uint64_t i = 1; i <= 3; i++)
		assert_true(pace_admits(&pace, (1u << i) - 1,
					1 + i * PACE_WINDOW_NS));
	assert_false(pace_holds_back(&pace));
}

/* PC2 */
static void
test_without_a_budget_nothing_is_held_back(void **state)
{
	struct pace pace;

	(void)state;
	pace_init(&pace, 0, PIECES);
	pace_begin(&pace, 1);
	for (int i = 0; i < 1000; i++)
		pace_note(&pace, 1000 * MS, 1 + (uint64_t)i * MS);
	assert_true(pace_admits(&pace, PIECES - 1, 1000 * MS));
	assert_false(pace_admits(&pace, PIECES, 1000 * MS));
	assert_false(pace_holds_back(&pace));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_the_guest_stays_within_its_budget_on_any_disk),
		cmocka_unit_test(test_a_wide_budget_costs_the_copy_nothing),
		cmocka_unit_test(
			test_a_budget_that_cannot_be_met_does_not_stop_the_copy),
		cmocka_unit_test(test_who_has_no_guest_goes_at_full_speed_soon),
		cmocka_unit_test(test_it_feels_its_way_up),
		cmocka_unit_test(test_a_few_requests_are_judged_together),
		cmocka_unit_test(test_without_a_budget_nothing_is_held_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

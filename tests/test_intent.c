/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_intent - the set of extents against plain arrays, what may leave it and
 * when, and its bytes, whole and torn.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>

#include "drivers/random.h"
#include "replication/intent.h"

#define EXTENT	 (64u << 10)
#define EXTENTS	 300
#define SIZE	 ((EXTENTS - 1) * (uint64_t)EXTENT + 512)
#define CAPACITY INTENT_CAPACITY_MIN
#define ID	 0x77ull
#define SLOT	 8192

static uint64_t seed;
static struct intent intent;
static unsigned char slot[SLOT];

static uint64_t
pick(uint64_t below)
{
	return (uint64_t)(random_next(&seed) * (double)below);
}

static uint64_t
at(uint64_t extent)
{
	return extent * EXTENT;
}

static bool
is_in_slot(uint32_t number)
{
	struct intent read;
	uint64_t generation;
	bool is;

	assert_int_equal(intent_open(&read, SIZE, EXTENT, CAPACITY, ID), 0);
	assert_int_equal(intent_check(&read, slot, SLOT, &generation),
			 INTENT_WHOLE);
	intent_decode(&read, slot);
	is = intent_is_durable(&read, at(number), 1);
	intent_close(&read);
	return is;
}

static int
setup(void **state)
{
	(void)state;
	memset(slot, 0, sizeof(slot));
	return intent_open(&intent, SIZE, EXTENT, CAPACITY, ID);
}

static int
teardown(void **state)
{
	(void)state;
	intent_close(&intent);
	return 0;
}

static void
test_an_extent_is_durable_only_when_the_set_was_written(void **state)
{
	(void)state;
	intent_take(&intent, at(3) + 5, EXTENT);
	assert_int_equal(intent.wanted, 2);
	assert_false(intent_is_durable(&intent, at(3), 1));
	assert_int_equal(intent_encode(&intent, slot), 4096);
	assert_false(intent_is_durable(&intent, at(3), 1));
	/* one more while the set is being written waits for the next */
	intent_take(&intent, at(9), 1);
	intent_written(&intent);
	assert_true(intent_is_durable(&intent, at(3), 2 * EXTENT));
	assert_false(intent_is_durable(&intent, at(9), 1));
	assert_true(is_in_slot(4));
	assert_false(is_in_slot(9));
	intent_encode(&intent, slot);
	intent_written(&intent);
	assert_true(is_in_slot(3) && is_in_slot(4) && is_in_slot(9));
	/* a hit wants nothing */
	intent_take(&intent, at(9), 1);
	assert_int_equal(intent.wanted, 0);
}

static void
test_an_extent_that_is_held_or_not_durable_does_not_leave(void **state)
{
	(void)state;
	intent_take(&intent, at(1), 1);
	intent_put(&intent, at(1), 1);
	assert_int_equal(intent_leave_begin(&intent, 10, 0), 0);
	intent_encode(&intent, slot);
	assert_int_equal(intent_leave_begin(&intent, 10, 0), 0);
	intent_written(&intent);
	intent_take(&intent, at(1), 1);
	assert_int_equal(intent_leave_begin(&intent, 10, 0), 0);
	intent_put(&intent, at(1), 1);
	assert_int_equal(intent_leave_begin(&intent, 10, 0), 1);
	assert_int_equal(intent_leave_end(&intent), 1);
	assert_false(intent_is_durable(&intent, at(1), 1));
	assert_int_equal(intent.count, 0);
}

static void
test_an_extent_that_is_taken_while_it_leaves_stays(void **state)
{
	(void)state;
	intent_take(&intent, at(1), 1);
	intent_take(&intent, at(2), 1);
	intent_encode(&intent, slot);
	intent_written(&intent);
	intent_put(&intent, at(1), 1);
	intent_put(&intent, at(2), 1);
	assert_int_equal(intent_leave_begin(&intent, 10, 0), 2);
	intent_take(&intent, at(1), 1);
	intent_put(&intent, at(1), 1);
	assert_int_equal(intent_leave_end(&intent), 1);
	assert_true(intent_is_durable(&intent, at(1), 1));
	assert_false(intent_is_durable(&intent, at(2), 1));
}

static void
test_the_longest_unused_leave_first(void **state)
{
	const struct intent_extent *leaving;

	(void)state;
	for (uint64_t i = 0; i < 10; i++) {
		intent_take(&intent, at(i), 1);
		intent_put(&intent, at(i), 1);
	}
	intent_encode(&intent, slot);
	intent_written(&intent);
	intent_take(&intent, at(0), 1);
	intent_put(&intent, at(0), 1);
	assert_int_equal(intent_leave_begin(&intent, 2, 0), 2);
	leaving = intent_next_leaving(&intent, NULL);
	assert_int_equal(leaving->number, 1);
	leaving = intent_next_leaving(&intent, leaving);
	assert_int_equal(leaving->number, 2);
	assert_null(intent_next_leaving(&intent, leaving));
}

static void
test_there_is_room_for_what_is_a_member_and_for_no_more_than_capacity(
	void **state)
{
	(void)state;
	assert_true(intent_has_room(&intent, at(0), CAPACITY * EXTENT));
	assert_false(intent_has_room(&intent, at(0), CAPACITY * EXTENT + 1));
	intent_take(&intent, at(0), CAPACITY * EXTENT);
	assert_true(intent_has_room(&intent, at(0), CAPACITY * EXTENT));
	assert_false(intent_has_room(&intent, at(CAPACITY), 1));
	assert_int_equal(intent_length(&intent, EXTENTS - 1), 512);
}

/* Members, holders and durability, plainly. */
struct plain {
	bool member[EXTENTS];
	bool durable[EXTENTS];
	bool writing[EXTENTS];
	bool leaving[EXTENTS];
	unsigned int holders[EXTENTS];
};

static void
plain_step(struct plain *plain, bool *writing)
{
	uint64_t number = pick(EXTENTS), left;

	switch (pick(6)) {
	case 0:
	case 1:
		if (!intent_has_room(&intent, at(number), 1))
			break;
		intent_take(&intent, at(number), 1);
		plain->member[number] = true;
		plain->leaving[number] = false;
		plain->holders[number]++;
		break;
	case 2:
		for (left = EXTENTS; left > 0 && !plain->holders[number];
		     left--)
			number = (number + 1) % EXTENTS;
		if (left == 0)
			break;
		intent_put(&intent, at(number), 1);
		plain->holders[number]--;
		break;
	case 3:
		if (*writing)
			break;
		intent_encode(&intent, slot);
		memcpy(plain->writing, plain->member, sizeof(plain->member));
		*writing = true;
		break;
	case 4:
		if (!*writing)
			break;
		intent_written(&intent);
		for (int i = 0; i < EXTENTS; i++)
			plain->durable[i] |= plain->writing[i];
		*writing = false;
		break;
	default:
		if (pick(2) == 0) {
			for (int i = 0; i < EXTENTS; i++) {
				if (!plain->leaving[i])
					continue;
				plain->member[i] = plain->durable[i] = false;
				plain->writing[i] = plain->leaving[i] = false;
			}
			intent_leave_end(&intent);
			break;
		}
		intent_leave_begin(&intent, 8, 0);
		for (const struct intent_extent *e =
			     intent_next_leaving(&intent, NULL);
		     e != NULL; e = intent_next_leaving(&intent, e))
			plain->leaving[e->number] = true;
	}
}

static void
test_any_sequence_agrees_with_plain_arrays(void **state)
{
	static struct plain plain;
	bool writing = false;

	(void)state;
	memset(&plain, 0, sizeof(plain));
	seed = 11;
	for (int i = 0; i < 20000; i++) {
		unsigned int count = 0;

		plain_step(&plain, &writing);
		for (uint64_t e = 0; e < EXTENTS; e++) {
			count += plain.member[e];
			/* never more than is durable, N1 */
			if (intent_is_durable(&intent, at(e), 1))
				assert_true(plain.durable[e]);
			/* what is held is never gone, N3 */
			if (plain.holders[e] > 0 && plain.durable[e])
				assert_true(
					intent_is_durable(&intent, at(e), 1));
		}
		assert_int_equal(intent.count, count);
	}
}

static void
test_a_torn_or_foreign_slot_is_damaged(void **state)
{
	static unsigned char old[SLOT], torn[SLOT];
	struct intent other;
	uint64_t generation;

	(void)state;
	for (uint64_t i = 0; i < CAPACITY; i++)
		intent_take(&intent, at(i), 1);
	intent_encode(&intent, old);
	intent_written(&intent);
	for (uint64_t i = 0; i < CAPACITY; i++)
		intent_put(&intent, at(i), 1);
	intent_leave_begin(&intent, 40, 0);
	intent_leave_end(&intent);
	intent_encode(&intent, slot);
	assert_int_equal(intent_open(&other, SIZE, EXTENT, CAPACITY, ID), 0);
	assert_int_equal(intent_check(&other, old, SLOT, &generation),
			 INTENT_WHOLE);
	assert_int_equal(generation, 1);
	assert_int_equal(intent_check(&other, slot, SLOT, &generation),
			 INTENT_WHOLE);
	assert_int_equal(generation, 2);
	/* the set fits into a sector: cut it by bytes */
	for (size_t cut = 12; cut < 64 + 24 * 4; cut += 4) {
		memcpy(torn, old, SLOT);
		memcpy(torn, slot, cut);
		if (memcmp(torn, slot, 64 + 24 * 4) == 0)
			continue;
		assert_int_equal(intent_check(&other, torn, SLOT, &generation),
				 INTENT_DAMAGED);
	}
	memset(torn, 0, SLOT);
	assert_int_equal(intent_check(&other, torn, SLOT, &generation),
			 INTENT_BLANK);
	assert_int_equal(intent_check(&other, slot, 100, &generation),
			 INTENT_DAMAGED);
	other.id = ID + 1;
	assert_int_equal(intent_check(&other, slot, SLOT, &generation),
			 INTENT_DAMAGED);
	intent_close(&other);
}

static void
test_sizes_out_of_range_are_refused(void **state)
{
	struct intent bad;

	(void)state;
	assert_int_equal(intent_open(&bad, SIZE, 3 << 20, 64, ID), -EINVAL);
	assert_int_equal(intent_open(&bad, SIZE, 4096, 64, ID), -EINVAL);
	assert_int_equal(intent_open(&bad, SIZE, 2u << 30, 64, ID), -EINVAL);
	assert_int_equal(intent_open(&bad, SIZE, EXTENT, 63, ID), -EINVAL);
	assert_int_equal(intent_open(&bad, SIZE, EXTENT, 16385, ID), -EINVAL);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_an_extent_is_durable_only_when_the_set_was_written),
		test(test_an_extent_that_is_held_or_not_durable_does_not_leave),
		test(test_an_extent_that_is_taken_while_it_leaves_stays),
		test(test_the_longest_unused_leave_first),
		test(test_there_is_room_for_what_is_a_member_and_for_no_more_than_capacity),
		test(test_any_sequence_agrees_with_plain_arrays),
		test(test_a_torn_or_foreign_slot_is_damaged),
		test(test_sizes_out_of_range_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

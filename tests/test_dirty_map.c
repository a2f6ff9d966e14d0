/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_dirty_map - stamps against a plain array of epochs, the search against a
 * plain loop, pages against what is torn and misplaced, and 1 TiB.
 */
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/random.h"
#include "replication/dirty_map.h"

#define REGION	(4u << 10)
#define REGIONS 2500
#define SIZE	((REGIONS - 1) * (uint64_t)REGION + 512)
#define ID	0x1234567890ull
#define TIB	(1ull << 40)

#define MEMORY_MIB 68
#define SLICE	   (1u << 19) /* regions looked at in one call */

static uint64_t seed;

static uint64_t
pick(uint64_t below)
{
	return (uint64_t)(random_next(&seed) * (double)below);
}

static uint64_t
end_of(uint64_t offset)
{
	uint64_t end = (offset / REGION + 1) * REGION;

	return end < SIZE ? end : SIZE;
}

/* The same, plainly. */
struct plain {
	uint64_t epoch[REGIONS];
	bool suspect[REGIONS];
};

static void
plain_change(struct plain *plain, uint64_t offset, uint64_t length,
	     uint64_t epoch, bool lower)
{
	if (length == 0)
		return;
	for (uint64_t i = offset / REGION; i <= (offset + length - 1) / REGION;
	     i++) {
		if (lower || plain->epoch[i] < epoch)
			plain->epoch[i] = epoch;
		if (lower)
			plain->suspect[i] = false;
	}
}

static void
plain_suspect(struct plain *plain, uint64_t offset, uint64_t length)
{
	for (uint64_t i = offset / REGION;
	     length > 0 && i <= (offset + length - 1) / REGION; i++)
		plain->suspect[i] = true;
}

static void
assert_same(const struct dirty_map *map, const struct plain *plain)
{
	uint64_t suspects = 0;

	for (uint64_t i = 0; i < REGIONS; i++) {
		assert_int_equal(dirty_map_stamp_of(map, i * REGION),
				 plain->epoch[i]);
		assert_int_equal(dirty_map_is_suspect(map, i * REGION),
				 plain->suspect[i]);
		suspects += plain->suspect[i];
	}
	assert_int_equal(map->suspects, suspects);
}

/* Every run found with any budget is what a loop finds. */
static void
assert_search(const struct dirty_map *map, const struct plain *plain,
	      uint64_t since, uint64_t budget, bool doubtful)
{
	bool seen[REGIONS] = { false };
	struct dirty_map_run run;
	uint64_t from = 0;

	while (from < SIZE) {
		if (doubtful)
			dirty_map_next_doubtful(map, since, from, budget, &run);
		else
			dirty_map_next(map, since, from, budget, &run);
		assert_true(run.next > from);
		for (uint64_t at = run.offset; at < run.offset + run.length;
		     at = end_of(at)) {
			assert_true(at >= from && at < run.next);
			seen[at / REGION] = true;
		}
		if (run.length > 0)
			assert_int_equal(run.offset + run.length, run.next);
		from = run.next;
	}
	assert_int_equal(from, SIZE);
	for (uint64_t i = 0; i < REGIONS; i++)
		assert_int_equal(seen[i],
				 plain->epoch[i] > since ||
					 (doubtful && plain->suspect[i]));
}

static void
assert_same_search(const struct dirty_map *map, const struct plain *plain,
		   uint64_t since, uint64_t budget)
{
	assert_search(map, plain, since, budget, false);
	assert_search(map, plain, since, budget, true);
}

static void
test_stamps_and_searches_are_those_of_a_plain_array(void **state)
{
	static struct plain plain;
	struct dirty_map map;
	uint64_t epoch = 1;

	(void)state;
	memset(&plain, 0, sizeof(plain));
	seed = 1;
	assert_int_equal(dirty_map_open(&map, SIZE, REGION, ID), 0);
	assert_same_search(&map, &plain, 0, 1);
	for (int i = 0; i < 3000; i++) {
		uint64_t offset = pick(SIZE);
		uint64_t room = SIZE - offset;
		uint64_t length =
			pick(20) ? pick(room < 9 * REGION ? room : 9 * REGION)
				 : pick(room + 1);
		bool lower = pick(5) == 0;
		uint64_t of = lower ? pick(epoch + 1) : epoch - pick(epoch) / 4;

		epoch += pick(3) == 0;
		if (lower)
			dirty_map_set(&map, offset, length, of);
		else
			dirty_map_stamp(&map, offset, length, of);
		plain_change(&plain, offset, length, of, lower);
		if (pick(8) == 0) {
			dirty_map_suspect(&map, SIZE - offset - length, length);
			plain_suspect(&plain, SIZE - offset - length, length);
		}
		if (i == 2000) {
			dirty_map_absolve(&map);
			memset(plain.suspect, 0, sizeof(plain.suspect));
		}
		if (i % 97 != 0)
			continue;
		assert_same(&map, &plain);
		assert_same_search(&map, &plain, pick(epoch + 2),
				   1 + pick(3000));
		assert_same_search(&map, &plain, epoch - 1, 1);
		assert_same_search(&map, &plain, UINT64_MAX, 100);
	}
	dirty_map_close(&map);
}

static void
test_a_rebase_makes_answers_wider_never_narrower(void **state)
{
	struct dirty_map map;
	uint64_t far = 1ull << 40;

	(void)state;
	assert_int_equal(dirty_map_open(&map, SIZE, REGION, ID), 0);
	dirty_map_stamp(&map, 0, 1, 7);
	dirty_map_suspect(&map, 0, 1);
	dirty_map_stamp(&map, REGION, 1, INT32_MAX);
	dirty_map_stamp(&map, 1500 * REGION, 1, 9);
	assert_int_equal(dirty_map_stamp_of(&map, 0), 7);
	assert_int_equal(dirty_map_stamp_of(&map, REGION), INT32_MAX);
	dirty_map_stamp(&map, 2 * REGION, 1, far);
	assert_int_equal(dirty_map_stamp_of(&map, 2 * REGION), far);
	assert_in_range(dirty_map_stamp_of(&map, 0), 7, far - 1);
	assert_in_range(dirty_map_stamp_of(&map, REGION), INT32_MAX, far - 1);
	assert_int_equal(dirty_map_stamp_of(&map, 3 * REGION), 0);
	assert_true(dirty_map_is_suspect(&map, 0));
	assert_int_equal(map.suspects, 1);
	/* another page keeps its base */
	assert_int_equal(dirty_map_stamp_of(&map, 1500 * REGION), 9);
	/* and what is near keeps its epoch */
	dirty_map_stamp(&map, 4 * REGION, 1, far + INT32_MAX);
	dirty_map_stamp(&map, 5 * REGION, 1, far + INT32_MAX - 100);
	assert_int_equal(dirty_map_stamp_of(&map, 5 * REGION),
			 far + INT32_MAX - 100);
	dirty_map_close(&map);
}

static void
test_a_region_may_be_4_KiB_to_1_MiB(void **state)
{
	static const uint32_t bad[] = { 0, 2048, 6144, 2u << 20, 65535 };
	struct dirty_map map;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(dirty_map_open(&map, SIZE, bad[i], ID),
				 -EINVAL);
	for (uint32_t region = 4096; region <= 1u << 20; region *= 2) {
		assert_int_equal(dirty_map_open(&map, SIZE, region, ID), 0);
		dirty_map_stamp(&map, region - 1, 2, 3);
		assert_int_equal(dirty_map_stamp_of(&map, 0), 3);
		assert_int_equal(dirty_map_stamp_of(&map, region), 3);
		assert_int_equal(dirty_map_stamp_of(&map, 2 * region), 0);
		dirty_map_close(&map);
	}
}

static void
test_a_page_is_dirty_until_it_is_encoded(void **state)
{
	unsigned char bytes[DIRTY_MAP_PAGE_BYTES];
	struct dirty_map map;

	(void)state;
	assert_int_equal(dirty_map_open(&map, SIZE, REGION, ID), 0);
	assert_int_equal(dirty_map_next_dirty(&map, 0), map.pages);
	dirty_map_stamp(&map, 1020 * REGION, 1, 3);
	assert_int_equal(dirty_map_next_dirty(&map, 0), 1);
	dirty_map_encode(&map, 1, bytes);
	assert_int_equal(dirty_map_next_dirty(&map, 0), map.pages);
	dirty_map_stamp(&map, 1020 * REGION, 1, 3);
	dirty_map_stamp(&map, 1020 * REGION, 1, 2);
	assert_int_equal(dirty_map_next_dirty(&map, 0), map.pages);
	dirty_map_stamp(&map, 1020 * REGION, 1, 4);
	assert_int_equal(dirty_map_next_dirty(&map, 0), 1);
	dirty_map_close(&map);
}

static void
test_a_page_is_read_as_it_was_written_and_in_its_place_only(void **state)
{
	unsigned char bytes[DIRTY_MAP_PAGE_BYTES];
	struct dirty_map map, again, other;
	uint32_t generation = 0;

	(void)state;
	seed = 4;
	assert_int_equal(dirty_map_open(&map, SIZE, REGION, ID), 0);
	assert_int_equal(dirty_map_open(&again, SIZE, REGION, ID), 0);
	assert_int_equal(dirty_map_open(&other, SIZE, REGION, ID + 1), 0);
	for (int i = 0; i < 500; i++) {
		dirty_map_stamp(&map, pick(SIZE), 1, 1 + pick(1u << 20));
		dirty_map_suspect(&map, pick(SIZE), 1);
	}
	for (uint64_t i = 0; i < map.pages; i++) {
		dirty_map_encode(&map, i, bytes);
		dirty_map_encode(&map, i, bytes);
		assert_int_equal(dirty_map_check(&again, i, bytes, &generation),
				 DIRTY_MAP_WHOLE);
		assert_int_equal(generation, 2);
		assert_int_equal(
			dirty_map_check(&again, i + 1, bytes, &generation),
			DIRTY_MAP_DAMAGED);
		assert_int_equal(dirty_map_check(&other, i, bytes, &generation),
				 DIRTY_MAP_DAMAGED);
		dirty_map_decode(&again, i, bytes);
	}
	for (uint64_t i = 0; i < REGIONS; i++) {
		assert_int_equal(dirty_map_stamp_of(&map, i * REGION),
				 dirty_map_stamp_of(&again, i * REGION));
		assert_int_equal(dirty_map_is_suspect(&map, i * REGION),
				 dirty_map_is_suspect(&again, i * REGION));
	}
	assert_int_equal(map.suspects, again.suspects);
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(dirty_map_check(&again, 0, bytes, &generation),
			 DIRTY_MAP_BLANK);
	dirty_map_close(&map);
	dirty_map_close(&again);
	dirty_map_close(&other);
}

static void
test_a_torn_page_is_damaged_and_a_generation_wraps(void **state)
{
	unsigned char old[DIRTY_MAP_PAGE_BYTES], new[DIRTY_MAP_PAGE_BYTES];
	unsigned char torn[DIRTY_MAP_PAGE_BYTES];
	struct dirty_map map;
	uint32_t generation;

	(void)state;
	assert_int_equal(dirty_map_open(&map, SIZE, REGION, ID), 0);
	for (unsigned int i = 0; i < DIRTY_MAP_STAMPS; i++)
		dirty_map_stamp(&map, i * REGION, 1, 1 + i);
	dirty_map_encode(&map, 0, old);
	for (unsigned int i = 0; i < DIRTY_MAP_STAMPS; i++)
		dirty_map_stamp(&map, i * REGION, 1, 5000 + i);
	dirty_map_encode(&map, 0, new);
	for (unsigned int mask = 1; mask < 255; mask++) {
		for (unsigned int s = 0; s < 8; s++)
			memcpy(torn + 512 * s,
			       (mask >> s & 1 ? new : old) + 512 * s, 512);
		assert_int_equal(dirty_map_check(&map, 0, torn, &generation),
				 DIRTY_MAP_DAMAGED);
	}
	assert_true(dirty_map_is_newer(2, 1));
	assert_false(dirty_map_is_newer(1, 1));
	assert_true(dirty_map_is_newer(0, UINT32_MAX));
	assert_false(dirty_map_is_newer(UINT32_MAX, 0));
	dirty_map_close(&map);
}

/* The bytes of all runs stamped above `since`. */
static uint64_t
found_bytes(const struct dirty_map *map, uint64_t since)
{
	struct dirty_map_run run;
	uint64_t from = 0, bytes = 0;

	while (from < map->size) {
		dirty_map_next(map, since, from, SLICE, &run);
		assert_true(run.next > from);
		bytes += run.length;
		from = run.next;
	}
	return bytes;
}

/* How long it takes is for tests/bench/map_search.c to say. */
static void
test_all_changes_of_1_TiB_are_found_with_68_MiB(void **state)
{
	struct dirty_map map;

	(void)state;
	assert_int_equal(dirty_map_open(&map, TIB, DIRTY_MAP_REGION, ID), 0);
	assert_true(map.pages * (DIRTY_MAP_STAMPS * sizeof(*map.stamps) +
				 sizeof(*map.page)) <
		    (uint64_t)MEMORY_MIB << 20);
	dirty_map_stamp(&map, 0, TIB, 3);
	for (uint64_t at = 0; at < TIB; at += 64ull << 20)
		dirty_map_stamp(&map, at, 1, 5);
	assert_int_equal(found_bytes(&map, 4),
			 (TIB / (64ull << 20)) * DIRTY_MAP_REGION);
	assert_int_equal(found_bytes(&map, 5), 0);
	assert_int_equal(found_bytes(&map, 2), TIB);
	dirty_map_close(&map);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_stamps_and_searches_are_those_of_a_plain_array),
		cmocka_unit_test(
			test_a_rebase_makes_answers_wider_never_narrower),
		cmocka_unit_test(test_a_region_may_be_4_KiB_to_1_MiB),
		cmocka_unit_test(test_a_page_is_dirty_until_it_is_encoded),
		cmocka_unit_test(
			test_a_page_is_read_as_it_was_written_and_in_its_place_only),
		cmocka_unit_test(
			test_a_torn_page_is_damaged_and_a_generation_wraps),
		cmocka_unit_test(
			test_all_changes_of_1_TiB_are_found_with_68_MiB),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

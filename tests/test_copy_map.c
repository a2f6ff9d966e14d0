/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_copy_map - what a target still lacks, against an array of flags.
 */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "replication/copy_map.h"

#define REGIONS 200
#define SIZE	((REGIONS - 1) * (uint64_t)COPY_REGION + 512)

/* The same, plainly. */
struct flags {
	bool marked[REGIONS];
};

static uint64_t
start_of(uint64_t region)
{
	return region * COPY_REGION;
}

static uint64_t
end_of(uint64_t region)
{
	return region == REGIONS - 1 ? SIZE : start_of(region + 1);
}

static void
assert_same(const struct copy_map *map, const struct flags *flags)
{
	uint64_t count = 0, bytes = 0, next = SIZE;

	for (uint64_t region = REGIONS; region-- > 0;) {
		uint64_t run = 0;

		if (flags->marked[region]) {
			count++;
			bytes += end_of(region) - start_of(region);
			next = start_of(region);
		}
		for (uint64_t i = region; i < REGIONS && flags->marked[i]; i++)
			run += end_of(i) - start_of(i);
		assert_int_equal(copy_map_is_marked(map, start_of(region)),
				 flags->marked[region]);
		assert_int_equal(copy_map_next(map, start_of(region)), next);
		assert_int_equal(copy_map_run(map, start_of(region), SIZE),
				 run);
	}
	assert_int_equal(map->marked, count);
	assert_int_equal(copy_map_bytes(map), bytes);
	assert_int_equal(copy_map_next(map, SIZE), SIZE);
}

static void
test_a_new_map_lacks_nothing_and_all_is_all(void **state)
{
	struct flags flags = { .marked = { false } };
	struct copy_map map;

	(void)state;
	assert_int_equal(copy_map_open(&map, SIZE, COPY_REGION), 0);
	assert_same(&map, &flags);
	copy_map_mark_all(&map);
	memset(flags.marked, true, sizeof(flags.marked));
	assert_same(&map, &flags);
	assert_int_equal(copy_map_bytes(&map), SIZE);
	copy_map_clear_all(&map);
	memset(flags.marked, false, sizeof(flags.marked));
	assert_same(&map, &flags);
	copy_map_close(&map);
	copy_map_close(&map);
}

static void
test_a_byte_marks_its_region_and_only_that(void **state)
{
	struct flags flags = { .marked = { false } };
	struct copy_map map;

	(void)state;
	assert_int_equal(copy_map_open(&map, SIZE, COPY_REGION), 0);
	copy_map_mark(&map, start_of(64) - 1, 1);
	copy_map_mark(&map, start_of(70), 1);
	copy_map_mark(&map, SIZE - 1, 1);
	flags.marked[63] = flags.marked[70] = flags.marked[REGIONS - 1] = true;
	assert_same(&map, &flags);
	copy_map_mark(&map, start_of(9) - 1, 2);
	flags.marked[8] = flags.marked[9] = true;
	assert_same(&map, &flags);
	assert_true(copy_map_covers(&map, start_of(8) + 5, COPY_REGION));
	assert_false(copy_map_covers(&map, start_of(8) + 5, 2 * COPY_REGION));
	copy_map_close(&map);
}

static void
test_any_marks_and_clears_count_right(void **state)
{
	struct flags flags = { .marked = { false } };
	struct copy_map map;
	unsigned int seed = 1;

	(void)state;
	assert_int_equal(copy_map_open(&map, SIZE, COPY_REGION), 0);
	for (int i = 0; i < 2000; i++) {
		uint64_t first = (uint64_t)rand_r(&seed) % REGIONS;
		uint64_t last = first + (uint64_t)rand_r(&seed) % 12;
		bool mark = rand_r(&seed) % 2;

		if (last >= REGIONS)
			last = REGIONS - 1;
		if (mark)
			copy_map_mark(&map, start_of(first) + 511,
				      start_of(last) + 512 -
					      (start_of(first) + 511));
		else
			copy_map_clear(&map, start_of(first),
				       end_of(last) - start_of(first));
		for (uint64_t region = first; region <= last; region++)
			flags.marked[region] = mark;
		if (i % 20 == 0)
			assert_same(&map, &flags);
	}
	copy_map_close(&map);
}

static void
test_a_run_is_no_longer_than_asked_for(void **state)
{
	struct copy_map map;

	(void)state;
	assert_int_equal(copy_map_open(&map, SIZE, COPY_REGION), 0);
	copy_map_mark_all(&map);
	assert_int_equal(copy_map_run(&map, 0, 100), 100);
	assert_int_equal(copy_map_run(&map, start_of(3) + 7, COPY_REGION),
			 COPY_REGION);
	copy_map_clear(&map, start_of(4), COPY_REGION);
	assert_int_equal(copy_map_run(&map, start_of(3) + 7, COPY_REGION),
			 COPY_REGION - 7);
	assert_int_equal(copy_map_run(&map, start_of(4), COPY_REGION), 0);
	copy_map_close(&map);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_map_lacks_nothing_and_all_is_all),
		cmocka_unit_test(test_a_byte_marks_its_region_and_only_that),
		cmocka_unit_test(test_any_marks_and_clears_count_right),
		cmocka_unit_test(test_a_run_is_no_longer_than_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * map_search - how long the search for all that changed on 1 TiB takes, and the
 * longest slice of it that the loop waits for, when no page can be passed over:
 * all was written once, and of each 64 MiB one region since.
 *
 *     map_search [--check]
 *
 * Medians and extremes of 15 searches, in time of the processor; with --check
 * the exit status says whether both aims were met.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replication/dirty_map.h"
#include "replication/tracker.h"

#define ROUNDS	 15
#define TIB	 (1ull << 40)
#define APART	 (64ull << 20)
#define AIM_MS	 10.0 /* in all */
#define SLICE_MS 0.5

static double
now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* All regions stamped above `since`; the longest slice too when asked for it,
 * which makes the whole longer by a look at the clock for each. */
static uint64_t
search(const struct dirty_map *map, uint64_t since, double *ret_longest)
{
	struct dirty_map_run run = { .next = 0 };
	uint64_t bytes = 0;
	double begin = 0, end;

	while (run.next < map->size) {
		if (ret_longest)
			begin = now_ms();
		dirty_map_next(map, since, run.next, TRACKER_REGIONS, &run);
		bytes += run.length;
		if (!ret_longest)
			continue;
		end = now_ms() - begin;
		*ret_longest = end > *ret_longest ? end : *ret_longest;
	}
	return bytes;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Whether the median is below the aim. */
static bool
tell(const char *what, double *ms, double aim)
{
	bool met;

	qsort(ms, ROUNDS, sizeof(*ms), compare);
	met = ms[ROUNDS / 2] < aim;
	printf("%-34s %6.2f ms, %.2f to %.2f (aim: < %.1f %s)\n", what,
	       ms[ROUNDS / 2], ms[0], ms[ROUNDS - 1], aim,
	       met ? "met" : "MISSED");
	return met;
}

int
main(int argc, char **argv)
{
	struct dirty_map map;
	double all[ROUNDS], longest[ROUNDS];
	bool check = argc == 2 && strcmp(argv[1], "--check") == 0, met;

	if (argc > 2 || (argc == 2 && !check)) {
		fprintf(stderr, "usage: %s [--check]\n", argv[0]);
		return 2;
	}
	if (dirty_map_open(&map, TIB, DIRTY_MAP_REGION, 1) < 0) {
		fprintf(stderr, "map_search: no memory for a map of 1 TiB\n");
		return 1;
	}
	dirty_map_stamp(&map, 0, TIB, 3);
	for (uint64_t at = 0; at < TIB; at += APART)
		dirty_map_stamp(&map, at, 1, 5);
	for (int i = 0; i < ROUNDS; i++) {
		double begin = now_ms();
		uint64_t bytes = search(&map, 4, NULL);

		all[i] = now_ms() - begin;
		longest[i] = 0;
		search(&map, 4, &longest[i]);
		if (bytes != TIB / APART * DIRTY_MAP_REGION) {
			fprintf(stderr, "map_search: found %llu bytes\n",
				(unsigned long long)bytes);
			return 1;
		}
	}
	dirty_map_close(&map);
	met = tell("changed on 1 TiB, in all", all, AIM_MS);
	met = tell("changed on 1 TiB, longest slice", longest, SLICE_MS) && met;
	return check && !met;
}

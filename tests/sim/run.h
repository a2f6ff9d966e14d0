/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run - stories, each with a world of its own, in children; what they add up
 * to; and the smallest story that still fails.
 */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include "tests/sim/sim.h"

#define RUN_BATCH 8 /* stories of one child */

/* A seed, without some of its faults; or a schedule. */
struct story {
	uint64_t seed;
	bool large; /* its disk */
	bool left_out[SIM_FAULTS];
	char schedule[128]; /* "": none */
	unsigned int variant;
};

/* Shared with the children. */
struct tally {
	size_t at; /* the story that runs */
	uint64_t passed;
	bool failed; /* the last one */
	char why[512];
	bool befell[SIM_FAULTS]; /* of its faults */
	uint64_t writes, acked, reads, flushes, failures, timelines;
	uint64_t equal_checks, asked, agreed, refused;
	uint64_t checkpoints, answers, answers_refused;
	uint64_t simulated_ns, peace_max_ns, peace_seed;
	uint64_t faults[FAULT_COUNT];
	uint64_t guests[GUEST_COUNT];
};

void run_prepare(void);
const struct tally *run_tally(void);
/* In one child, until one fails: then it is the last one run.  Returns how
 * many were run, at least one. */
size_t run_stories(const struct story *stories, size_t count, bool trace);
/* On a terminal: how many are done, and how long the rest will take. */
void run_tell_progress(uint64_t done, uint64_t of);
/* Leave faults out as long as it fails by the same law.  False if it does not
 * fail again at all. */
bool run_shrink(struct story *story);
bool run_parse_without(struct story *story, const char *text);
/* The sum of all.  Returns what coverage_print() does. */
unsigned int run_print(void);

#endif

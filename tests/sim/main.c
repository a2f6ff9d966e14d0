/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim: many seeds, each a story of two replicas; see sim.h.
 *
 *   sim [--from SEED] [--seeds COUNT]   prints what happened; status 1 and the
 *                                       first failed seed's trace if any fails
 *   sim --trace --from SEED             tells one seed's story
 *
 * Seeds run in children, some in each: dead nodes leave their memory behind,
 * and an assertion of the product ends a child, not the run.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "tests/sim/sim.h"

#define BATCH	   8
#define SEED_S	   120 /* a seed that takes longer hangs */
#define FAILED_MAX 20  /* then it is enough */

/* Shared with the children. */
struct tally {
	uint64_t seed; /* the one that runs */
	uint64_t passed;
	bool failed;
	char why[512];
	uint64_t writes, acked, reads, flushes, failures, timelines;
	uint64_t simulated_ns;
	uint64_t faults[FAULT_COUNT];
};

static struct tally *tally;

static void
run_seed(uint64_t seed, bool trace)
{
	struct world *world;

	tally->seed = seed;
	(void)alarm(SEED_S);
	world = world_new(seed, trace);
	script_run();
	tally->writes += world->writes;
	tally->acked += world->acked;
	tally->reads += world->reads;
	tally->flushes += world->flushes;
	tally->failures += world->failures;
	tally->timelines += (uint64_t)world->views;
	tally->simulated_ns += world->now_ns;
	for (int i = 0; i < FAULT_COUNT; i++)
		tally->faults[i] += world->faults[i];
	tally->failed = world->failed;
	if (world->failed)
		(void)snprintf(tally->why, sizeof(tally->why), "%s",
			       world->why);
	else
		tally->passed++;
	world_free(world);
}

/* From `seed` to `end` at most.  Returns the first that was not run. */
static uint64_t
run_batch(uint64_t seed, uint64_t end, bool trace)
{
	pid_t child;
	int status = 0;

	if (end > seed + BATCH)
		end = seed + BATCH;
	tally->failed = false;
	tally->seed = seed;
	(void)fflush(stdout);
	child = fork();
	if (child < 0) {
		perror("fork");
		exit(2);
	}
	if (child == 0) {
		for (; seed < end && !tally->failed; seed++)
			run_seed(seed, trace);
		(void)fflush(NULL);
		_exit(0); /* what the dead left behind is no leak */
	}
	if (waitpid(child, &status, 0) < 0)
		exit(2);
	if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0) {
		tally->failed = true;
		(void)snprintf(tally->why, sizeof(tally->why),
			       "it ended by %s %d",
			       WIFSIGNALED(status) ? "signal" : "status",
			       WIFSIGNALED(status) ? WTERMSIG(status)
						   : WEXITSTATUS(status));
	}
	return tally->failed ? tally->seed + 1 : end;
}

static void
print_tally(double seconds)
{
	printf("%" PRIu64 " seeds passed, %.1f a second, %.0f simulated "
	       "minutes in %.1f s\n",
	       tally->passed, (double)tally->passed / seconds,
	       (double)tally->simulated_ns / 60e9, seconds);
	printf("writes %" PRIu64 " (%" PRIu64 " acknowledged), reads %" PRIu64
	       ", flushes %" PRIu64 ", failed requests %" PRIu64
	       ", timelines %" PRIu64 "\n",
	       tally->writes, tally->acked, tally->reads, tally->flushes,
	       tally->failures, tally->timelines);
	printf("faults:");
	for (int i = 0; i < FAULT_COUNT; i++)
		printf(" %s %" PRIu64 "%s", sim_fault_names[i],
		       tally->faults[i], i + 1 < FAULT_COUNT ? "," : "\n");
}

static double
now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int
usage(void)
{
	(void)fprintf(stderr,
		      "usage: sim [--from SEED] [--seeds COUNT] [--trace]\n");
	return 2;
}

static int
run_all(uint64_t from, uint64_t count)
{
	uint64_t seed = from, first = 0;
	unsigned int failed = 0;
	double begun = now_s();

	while (seed < from + count && failed < FAILED_MAX) {
		seed = run_batch(seed, from + count, false);
		if (!tally->failed)
			continue;
		if (failed++ == 0)
			first = tally->seed;
		printf("seed %" PRIu64 " FAILED: %s\n", tally->seed,
		       tally->why);
	}
	if (failed > 0) {
		log_set_level(LOG_DEBUG);
		printf("the story of seed %" PRIu64 ":\n", first);
		(void)run_batch(first, first + 1, true);
	}
	print_tally(now_s() - begun);
	if (failed > 0)
		printf("%u seeds failed; again: make sim SEED=%" PRIu64
		       " TRACE=1\n",
		       failed, first);
	return failed > 0;
}

int
main(int argc, char **argv)
{
	uint64_t from = 1, count = 1000;
	bool trace = false;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--trace") == 0)
			trace = true;
		else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
			from = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 10);
		else
			return usage();
	}
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		return 2;
	log_set_level(LOG_CRIT);
	if (!trace)
		return run_all(from, count);
	log_set_level(LOG_DEBUG);
	(void)run_batch(from, from + 1, true);
	printf("seed %" PRIu64 " %s%s\n", from,
	       tally->failed ? "FAILED: " : "passed",
	       tally->failed ? tally->why : "");
	return tally->failed;
}

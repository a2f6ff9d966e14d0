/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * run - see run.h.
 */
#include "tests/sim/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

#define STORY_S	  120 /* of the processor; one that takes more hangs */
#define TRIES_MAX 300 /* to shrink one */

static struct tally *tally;
static struct coverage *coverage;
static double begun;

static double
now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void
run_prepare(void)
{
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		abort();
	coverage = coverage_new();
	begun = now_s();
	log_set_level(LOG_CRIT);
}

const struct tally *
run_tally(void)
{
	return tally;
}

void
run_tell_progress(uint64_t done, uint64_t of)
{
	static double told;
	double now = now_s(), rate;

	if (!isatty(STDERR_FILENO) || (now - told < 1 && done < of))
		return;
	told = now;
	rate = (double)done / (now - begun);
	(void)fprintf(stderr, "\r%" PRIu64 " of %" PRIu64, done, of);
	(void)fprintf(stderr, " (%.0f %%), %.0f a second, %.0f min left  %s",
		      100.0 * (double)done / (double)of, rate,
		      (double)(of - done) / rate / 60, done < of ? "" : "\n");
}

/* --- one --- */

static void
add(const struct world *world)
{
	tally->writes += world->writes;
	tally->acked += world->acked;
	tally->reads += world->reads;
	tally->flushes += world->flushes;
	tally->failures += world->failures;
	tally->timelines += (uint64_t)world->views;
	tally->equal_checks += world->equal_checks;
	tally->asked += world->arbiter.asked;
	tally->checkpoints += world->checkpoints;
	tally->answers += world->answers;
	tally->answers_refused += world->answers_refused;
	tally->agreed += world->arbiter.agreed;
	tally->refused += world->arbiter.refused;
	tally->simulated_ns += world->now_ns;
	tally->guests[world->guest]++;
	if (world->peace_ns > tally->peace_max_ns) {
		tally->peace_max_ns = world->peace_ns;
		tally->peace_seed = world->seed;
	}
	for (int i = 0; i < FAULT_COUNT; i++)
		tally->faults[i] += world->befell[i];
}

static void
run_story(const struct story *story, bool trace)
{
	struct world *world = world_new(story->seed, story->large, trace);
	struct itimerval limit = { .it_value.tv_sec = STORY_S };

	(void)setitimer(ITIMER_PROF, &limit, NULL);
	world->coverage = coverage;
	world->fault_befell = tally->befell;
	for (int i = 0; i < SIM_FAULTS; i++)
		world->fault[i].left_out = story->left_out[i];
	if (story->schedule[0] != '\0')
		explore_run(story->schedule, story->variant);
	else
		script_run();
	add(world);
	tally->failed = world->failed;
	if (world->failed)
		(void)snprintf(tally->why, sizeof(tally->why), "%s",
			       world->why);
	else
		tally->passed++;
	world_free(world);
}

static void
note_end(int status)
{
	if (!WIFSIGNALED(status) && WEXITSTATUS(status) == 0)
		return;
	tally->failed = true;
	(void)snprintf(tally->why, sizeof(tally->why), "it ended by %s %d",
		       WIFSIGNALED(status) ? "signal" : "status",
		       WIFSIGNALED(status) ? WTERMSIG(status)
					   : WEXITSTATUS(status));
}

size_t
run_stories(const struct story *stories, size_t count, bool trace)
{
	pid_t child;
	int status = 0;

	tally->failed = false;
	tally->at = 0;
	memset(tally->befell, 0, sizeof(tally->befell));
	(void)fflush(stdout);
	child = fork();
	if (child < 0) {
		perror("fork");
		exit(2);
	}
	if (child == 0) {
		for (size_t i = 0; i < count && !tally->failed; i++) {
			tally->at = i;
			memset(tally->befell, 0, sizeof(tally->befell));
			run_story(&stories[i], trace);
		}
		(void)fflush(NULL);
		_exit(0); /* what the dead left behind is no leak */
	}
	if (waitpid(child, &status, 0) < 0)
		exit(2);
	note_end(status);
	return tally->failed ? tally->at + 1 : count;
}

/* --- the smallest --- */

/* "A5" of "A5: in sync and idle, …"; an end by a signal is a law, too. */
static size_t
law_of(const char *why)
{
	return strcspn(why, ":");
}

static bool
fails_as(const struct story *story, const char *why)
{
	(void)run_stories(story, 1, false);
	return tally->failed && law_of(tally->why) == law_of(why) &&
	       strncmp(tally->why, why, law_of(why)) == 0;
}

/* Leave out `count` of the faults that befell, from the `from`-th on. */
static bool
try_without(struct story *story, const int *list, int from, int count,
	    const char *why)
{
	struct story less = *story;
	bool any = false;

	for (int i = from; i < from + count; i++) {
		any = any || !less.left_out[list[i]];
		less.left_out[list[i]] = true;
	}
	if (!any || !fails_as(&less, why))
		return false;
	*story = less;
	return true;
}

bool
run_shrink(struct story *story)
{
	char why[sizeof(tally->why)];
	int list[SIM_FAULTS], count = 0, tries = 0;

	(void)run_stories(story, 1, false);
	if (!tally->failed)
		return false;
	memcpy(why, tally->why, sizeof(why));
	for (int i = 0; i < SIM_FAULTS; i++) {
		if (tally->befell[i])
			list[count++] = i;
		else
			story->left_out[i] = true;
	}
	if (!fails_as(story, why)) /* what never came does not count */
		return true;
	for (int some = (count + 1) / 2; some > 0 && tries < TRIES_MAX;) {
		bool less = false;

		for (int i = 0; i < count && tries < TRIES_MAX; i += some) {
			tries++;
			less |= try_without(story, list, i,
					    i + some < count ? some : count - i,
					    why);
		}
		if (some > 1)
			some = (some + 1) / 2;
		else if (!less)
			break;
	}
	return true;
}

bool
run_parse_without(struct story *story, const char *text)
{
	while (*text != '\0') {
		char *rest;
		unsigned long number = strtoul(text, &rest, 10);

		if (rest == text || number >= SIM_FAULTS ||
		    (*rest != ',' && *rest != '\0'))
			return false;
		story->left_out[number] = true;
		text = *rest == ',' ? rest + 1 : rest;
	}
	return true;
}

/* --- all --- */

static double
cpu_minutes(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_CHILDREN, &usage);
	return ((double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		(double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) /
			1e6) /
	       60;
}

unsigned int
run_print(void)
{
	double seconds = now_s() - begun;
	double minutes = (double)tally->simulated_ns / 60e9;

	printf("%" PRIu64 " passed, %.1f a second; %.0f simulated minutes in "
	       "%.1f s, %.0f in a minute of the processor\n",
	       tally->passed, (double)tally->passed / seconds, minutes, seconds,
	       minutes / cpu_minutes());
	printf("writes %" PRIu64 " (%" PRIu64 " acknowledged), reads %" PRIu64
	       ", flushes %" PRIu64 ", failed requests %" PRIu64
	       ", timelines %" PRIu64 "\n",
	       tally->writes, tally->acked, tally->reads, tally->flushes,
	       tally->failures, tally->timelines);
	printf("compared %" PRIu64 " times; the arbiter was asked %" PRIu64
	       " times, agreed to %" PRIu64 " swaps and not to %" PRIu64
	       "; peace took %.0f s at most (%" PRIu64 ")\n",
	       tally->equal_checks, tally->asked, tally->agreed, tally->refused,
	       (double)tally->peace_max_ns / 1e9, tally->peace_seed);
	printf("checkpoints %" PRIu64 ", answers about them %" PRIu64
	       ", and refused %" PRIu64 "\n",
	       tally->checkpoints, tally->answers, tally->answers_refused);
	printf("faults:");
	for (int i = 0; i < FAULT_COUNT; i++)
		printf(" %s %" PRIu64 "%s", sim_fault_names[i],
		       tally->faults[i], i + 1 < FAULT_COUNT ? "," : "\n");
	printf("guests:");
	for (int i = 0; i < GUEST_COUNT; i++)
		printf(" %s %" PRIu64 "%s", sim_guest_names[i],
		       tally->guests[i], i + 1 < GUEST_COUNT ? "," : "\n");
	return coverage_print(coverage);
}

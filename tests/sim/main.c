/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim: many seeds, each a story of two replicas; see sim.h.
 *
 *   sim [--from SEED] [--seeds COUNT] [--large]
 *                                       prints what happened; status 1 and the
 *                                       first failed seed's trace, whole and
 *                                       shrunk, if any fails
 *   sim --trace --from SEED [--large] [--without FAULT,...]
 *                                       tells one seed's story
 *   sim --explore STEPS                 all schedules of up to so many steps
 *   sim --schedule STEP,... [--variant N] [--trace]    one of them
 *   sim --list FILE                     seeds and schedules that once failed
 *
 * Seeds run in children, some in each: dead nodes leave their memory behind,
 * and an assertion of the product ends a child, not the run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "tests/sim/run.h"
#include "tests/sim/sim.h"

#define FAILED_MAX 20 /* then it is enough */
#define LINE_MAX   512

/* --- a failure --- */

static void
tell(const struct story *story)
{
	log_set_level(LOG_DEBUG);
	(void)run_stories(story, 1, true);
	log_set_level(LOG_CRIT);
}

static void
print_without(const struct story *story)
{
	const char *separator = " WITHOUT=";

	for (int i = 0; i < SIM_FAULTS; i++) {
		if (story->left_out[i]) {
			printf("%s%d", separator, i);
			separator = ",";
		}
	}
	printf("\n");
}

static void
explain(const struct story *story)
{
	const char *large = story->large ? " LARGE=1" : "";
	struct story small = *story;

	if (story->schedule[0] != '\0') {
		printf("the trace of schedule %s, variant %u:\n",
		       story->schedule, story->variant);
		tell(story);
		return;
	}
	printf("the trace of seed %llu:\n", (unsigned long long)story->seed);
	tell(story);
	printf("shrinking seed %llu\n", (unsigned long long)story->seed);
	if (run_shrink(&small)) {
		printf("the shrunk trace:\n");
		tell(&small);
	}
	printf("again: make sim SEED=%llu%s TRACE=1\n",
	       (unsigned long long)story->seed, large);
	printf("shrunk: make sim SEED=%llu%s TRACE=1",
	       (unsigned long long)story->seed, large);
	print_without(&small);
}

/* --- many --- */

struct run {
	unsigned int failed;
	struct story first; /* that failed */
};

static void
note_failure(struct run *run, const struct story *story)
{
	const struct tally *tally = run_tally();

	if (story->schedule[0] != '\0')
		printf("schedule %s, variant %u, FAILED: %s\n", story->schedule,
		       story->variant, tally->why);
	else
		printf("seed %llu%s FAILED: %s\n",
		       (unsigned long long)story->seed,
		       story->large ? " large" : "", tally->why);
	(void)fflush(stdout);
	if (run->failed++ == 0)
		run->first = *story;
}

static void
run_all(struct run *run, const struct story *stories, size_t count)
{
	while (count > 0 && run->failed < FAILED_MAX) {
		size_t done = run_stories(stories, count, false);

		if (run_tally()->failed)
			note_failure(run, &stories[done - 1]);
		stories += done;
		count -= done;
	}
}

static int
end(const struct run *run)
{
	unsigned int unknown = run_print();

	if (run->failed > 0) {
		printf("%u failed\n", run->failed);
		explain(&run->first);
	}
	return run->failed > 0 || unknown > 0;
}

static int
run_seeds(uint64_t from, uint64_t count, bool large)
{
	static struct story stories[RUN_BATCH];
	struct run run = { .failed = 0 };
	uint64_t left = count;

	while (left > 0 && run.failed < FAILED_MAX) {
		size_t some = left < RUN_BATCH ? (size_t)left : RUN_BATCH;

		for (size_t i = 0; i < some; i++)
			stories[i] = (struct story){ .seed = from++,
						     .large = large };
		run_all(&run, stories, some);
		left -= some;
		run_tell_progress(count - left, count);
	}
	return end(&run);
}

static int
run_explore(unsigned int steps)
{
	static struct story stories[RUN_BATCH];
	struct run run = { .failed = 0 };
	uint64_t all = 0, done = 0;
	size_t some = 0;

	for (unsigned int length = 1; length <= steps; length++)
		all += explore_count(length) * EXPLORE_VARIANTS;
	for (unsigned int length = 1; length <= steps; length++) {
		for (uint64_t i = 0;; i++) {
			struct story *story = &stories[some];

			*story = (struct story){ .seed = i };
			if (!explore_name(length, i / EXPLORE_VARIANTS,
					  story->schedule,
					  sizeof(story->schedule)))
				break;
			story->variant = (unsigned int)(i % EXPLORE_VARIANTS);
			if (++some < RUN_BATCH)
				continue;
			run_all(&run, stories, some);
			done += some;
			some = 0;
			run_tell_progress(done, all);
			if (run.failed >= FAILED_MAX)
				return end(&run);
		}
	}
	run_all(&run, stories, some);
	run_tell_progress(done + some, all);
	return end(&run);
}

/* --- the list of what once failed --- */

/* "seed N [large] [without N,...]", "schedule VARIANT STEP,...".  False if it
 * is none of them; a comment leaves *ret_any false. */
static bool
parse_line(char *line, struct story *ret_story, bool *ret_any)
{
	char *without, *end;

	*ret_story = (struct story){ .seed = 0 };
	line[strcspn(line, "#\n")] = '\0';
	*ret_any = line[strspn(line, " \t")] != '\0';
	if (!*ret_any)
		return true;
	if (strncmp(line, "seed ", 5) == 0) {
		without = strstr(line, " without ");
		ret_story->seed = strtoull(line + 5, NULL, 10);
		ret_story->large = strstr(line, " large") != NULL;
		return without == NULL ||
		       run_parse_without(ret_story, without + 9);
	}
	if (strncmp(line, "schedule ", 9) != 0)
		return false;
	ret_story->variant = (unsigned int)strtoul(line + 9, &end, 10);
	end += strspn(end, " ");
	end[strcspn(end, "\t")] = '\0';
	while (*end != '\0' && end[strlen(end) - 1] == ' ')
		end[strlen(end) - 1] = '\0';
	(void)snprintf(ret_story->schedule, sizeof(ret_story->schedule), "%s",
		       end);
	return explore_parse(ret_story->schedule);
}

static int
run_list(const char *path)
{
	FILE *file = fopen(path, "r");
	struct run run = { .failed = 0 };
	struct story story;
	char line[LINE_MAX];
	bool any;

	if (file == NULL) {
		perror(path);
		return 2;
	}
	while (fgets(line, sizeof(line), file) != NULL) {
		if (!parse_line(line, &story, &any)) {
			(void)fprintf(stderr, "%s: '%s' is no story\n", path,
				      line);
			(void)fclose(file);
			return 2;
		}
		if (any)
			run_all(&run, &story, 1);
	}
	(void)fclose(file);
	return end(&run);
}

/* --- the command line --- */

static int
run_one(const struct story *story)
{
	const struct tally *tally = run_tally();

	tell(story);
	printf("%s %llu%s%s %s%s\n",
	       story->schedule[0] != '\0' ? "schedule" : "seed",
	       (unsigned long long)story->seed,
	       story->schedule[0] != '\0' ? " " : "", story->schedule,
	       tally->failed ? "FAILED: " : "passed",
	       tally->failed ? tally->why : "");
	return tally->failed;
}

static int
usage(void)
{
	(void)fprintf(stderr,
		      "usage: sim [--from SEED] [--seeds COUNT] [--large]"
		      " [--trace] [--without N,...]\n"
		      "       sim --explore STEPS\n"
		      "       sim --schedule STEP,... [--variant N]\n"
		      "       sim --list FILE\n");
	return 2;
}

/* Nearly half of a story's time is the first touch of its memory, page by page:
 * malloc is to ask for huge ones.  It reads that only when a program begins;
 * one that cannot begin again is slower, and nothing else. */
static void
begin_with_huge_pages(char **argv)
{
	if (getenv("GLIBC_TUNABLES") != NULL)
		return;
	(void)setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 1);
	(void)execv("/proc/self/exe", argv);
}

int
main(int argc, char **argv)
{
	struct story story = { .seed = 1 };
	const char *list = NULL;
	unsigned int explore = 0;
	uint64_t count = 1000;
	bool trace = false;

	begin_with_huge_pages(argv);
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--trace") == 0) {
			trace = true;
			continue;
		}
		if (strcmp(argv[i], "--large") == 0) {
			story.large = true;
			continue;
		}
		if (value == NULL)
			return usage();
		i++;
		if (strcmp(argv[i - 1], "--from") == 0)
			story.seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--seeds") == 0)
			count = strtoull(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--explore") == 0)
			explore = (unsigned int)strtoul(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--variant") == 0)
			story.variant = (unsigned int)strtoul(value, NULL, 10);
		else if (strcmp(argv[i - 1], "--list") == 0)
			list = value;
		else if (strcmp(argv[i - 1], "--schedule") == 0 &&
			 explore_parse(value))
			(void)snprintf(story.schedule, sizeof(story.schedule),
				       "%s", value);
		else if (strcmp(argv[i - 1], "--without") != 0 ||
			 !run_parse_without(&story, value))
			return usage();
	}
	run_prepare();
	if (list != NULL)
		return run_list(list);
	if (explore > 0)
		return run_explore(explore);
	if (trace || story.schedule[0] != '\0')
		return run_one(&story);
	return run_seeds(story.seed, count, story.large);
}

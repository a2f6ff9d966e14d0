/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * D1 to D3 of core/tapdisk.h: every sector comes back exactly once, whatever
 * drivers do to requests, and drivers that break this are caught and named.
 *
 * A load of random requests runs over a stack with the torture in it, up to
 * JOBS at once, and is held against a model of what the disk must contain: of
 * each sector the generation of its last write, or two if that failed.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/drivers.h"
#include "drivers/random.h"
#include "tests/disk.h"
#include "tests/fake_driver.h"
#include "tests/test.h"
#include "tests/torture.h"

#define SECTORS	     4096u
#define SECTORS_MAX  64u /* of a request */
#define JOBS	     24
#define UNKNOWN	     UINT64_MAX
#define SECTOR_BYTES 512u

struct job {
	struct disk_request r;
	bool running;
	int op;
	td_sector_t sec, end;
	uint64_t generation;
	char *buf; /* owned */
};

struct load {
	struct disk *disk; /* owned */
	uint64_t random;
	unsigned int unit; /* sectors that go together */
	bool may_fail;
	uint64_t generation;
	uint64_t one[SECTORS], other[SECTORS]; /* what it may contain */
	struct job jobs[JOBS];
	int running;
	unsigned int ended[TD_OP_COUNT], failed;
};

static struct driver_type types[10];

static void
make_types(void)
{
	const struct driver_type ours[] = {
		{ "aio", DISK_TYPE_AIO, &tapdisk_aio, "" },
		{ "ram", DISK_TYPE_RAM, &tapdisk_ram, "" },
		{ "fault", -1, &tapdisk_fault, "" },
		{ "lossy", -1, &tapdisk_lossy, "" },
		{ "torture", -1, &tapdisk_torture, "" },
		{ "witness", -1, &tapdisk_witness, "" },
		{ "broken", -1, &tapdisk_broken, "" },
		{ "fake", 100, fake_types[0].ops, "" },
		{ NULL, -1, NULL, NULL },
	};

	memcpy(types, ours, sizeof(ours));
}

/* --- what sectors contain --- */

/* Generation 0 is zeros. */
static uint64_t
word_of(uint64_t generation, td_sector_t sector, unsigned int i)
{
	return generation == 0 ? 0 : generation << 32 | sector << 8 | i;
}

static void
fill(struct job *job)
{
	uint64_t word;
	td_sector_t sec;
	unsigned int i;
	char *to = job->buf;

	for (sec = job->sec; sec < job->end; sec++) {
		for (i = 0; i < SECTOR_BYTES / sizeof(word); i++) {
			word = word_of(job->generation, sec, i);
			memcpy(to, &word, sizeof(word));
			to += sizeof(word);
		}
	}
}

static bool
contains(const char *from, td_sector_t sector, uint64_t generation)
{
	uint64_t word;
	unsigned int i;

	for (i = 0; i < SECTOR_BYTES / sizeof(word); i++) {
		memcpy(&word, from + i * sizeof(word), sizeof(word));
		if (word != word_of(generation, sector, i))
			return false;
	}
	return true;
}

static void
check_read(struct load *load, const struct job *job)
{
	const char *from = job->buf;
	td_sector_t sec;

	for (sec = job->sec; sec < job->end; sec++, from += SECTOR_BYTES) {
		if (load->one[sec] != UNKNOWN &&
		    !contains(from, sec, load->one[sec]) &&
		    !contains(from, sec, load->other[sec]))
			fail_msg("sector %llu is neither of generation %llu "
				 "nor of %llu",
				 (unsigned long long)sec,
				 (unsigned long long)load->one[sec],
				 (unsigned long long)load->other[sec]);
	}
}

static void
note_change(struct load *load, const struct job *job)
{
	uint64_t now = job->op == TD_OP_DISCARD ? UNKNOWN : job->generation;
	td_sector_t sec;

	for (sec = job->sec; sec < job->end; sec++) {
		if (job->r.result == 0 || now == UNKNOWN)
			load->one[sec] = load->other[sec] = now;
		else if (load->one[sec] == load->other[sec])
			load->other[sec] = now;
		else
			load->one[sec] = load->other[sec] = UNKNOWN;
	}
}

/* --- the load --- */

static bool
changes(int op)
{
	return op == TD_OP_WRITE || op == TD_OP_DISCARD ||
	       op == TD_OP_WRITE_ZEROES;
}

static int
pick_op(struct load *load)
{
	static const int ops[] = {
		TD_OP_READ,    TD_OP_READ,	   TD_OP_READ,
		TD_OP_WRITE,   TD_OP_WRITE,	   TD_OP_WRITE,
		TD_OP_WRITE,   TD_OP_FLUSH,	   TD_OP_DISCARD,
		TD_OP_DISCARD, TD_OP_WRITE_ZEROES, TD_OP_BLOCK_STATUS,
	};
	size_t count = sizeof(ops) / sizeof(ops[0]);
	int op = ops[(size_t)(random_next(&load->random) * (double)count)];

	return vbd_can(load->disk->vbd, op) ? op : TD_OP_WRITE;
}

/* Reads and changes do not meet, so that it is known what is read; there is
 * one answer of a block status at a time. */
static bool
may_run(const struct load *load, const struct job *job)
{
	const struct job *other;

	for (other = load->jobs; other < load->jobs + JOBS; other++) {
		if (!other->running)
			continue;
		if (job->op == TD_OP_BLOCK_STATUS && other->op == job->op)
			return false;
		if (changes(job->op) != changes(other->op) &&
		    job->sec < other->end && other->sec < job->end)
			return false;
	}
	return true;
}

static bool
begin(struct load *load, struct job *job)
{
	unsigned int units = SECTORS / load->unit;
	unsigned int most = SECTORS_MAX / load->unit;
	unsigned int count;

	job->op = pick_op(load);
	count = 1 + (unsigned int)(random_next(&load->random) * most);
	job->sec = (td_sector_t)(random_next(&load->random) *
				 (units - count + 1)) *
		   load->unit;
	job->end = job->sec + (td_sector_t)count * load->unit;
	if (job->op == TD_OP_FLUSH)
		job->sec = job->end = 0;
	if (!may_run(load, job))
		return false;
	job->generation = job->op == TD_OP_WRITE ? ++load->generation : 0;
	if (job->op == TD_OP_WRITE)
		fill(job);
	job->running = true;
	load->running++;
	disk_submit(load->disk, &job->r, job->op, job->sec * SECTOR_BYTES,
		    (job->end - job->sec) * SECTOR_BYTES, job->buf);
	return true;
}

/* The one released that was done first; NULL if there is none. */
static struct job *
first_ended(struct load *load)
{
	struct job *job, *first = NULL;

	for (job = load->jobs; job < load->jobs + JOBS; job++)
		if (job->running && job->r.released &&
		    (!first || job->r.order < first->r.order))
			first = job;
	return first;
}

static void
take_ended(struct load *load)
{
	struct job *job;

	while ((job = first_ended(load))) {
		int result = job->r.result;

		job->running = false;
		load->running--;
		load->ended[job->op]++;
		if (result != 0 && !(load->may_fail && result == -EIO))
			fail_msg("%s of [%llu, %llu): %s", td_op_name(job->op),
				 (unsigned long long)job->sec,
				 (unsigned long long)job->end,
				 strerror(-result));
		load->failed += result != 0;
		if (changes(job->op))
			note_change(load, job);
		else if (job->op == TD_OP_READ && result == 0)
			check_read(load, job);
	}
}

static void
turn(struct load *load)
{
	struct disk *disk = load->disk;

	if (disk->io)
		assert_int_equal(loop_turn(disk->loop, NS_PER_MS), 0);
	else
		disk_pass(disk, NS_PER_MS / 4);
	assert_string_equal(witness_breach(vbd_images(disk->vbd)), "");
	take_ended(load);
}

static struct load *
load_new(const char *backend, const char *image)
{
	struct load *load = calloc(1, sizeof(*load));
	struct job *job;

	load->disk = disk_new(backend, types);
	load->random = 1;
	for (job = load->jobs; job < load->jobs + JOBS; job++)
		job->buf = aligned_alloc(4096, SECTORS_MAX * SECTOR_BYTES);
	if (disk_open(load->disk, image, 0) < 0)
		fail_msg("%s", load->disk->reason.text);
	load->unit = vbd_sector_size(load->disk->vbd) / SECTOR_BYTES;
	assert_int_equal(vbd_size(load->disk->vbd), SECTORS * SECTOR_BYTES);
	return load;
}

static void
load_run(struct load *load, int requests)
{
	struct job *job;
	int i;

	while (requests > 0) {
		for (i = 0; i < JOBS && requests > 0; i++) {
			job = &load->jobs[i];
			if (!job->running)
				requests -= begin(load, job);
		}
		turn(load);
	}
	while (load->running > 0)
		turn(load);
}

static void
assert_nothing_was_broken(struct load *load)
{
	struct image_stack *stack = vbd_images(load->disk->vbd);
	char text[200];

	assert_string_equal(witness_breach(stack), "");
	if (witness_missing(stack, text, sizeof(text)) > 0)
		fail_msg("%s", text);
	assert_null(image_stack_holder(stack));
}

/* Everything once more, all of it. */
static void
read_everything(struct load *load)
{
	struct job *job = &load->jobs[0];

	for (job->sec = 0; job->sec < SECTORS; job->sec += SECTORS_MAX) {
		int result = -EIO;

		job->end = job->sec + SECTORS_MAX;
		while (result == -EIO)
			result =
				disk_read(load->disk, job->sec * SECTOR_BYTES,
					  SECTORS_MAX * SECTOR_BYTES, job->buf);
		assert_int_equal(result, 0);
		check_read(load, job);
	}
}

static void
load_free(struct load *load)
{
	struct job *job;

	disk_free(load->disk);
	for (job = load->jobs; job < load->jobs + JOBS; job++)
		free(job->buf);
	free(load);
}

/* The first N of `image` stands for the seed. */
static void
run_over(const char *image, int seeds, int requests, bool may_fail)
{
	char name[300];
	int seed, before = (int)strcspn(image, "N");

	for (seed = 1; seed <= seeds; seed++) {
		struct load *load;

		snprintf(name, sizeof(name), "%.*s%d%s", before, image, seed,
			 image + before + 1);
		load = load_new(DISK_SIMULATED, name);
		load->random = (uint64_t)seed;
		load->may_fail = may_fail;
		load_run(load, requests);
		read_everything(load);
		assert_nothing_was_broken(load);
		load_free(load);
	}
}

/* --- every sector comes back exactly once --- */

static void
test_every_sector_comes_back_once_whatever_is_done_to_its_request(void **state)
{
	struct load *load = load_new(DISK_SIMULATED,
				     "witness:|torture:error=0.02,busy=0.05|"
				     "ram:2M");
	struct torture_counts counts;
	int op;

	(void)state;
	load->may_fail = true;
	load_run(load, 3000);
	read_everything(load);
	assert_nothing_was_broken(load);

	/* and everything has been done to them */
	counts = torture_counts(vbd_images(load->disk->vbd));
	assert_true(counts.requests >= 3000);
	assert_true(counts.split > counts.requests / 2);
	assert_true(counts.disordered > counts.requests / 2);
	assert_true(counts.inside > counts.parts / 4);
	assert_true(counts.late > counts.parts / 4);
	assert_true(counts.own > counts.parts / 5);
	assert_true(counts.late_answers > counts.own / 10);
	assert_true(counts.errors > 100);
	assert_true(counts.busy > 200);
	assert_true(load->failed > 100);
	for (op = 0; op < TD_OP_COUNT; op++)
		assert_true(load->ended[op] > 50);
	load_free(load);
}

static void
test_nothing_is_lost_or_misplaced_whatever_the_seed(void **state)
{
	(void)state;
	run_over("witness:|torture:seed=N|ram:2M", 10, 600, false);
	run_over("witness:|torture:seed=N,error=0.05,busy=0.1|ram:2M", 10, 600,
		 true);
	run_over("witness:|torture:seed=N,late=1,own=1|ram:2M", 3, 600, false);
	run_over("witness:|torture:seed=N,late=0|ram:2M", 3, 600, false);
}

static void
test_sectors_of_4096_bytes_are_never_cut(void **state)
{
	(void)state;
	run_over("witness:|torture:seed=N,busy=0.05|fake:4096,4k", 4, 600,
		 false);
}

static void
test_filters_keep_the_contract_over_a_driver_that_tortures(void **state)
{
	(void)state;
	run_over("witness:|torture:seed=N|torture:seed=9|ram:2M", 3, 400,
		 false);
	run_over("witness:|lossy:|torture:seed=N,busy=0.05|ram:2M", 6, 600,
		 false);
	run_over("witness:|lossy:tear=0.3,memory=1M|torture:seed=N,busy=0.05|"
		 "ram:2M",
		 6, 600, false);
	run_over("witness:|torture:seed=N,busy=0.05|lossy:|torture:|ram:2M", 4,
		 600, false);
	run_over("witness:|fault:op=any,probability=0.1,error=EBUSY;"
		 "op=any,probability=0.3,delay=2ms;op=read,probability=0.1,"
		 "error=EIO;op=write,probability=0.1,error=EIO,delay=1ms|"
		 "torture:seed=N|ram:2M",
		 6, 600, true);
}

static void
test_the_same_over_files_and_both_back_ends(void **state)
{
	static const char *const backends[] = { "libaio", "io_uring" };
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		struct load *load =
			load_new(backends[i], "witness:|torture:|ram:2M");
		char name[700];

		assert_int_equal(disk_close(load->disk), 0);
		snprintf(name, sizeof(name),
			 "witness:|torture:busy=0.02,error=0.02|%s",
			 disk_file(load->disk, "disk", SECTORS * SECTOR_BYTES));
		assert_int_equal(disk_open(load->disk, name, 0), 0);
		load->may_fail = true;
		load_run(load, 600);
		read_everything(load);
		assert_nothing_was_broken(load);
		assert_true(load->failed > 10);
		load_free(load);
	}
}

/* --- who breaks the contract is caught and named --- */

struct story {
	const char *stack; /* the name of the image */
	bool neighbour;	   /* another request is under way there */
	bool aborts;
	const char *said; /* on stderr, by the core or below */
};

static int
run_into_it(const struct story *story)
{
	struct disk *disk = disk_new(DISK_SIMULATED, types);
	struct image_stack *stack = vbd_images(disk->vbd);
	static struct disk_request r, other;
	static char buf[2][8 * SECTOR_BYTES];
	char missing[200] = "nothing is missing";

	(void)rmdir(disk->directory); /* it may abort */
	if (disk_open_limited(disk, story->stack, 5) < 0)
		return 1;
	if (story->neighbour) {
		disk_submit(disk, &other, TD_OP_WRITE,
			    (uint64_t)BROKEN_NEIGHBOUR * SECTOR_BYTES,
			    sizeof(buf[1]), buf[1]);
		disk_settle(disk);
	}
	disk_submit(disk, &r, TD_OP_WRITE,
		    (uint64_t)BROKEN_SECTOR * SECTOR_BYTES, sizeof(buf[0]),
		    buf[0]);
	disk_settle(disk);
	disk_pass(disk, NS_PER_S);
	if (strncmp(story->stack, "witness:", 8) == 0) {
		fprintf(stderr, "breach: %s\n", witness_breach(stack));
		(void)witness_missing(stack, missing, sizeof(missing));
		fprintf(stderr, "missing: %s\n", missing);
	}
	disk_pass(disk, 10 * NS_PER_S);
	fprintf(stderr, "result %d, %s\n", r.done ? r.result : 1,
		r.released ? "released" : "held");
	return 0;
}

static void
assert_told(const struct story *story)
{
	char text[8192];
	size_t length;
	int status = 0, pair[2];
	FILE *errors;
	pid_t child;

	assert_int_equal(pipe(pair), 0);
	child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(pair[1], STDERR_FILENO);
		_exit(run_into_it(story));
	}
	close(pair[1]);
	errors = fdopen(pair[0], "r");
	assert_non_null(errors);
	length = fread(text, 1, sizeof(text) - 1, errors);
	text[length] = '\0';
	fclose(errors);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (!strstr(text, story->said))
		fail_msg("%s does not say \"%s\" but: %s", story->stack,
			 story->said, text);
	assert_int_equal(WIFSIGNALED(status), story->aborts);
	if (story->aborts)
		assert_int_equal(WTERMSIG(status), SIGABRT);
	else
		assert_int_equal(WEXITSTATUS(status), 0);
}

static void
assert_all_told(const struct story *stories, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		assert_told(&stories[i]);
}

#define ASSERT_ALL_TOLD(stories)                                               \
	assert_all_told(stories, sizeof(stories) / sizeof((stories)[0]))

static void
test_whoever_gives_back_too_much_is_stopped_and_named(void **state)
{
	static const struct story stories[] = {
		{ "broken:twice", false, true,
		  "driver broken (twice) completed what it had given back "
		  "before: 8 sectors at sector 64 of a write" },
		{ "broken:half-twice", false, true,
		  "driver broken (half-twice) completed what it had given back "
		  "before: 4 sectors at sector 64 of a write" },
		{ "broken:again-later", false, true,
		  "driver broken (again-later) completed what it had given "
		  "back before" },
		{ "broken:too-much", false, true,
		  "driver broken (too-much) completed more than it was given" },
		{ "broken:nothing", false, true,
		  "driver broken (nothing) completed more than it was given" },
		{ "broken:forward-too", false, true,
		  "driver broken (forward-too) forwarded what it had given "
		  "back before" },
	};

	(void)state;
	ASSERT_ALL_TOLD(stories);
}

/* The driver holds other sectors, which it could have meant. */
static void
test_another_request_under_way_does_not_hide_it(void **state)
{
	static const struct story stories[] = {
		{ "broken:twice", true, true,
		  "driver broken (twice) completed what it had given back "
		  "before: 8 sectors at sector 64 of a write" },
		{ "broken:half-twice", true, true,
		  "driver broken (half-twice) completed what it had given back "
		  "before" },
		{ "broken:again-later", true, true,
		  "driver broken (again-later) completed what it had given "
		  "back before" },
		{ "broken:too-much", true, true, "driver broken (too-much)" },
		{ "broken:forward-too", true, true,
		  "driver broken (forward-too) forwarded what it had given "
		  "back before" },
	};

	(void)state;
	ASSERT_ALL_TOLD(stories);
}

static void
test_whoever_forgets_is_named_when_the_time_is_up(void **state)
{
	static const struct story stories[] = {
		{ "broken:forget", false, false,
		  "held by driver broken (forget)" },
		{ "broken:forget-half", false, false,
		  "held by driver broken (forget-half)" },
		{ "fault:|broken:forget-half", true, false,
		  "held by driver broken (forget-half)" },
		{ "broken:forget", false, false, "result -110, held" },
		{ "broken:forget-half", false, false, "result -110, held" },
	};

	(void)state;
	assert_int_equal(ETIMEDOUT, 110);
	ASSERT_ALL_TOLD(stories);
}

/* What counts cannot tell. */
static void
test_the_witness_tells_sector_from_sector(void **state)
{
	static const struct story stories[] = {
		{ "witness:|broken:elsewhere", false, false,
		  "breach: driver broken (elsewhere) gave back 8 sectors at "
		  "sector 65 of a write that it was not given" },
		{ "witness:|broken:one-for-the-other", false, false,
		  "breach: driver broken (one-for-the-other) gave back 4 "
		  "sectors at sector 64 of a write twice" },
		{ "witness:|broken:one-for-the-other", false, false,
		  "missing: driver broken (one-for-the-other) keeps 4 of 8 "
		  "sectors at sector 64 of a write" },
		{ "witness:|broken:forget", false, false,
		  "missing: driver broken (forget) keeps 8 of 8 sectors at "
		  "sector 64 of a write" },
		{ "witness:|ram:2M", false, false,
		  "missing: nothing is missing" },
	};

	(void)state;
	ASSERT_ALL_TOLD(stories);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_every_sector_comes_back_once_whatever_is_done_to_its_request),
		cmocka_unit_test(
			test_nothing_is_lost_or_misplaced_whatever_the_seed),
		cmocka_unit_test(test_sectors_of_4096_bytes_are_never_cut),
		cmocka_unit_test(
			test_filters_keep_the_contract_over_a_driver_that_tortures),
		cmocka_unit_test(test_the_same_over_files_and_both_back_ends),
		cmocka_unit_test(
			test_whoever_gives_back_too_much_is_stopped_and_named),
		cmocka_unit_test(
			test_another_request_under_way_does_not_hide_it),
		cmocka_unit_test(
			test_whoever_forgets_is_named_when_the_time_is_up),
		cmocka_unit_test(test_the_witness_tells_sector_from_sector),
	};

	make_types();
	return cmocka_run_group_tests(tests, NULL, NULL);
}

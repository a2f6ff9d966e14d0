/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drivers/lossy: what was not flushed is gone after a crash, what was flushed
 * is there; over a fake that can be looked into, and over a file with processes
 * that are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/drivers.h"
#include "tests/disk.h"
#include "tests/fake_driver.h"
#include "tests/test.h"

#define KIB 1024ll
#define MIB (1ll << 20)

/* A filter that says of every flush that it is done. */
static void
sham_queue(td_driver_t *driver, td_request_t treq)
{
	(void)driver;
	if (treq.op == TD_OP_FLUSH)
		td_complete_request(treq, 0);
	else
		td_forward_request(treq);
}

static int
sham_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	(void)name;
	(void)flags;
	return td_image_below(driver) ? 0 : -EINVAL;
}

static int
sham_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
sham_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
sham_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

static struct tap_disk tapdisk_sham = {
	.disk_type = "tapdisk_sham",
	.td_open = sham_open,
	.td_close = sham_close,
	.td_get_parent_id = sham_get_parent_id,
	.td_validate_parent = sham_validate_parent,
	.td_queue_read = sham_queue,
	.td_queue_write = sham_queue,
	.td_queue_flush = sham_queue,
};

static struct driver_type types[] = {
	{ "lossy", -1, &tapdisk_lossy, "" },
	{ "fault", -1, &tapdisk_fault, "" },
	{ "ram", -1, &tapdisk_ram, "" },
	{ "aio", -1, &tapdisk_aio, "" },
	{ "sham", -1, &tapdisk_sham, "" },
	{ "fake", -1, NULL, "" },
	{ NULL, -1, NULL, NULL },
};

static int
setup(void **state)
{
	const struct driver_type *fake = fake_types;
	size_t i;

	while (strcmp(fake->name, "fake") != 0)
		fake++;
	for (i = 0; types[i].name; i++)
		if (strcmp(types[i].name, "fake") == 0)
			types[i].ops = fake->ops;
	*state = disk_new(DISK_SIMULATED, types);
	return 0;
}

static int
teardown(void **state)
{
	disk_free(*state);
	return 0;
}

/* The fake at the bottom of a stack. */
static struct fake *
bottom(struct disk *disk)
{
	struct image_stack *stack = vbd_images(disk->vbd);

	return fake_of(stack, stack->count - 1);
}

/* How many of `secs` sectors from `sec` are filled with `byte` on the image. */
static int
on_image(struct disk *disk, int sec, int secs, int byte)
{
	const char *bytes = bottom(disk)->bytes;
	int found = 0, i, j;

	for (i = sec; i < sec + secs; i++) {
		for (j = 0; j < 512 && bytes[i * 512 + j] == (char)byte; j++)
			;
		found += j == 512;
	}
	return found;
}

static void
assert_says(struct disk *disk, const char *sentence)
{
	if (!strstr(disk->reason.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", disk->reason.text,
			 sentence);
}

static void
command(struct disk *disk, const char *text)
{
	if (disk_command(disk, "lossy", text, NULL) < 0)
		fail_msg("%s: %s", text, disk->reason.text);
}

/* What is there after a loss of power. */
static void
crash(struct disk *disk)
{
	command(disk, "crash");
	disk_settle(disk);
	command(disk, "revive");
}

static json_int_t
held_bytes(struct disk *disk)
{
	json_t *stats = disk_stats(disk, "lossy");
	json_int_t bytes =
		json_integer_value(json_object_get(stats, "held_bytes"));

	json_decref(stats);
	return bytes;
}

/* --- holding --- */

static void
test_write_is_read_back_but_is_not_on_the_image_before_a_flush(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	assert_int_equal(disk_fill(disk, 3 * 512, 20 * KIB, 'w'), 0);
	assert_true(disk_holds(disk, 0, 3 * 512, 0));
	assert_true(disk_holds(disk, 3 * 512, 20 * KIB, 'w'));
	assert_true(disk_holds(disk, 3 * 512 + 20 * KIB, 20 * KIB, 0));
	assert_int_equal(on_image(disk, 0, 2048, 0), 2048);
	assert_int_equal(bottom(disk)->queued[TD_OP_WRITE], 0);
	assert_true(held_bytes(disk) >= 20 * KIB);

	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(on_image(disk, 3, 40, 'w'), 40);
	assert_int_equal(on_image(disk, 0, 2048, 0), 2048 - 40);
	assert_int_equal(bottom(disk)->queued[TD_OP_FLUSH], 1);
	assert_int_equal(held_bytes(disk), 0);
}

static void
test_reads_mix_what_is_held_with_what_is_below(void **state)
{
	struct disk *disk = *state;
	char *buf = malloc(8 * KIB);
	int i;

	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 8 * KIB, 'o'), 0);
	assert_int_equal(disk_flush(disk), 0);
	/* leave something else in the memory that is used again */
	assert_int_equal(disk_fill(disk, 64 * KIB, 8 * KIB, 'z'), 0);
	assert_int_equal(disk_flush(disk), 0);
	for (i = 0; i < 16; i += 2)
		assert_int_equal(disk_fill(disk, i * 512ull, 512, 'n'), 0);
	assert_int_equal(disk_read(disk, 0, 8 * KIB, buf), 0);
	for (i = 0; i < 8 * KIB; i++)
		assert_int_equal(buf[i], i / 512 % 2 ? 'o' : 'n');
	assert_true(disk_holds(disk, 512, 512, 'o'));
	assert_true(disk_holds(disk, 1024, 512, 'n'));
	free(buf);
}

static void
test_flush_ends_after_the_pages_and_the_flush_below(void **state)
{
	struct disk *disk = *state;
	struct disk_request flush = { .done = false };
	struct fake *fake;

	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	fake = bottom(disk);
	assert_int_equal(disk_fill(disk, 0, 8 * KIB, 'w'), 0);
	fake->hold = true;
	disk_submit(disk, &flush, TD_OP_FLUSH, 0, 0, NULL);
	disk_settle(disk);
	assert_int_equal(fake->held_count, 2); /* the pages */
	fake_release(fake, 1, 0);
	disk_settle(disk);
	assert_int_equal(fake->queued[TD_OP_FLUSH], 0); /* not yet */
	fake_release(fake, 0, 0);
	disk_settle(disk);
	assert_int_equal(fake->queued[TD_OP_FLUSH], 1);
	assert_false(flush.done);
	fake_release(fake, 0, 0);
	fake->hold = false;
	disk_settle(disk);
	assert_true(flush.released);
	assert_int_equal(flush.result, 0);
}

static void
test_write_during_a_flush_waits_for_its_page_and_is_not_lost(void **state)
{
	struct disk *disk = *state;
	struct disk_request flush = { .done = false };
	struct disk_request write = { .done = false };
	struct fake *fake;
	char *buf = malloc(512);

	memset(buf, '2', 512);
	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	fake = bottom(disk);
	assert_int_equal(disk_fill(disk, 0, 4 * KIB, '1'), 0);
	fake->hold = true;
	disk_submit(disk, &flush, TD_OP_FLUSH, 0, 0, NULL);
	disk_submit(disk, &write, TD_OP_WRITE, 512, 512, buf);
	disk_pass(disk, 20 * NS_PER_MS);
	assert_false(write.done);
	fake->hold = false;
	fake_release(fake, 0, 0);
	disk_wait_released(disk, &write);
	disk_wait_released(disk, &flush);
	assert_int_equal(write.result, 0);
	assert_true(disk_holds(disk, 512, 512, '2'));
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(on_image(disk, 0, 8, '1'), 7);
	assert_int_equal(on_image(disk, 1, 1, '2'), 1);
	free(buf);
}

static void
test_clean_close_loses_nothing(void **state)
{
	struct disk *disk = *state;
	char image[600];

	disk_free(disk);
	*state = disk = disk_new(NULL, types);
	snprintf(image, sizeof(image), "lossy:|%s",
		 disk_file(disk, "a.img", MIB));
	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'c'), 0);
	assert_int_equal(disk_close(disk), 0);
	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_true(disk_holds(disk, 0, 64 * KIB, 'c'));
}

/* --- crashing --- */

static void
test_crash_forgets_what_was_not_flushed_and_nothing_else(void **state)
{
	struct disk *disk = *state;
	char *buf = malloc(512);

	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'f'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(disk_fill(disk, 4 * KIB, 64 * KIB, 'u'), 0);
	assert_int_equal(disk_fill(disk, 512, 512, 'u'), 0);
	command(disk, "crash");
	assert_int_equal(disk_read(disk, 0, 512, buf), -EIO);
	assert_int_equal(disk_fill(disk, 0, 512, 'x'), -EIO);
	assert_int_equal(disk_flush(disk), -EIO);
	command(disk, "revive");
	assert_true(disk_holds(disk, 0, 64 * KIB, 'f'));
	assert_true(disk_holds(disk, 64 * KIB, 64 * KIB, 0));
	/* and it works as before */
	assert_int_equal(disk_fill(disk, 0, 4 * KIB, 'n'), 0);
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	assert_true(disk_holds(disk, 0, 4 * KIB, 'n'));
	free(buf);
}

static void
test_write_with_fua_survives_a_crash(void **state)
{
	struct disk *disk = *state;
	char *buf = malloc(4 * KIB);

	memset(buf, 'd', 4 * KIB);
	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	assert_int_equal(
		disk_do(disk, TD_OP_WRITE, 8 * KIB, 4 * KIB, buf, REQUEST_FUA),
		0);
	assert_int_equal(disk_fill(disk, 16 * KIB, 4 * KIB, 'u'), 0);
	crash(disk);
	assert_true(disk_holds(disk, 8 * KIB, 4 * KIB, 'd'));
	assert_true(disk_holds(disk, 16 * KIB, 4 * KIB, 0));
	free(buf);
}

static void
test_written_zeros_are_held_like_any_write(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "lossy:|ram:1M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'd'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(
		disk_do(disk, TD_OP_WRITE_ZEROES, 0, 16 * KIB, NULL, 0), 0);
	assert_true(disk_holds(disk, 0, 16 * KIB, 0));
	crash(disk);
	assert_true(disk_holds(disk, 0, 64 * KIB, 'd'));
	assert_int_equal(
		disk_do(disk, TD_OP_WRITE_ZEROES, 0, 16 * KIB, NULL, 0), 0);
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	assert_true(disk_holds(disk, 0, 16 * KIB, 0));
}

/* A flush that somebody above swallows: what the driver is for. */
static void
test_flush_that_does_nothing_is_found_out(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "sham:|lossy:|fake:2048", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'f'), 0);
	assert_int_equal(disk_flush(disk), 0); /* it says */
	crash(disk);
	assert_true(disk_holds(disk, 0, 64 * KIB, 0));
}

static void
test_crash_during_a_flush_fails_the_flush(void **state)
{
	struct disk *disk = *state;
	struct disk_request flush[2] = { { .done = false } };
	struct fake *fake;

	assert_int_equal(disk_open(disk, "lossy:|fake:2048", 0), 0);
	fake = bottom(disk);
	assert_int_equal(disk_fill(disk, 0, 8 * KIB, 'w'), 0);
	fake->hold = true;
	disk_submit(disk, &flush[0], TD_OP_FLUSH, 0, 0, NULL);
	disk_submit(disk, &flush[1], TD_OP_FLUSH, 0, 0, NULL);
	disk_settle(disk);
	command(disk, "crash");
	assert_int_equal(disk_command(disk, "lossy", "revive", NULL), -EBUSY);
	assert_says(disk, "still on their way");
	fake->hold = false;
	while (fake->held_count)
		fake_release(fake, 0, 0);
	disk_wait_released(disk, &flush[0]);
	disk_wait_released(disk, &flush[1]);
	assert_int_equal(flush[0].result, -EIO);
	assert_int_equal(flush[1].result, -EIO);
	assert_int_equal(fake->queued[TD_OP_FLUSH], 0);
	command(disk, "revive");
	assert_int_equal(disk_flush(disk), 0);
}

/* --- a killed process --- */

static char *program; /* this one, as it was called: with a path */

/* Writes 'f', flushes, writes 'u' over half of it and beside it, and is killed
 * in the middle of things. */
static void
write_and_die(const char *backend, const char *image)
{
	struct disk *disk = disk_new(backend, types);
	char *buf = aligned_alloc(4096, 64 * KIB);
	struct disk_request r = { .done = false };

	if (disk_open(disk, image, 0) < 0 ||
	    disk_fill(disk, 0, 64 * KIB, 'f') < 0 || disk_flush(disk) < 0 ||
	    disk_fill(disk, 32 * KIB, 64 * KIB, 'u') < 0)
		_exit(1);
	memset(buf, 'u', 64 * KIB);
	disk_submit(disk, &r, TD_OP_WRITE, 128 * KIB, 64 * KIB, buf);
	(void)rmdir(disk->directory);
	(void)kill(getpid(), SIGKILL);
	_exit(2);
}

static void
kill_one(struct disk *disk, char *backend, const char *stack)
{
	char die[] = "--die", image[600];
	char *argv[] = { program, die, backend, image, NULL };
	const char *file = disk_file(disk, "a.img", MIB);
	int status = 0;
	pid_t child = -1;

	snprintf(image, sizeof(image), "%s%s", stack, file);
	/* Another program: a copy of this one has locks of its threads.  Not
	 * by /proc/self/exe, which is valgrind's under valgrind. */
	assert_int_equal(
		posix_spawn(&child, program, NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_int_equal(disk_open(disk, file, 0), 0);
	assert_int_equal(unlink(disk_path(disk, "a.img")), 0);
}

static void
test_killed_process_loses_what_it_had_not_flushed(void **state)
{
	char backends[][16] = { "libaio", "io_uring" };
	struct disk *disk = *state;
	size_t i;

	disk_free(disk);
	*state = disk = disk_new(NULL, types);
	for (i = 0; i < 2; i++) {
		kill_one(disk, backends[i], "lossy:|");
		assert_true(disk_holds(disk, 0, 64 * KIB, 'f'));
		assert_true(disk_holds(disk, 64 * KIB, MIB - 64 * KIB, 0));
		assert_int_equal(disk_close(disk), 0);
		/* without it nothing is lost, and nobody sees a sham flush */
		kill_one(disk, backends[i], "sham:|");
		assert_true(disk_holds(disk, 0, 32 * KIB, 'f'));
		assert_true(disk_holds(disk, 32 * KIB, 64 * KIB, 'u'));
		assert_int_equal(disk_close(disk), 0);
		kill_one(disk, backends[i], "sham:|lossy:|");
		assert_true(disk_holds(disk, 0, MIB, 0));
		assert_int_equal(disk_close(disk), 0);
	}
}

/* --- tearing --- */

static int
torn(struct disk *disk, const char *image)
{
	int sectors;

	assert_int_equal(disk_open(disk, image, 0), 0);
	assert_int_equal(disk_fill(disk, 0, 512 * KIB, 't'), 0);
	crash(disk);
	sectors = on_image(disk, 0, 1024, 't');
	assert_int_equal(on_image(disk, 0, 1024, 0), 1024 - sectors);
	return sectors;
}

static void
test_torn_write_is_on_the_image_in_part(void **state)
{
	struct disk *disk = *state;
	char *first = malloc(512 * KIB);
	int i, whole = 0;

	assert_int_equal(torn(disk, "lossy:tear=0|fake:2048"), 0);
	assert_int_equal(disk_close(disk), 0);
	assert_int_equal(torn(disk, "lossy:tear=1|fake:2048"), 1024);
	assert_int_equal(disk_close(disk), 0);
	assert_in_range(torn(disk, "lossy:tear=0.5,seed=3|fake:2048"), 400,
			624);
	memcpy(first, bottom(disk)->bytes, 512 * KIB);
	assert_int_equal(disk_close(disk), 0);
	(void)torn(disk, "lossy:tear=0.5,seed=3|fake:2048");
	assert_memory_equal(first, bottom(disk)->bytes, 512 * KIB);
	assert_int_equal(disk_close(disk), 0);
	(void)torn(disk, "lossy:tear=0.5,seed=4|fake:2048");
	assert_memory_not_equal(first, bottom(disk)->bytes, 512 * KIB);
	assert_int_equal(disk_close(disk), 0);

	/* sectors of 4096 bytes are never torn themselves */
	assert_in_range(torn(disk, "lossy:tear=0.5|fake:2048,4k"), 1, 1023);
	for (i = 0; i < 1024; i += 8) {
		int here = on_image(disk, i, 8, 't');

		assert_true(here == 0 || here == 8);
		whole += here / 8;
	}
	assert_in_range(whole, 30, 98);
	free(first);
}

static void
test_torn_write_is_whole_after_a_flush(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "lossy:tear=0.5|fake:2048", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 512 * KIB, 't'), 0);
	assert_true(disk_holds(disk, 0, 512 * KIB, 't'));
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	assert_int_equal(on_image(disk, 0, 1024, 't'), 1024);
}

/* --- discards --- */

static void
test_discard_is_never_newer_than_a_write_after_it(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "lossy:|ram:1M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'o'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(disk_fill(disk, 8 * KIB, 8 * KIB, 'u'), 0);
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, 0, 32 * KIB, NULL, 0), 0);
	assert_int_equal(disk_fill(disk, 4 * KIB, 4 * KIB, 'n'), 0);
	assert_true(disk_holds(disk, 4 * KIB, 4 * KIB, 'n'));
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	assert_true(disk_holds(disk, 4 * KIB, 4 * KIB, 'n'));
	assert_true(disk_holds(disk, 0, 4 * KIB, 0)); /* it was passed on */
	assert_true(disk_holds(disk, 8 * KIB, 24 * KIB, 0));
	assert_true(disk_holds(disk, 32 * KIB, 32 * KIB, 'o'));
}

static void
test_any_number_of_discards_is_taken(void **state)
{
	struct disk *disk = *state;
	uint64_t i;

	assert_int_equal(disk_open(disk, "lossy:|ram:4M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, 4 * MIB, 'o'), 0);
	for (i = 0; i < 512; i++)
		assert_int_equal(disk_do(disk, TD_OP_DISCARD, i * 8 * KIB,
					 4 * KIB, NULL, 0),
				 0);
	assert_int_equal(disk_flush(disk), 0);
	for (i = 0; i < 512; i++)
		assert_true(
			disk_holds(disk, i * 8 * KIB + 4 * KIB, 4 * KIB, 'o'));
}

/* --- errors and limits --- */

static void
test_failed_write_below_fails_the_flush_and_is_kept(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk,
				   "lossy:|fault:op=write,error=EIO,nth=3,"
				   "count=1|fake:2048",
				   0),
			 0);
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'w'), 0);
	assert_int_equal(disk_flush(disk), -EIO);
	assert_true(disk_holds(disk, 0, 64 * KIB, 'w'));
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	assert_true(disk_holds(disk, 0, 64 * KIB, 'w'));
}

static void
test_failed_flush_below_fails_the_flush(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk,
				   "lossy:|fault:op=flush,error=EIO,count=1|"
				   "fake:2048",
				   0),
			 0);
	assert_int_equal(disk_fill(disk, 0, 4 * KIB, 'w'), 0);
	assert_int_equal(disk_flush(disk), -EIO);
	assert_int_equal(disk_flush(disk), 0);
}

static void
test_busy_image_is_waited_for(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk,
				   "lossy:tear=0.3|fault:error=EBUSY,"
				   "probability=0.6|fake:2048",
				   0),
			 0);
	assert_int_equal(disk_fill(disk, 0, 512 * KIB, 'w'), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(on_image(disk, 0, 1024, 'w'), 1024);
}

static void
test_more_than_fits_in_memory_is_written_through(void **state)
{
	struct disk *disk = *state;
	uint64_t i;

	assert_int_equal(disk_open(disk, "lossy:memory=1M|ram:16M", 0), 0);
	for (i = 0; i < 16; i++)
		assert_int_equal(disk_fill(disk, i * MIB, MIB, 'a' + (int)i),
				 0);
	assert_true(held_bytes(disk) <= MIB);
	for (i = 0; i < 16; i++)
		assert_true(disk_holds(disk, i * MIB, MIB, 'a' + (int)i));
	assert_int_equal(disk_flush(disk), 0);
	crash(disk);
	for (i = 0; i < 16; i++)
		assert_true(disk_holds(disk, i * MIB, MIB, 'a' + (int)i));
	assert_int_equal(disk_fill(disk, 0, 2 * MIB, 'x'), -EINVAL);
}

static void
test_image_that_is_full_fails_the_writer(void **state)
{
	struct disk *disk = *state;
	int error = 0, i;

	assert_int_equal(disk_open(disk,
				   "lossy:memory=1M|fault:op=write,"
				   "error=ENOSPC|ram:16M",
				   0),
			 0);
	for (i = 0; i < 16 && !error; i++)
		error = disk_fill(disk, (uint64_t)i * MIB, MIB, 'x');
	assert_int_equal(error, -ENOSPC);
	assert_int_equal(disk_flush(disk), -ENOSPC);
	command(disk, "crash"); /* it could not be closed without a loss */
	disk_settle(disk);
}

static void
test_bad_options_and_commands_are_refused(void **state)
{
	static const char *const bad[] = {
		"tear=2",     "tear=-1",     "tear=nan",   "tear=",
		"tear",	      "seed=x",	     "seed=",	   "seed=-1",
		"memory=1",   "memory=100T", "memory=1Mx", "nonsense=1",
		"tear=0.5;x", "memory=",
	};
	struct disk *disk = *state;
	char image[100];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(image, sizeof(image), "lossy:%s|ram:1M", bad[i]);
		if (disk_open(disk, image, 0) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
		assert_says(disk, "the options are");
	}
	assert_int_equal(disk_open(disk, "lossy:", 0), -EINVAL);
	assert_says(disk, "needs an image below it");
	assert_int_equal(
		disk_open(disk, "lossy:seed=1,tear=0.1,memory=2M|ram:1M", 0),
		0);
	assert_int_equal(disk_command(disk, "lossy", "explode", NULL), -EINVAL);
	assert_says(disk, "\"explode\" is no command");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_write_is_read_back_but_is_not_on_the_image_before_a_flush),
		TEST(test_reads_mix_what_is_held_with_what_is_below),
		TEST(test_flush_ends_after_the_pages_and_the_flush_below),
		TEST(test_write_during_a_flush_waits_for_its_page_and_is_not_lost),
		TEST(test_clean_close_loses_nothing),
		TEST(test_crash_forgets_what_was_not_flushed_and_nothing_else),
		TEST(test_write_with_fua_survives_a_crash),
		TEST(test_written_zeros_are_held_like_any_write),
		TEST(test_flush_that_does_nothing_is_found_out),
		TEST(test_crash_during_a_flush_fails_the_flush),
		TEST(test_killed_process_loses_what_it_had_not_flushed),
		TEST(test_torn_write_is_on_the_image_in_part),
		TEST(test_torn_write_is_whole_after_a_flush),
		TEST(test_discard_is_never_newer_than_a_write_after_it),
		TEST(test_any_number_of_discards_is_taken),
		TEST(test_failed_write_below_fails_the_flush_and_is_kept),
		TEST(test_failed_flush_below_fails_the_flush),
		TEST(test_busy_image_is_waited_for),
		TEST(test_more_than_fits_in_memory_is_written_through),
		TEST(test_image_that_is_full_fails_the_writer),
		TEST(test_bad_options_and_commands_are_refused),
	};

	program = argv[0];
	if (argc == 4 && strcmp(argv[1], "--die") == 0)
		write_and_die(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

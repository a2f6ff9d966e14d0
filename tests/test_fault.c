/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drivers/fault: each word of its rules, over a disk in memory and with a clock
 * that moves only as told.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/disk.h"
#include "tests/test.h"

#define MIB (1ll << 20)
#define KIB 1024

static int
setup(void **state)
{
	*state = disk_new(DISK_SIMULATED, NULL);
	return 0;
}

static int
teardown(void **state)
{
	disk_free(*state);
	return 0;
}

/* fault:RULES over a ram of 1 MiB that holds 'a'. */
static void
open_with(struct disk *disk, const char *rules)
{
	char command[300];

	assert_int_equal(disk_open(disk, "fault:|ram:1M", 0), 0);
	assert_int_equal(disk_fill(disk, 0, MIB, 'a'), 0);
	snprintf(command, sizeof(command), "add %s", rules);
	assert_int_equal(disk_command(disk, "fault", command, NULL), 0);
}

static void
assert_says(struct disk *disk, const char *sentence)
{
	if (!strstr(disk->reason.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", disk->reason.text,
			 sentence);
}

static json_int_t
counter(struct disk *disk, const char *name)
{
	json_t *stats = disk_stats(disk, "fault");
	json_int_t value = json_integer_value(json_object_get(stats, name));

	json_decref(stats);
	return value;
}

/* --- the words of a rule --- */

static void
test_without_rules_everything_passes(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "fault:|ram:1M", 0), 0);
	assert_int_equal(vbd_size(disk->vbd), MIB);
	assert_int_equal(disk_fill(disk, 0, MIB, 'a'), 0);
	assert_true(disk_holds(disk, 0, MIB, 'a'));
	assert_int_equal(disk_do(disk, TD_OP_DISCARD, 0, 4096, NULL, 0), 0);
	assert_int_equal(disk_do(disk, TD_OP_WRITE_ZEROES, 4096, 4096, NULL, 0),
			 0);
	assert_true(disk_holds(disk, 4096, 4096, 0));
	assert_int_equal(disk_do(disk, TD_OP_BLOCK_STATUS, 0, MIB, NULL, 0), 0);
	assert_int_equal(disk_flush(disk), 0);
	assert_int_equal(vbd_resize(disk->vbd, 2 * MIB, &disk->reason), 0);
	assert_int_equal(vbd_size(disk->vbd), 2 * MIB);
	assert_int_equal(disk_fill(disk, MIB, MIB, 'b'), 0);
}

static void
test_filter_with_nothing_below_it_is_refused(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk, "fault:error=EIO", 0), -EINVAL);
	assert_says(disk, "needs an image below it");
}

static void
test_each_operation_fails_alone(void **state)
{
	static const char *const ops[TD_OP_COUNT] = {
		[TD_OP_READ] = "read",
		[TD_OP_WRITE] = "write",
		[TD_OP_FLUSH] = "flush",
		[TD_OP_DISCARD] = "discard",
		[TD_OP_WRITE_ZEROES] = "write-zeroes",
		[TD_OP_BLOCK_STATUS] = "block-status",
	};
	struct disk *disk = *state;
	char *buf = calloc(1, 4096);
	char command[100];
	int failing, op;

	open_with(disk, "op=any,error=ENOMEDIUM");
	for (op = 0; op < TD_OP_COUNT; op++)
		assert_int_equal(disk_do(disk, op, 0,
					 op == TD_OP_FLUSH ? 0 : 4096, buf, 0),
				 -ENOMEDIUM);
	for (failing = 0; failing < TD_OP_COUNT; failing++) {
		assert_int_equal(disk_command(disk, "fault", "clear", NULL), 0);
		snprintf(command, sizeof(command), "add op=%s,error=ENOSPC",
			 ops[failing]);
		assert_int_equal(disk_command(disk, "fault", command, NULL), 0);
		for (op = 0; op < TD_OP_COUNT; op++)
			assert_int_equal(disk_do(disk, op, 0,
						 op == TD_OP_FLUSH ? 0 : 4096,
						 buf, 0),
					 op == failing ? -ENOSPC : 0);
	}
	free(buf);
}

static void
test_failed_write_leaves_the_image_as_it_was(void **state)
{
	struct disk *disk = *state;

	open_with(disk, "op=write,error=EIO,count=1");
	assert_int_equal(disk_fill(disk, 0, 4096, 'b'), -EIO);
	assert_true(disk_holds(disk, 0, MIB, 'a'));
	assert_int_equal(disk_fill(disk, 0, 4096, 'b'), 0);
	assert_true(disk_holds(disk, 0, 4096, 'b'));
}

static void
test_range_hits_what_touches_it_and_nothing_else(void **state)
{
	static const struct {
		uint64_t offset, length;
		bool hit;
	} reads[] = {
		{ 0, 8 * KIB, false },	  { 0, 8 * KIB + 512, true },
		{ 8 * KIB, 512, true },	  { 16 * KIB - 512, 512, true },
		{ 16 * KIB, 512, false }, { 16 * KIB - 512, 1024, true },
		{ 0, MIB, true },
	};
	struct disk *disk = *state;
	char *buf = malloc(MIB);
	size_t i;

	open_with(disk, "from=8K,to=16K,error=EIO");
	for (i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		assert_int_equal(
			disk_read(disk, reads[i].offset, reads[i].length, buf),
			reads[i].hit ? -EIO : 0);
	assert_int_equal(disk_flush(disk), -EIO); /* it is everywhere */
	free(buf);
}

static void
test_rule_begins_with_the_nth_and_ends_with_the_count(void **state)
{
	struct disk *disk = *state;
	char *buf = malloc(512);
	int i;

	open_with(disk, "op=read,nth=3,count=2,error=EIO");
	for (i = 1; i <= 8; i++)
		assert_int_equal(disk_read(disk, 0, 512, buf),
				 i == 3 || i == 4 ? -EIO : 0);
	free(buf);
}

/* Which of 1000 reads fail, as a string of digits; returns how many. */
static int
draw(struct disk *disk, const char *rule, char *ret_hits)
{
	char command[100];
	char *buf = malloc(512);
	int i, hits = 0;

	snprintf(command, sizeof(command), "add op=read,error=EIO,%s", rule);
	assert_int_equal(disk_command(disk, "fault", "clear", NULL), 0);
	assert_int_equal(disk_command(disk, "fault", command, NULL), 0);
	for (i = 0; i < 1000; i++) {
		int failed = disk_read(disk, 0, 512, buf) == -EIO;

		hits += failed;
		ret_hits[i] = (char)('0' + failed);
	}
	ret_hits[i] = '\0';
	free(buf);
	return hits;
}

static void
test_probability_is_kept_and_a_seed_repeats_the_draw(void **state)
{
	struct disk *disk = *state;
	char first[1001], again[1001], other[1001];
	int hits;

	open_with(disk, "op=discard,error=EIO");
	hits = draw(disk, "probability=0.25,seed=7", first);
	assert_in_range(hits, 200, 300);
	assert_int_equal(draw(disk, "probability=0.25,seed=7", again), hits);
	assert_string_equal(first, again);
	(void)draw(disk, "probability=0.25,seed=8", other);
	assert_string_not_equal(first, other);
	assert_int_equal(draw(disk, "probability=0", other), 0);
	assert_int_equal(draw(disk, "probability=1", other), 1000);
}

static void
test_first_rule_that_hits_decides(void **state)
{
	struct disk *disk = *state;
	char *buf = malloc(512);

	open_with(disk, "op=read,error=ENOSPC,count=1;op=read,error=EIO,nth=2;"
			"op=write,error=EROFS");
	assert_int_equal(disk_read(disk, 0, 512, buf), -ENOSPC);
	assert_int_equal(disk_read(disk, 0, 512, buf), 0);
	assert_int_equal(disk_read(disk, 0, 512, buf), -EIO);
	assert_int_equal(disk_fill(disk, 0, 512, 'x'), -EROFS);
	free(buf);
}

static void
test_busy_is_tried_again_until_it_is_over(void **state)
{
	struct disk *disk = *state;

	open_with(disk, "op=write,error=EBUSY,count=20");
	assert_int_equal(disk_fill(disk, 0, 4096, 'b'), 0);
	assert_true(disk_holds(disk, 0, 4096, 'b'));
	assert_true(disk_holds(disk, 4096, 4096, 'a'));
}

/* --- delays --- */

static void
test_delayed_request_is_late_and_holds_up_no_other(void **state)
{
	enum {
		READS = 100
	};
	struct disk *disk = *state;
	struct disk_request discard = { .done = false };
	char *buf = malloc(4096);
	uint64_t begun;
	int i;

	open_with(disk, "op=discard,delay=10s");
	begun = loop_now(disk->loop);
	disk_submit(disk, &discard, TD_OP_DISCARD, 0, 64 * KIB, NULL);
	for (i = 0; i < READS; i++) {
		struct disk_request read = { .done = false };

		disk_submit(disk, &read, TD_OP_READ, (uint64_t)i * 4096, 4096,
			    buf);
		disk_settle(disk);
		assert_true(read.released);
	}
	assert_int_equal(loop_now(disk->loop), begun); /* in no time */
	disk_pass(disk, 10 * NS_PER_S - 1);
	assert_false(discard.done);
	assert_int_equal(counter(disk, "delayed"), 1);
	disk_pass(disk, 1);
	assert_true(discard.released);
	assert_int_equal(discard.result, 0);
	assert_int_equal(counter(disk, "delayed"), 0);
	assert_true(disk_holds(disk, 0, 64 * KIB, 0));
	free(buf);
}

static void
test_delays_end_in_the_order_of_their_time(void **state)
{
	struct disk *disk = *state;
	struct disk_request r[3] = { { .done = false } };
	char *buf = malloc(3 * 512);
	int i;

	open_with(disk, "from=0,to=512,delay=30ms;from=512,to=1024,delay=500us;"
			"from=1024,to=1536,delay=2ms,error=EIO");
	for (i = 0; i < 3; i++)
		disk_submit(disk, &r[i], TD_OP_READ, (uint64_t)i * 512, 512,
			    buf + i * 512);
	disk_pass(disk, 499 * NS_PER_US);
	assert_false(r[0].done || r[1].done || r[2].done);
	disk_pass(disk, NS_PER_US);
	assert_true(r[1].released);
	disk_pass(disk, 1500 * NS_PER_US);
	assert_true(r[2].released);
	assert_int_equal(r[2].result, -EIO); /* late, then it fails */
	disk_pass(disk, 27999 * NS_PER_US);
	assert_false(r[0].done);
	disk_pass(disk, NS_PER_US);
	assert_true(r[0].released);
	assert_int_equal(r[0].result, 0);
	free(buf);
}

static void
test_delayed_write_reaches_the_image_when_it_is_due(void **state)
{
	struct disk *disk = *state;
	struct disk_request write = { .done = false };
	char *buf = malloc(4096);

	memset(buf, 'b', 4096);
	open_with(disk, "op=write,delay=1s");
	disk_submit(disk, &write, TD_OP_WRITE, 0, 4096, buf);
	disk_pass(disk, NS_PER_S / 2);
	assert_true(disk_holds(disk, 0, 4096, 'a'));
	disk_wait_released(disk, &write);
	assert_true(disk_holds(disk, 0, 4096, 'b'));
	free(buf);
}

/* --- hanging --- */

static void
test_hung_request_goes_on_when_it_is_released(void **state)
{
	struct disk *disk = *state;
	struct disk_request r[2] = { { .done = false } };
	json_t *result = json_object();
	char *buf = malloc(1024);

	open_with(disk, "op=read,hang,count=2");
	disk_submit(disk, &r[0], TD_OP_READ, 0, 512, buf);
	disk_submit(disk, &r[1], TD_OP_READ, 512, 512, buf + 512);
	disk_pass(disk, 60 * NS_PER_S);
	assert_false(r[0].done || r[1].done);
	assert_int_equal(counter(disk, "hung"), 2);
	assert_true(disk_holds(disk, 1024, 512, 'a')); /* the third passes */

	assert_int_equal(disk_command(disk, "fault", "release", result), 0);
	assert_int_equal(
		json_integer_value(json_object_get(result, "released")), 2);
	json_decref(result);
	disk_settle(disk);
	assert_true(r[0].released && r[1].released);
	assert_int_equal(r[0].result, 0);
	assert_int_equal(buf[1023], 'a');
	assert_int_equal(counter(disk, "hung"), 0);
	free(buf);
}

static void
test_hung_write_times_out_and_holds_its_range_until_it_is_back(void **state)
{
	struct disk *disk = *state;
	struct disk_request hung = { .done = false };
	struct disk_request over = { .done = false };
	struct disk_request beside = { .done = false };
	char *buf = malloc(4096);

	memset(buf, 'h', 4096);
	assert_int_equal(disk_open_limited(disk, "fault:|ram:1M", 5), 0);
	assert_int_equal(
		disk_command(disk, "fault", "add op=write,hang,count=1", NULL),
		0);
	disk_submit(disk, &hung, TD_OP_WRITE, 0, 4096, buf);
	disk_pass(disk, 6 * NS_PER_S);
	assert_true(hung.done);
	assert_int_equal(hung.result, -ETIMEDOUT);
	assert_false(hung.released);

	disk_submit(disk, &over, TD_OP_WRITE, 512, 512, buf);
	disk_submit(disk, &beside, TD_OP_WRITE, 4096, 512, buf);
	disk_settle(disk);
	assert_true(beside.released);
	assert_false(over.done);
	assert_int_equal(disk_command(disk, "fault", "release", NULL), 0);
	disk_wait_released(disk, &over);
	assert_true(hung.released);
	assert_int_equal(over.result, 0);
	free(buf);
}

/* --- lies --- */

/* How many bytes of the disk are not 'a'; and the sector of the last. */
static int
changed(struct disk *disk, uint64_t *ret_sector)
{
	char *buf = malloc(MIB);
	int i, wrong = 0;

	assert_int_equal(disk_read(disk, 0, MIB, buf), 0);
	for (i = 0; i < MIB; i++) {
		if (buf[i] != 'a') {
			wrong++;
			*ret_sector = (uint64_t)i / 512;
		}
	}
	free(buf);
	return wrong;
}

static void
test_corrupted_read_differs_in_one_sector_of_the_range(void **state)
{
	struct disk *disk = *state;
	uint64_t sector = 0;

	open_with(disk, "op=read,from=10K,to=11K,corrupt,count=1");
	assert_int_equal(changed(disk, &sector), 1);
	assert_int_equal(sector, 20);
	assert_int_equal(changed(disk, &sector), 0); /* the image is well */
}

static void
test_corrupted_write_is_on_the_image_but_not_in_the_guests_buffer(void **state)
{
	struct disk *disk = *state;
	uint64_t sector = 0;
	char *buf = malloc(64 * KIB);
	int i;

	memset(buf, 'a', 64 * KIB);
	open_with(disk, "op=write,from=10K,to=11K,corrupt,count=1");
	assert_int_equal(disk_fill(disk, 0, 64 * KIB, 'b'), 0);
	assert_int_equal(disk_write(disk, 0, 64 * KIB, buf), 0);
	assert_int_equal(changed(disk, &sector), 0);

	assert_int_equal(disk_command(disk, "fault",
				      "add op=write,from=10K,to=11K,corrupt",
				      NULL),
			 0);
	assert_int_equal(disk_write(disk, 0, 64 * KIB, buf), 0);
	assert_int_equal(changed(disk, &sector), 1);
	assert_int_equal(sector, 20);
	for (i = 0; i < 64 * KIB; i++)
		assert_int_equal(buf[i], 'a');
	/* at the edges of a write there is nothing before or behind */
	assert_int_equal(disk_write(disk, 10 * KIB, 512, buf), 0);
	assert_int_equal(changed(disk, &sector), 1);
	free(buf);
}

static void
test_corruption_may_come_late(void **state)
{
	struct disk *disk = *state;
	uint64_t begun, sector;

	open_with(disk, "op=read,corrupt,delay=5s,count=1");
	begun = loop_now(disk->loop);
	assert_int_equal(changed(disk, &sector), 1);
	assert_true(loop_now(disk->loop) >= begun + 5 * NS_PER_S);
	assert_int_equal(sector, 0);
}

/* --- commands --- */

static void
test_list_tells_the_rules_and_what_they_did(void **state)
{
	struct disk *disk = *state;
	json_t *result = json_object(), *rule;
	char *buf = malloc(512);

	open_with(disk, "op=read,error=EIO,nth=2;op=write,delay=1ms");
	assert_int_equal(disk_read(disk, 0, 512, buf), 0);
	assert_int_equal(disk_read(disk, 0, 512, buf), -EIO);
	assert_int_equal(disk_command(disk, "fault", "list", result), 0);
	assert_int_equal(json_array_size(json_object_get(result, "rules")), 2);
	rule = json_array_get(json_object_get(result, "rules"), 0);
	assert_string_equal(json_string_value(json_object_get(rule, "rule")),
			    "op=read,error=EIO,nth=2");
	assert_int_equal(json_integer_value(json_object_get(rule, "matched")),
			 2);
	assert_int_equal(json_integer_value(json_object_get(rule, "hits")), 1);
	json_decref(result);
	assert_int_equal(disk_command(disk, "fault", "clear", NULL), 0);
	assert_int_equal(disk_read(disk, 0, 512, buf), 0);
	free(buf);
}

static void
test_bad_rules_are_refused_and_change_nothing(void **state)
{
	static const struct {
		const char *rules, *sentence;
	} bad[] = {
		{ "op=write", "does nothing" },
		{ "op=eat,error=EIO", "\"op=eat\" is no word of a rule" },
		{ "error=EFOO", "\"error=EFOO\" is no word" },
		{ "error=5", "\"error=5\" is no word" },
		{ "hang=1", "\"hang=1\" is no word" },
		{ "corrupted", "\"corrupted\" is no word" },
		{ "delay=10", "\"delay=10\" is no word" },
		{ "delay=-1s", "\"delay=-1s\" is no word" },
		{ "delay=99999999s", "\"delay=99999999s\" is no word" },
		{ "hang,nth=0", "\"nth=0\" is no word" },
		{ "hang,nth=", "\"nth=\" is no word" },
		{ "hang,count=1x", "\"count=1x\" is no word" },
		{ "hang,count=99999999999999999999", "is no word" },
		{ "hang,probability=1.5", "\"probability=1.5\" is no word" },
		{ "hang,probability=nan", "\"probability=nan\" is no word" },
		{ "hang,from=1Q", "\"from=1Q\" is no word" },
		{ "hang,,op=read", "\"\" is no word" },
		{ "hang,from=2M,to=1M", "never matches" },
		{ "hang,from=1M,to=1M", "never matches" },
		{ "hang;op=read,error=EIO;nonsense", "\"nonsense\"" },
	};
	struct disk *disk = *state;
	char image[200], command[200];
	size_t i;

	open_with(disk, "op=write,error=EIO");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(command, sizeof(command), "add %s", bad[i].rules);
		assert_int_equal(disk_command(disk, "fault", command, NULL),
				 -EINVAL);
		assert_says(disk, bad[i].sentence);
	}
	assert_true(disk_holds(disk, 0, 4096, 'a')); /* nothing hangs */
	assert_int_equal(disk_fill(disk, 0, 4096, 'b'), -EIO);
	assert_int_equal(disk_command(disk, "fault", "explode", NULL), -EINVAL);
	assert_says(disk, "\"explode\" is no command");
	assert_int_equal(disk_close(disk), 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(image, sizeof(image), "fault:%s|ram:1M", bad[i].rules);
		assert_int_equal(disk_open(disk, image, 0), -EINVAL);
		assert_says(disk, bad[i].sentence);
	}
}

static void
test_rules_are_limited_in_length_and_number(void **state)
{
	struct disk *disk = *state;
	char text[300];
	int i;

	open_with(disk, "op=discard,hang");
	for (i = 1; i < 32; i++)
		assert_int_equal(disk_command(disk, "fault",
					      "add op=discard,hang", NULL),
				 0);
	assert_int_equal(disk_command(disk, "fault", "add hang", NULL),
			 -ENOSPC);
	assert_says(disk, "there are 32 rules already");
	assert_int_equal(disk_command(disk, "fault", "clear", NULL), 0);
	snprintf(text, sizeof(text), "add %0200d", 0);
	assert_int_equal(disk_command(disk, "fault", text, NULL), -EINVAL);
	assert_says(disk, "may have 127 characters");
}

static void
test_rules_in_the_name_hold_from_the_start(void **state)
{
	struct disk *disk = *state;

	assert_int_equal(disk_open(disk,
				   "fault:op=flush,error=EIO;"
				   "op=write,from=4K,error=ENOSPC|ram:1M",
				   0),
			 0);
	assert_int_equal(disk_fill(disk, 0, 4096, 'x'), 0);
	assert_int_equal(disk_fill(disk, 0, 8192, 'x'), -ENOSPC);
	assert_int_equal(disk_flush(disk), -EIO);
	/* one name may hold two of them */
	assert_int_equal(disk_close(disk), -EIO);
	assert_int_equal(disk_open(disk,
				   "fault:op=read,error=EIO|"
				   "fault:op=write,error=EIO|ram:1M",
				   0),
			 0);
	assert_int_equal(disk_fill(disk, 0, 4096, 'x'), -EIO);
	assert_int_equal(disk_command(disk, "fault", "clear", NULL), 0);
	assert_true(disk_holds(disk, 0, 4096, 0)); /* the upper's are gone */
	assert_int_equal(disk_fill(disk, 0, 4096, 'x'), -EIO);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_without_rules_everything_passes),
		TEST(test_filter_with_nothing_below_it_is_refused),
		TEST(test_each_operation_fails_alone),
		TEST(test_failed_write_leaves_the_image_as_it_was),
		TEST(test_range_hits_what_touches_it_and_nothing_else),
		TEST(test_rule_begins_with_the_nth_and_ends_with_the_count),
		TEST(test_probability_is_kept_and_a_seed_repeats_the_draw),
		TEST(test_first_rule_that_hits_decides),
		TEST(test_busy_is_tried_again_until_it_is_over),
		TEST(test_delayed_request_is_late_and_holds_up_no_other),
		TEST(test_delays_end_in_the_order_of_their_time),
		TEST(test_delayed_write_reaches_the_image_when_it_is_due),
		TEST(test_hung_request_goes_on_when_it_is_released),
		TEST(test_hung_write_times_out_and_holds_its_range_until_it_is_back),
		TEST(test_corrupted_read_differs_in_one_sector_of_the_range),
		TEST(test_corrupted_write_is_on_the_image_but_not_in_the_guests_buffer),
		TEST(test_corruption_may_come_late),
		TEST(test_list_tells_the_rules_and_what_they_did),
		TEST(test_bad_rules_are_refused_and_change_nothing),
		TEST(test_rules_are_limited_in_length_and_number),
		TEST(test_rules_in_the_name_hold_from_the_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

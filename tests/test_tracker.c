/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_tracker - stamps, suspects and intents through crashes: with the power
 * cut after every operation of the metadata's file, and any part of what was
 * not flushed lost or torn, the tracker that is opened again knows every region
 * that changed (A10), and which may be otherwise on the peer (A6).
 */
#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "core/reason.h"
#include "drivers/random.h"
#include "replication/tracker.h"
#include "tests/fake_driver.h"
#include "tests/fake_store.h"

#define REGION	 4096u
#define EXTENT	 (64u << 10)
#define CAPACITY 64
#define REGIONS	 12288u /* 13 pages, the last not full */
#define SIZE	 ((uint64_t)REGIONS * REGION - 512)
#define WRITES	 8 /* at once */
#define STEPS	 900

struct world;

struct write {
	struct tracker_hold hold;
	struct world *world;
	bool busy, granted;
};

struct world {
	struct loop *loop;
	struct image_stack stack;
	struct image_io io;
	struct fake_file file;
	struct metadata *metadata;
	struct tracker tracker;
	struct reason reason;
	bool open, started, stopped, failed, flush_failed, synced;
	uint64_t seed;
	uint64_t epoch; /* durable, and so what writes may carry */
	struct metadata_commit commit;
	bool committing;
	struct tracker_sync sync;
	bool syncing;

	/* what was done */
	struct write write[WRITES];
	uint64_t stamp[REGIONS];
	bool unflushed[REGIONS]; /* the image may have lost it */
	bool suspect[REGIONS];	 /* durably, says the tracker */
	bool asked[REGIONS];	 /* to be so with the sync under way */
	unsigned int flushes;	 /* of the image, when looked at last */
};

static struct world world;

static const struct tracker_options small = {
	.region = REGION,
	.extent = EXTENT,
	.capacity = CAPACITY,
	.is_new = true,
};

static uint64_t
pick(uint64_t below)
{
	return (uint64_t)(random_next(&world.seed) * (double)below);
}

static void
on_failed(void *owner, int error)
{
	assert_ptr_equal(owner, &world);
	assert_true(error < 0);
	world.failed = true;
}

static void
on_flush_failed(void *owner, int error)
{
	assert_ptr_equal(owner, &world);
	assert_int_equal(error, -EIO);
	world.flush_failed = true;
}

static const struct tracker_events events = { on_failed, on_flush_failed };

static void
on_started(void *owner)
{
	assert_ptr_equal(owner, &world);
	world.started = true;
}

static void
on_stopped(void *owner)
{
	assert_ptr_equal(owner, &world);
	world.stopped = true;
}

static void
on_part_of_nobody(td_request_t treq, int res)
{
	(void)treq;
	(void)res;
	fail_msg("the core's callback is not the tracker's");
}

/* --- life --- */

static void
fill_state(void)
{
	struct metadata_state *state = metadata_state(world.metadata);

	memset(state->disk_id, 1, METADATA_ID);
	memset(state->replica_id, 2, METADATA_ID);
	state->role = METADATA_PRIMARY;
	state->size = SIZE;
	state->sector_size = 512;
	state->epoch = 1;
	history_append(&state->history, 77, 1, 0);
}

static int
open_with(const struct tracker_options *options)
{
	bool is_new = false;
	int r;

	world.metadata = metadata_open(world.loop,
				       fake_store_open(&world.file, world.loop),
				       &is_new, &world.reason);
	assert_non_null(world.metadata);
	if (is_new)
		fill_state();
	world.epoch = metadata_state(world.metadata)->epoch;
	r = tracker_open(&world.tracker, world.loop, world.metadata, &world.io,
			 options, &events, &world.reason);
	world.tracker.owner = &world;
	world.open = r == 0;
	if (r < 0) {
		world.metadata = metadata_close(world.metadata);
		tracker_close(&world.tracker);
	}
	world.started = world.stopped = world.failed = false;
	return r;
}

static void
run(void)
{
	loop_run_until_idle(world.loop);
	while (loop_next(world.loop) <= loop_now(world.loop) + NS_PER_S) {
		loop_advance(world.loop,
			     loop_next(world.loop) - loop_now(world.loop));
		loop_run_until_idle(world.loop);
	}
}

static void
close_all(void)
{
	if (!world.open)
		return;
	world.metadata = metadata_close(world.metadata);
	tracker_close(&world.tracker);
	world.open = false;
}

/* The process dies; with `power`, what its file did not flush may go. */
static void
die(bool power)
{
	fake_file_abandon(&world.file);
	if (power)
		fake_file_crash(&world.file);
	close_all();
	memset(world.write, 0, sizeof(world.write));
	world.committing = world.syncing = false;
	memset(world.asked, 0, sizeof(world.asked));
}

static void
begin_with(const struct tracker_options *options, uint64_t seed)
{
	memset(&world, 0, sizeof(world));
	world.seed = seed;
	world.loop = loop_new_simulated();
	image_stack_init(&world.stack, world.loop, NULL, fake_types,
			 on_part_of_nobody);
	assert_int_equal(image_stack_open(&world.stack, "able:98303", 0, NULL),
			 0);
	image_io_init(&world.io, world.loop, world.stack.top);
	fake_file_init(&world.file, seed);
	world.file.delay_ns = NS_PER_MS;
	world.file.spread_ns = NS_PER_MS;
	assert_int_equal(open_with(options), 0);
}

static void
begin(uint64_t seed)
{
	begin_with(&small, seed);
	tracker_start(&world.tracker, on_started);
	run();
	assert_true(world.started);
}

static void
end(void)
{
	close_all();
	image_io_done(&world.io);
	image_stack_close(&world.stack, NULL);
	image_stack_done(&world.stack);
	fake_file_done(&world.file);
	world.loop = loop_free(world.loop);
}

static struct fake *
image(void)
{
	return fake_of(&world.stack, world.stack.leaf);
}

/* --- the workload --- */

/* A flush that the tracker asked for covers what was written before. */
static void
note_flushes(void)
{
	if (world.flushes == image()->queued[TD_OP_FLUSH])
		return;
	world.flushes = image()->queued[TD_OP_FLUSH];
	memset(world.unflushed, 0, sizeof(world.unflushed));
}

static void
on_held(struct tracker_hold *hold)
{
	struct write *write = container_of(hold, struct write, hold);

	note_flushes();
	write->granted = true;
	tracker_stamp(&world.tracker, hold->offset, hold->length, world.epoch);
	for (uint64_t at = hold->offset / REGION;
	     at <= (hold->offset + hold->length - 1) / REGION; at++) {
		world.stamp[at] = world.epoch;
		world.unflushed[at] = true;
	}
}

static void
begin_write(struct write *write)
{
	uint64_t length = 512 * (1 + pick(pick(4) ? 16 : 512));
	uint64_t offset = 512 * pick((SIZE - length) / 512);

	if (pick(3))
		offset %= 1u << 20;
	write->hold = (struct tracker_hold){ .offset = offset,
					     .length = length,
					     .on_held = on_held };
	write->busy = true;
	write->granted = false;
	if (tracker_hold(&world.tracker, &write->hold))
		on_held(&write->hold);
}

static void
on_committed(struct metadata_commit *commit, int error)
{
	(void)commit;
	assert_int_equal(error, 0);
	world.committing = false;
	world.epoch = metadata_state(world.metadata)->epoch;
}

static void
on_synced(struct tracker_sync *sync)
{
	(void)sync;
	world.syncing = false;
	for (unsigned int i = 0; i < REGIONS; i++)
		world.suspect[i] = world.suspect[i] || world.asked[i];
	memset(world.asked, 0, sizeof(world.asked));
}

static void
do_something(void)
{
	struct write *write = &world.write[pick(WRITES)];

	if (!write->busy) {
		begin_write(write);
	} else if (write->granted) {
		note_flushes();
		tracker_release(&world.tracker, write->hold.offset,
				write->hold.length);
		write->busy = false;
	}
	if (pick(12) == 0 && !world.committing) {
		world.committing = true;
		metadata_state(world.metadata)->epoch++;
		world.commit.on_done = on_committed;
		metadata_commit(world.metadata, &world.commit);
	}
	if (pick(16) == 0 && !world.syncing) {
		uint64_t region = pick(REGIONS);

		world.syncing = true;
		world.asked[region] = true;
		tracker_suspect(&world.tracker, region * REGION, 1);
		world.sync.on_done = on_synced;
		tracker_sync(&world.tracker, &world.sync);
	}
}

static void
work(unsigned int steps)
{
	for (unsigned int i = 0; i < steps; i++) {
		do_something();
		loop_run_until_idle(world.loop);
		if (pick(3) == 0)
			loop_advance(world.loop, pick(3 * NS_PER_MS));
		loop_run_until_idle(world.loop);
	}
}

/* --- what it must know --- */

static void
assert_knows_all(void)
{
	unsigned int wide = 0;

	for (uint64_t i = 0; i < REGIONS; i++) {
		uint64_t stamp = tracker_stamp_of(&world.tracker, i * REGION);
		bool suspect =
			dirty_map_is_suspect(&world.tracker.map, i * REGION);

		if (stamp < world.stamp[i])
			fail_msg("region %u was changed in epoch %u, and "
				 "counts as changed in %u",
				 (unsigned)i, (unsigned)world.stamp[i],
				 (unsigned)stamp);
		if (world.suspect[i] && !suspect)
			fail_msg("region %u was durably suspect", (unsigned)i);
		if (world.unflushed[i] && !suspect)
			fail_msg("region %u was not flushed, and is not "
				 "suspect",
				 (unsigned)i);
		if (stamp > world.stamp[i])
			wide++;
	}
	/* at most what two sets of intents may name */
	assert_true(wide <= 2u * CAPACITY * (EXTENT / REGION));
	if (wide > 0)
		assert_false(tracker_is_exact(
			&world.tracker, world.epoch > 1 ? world.epoch - 1 : 0));
}

static void
test_a_power_cut_anywhere_forgets_no_change(void **state)
{
	unsigned int cut;
	bool all = false;

	(void)state;
	for (cut = 0; !all; cut++) {
		begin(5);
		world.file.random = cut;
		world.file.silent_after = world.file.operations + cut;
		work(STEPS);
		all = world.file.operations < world.file.silent_after;
		note_flushes();
		die(true);
		world.file.silent_after = UINT_MAX;
		assert_int_equal(open_with(&small), 0);
		assert_knows_all();
		/* and again, in the midst of the recovery */
		world.file.silent_after = world.file.operations + cut % 23;
		tracker_start(&world.tracker, on_started);
		run();
		die(true);
		world.file.silent_after = UINT_MAX;
		assert_int_equal(open_with(&small), 0);
		assert_knows_all();
		tracker_start(&world.tracker, on_started);
		run();
		assert_true(world.started);
		assert_knows_all();
		end();
	}
	print_message("%u operations\n", cut - 1);
	assert_in_range(cut, 100, 899);
}

static void
test_after_a_clean_stop_the_answer_is_exact(void **state)
{
	(void)state;
	begin(9);
	work(STEPS);
	for (int i = 0; i < WRITES; i++) {
		run();
		if (world.write[i].busy)
			tracker_release(&world.tracker,
					world.write[i].hold.offset,
					world.write[i].hold.length);
	}
	tracker_stop(&world.tracker, 4711, 17, on_stopped);
	run();
	assert_true(world.stopped);
	close_all();
	assert_int_equal(open_with(&small), 0);
	assert_int_equal(world.tracker.intent.count, 0);
	assert_false(tracker_check_image(&world.tracker, 4711, 17));
	assert_true(tracker_is_exact(&world.tracker, 0));
	for (uint64_t i = 0; i < REGIONS; i++)
		assert_int_equal(tracker_stamp_of(&world.tracker, i * REGION),
				 world.stamp[i]);
	end();
}

static void
test_an_image_that_another_wrote_to_counts_as_changed(void **state)
{
	(void)state;
	begin(1);
	tracker_stop(&world.tracker, 4711, 17, on_stopped);
	run();
	close_all();
	assert_int_equal(open_with(&small), 0);
	assert_true(tracker_check_image(&world.tracker, 4711, 18));
	assert_true(tracker_has_suspects(&world.tracker));
	assert_int_equal(tracker_stamp_of(&world.tracker, 0), 1);
	tracker_start(&world.tracker, on_started);
	run();
	die(false);
	/* durably so, and after a crash nothing is compared */
	assert_int_equal(open_with(&small), 0);
	assert_false(tracker_check_image(&world.tracker, 1, 1));
	assert_true(tracker_has_suspects(&world.tracker));
	assert_false(tracker_is_exact(&world.tracker, 0));
	end();
}

static unsigned int held;

static void
on_counted(struct tracker_hold *hold)
{
	(void)hold;
	held++;
}

static void
test_a_workload_within_the_log_writes_no_metadata(void **state)
{
	struct tracker_hold hold = { .on_held = on_counted };
	unsigned int writes;

	(void)state;
	begin(2);
	for (int round = 0; round < 3; round++) {
		writes = world.file.writes;
		for (uint64_t at = 0; at + 8 * REGION < CAPACITY / 2 * EXTENT;
		     at += REGION) {
			hold.offset = at;
			hold.length = 8 * REGION;
			if (!tracker_hold(&world.tracker, &hold)) {
				assert_int_equal(round, 0);
				run();
			}
			tracker_stamp(&world.tracker, at, hold.length, 1);
			tracker_release(&world.tracker, at, hold.length);
		}
		if (round > 0)
			assert_int_equal(world.file.writes, writes);
	}
	end();
}

static void
test_a_turn_of_writes_costs_one_set(void **state)
{
	struct tracker_hold hold[20] = { 0 };

	(void)state;
	begin(3);
	held = 0;
	for (unsigned int i = 0; i < 20; i++) {
		hold[i] = (struct tracker_hold){ .offset = i * 3ull * EXTENT,
						 .length = 512,
						 .on_held = on_counted };
		assert_false(tracker_hold(&world.tracker, &hold[i]));
	}
	run();
	assert_int_equal(held, 20);
	assert_int_equal(world.tracker.intent_writes, 1);
	end();
}

/* W3, W1: with the log full a write waits until another extent has left, its
 * page and the image being flushed; one that is held does not leave. */
static void
test_a_full_log_lets_idle_extents_go_and_held_ones_not(void **state)
{
	struct tracker_hold first = { .length = 512, .on_held = on_counted };
	struct tracker_hold hold[CAPACITY];
	struct tracker_hold more = { .offset = 200ull * EXTENT,
				     .length = 512,
				     .on_held = on_counted };

	(void)state;
	begin(4);
	(void)tracker_hold(&world.tracker, &first);
	for (uint64_t i = 1; i < CAPACITY; i++) {
		hold[i] = (struct tracker_hold){ .offset = i * EXTENT,
						 .length = 512,
						 .on_held = on_counted };
		(void)tracker_hold(&world.tracker, &hold[i]);
	}
	run();
	held = 0;
	assert_false(tracker_hold(&world.tracker, &more));
	run();
	assert_int_equal(held, 0);
	tracker_release(&world.tracker, hold[7].offset, 512);
	assert_int_equal(image()->queued[TD_OP_FLUSH], 0);
	run();
	assert_int_equal(held, 1);
	assert_int_equal(image()->queued[TD_OP_FLUSH], 1);
	assert_int_equal(world.tracker.intent.count, CAPACITY);
	assert_true(intent_is_durable(&world.tracker.intent, 0, 512));
	assert_false(
		intent_is_durable(&world.tracker.intent, hold[7].offset, 512));
	end();
}

static void
test_idle_extents_leave_the_durable_set(void **state)
{
	struct tracker_hold hold = { .length = 512, .on_held = on_counted };

	(void)state;
	begin(6);
	(void)tracker_hold(&world.tracker, &hold);
	run();
	tracker_stamp(&world.tracker, 0, 512, 1);
	tracker_release(&world.tracker, 0, 512);
	for (int i = 0; i < TRACKER_TICK_S * (TRACKER_IDLE + 2); i++) {
		loop_advance(world.loop, NS_PER_S);
		run();
	}
	die(true);
	assert_int_equal(open_with(&small), 0);
	assert_int_equal(world.tracker.intent.count, 0);
	assert_true(tracker_is_exact(&world.tracker, 0));
	assert_int_equal(tracker_stamp_of(&world.tracker, 0), 1);
	end();
}

/* T5, F3 */
static void
test_what_a_failed_flush_covered_is_suspect(void **state)
{
	struct tracker_hold hold = { .length = 512, .on_held = on_counted };

	(void)state;
	begin(7);
	(void)tracker_hold(&world.tracker, &hold);
	run();
	tracker_release(&world.tracker, 0, 512);
	image()->error = -EIO;
	tracker_stop(&world.tracker, 0, 0, on_stopped);
	run();
	assert_true(world.flush_failed);
	assert_true(world.stopped);
	close_all();
	assert_int_equal(open_with(&small), 0);
	assert_true(dirty_map_is_suspect(&world.tracker.map, 0));
	end();
}

static void
test_a_failed_write_of_metadata_is_told_and_lets_nothing_go(void **state)
{
	struct tracker_hold hold = { .length = 512, .on_held = on_counted };

	(void)state;
	begin(8);
	held = 0;
	world.file.fail_write_at = world.file.writes + 1;
	assert_false(tracker_hold(&world.tracker, &hold));
	run();
	assert_true(world.failed);
	assert_int_equal(held, 0);
	end();
}

/* M2 */
static void
test_a_copy_lowers_whole_regions_only(void **state)
{
	(void)state;
	begin(10);
	tracker_stamp(&world.tracker, 0, 4ull * REGION, 9);
	tracker_suspect(&world.tracker, 0, 4ull * REGION);
	tracker_copied(&world.tracker, 512, 2ull * REGION, 4);
	assert_int_equal(tracker_stamp_of(&world.tracker, 0), 9);
	assert_int_equal(tracker_stamp_of(&world.tracker, REGION), 4);
	assert_int_equal(tracker_stamp_of(&world.tracker, 2ull * REGION), 9);
	assert_int_equal(world.tracker.map.suspects, 3);
	/* the last region is a part of one */
	tracker_stamp(&world.tracker, SIZE - 512, 512, 9);
	tracker_copied(&world.tracker, (REGIONS - 1ull) * REGION,
		       SIZE - (REGIONS - 1ull) * REGION, 0);
	assert_int_equal(tracker_stamp_of(&world.tracker, SIZE - 1), 0);
	tracker_absolve(&world.tracker);
	assert_false(tracker_has_suspects(&world.tracker));
	end();
}

static void
test_other_sizes_than_at_first_are_refused(void **state)
{
	const struct tracker_options none = { 0 };
	const struct tracker_options other = { .region = 8192 };
	const struct tracker_options odd = { .region = 5000 };

	(void)state;
	begin(11);
	close_all();
	assert_int_equal(open_with(&other), -EINVAL);
	assert_non_null(strstr(world.reason.text, "regions of 4096"));
	assert_int_equal(open_with(&odd), -EINVAL);
	assert_int_equal(open_with(&none), 0);
	assert_int_equal(world.tracker.map.shift, 12);
	end();
}

static void
test_damage_makes_answers_wider_and_a_cut_is_refused(void **state)
{
	uint64_t page = tracker_page_offset(CAPACITY, 2, 1);
	unsigned char *bytes;

	(void)state;
	begin(12);
	tracker_stamp(&world.tracker, 2ull * 1020 * REGION, 1, 1);
	tracker_stop(&world.tracker, 0, 0, on_stopped);
	run();
	close_all();
	bytes = world.file.medium.current;
	bytes[page + 100] ^= 1;
	world.file.medium.durable[page + 100] ^= 1;
	assert_int_equal(open_with(&small), 0);
	assert_int_equal(tracker_stamp_of(&world.tracker, 2041ull * REGION), 1);
	assert_true(dirty_map_is_suspect(&world.tracker.map, 2041ull * REGION));
	assert_false(dirty_map_is_suspect(&world.tracker.map, 0));
	close_all();
	/* both sets of intents */
	memset(bytes + METADATA_BYTES, 0xff, 8192);
	memset(world.file.medium.durable + METADATA_BYTES, 0xff, 8192);
	assert_int_equal(open_with(&small), 0);
	assert_true(tracker_has_suspects(&world.tracker));
	assert_int_equal(tracker_stamp_of(&world.tracker, 0), 1);
	assert_false(tracker_is_exact(&world.tracker, 0));
	close_all();
	world.file.medium.length -= 4096;
	assert_int_equal(open_with(&small), -EBADMSG);
	assert_non_null(strstr(world.reason.text, "cut off"));
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_power_cut_anywhere_forgets_no_change),
		cmocka_unit_test(test_after_a_clean_stop_the_answer_is_exact),
		cmocka_unit_test(
			test_an_image_that_another_wrote_to_counts_as_changed),
		cmocka_unit_test(
			test_a_workload_within_the_log_writes_no_metadata),
		cmocka_unit_test(test_a_turn_of_writes_costs_one_set),
		cmocka_unit_test(
			test_a_full_log_lets_idle_extents_go_and_held_ones_not),
		cmocka_unit_test(test_idle_extents_leave_the_durable_set),
		cmocka_unit_test(test_what_a_failed_flush_covered_is_suspect),
		cmocka_unit_test(
			test_a_failed_write_of_metadata_is_told_and_lets_nothing_go),
		cmocka_unit_test(test_a_copy_lowers_whole_regions_only),
		cmocka_unit_test(test_other_sizes_than_at_first_are_refused),
		cmocka_unit_test(
			test_damage_makes_answers_wider_and_a_cut_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_power_cut - the power fails at every point of a workload on the tracker,
 * with its metadata and its image on media that lose and tear what no flush
 * covered; what is found then is judged by the bytes of the image alone.
 *
 * The workload is played again from its seed for each point and each way in
 * which what was not flushed survives: none of it, all, or any sectors of it.
 * Then the production objects open what is left, and an oracle asks, region by
 * region:
 *
 *   A10  whose bytes differ from what they were at an epoch that has ended is
 *        in the answer to "changed since" it
 *   A6   whose bytes differ from the peer's is suspect: both are on one
 *        timeline, at one epoch, so no stamp tells it
 *
 * The peer is an array: it gets each write when it is accepted or some time
 * later, and a write is proven when it is done on both.
 */
#include "tests/test.h"

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "drivers/random.h"
#include "replication/tracker.h"
#include "tests/fake_store.h"

#define SECTOR	 512u
#define REGION	 4096u
#define EXTENT	 (64u << 10)
#define CAPACITY 64
#define SIZE	 (6u << 20) /* half as much again as the log can name */
#define SECTORS	 (SIZE / SECTOR)
#define REGIONS	 (SIZE / REGION)
#define WRITES	 8   /* at once */
#define PAST	 32  /* writes of a sector that are remembered */
#define POINTS	 450 /* of the workload: turns */
#define WARM	 120 /* the first turns, in which the log fills */
#define STRIDE	 3   /* every so many, in the one run or the other */
#define EPOCHS	 64

enum survivors {
	NONE,
	ALL,
	ANY,
	WAYS
};

/* Who wrote a sector: 0 at first, then the writes' numbers. */
struct past {
	unsigned int count;
	uint32_t epoch[PAST], number[PAST];
};

struct write {
	struct tracker_hold hold;
	struct image_op op;
	struct timer peer; /* it is there */
	bool busy, accepted, here, there;
	uint32_t number;
	unsigned char bytes[16 * REGION];
};

struct wet {
	td_request_t treq;
	struct timer timer;
	uint64_t mark;
	bool busy;
};

#define WET_MAX 64

static struct world {
	struct loop *loop;
	struct image_stack stack;
	struct image_io io;
	struct fake_file file;
	struct medium image;
	struct metadata *metadata;
	struct tracker tracker;
	struct metadata_commit commit;
	bool started, committing, dead;
	uint64_t seed;
	uint64_t epoch; /* durable */
	uint32_t number;
	struct write write[WRITES];
	struct wet wet[WET_MAX];
	uint32_t peer[SECTORS];
	struct past past[SECTORS];
} world;

static uint64_t
pick(uint64_t below)
{
	return (uint64_t)(random_next(&world.seed) * (double)below);
}

/* --- the image: a driver over a medium --- */

static void
end_wet(struct wet *wet, int error)
{
	wet->busy = false;
	timer_clear(&wet->timer);
	td_complete_request(wet->treq, error);
}

static void
on_wet(struct timer *timer)
{
	struct wet *wet = container_of(timer, struct wet, timer);

	if (wet->treq.op == TD_OP_FLUSH)
		medium_flush(&world.image, wet->mark);
	end_wet(wet, 0);
}

static void
wet_queue(td_driver_t *driver, td_request_t treq)
{
	struct wet *wet = world.wet;

	(void)driver;
	if (world.dead) {
		td_complete_request(treq, -EIO);
		return;
	}
	while (wet->busy)
		wet++;
	assert_true(wet < world.wet + WET_MAX);
	wet->busy = true;
	wet->treq = treq;
	wet->mark = medium_mark(&world.image);
	/* what is under way when the power fails may have got there */
	if (treq.op == TD_OP_WRITE)
		assert_true(medium_write(&world.image, treq.buf,
					 (size_t)treq.secs * SECTOR,
					 treq.sec * SECTOR));
	timer_init(&wet->timer, world.loop, on_wet);
	timer_set(&wet->timer, NS_PER_MS + pick(3 * NS_PER_MS));
}

static int
wet_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	(void)name;
	(void)flags;
	driver->info.size = SECTORS;
	driver->info.sector_size = SECTOR;
	return 0;
}

static int
wet_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
wet_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
wet_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static struct tap_disk tapdisk_wet = {
	.disk_type = "tapdisk_wet",
	.td_open = wet_open,
	.td_close = wet_close,
	.td_get_parent_id = wet_get_parent_id,
	.td_validate_parent = wet_validate_parent,
	.td_queue_read = wet_queue,
	.td_queue_write = wet_queue,
	.td_queue_flush = wet_queue,
};

static const struct driver_type types[] = {
	{ "wet", -1, &tapdisk_wet, "" },
	{ NULL, -1, NULL, NULL },
};

static uint32_t
on_image(unsigned int sector)
{
	uint32_t number;

	memcpy(&number, world.image.current + (size_t)sector * SECTOR,
	       sizeof(number));
	return number;
}

/* --- the workload --- */

static void
try_prove(struct write *write)
{
	if (!write->here || !write->there)
		return;
	tracker_release(&world.tracker, write->hold.offset, write->hold.length);
	write->busy = false;
}

static void
on_here(struct image_op *op, int error)
{
	struct write *write = container_of(op, struct write, op);

	if (world.dead)
		return;
	assert_int_equal(error, 0);
	write->here = true;
	try_prove(write);
}

static void
give_to_peer(struct write *write)
{
	unsigned int first = (unsigned int)(write->hold.offset / SECTOR);

	for (unsigned int i = 0; i < write->hold.length / SECTOR; i++)
		world.peer[first + i] = write->number;
}

static void
on_there(struct timer *timer)
{
	struct write *write = container_of(timer, struct write, peer);

	give_to_peer(write);
	write->there = true;
	try_prove(write);
}

/* Its intent is durable: it is stamped, and goes to both. */
static void
on_held(struct tracker_hold *hold)
{
	struct write *write = container_of(hold, struct write, hold);
	unsigned int first = (unsigned int)(hold->offset / SECTOR);

	write->accepted = true;
	write->number = ++world.number;
	tracker_stamp(&world.tracker, hold->offset, hold->length, world.epoch);
	for (unsigned int i = 0; i < hold->length / SECTOR; i++) {
		struct past *past = &world.past[first + i];

		assert_true(past->count < PAST);
		past->epoch[past->count] = (uint32_t)world.epoch;
		past->number[past->count++] = write->number;
		memcpy(write->bytes + (size_t)i * SECTOR, &write->number,
		       sizeof(write->number));
	}
	write->op = (struct image_op){ .op = TD_OP_WRITE,
				       .offset = hold->offset,
				       .length = hold->length,
				       .buffer = write->bytes,
				       .on_done = on_here };
	image_io_start(&world.io, &write->op);
	timer_set(&write->peer, pick(6 * NS_PER_MS));
}

/* W5: none that is under way is overlapped. */
static bool
is_free(uint64_t offset, uint64_t length)
{
	for (int i = 0; i < WRITES; i++) {
		const struct tracker_hold *hold = &world.write[i].hold;

		if (world.write[i].busy &&
		    offset < hold->offset + hold->length &&
		    hold->offset < offset + length)
			return false;
	}
	return true;
}

static void
begin_write(struct write *write)
{
	uint64_t length = SECTOR * (1 + pick(pick(3) ? 12 : 16 * 8));
	uint64_t offset = SECTOR * pick((SIZE - length) / SECTOR);

	if (pick(4) == 0) /* again and again into a few extents */
		offset %= 4u * EXTENT;
	if (!is_free(offset, length))
		return;
	*write = (struct write){ .busy = true };
	timer_init(&write->peer, world.loop, on_there);
	write->hold = (struct tracker_hold){ .offset = offset,
					     .length = length,
					     .on_held = on_held };
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
turn(void)
{
	uint64_t next, now;

	for (int i = 0; i < WRITES; i++) {
		if (!world.write[i].busy)
			begin_write(&world.write[i]);
	}
	if (pick(20) == 0 && !world.committing && world.epoch < EPOCHS) {
		world.committing = true;
		metadata_state(world.metadata)->epoch++;
		world.commit.on_done = on_committed;
		metadata_commit(world.metadata, &world.commit);
	}
	loop_run_until_idle(world.loop);
	next = loop_next(world.loop);
	now = loop_now(world.loop);
	if (next != UINT64_MAX && next > now)
		loop_advance(world.loop, next - now);
	loop_run_until_idle(world.loop);
}

/* --- life --- */

static void
on_failed(void *owner, int error)
{
	(void)owner;
	(void)error;
	assert_true(world.dead);
}

static const struct tracker_events events = { on_failed, on_failed };

static void
on_started(void *owner)
{
	(void)owner;
	world.started = true;
}

static void
on_part_of_nobody(td_request_t treq, int res)
{
	(void)treq;
	(void)res;
	fail_msg("the core's callback is not the tracker's");
}

static void
fill_state(struct metadata_state *state)
{
	memset(state->disk_id, 1, METADATA_ID);
	memset(state->replica_id, 2, METADATA_ID);
	state->role = METADATA_PRIMARY;
	state->size = SIZE;
	state->sector_size = SECTOR;
	state->consistent = true;
	state->epoch = 1;
	history_append(&state->history, 77, 1, 0);
}

/* Open what the media hold, to the end of the recovery. */
static void
start(void)
{
	static const struct tracker_options options = {
		.region = REGION,
		.extent = EXTENT,
		.capacity = CAPACITY,
		.is_new = true,
	};
	struct reason reason = { "" };
	bool is_new = false;

	world.metadata = metadata_open(world.loop,
				       fake_store_open(&world.file, world.loop),
				       &is_new, &reason);
	assert_non_null(world.metadata);
	if (is_new)
		fill_state(metadata_state(world.metadata));
	assert_int_equal(tracker_open(&world.tracker, world.loop,
				      world.metadata, &world.io, &options,
				      &events, &reason),
			 0);
	world.tracker.owner = &world;
	world.epoch = metadata_state(world.metadata)->epoch;
	world.started = world.dead = false;
	tracker_start(&world.tracker, on_started);
	while (!world.started) {
		loop_run_until_idle(world.loop);
		loop_advance(world.loop, NS_PER_MS);
	}
}

static void
close_tracker(void)
{
	world.metadata = metadata_close(world.metadata);
	tracker_close(&world.tracker);
}

static void
begin(uint64_t seed)
{
	memset(&world, 0, sizeof(world));
	world.seed = seed;
	world.loop = loop_new_simulated();
	medium_init(&world.image, SIZE, SIZE);
	image_stack_init(&world.stack, world.loop, NULL, types,
			 on_part_of_nobody);
	assert_int_equal(image_stack_open(&world.stack, "wet:", 0, NULL), 0);
	image_io_init(&world.io, world.loop, world.stack.top);
	fake_file_init(&world.file, seed);
	world.file.delay_ns = 100 * NS_PER_US;
	world.file.spread_ns = 6 * NS_PER_MS;
	start();
}

struct dice {
	uint64_t random;
	enum survivors way;
};

static bool
survives(void *arg, size_t number)
{
	struct dice *dice = arg;

	(void)number;
	switch (dice->way) {
	case NONE:
		return false;
	case ALL:
		return true;
	case ANY:
	case WAYS:
		break;
	}
	return random_next(&dice->random) < 0.5;
}

/* The power fails; nothing that was under way goes on. */
static void
cut(enum survivors way, uint64_t seed)
{
	struct dice dice = { .random = seed * WAYS + way, .way = way };

	world.dead = true;
	for (int i = 0; i < WRITES; i++) {
		struct write *write = &world.write[i];

		timer_clear(&write->peer);
		/* what was sent may have got there */
		if (write->busy && write->accepted && !write->there &&
		    survives(&dice, 0))
			give_to_peer(write);
	}
	fake_file_abandon(&world.file);
	medium_crash(&world.file.medium, survives, &dice);
	medium_crash(&world.image, survives, &dice);
	for (int i = 0; i < WET_MAX; i++) {
		if (world.wet[i].busy)
			end_wet(&world.wet[i], -EIO);
	}
	loop_run_until_idle(world.loop);
	close_tracker();
}

static void
end(void)
{
	cut(ALL, 0);
	image_io_done(&world.io);
	image_stack_close(&world.stack, NULL);
	image_stack_done(&world.stack);
	fake_file_done(&world.file);
	medium_done(&world.image);
	world.loop = loop_free(world.loop);
}

/* --- the oracle --- */

/* What the sector held when the epoch ended. */
static uint32_t
at_end_of(unsigned int sector, uint64_t epoch)
{
	const struct past *past = &world.past[sector];
	uint32_t number = 0;

	for (unsigned int i = 0; i < past->count && past->epoch[i] <= epoch;
	     i++)
		number = past->number[i];
	return number;
}

static void
ask(unsigned int sector, unsigned int *lost)
{
	uint64_t offset = (uint64_t)sector * SECTOR;
	uint64_t stamp = tracker_stamp_of(&world.tracker, offset);
	uint32_t here = on_image(sector);

	for (uint64_t epoch = 0; epoch < world.epoch; epoch++) {
		if (stamp <= epoch && here != at_end_of(sector, epoch))
			fail_msg("A10: sector %u has changed since epoch %u, "
				 "and its region is stamped %u",
				 sector, (unsigned)epoch, (unsigned)stamp);
	}
	if (here != world.peer[sector] &&
	    !dirty_map_is_suspect(&world.tracker.map, offset))
		fail_msg("A6: sector %u holds write %u here and %u on the "
			 "peer, and is not suspect",
			 sector, here, world.peer[sector]);
	*lost += here != at_end_of(sector, UINT64_MAX);
}

static void
judge(unsigned int *lost)
{
	for (unsigned int sector = 0; sector < SECTORS; sector++) {
		if (world.past[sector].count > 0 ||
		    sector % (REGION / SECTOR) == 0)
			ask(sector, lost);
	}
}

static void
cut_at(unsigned int point, enum survivors way, unsigned int *lost)
{
	begin(11);
	for (unsigned int i = 0; i < point; i++)
		turn();
	cut(way, point);
	start();
	judge(lost);
	/* and once more, as soon as it is up */
	cut(way, point + 1);
	start();
	judge(lost);
	end();
}

static void
cut_at_each(unsigned int first)
{
	unsigned int lost = 0;

	for (unsigned int point = WARM + first; point < POINTS;
	     point += STRIDE) {
		for (int way = NONE; way < WAYS; way++)
			cut_at(point, (enum survivors)way, &lost);
	}
	/* or nothing was put to the test */
	assert_true(lost > 1000);
}

static void
test_what_a_power_cut_leaves_is_known(void **state)
{
	(void)state;
	cut_at_each(0);
}

static void
test_what_it_leaves_a_moment_later_is_known(void **state)
{
	(void)state;
	cut_at_each(1);
}

static void
test_and_a_moment_later_still(void **state)
{
	(void)state;
	cut_at_each(2);
}

/* The log is full from some point on, and extents leave it. */
static void
test_the_workload_makes_extents_leave(void **state)
{
	(void)state;
	begin(11);
	for (unsigned int i = 0; i < POINTS; i++)
		turn();
	assert_true(world.tracker.image_flushes > 3);
	assert_true(world.tracker.page_writes > 5);
	assert_true(world.epoch > 4);
	end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_workload_makes_extents_leave),
		cmocka_unit_test(test_what_a_power_cut_leaves_is_known),
		cmocka_unit_test(test_what_it_leaves_a_moment_later_is_known),
		cmocka_unit_test(test_and_a_moment_later_still),
	};

	log_set_level(LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

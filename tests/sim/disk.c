/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk - see sim.h: an image driver over a node's medium.
 *
 * An operation takes its time; a write is there when it begins, or when it
 * ends, or in parts if the host dies in between; a read gives what is there
 * when it begins, or when it ends.  Two changes of one sector that are under
 * way together break A4: the disk may do them in any order.
 *
 * A read that flips a bit returns what nobody wrote.  No checksum lies below
 * the replica, so what a read makes up is, for whoever asked, the content: a
 * guest gets it, and a copy carries it to the other host, protected from then
 * on.  So the oracle asks that exactly such bytes, in the sector that they
 * were read from, are all that may differ or be read: no more, nowhere else.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "tests/sim/sim.h"

#define QUICK_NS (100 * NS_PER_MS) /* what takes longer keeps somebody */

struct operation {
	struct timer timer;
	struct list_head entry;
	struct node *node;
	td_request_t treq;
	uint64_t mark; /* of a flush */
	bool changes;
	bool applied;
};

struct flip {
	struct flip *next; /* owned */
	uint64_t sector;
	unsigned char bytes[SIM_SECTOR];
};

static bool
changes_data(int op)
{
	return op == TD_OP_WRITE || op == TD_OP_WRITE_ZEROES ||
	       op == TD_OP_DISCARD;
}

static void
apply(struct operation *operation)
{
	const td_request_t *treq = &operation->treq;

	operation->applied = true;
	if (!medium_write(&operation->node->disk,
			  treq->op == TD_OP_WRITE ? treq->buf : NULL,
			  (size_t)treq->secs * SIM_SECTOR,
			  treq->sec * SIM_SECTOR))
		world_fail("%s: a write beyond the end", operation->node->name);
}

/* Some of its sectors. */
static void
apply_partly(struct operation *operation)
{
	const td_request_t *treq = &operation->treq;

	for (int i = 0; i < treq->secs; i++) {
		const char *from = treq->op == TD_OP_WRITE
					   ? treq->buf + (size_t)i * SIM_SECTOR
					   : NULL;

		if (sim_chance(STREAM_DISK, 0.5))
			(void)medium_write(
				&operation->node->disk, from, SIM_SECTOR,
				(treq->sec + (uint64_t)i) * SIM_SECTOR);
	}
}

/* --- lies --- */

static void
flip(struct operation *operation)
{
	const td_request_t *treq = &operation->treq;
	uint64_t number = sim_below(STREAM_DISK, (uint64_t)treq->secs);
	unsigned char *bytes = (unsigned char *)treq->buf + number * SIM_SECTOR;
	struct flip *made_up = calloc(1, sizeof(*made_up));

	if (made_up == NULL)
		abort();
	operation->node->flips--;
	sim->befell[FAULT_FLIP]++;
	bytes[sim_below(STREAM_DISK, SIM_SECTOR)] ^=
		(unsigned char)(1u << sim_below(STREAM_DISK, 8));
	made_up->sector = treq->sec + number;
	memcpy(made_up->bytes, bytes, SIM_SECTOR);
	made_up->next = sim->flips;
	sim->flips = made_up;
	world_say("%s: the disk reads sector %llu wrongly",
		  operation->node->name, (unsigned long long)made_up->sector);
}

bool
disk_made_up(uint64_t sector, const unsigned char *bytes)
{
	for (const struct flip *one = sim->flips; one != NULL;
	     one = one->next) {
		if (one->sector == sector &&
		    memcmp(one->bytes, bytes, SIM_SECTOR) == 0)
			return true;
	}
	return false;
}

bool
disk_ever_made_up(uint64_t sector)
{
	const struct flip *one = sim->flips;

	while (one != NULL && one->sector != sector)
		one = one->next;
	return one != NULL;
}

void
disk_done(struct world *world)
{
	while (world->flips != NULL) {
		struct flip *next = world->flips->next;

		free(world->flips);
		world->flips = next;
	}
}

static void
look(struct operation *operation)
{
	const td_request_t *treq = &operation->treq;

	(void)medium_read(&operation->node->disk, treq->buf,
			  (size_t)treq->secs * SIM_SECTOR,
			  treq->sec * SIM_SECTOR);
	operation->applied = true;
}

/* --- the end of an operation --- */

static int
fail(struct operation *operation, enum sim_fault fault, int error)
{
	const td_request_t *treq = &operation->treq;

	sim->befell[fault]++;
	world_say("%s: the disk fails op %d of %d sectors at %llu: %s",
		  operation->node->name, treq->op, treq->secs,
		  (unsigned long long)treq->sec, strerror(-error));
	if (operation->changes && !operation->applied)
		apply_partly(operation);
	return error;
}

static int
finish(struct operation *operation)
{
	struct node *node = operation->node;
	const td_request_t *treq = &operation->treq;

	if (node->errors > 0 && sim_chance(STREAM_DISK, 0.3)) {
		node->errors--;
		return fail(operation, FAULT_EIO, -EIO);
	}
	if (sim->now_ns < node->full_until_ns && treq->op == TD_OP_WRITE &&
	    sim_chance(STREAM_DISK, 0.5))
		return fail(operation, FAULT_FULL, -ENOSPC);
	if (operation->changes && !operation->applied)
		apply(operation);
	else if (treq->op == TD_OP_READ && !operation->applied)
		look(operation);
	else if (treq->op == TD_OP_FLUSH)
		medium_flush(&node->disk, operation->mark);
	if (treq->op == TD_OP_READ && node->flips > 0 &&
	    sim_chance(STREAM_DISK, 0.3))
		flip(operation);
	return 0;
}

static void
on_end(struct timer *timer)
{
	struct operation *operation =
		container_of(timer, struct operation, timer);
	td_request_t treq = operation->treq;
	int error;

	if (!node_is_live(operation->node))
		return;
	error = finish(operation);
	list_del(&operation->entry);
	free(operation);
	td_complete_request(treq, error);
}

/* A4. */
static void
check_overlap(const struct operation *one)
{
	const struct operation *two;
	const td_request_t *a = &one->treq, *b;

	list_for_each_entry (two, &one->node->operations, entry) {
		b = &two->treq;
		if (two->changes && a->sec < b->sec + (td_sector_t)b->secs &&
		    b->sec < a->sec + (td_sector_t)a->secs)
			world_fail("A4: on %s two overlapping writes are in "
				   "flight: %d sectors at %llu, %d at %llu",
				   one->node->name, a->secs,
				   (unsigned long long)a->sec, b->secs,
				   (unsigned long long)b->sec);
	}
}

static uint64_t
duration(const struct node *node, int op)
{
	uint64_t base = 10 * NS_PER_US, spread = 400 * NS_PER_US;

	if (op == TD_OP_FLUSH)
		spread = 3 * NS_PER_MS;
	if (sim_chance(STREAM_DISK, 0.02))
		spread = 30 * NS_PER_MS;
	base += (uint64_t)(sim_random(STREAM_DISK) * (double)spread);
	if (sim->now_ns < node->slow_until_ns)
		base += sim_below(STREAM_DISK,
				  node->slow_until_ns - sim->now_ns);
	if (sim->now_ns < node->hang_until_ns)
		base += node->hang_until_ns - sim->now_ns;
	return base;
}

static void
sim_queue(td_driver_t *driver, td_request_t treq)
{
	struct node *node = node_of(driver->image->stack->loop);
	struct operation *operation;
	uint64_t time;

	if (!node_acts(node))
		return;
	if (sim_chance(STREAM_DISK, 0.003)) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	operation = calloc(1, sizeof(*operation));
	if (operation == NULL)
		abort();
	operation->node = node;
	operation->treq = treq;
	operation->changes = changes_data(treq.op);
	operation->mark = medium_mark(&node->disk);
	if (operation->changes) {
		check_overlap(operation);
		tracking_of_write(node, treq.sec * SIM_SECTOR,
				  (uint64_t)treq.secs * SIM_SECTOR);
		if (sim_chance(STREAM_DISK, 0.3))
			apply(operation);
	} else if (treq.op == TD_OP_READ && sim_chance(STREAM_DISK, 0.5)) {
		look(operation);
	}
	list_add_tail(&operation->entry, &node->operations);
	timer_init(&operation->timer, node->loop, on_end);
	time = duration(node, treq.op);
	if (time > QUICK_NS)
		world_ails(sim->now_ns + time);
	timer_set(&operation->timer, time);
}

static void
sim_queue_status(td_driver_t *driver, td_request_t treq)
{
	static const unsigned char zeroes[8 * SIM_SECTOR];
	struct node *node = node_of(driver->image->stack->loop);
	td_sector_t at = treq.sec, end = at + (td_sector_t)treq.secs;

	while (node_is_live(node) && at < end) {
		const unsigned char *bytes =
			node->disk.current + at * SIM_SECTOR;
		td_sector_t secs = end - at < 8 ? end - at : 8;
		bool zero = memcmp(bytes, zeroes, secs * SIM_SECTOR) == 0;

		td_add_extent(treq, at, secs, zero ? TD_EXTENT_ZERO : 0);
		at += secs;
	}
	if (node_is_live(node))
		td_complete_request(treq, 0);
}

void
disk_dies(struct node *node, bool power)
{
	struct operation *operation, *spare;

	list_for_each_entry_safe (operation, spare, &node->operations, entry) {
		double what = sim_random(STREAM_DISK);

		if (operation->changes && !operation->applied) {
			if (what < 0.33)
				apply(operation);
			else if (what < 0.66)
				apply_partly(operation);
		}
		list_del(&operation->entry);
		free(operation);
	}
	if (power)
		medium_crash_random(&node->disk, &sim->random[STREAM_DISK]);
}

static int
sim_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	(void)name;
	(void)flags;
	driver->info.size = sim_sectors();
	driver->info.sector_size = SIM_SECTOR;
	return 0;
}

static int
sim_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
sim_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
sim_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

struct tap_disk tapdisk_sim = {
	.disk_type = "tapdisk_sim",
	.td_open = sim_open,
	.td_close = sim_close,
	.td_get_parent_id = sim_get_parent_id,
	.td_validate_parent = sim_validate_parent,
	.td_queue_read = sim_queue,
	.td_queue_write = sim_queue,
	.td_queue_flush = sim_queue,
	.td_queue_discard = sim_queue,
	.td_queue_write_zeroes = sim_queue,
	.td_queue_block_status = sim_queue_status,
};

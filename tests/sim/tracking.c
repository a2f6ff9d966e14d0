/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracking - see sim.h: what must be true of intents, stamps and suspects.
 *
 *  A2, W1  when a write touches an image, its extents are in that host's
 *	    durable intents, as its file has them
 *  A6, I2  if both hosts lost power now, then each sector that the two might
 *	    have differently lies in a region of the union that their meeting
 *	    would compute (H6), from what their files hold and C1 makes of it
 *
 * What would be found is read from copies of the files by the product's own
 * code; that the files hold enough is what is asked.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "replication/history.h"
#include "replication/tracker.h"
#include "replication/tracker_private.h"
#include "tests/sim/sim.h"

/* --- A2 --- */

/* The newest whole set of intents in the file; NULL without a map. */
static const struct intent *
durable_intents(struct node *node)
{
	const struct metadata_map *map = &node->durable.map;
	const struct medium *medium = &node->file.medium;
	static struct intent intents[SIM_NODES];
	static uint64_t read_at[SIM_NODES]; /* flushes until then */
	struct intent *intent = &intents[node->index];
	uint64_t generation, highest = 0;
	const unsigned char *best = NULL;
	size_t length;

	if (!node->has_durable || map->id == 0)
		return NULL;
	if (intent->index != NULL && intent->id == map->id &&
	    read_at[node->index] == node->flushes)
		return intent;
	intent_close(intent);
	read_at[node->index] = node->flushes;
	if (intent_open(intent, sim->disk_bytes, map->extent, map->capacity,
			map->id) < 0)
		abort();
	length = intent_slot_bytes(map->capacity);
	for (unsigned int slot = 0; slot < TRACKER_SLOTS; slot++) {
		uint64_t at = tracker_slot_offset(map->capacity, slot);

		if (at + length > medium->room ||
		    intent_check(intent, medium->durable + at, length,
				 &generation) != INTENT_WHOLE ||
		    (best != NULL && generation <= highest))
			continue;
		best = medium->durable + at;
		highest = generation;
	}
	if (best == NULL)
		return NULL;
	intent_decode(intent, best);
	return intent;
}

void
tracking_of_write(struct node *node, uint64_t offset, uint64_t length)
{
	const struct intent *intent = durable_intents(node);

	if (intent == NULL)
		world_fail("A2: %s writes to its image without durable intents",
			   node->name);
	else if (!intent_is_durable(intent, offset, length))
		world_fail("A2: %s writes %" PRIu64 " bytes at offset %" PRIu64
			   " of its image, which no durable intent covers",
			   node->name, length, offset);
}

/* --- what a host would find, had it lost power now --- */

struct found {
	struct fake_file file; /* a copy of the durable bytes */
	struct loop *loop;
	struct image_io io;
	struct metadata *metadata;
	struct tracker tracker;
	bool whole;
};

static void
on_failed(void *owner, int error)
{
	(void)owner;
	(void)error;
	world_fail("a look at a file wrote to it");
}

static void
find(struct node *node, struct found *found)
{
	static const struct tracker_events events = { .on_failed = on_failed,
						      .on_flush_failed =
							      on_failed };
	const struct tracker_options options = { .is_new = false };
	const struct medium *medium = &node->file.medium;
	struct store *store;
	bool is_new = true;

	if (found->loop == NULL) {
		found->loop = loop_new_simulated();
		fake_file_init(&found->file, 1);
		image_io_init(&found->io, found->loop, NULL);
	}
	memcpy(found->file.medium.current, medium->durable,
	       medium->durable_length);
	found->file.medium.length = medium->durable_length;
	store = fake_store_open(&found->file, found->loop);
	found->metadata = metadata_open(found->loop, store, &is_new, NULL);
	if (found->metadata == NULL) {
		world_fail("the metadata of %s could not be opened after a "
			   "loss of power",
			   node->name);
		return;
	}
	found->whole = !is_new && metadata_state(found->metadata)->map.id != 0;
	if (found->whole &&
	    tracker_open(&found->tracker, found->loop, found->metadata,
			 &found->io, &options, &events, NULL) < 0)
		world_fail("the map of %s could not be read after a loss of "
			   "power",
			   node->name);
}

static void
forget(struct found *found)
{
	if (found->whole)
		tracker_close(&found->tracker);
	(void)metadata_close(found->metadata);
	found->metadata = NULL;
}

/* --- I2 --- */

static struct meeting_side
side_of(const struct found *found)
{
	const struct metadata_state *state = metadata_state(found->metadata);

	return (struct meeting_side){
		.history = &state->history,
		.epoch = state->epoch,
		.active = state->active,
		.consistent = state->consistent,
		.primary_last = state->role == METADATA_PRIMARY,
	};
}

/* Where the two would meet.  False: they would not, or copy everything. */
static bool
find_position(const struct found *a, const struct found *b, uint64_t *ret_epoch)
{
	struct meeting_side sides[2] = { side_of(a), side_of(b) };
	struct meeting meeting;

	if (sides[0].history->count == 0 || sides[1].history->count == 0)
		return false;
	meeting = meeting_decide(&sides[0], &sides[1], NULL);
	*ret_epoch = meeting.epoch;
	return meeting.outcome != MEETING_REFUSE;
}

static bool
is_in_union(const struct found *found, uint64_t epoch, uint64_t offset)
{
	return tracker_stamp_of(&found->tracker, offset) > epoch ||
	       metadata_state(found->metadata)->map.suspect_all ||
	       dirty_map_is_suspect(&found->tracker.map, offset);
}

/* As they are, or as they would be if nothing more was written out. */
static bool
may_differ(uint64_t sector)
{
	const struct medium *a = &sim->node[0].disk, *b = &sim->node[1].disk;
	size_t at = sector * SIM_SECTOR;

	return memcmp(a->current + at, b->current + at, SIM_SECTOR) != 0 ||
	       memcmp(a->durable + at, b->durable + at, SIM_SECTOR) != 0 ||
	       memcmp(a->current + at, a->durable + at, SIM_SECTOR) != 0;
}

static bool
are_equal(void)
{
	const struct medium *a = &sim->node[0].disk, *b = &sim->node[1].disk;

	return memcmp(a->current, b->current, sim->disk_bytes) == 0 &&
	       memcmp(a->durable, b->durable, sim->disk_bytes) == 0 &&
	       memcmp(a->current, a->durable, sim->disk_bytes) == 0;
}

static void
check_union(const struct found *a, const struct found *b, uint64_t epoch)
{
	for (uint64_t i = 0; i < sim_sectors() && !sim->failed; i++) {
		uint64_t offset = i * SIM_SECTOR;

		if (may_differ(i) && !is_in_union(a, epoch, offset) &&
		    !is_in_union(b, epoch, offset) && !disk_ever_made_up(i))
			world_fail("I2: without power now, sector %" PRIu64
				   " could differ, and no stamp above epoch "
				   "%" PRIu64 " and no suspect says so",
				   i, epoch);
	}
}

void
tracking_of_pair(void)
{
	static struct found a, b;
	uint64_t epoch = 0;

	if (!sim->node[0].has_durable || !sim->node[1].has_durable ||
	    are_equal())
		return;
	find(&sim->node[0], &a);
	find(&sim->node[1], &b);
	if (!sim->failed && a.whole && b.whole && find_position(&a, &b, &epoch))
		check_union(&a, &b, epoch);
	forget(&a);
	forget(&b);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracker_open - what a tracker finds at open, its recovery (C1), a map that is
 * made, and the clean end.
 *
 *  a new map    state without a map -> the file's end and an empty set of
 *               intents, flushed -> state with the map.  A crash in between is
 *               as none: there is no map before the last.
 *  a crash      stamps and suspects of the logged extents, flushed -> state
 *  the end      all extents leave -> an empty set -> state
 *
 * What cannot be read makes more count as changed, never less.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/log.h"
#include "core/reason.h"
#include "replication/tracker_private.h"

#define PAGE	    DIRTY_MAP_PAGE_BYTES
#define PLACES	    2	/* of a page */
#define CHUNK_PAGES 128 /* read at once */

static struct metadata_state *
state_of(const struct tracker *tracker)
{
	return metadata_state(tracker->metadata);
}

const struct metadata_map *
tracker_row(const struct tracker *tracker)
{
	return tracker->fresh.id != 0 ? &tracker->fresh
				      : &state_of(tracker)->map;
}

uint64_t
tracker_slot_offset(unsigned int capacity, unsigned int slot)
{
	return METADATA_BYTES + (uint64_t)slot * intent_slot_bytes(capacity);
}

uint64_t
tracker_page_offset(unsigned int capacity, uint64_t page, uint32_t generation)
{
	return tracker_slot_offset(capacity, TRACKER_SLOTS) +
	       page * PLACES * PAGE + (uint64_t)(generation % PLACES) * PAGE;
}

/* The last place of the last page: the file ends behind it. */
static uint64_t
last_place(const struct tracker *tracker)
{
	return tracker_page_offset(tracker->intent.capacity,
				   tracker->map.pages - 1, 1);
}

/* --- too wide, never too narrow --- */

/* What was read does not tell: the range counts as changed now. */
static void
widen(struct tracker *tracker, uint64_t offset, uint64_t length)
{
	struct metadata_state *state = state_of(tracker);

	dirty_map_stamp(&tracker->map, offset, length,
			state->epoch > 0 ? state->epoch : 1);
	dirty_map_suspect(&tracker->map, offset, length);
	state->map.wide_epoch = state->epoch;
	tracker->recovered = true;
}

static void
widen_all(struct tracker *tracker)
{
	struct metadata_state *state = state_of(tracker);

	tracker_forget(tracker, state->epoch);
	state->map.suspect_all = true;
}

bool
tracker_check_image(struct tracker *tracker, uint64_t size, uint64_t time_ns)
{
	const struct metadata_map *row = &state_of(tracker)->map;

	if (row->image_size == 0 ||
	    (row->image_size == size && row->image_time_ns == time_ns))
		return false;
	widen_all(tracker);
	return true;
}

/* --- reading --- */

static int
read_failed(const struct tracker *tracker, long r, struct reason *reason)
{
	return reason_set(reason, (int)r, "%s: cannot be read: %s",
			  tracker->store->name, strerror((int)-r));
}

static int
read_slots(struct tracker *tracker, struct reason *reason)
{
	size_t length = intent_slot_bytes(tracker->intent.capacity);
	unsigned char *best = NULL, *bytes = tracker->slot_bytes;
	unsigned char *copy = malloc(length);
	uint64_t generation, highest = 0;
	int r = 0;

	if (copy == NULL)
		return -ENOMEM;
	for (unsigned int slot = 0; slot < TRACKER_SLOTS && r == 0; slot++) {
		long n = tracker->store->ops->read(
			tracker->store, bytes, length,
			tracker_slot_offset(tracker->intent.capacity, slot));

		if (n < 0) {
			r = read_failed(tracker, n, reason);
			break;
		}
		if (intent_check(&tracker->intent, bytes, (size_t)n,
				 &generation) == INTENT_WHOLE &&
		    generation % TRACKER_SLOTS == slot &&
		    (best == NULL || generation > highest)) {
			best = copy;
			highest = generation;
			memcpy(copy, bytes, length);
		}
	}
	if (r == 0 && best != NULL) {
		intent_decode(&tracker->intent, best);
	} else if (r == 0) {
		log_warn("tracker",
			 "%s: the log of write intents is damaged, so every "
			 "region counts as changed",
			 tracker->store->name);
		widen_all(tracker);
	}
	free(copy);
	return r;
}

/* Whether an extent that a page covers is logged. */
static bool
is_logged(const struct tracker *tracker, uint64_t offset, uint64_t length)
{
	const struct intent *intent = &tracker->intent;
	uint64_t last = (offset + length - 1) >> intent->shift;

	for (uint64_t at = offset >> intent->shift; at <= last; at++) {
		if (intent->index[at] != 0)
			return true;
	}
	return false;
}

static void
load_page(struct tracker *tracker, uint64_t number, const unsigned char *bytes)
{
	struct dirty_map *map = &tracker->map;
	uint64_t offset = (number * DIRTY_MAP_STAMPS) << map->shift;
	uint64_t length = (uint64_t)DIRTY_MAP_STAMPS << map->shift;
	enum dirty_map_bytes kind[PLACES];
	uint32_t generation[PLACES] = { 0 };
	int best = -1, damaged = -1;

	if (length > map->size - offset)
		length = map->size - offset;
	for (int i = 0; i < PLACES; i++) {
		kind[i] = dirty_map_check(map, number, bytes + (size_t)i * PAGE,
					  &generation[i]);
		if (kind[i] == DIRTY_MAP_WHOLE &&
		    generation[i] % PLACES != (uint32_t)i)
			kind[i] = DIRTY_MAP_DAMAGED;
		if (kind[i] == DIRTY_MAP_DAMAGED)
			damaged = i;
		else if (kind[i] == DIRTY_MAP_WHOLE &&
			 (best < 0 ||
			  dirty_map_is_newer(generation[i], generation[best])))
			best = i;
	}
	if (best >= 0)
		dirty_map_decode(map, number, bytes + (size_t)best * PAGE);
	if (damaged < 0)
		return;
	/* Torn by a crash: the other place is what was before.  Blank, it is
	 * generation 0, which is followed by place 1. */
	if (is_logged(tracker, offset, length) &&
	    (best >= 0 || (damaged == 1 && kind[0] == DIRTY_MAP_BLANK)))
		return;
	log_warn("tracker",
		 "%s: page %" PRIu64 " of the map is damaged, so what it is "
		 "about counts as changed",
		 tracker->store->name, number);
	widen(tracker, offset, length);
}

static int
read_pages(struct tracker *tracker, struct reason *reason)
{
	const size_t pair = (size_t)PLACES * PAGE;
	uint64_t pages = tracker->map.pages;
	unsigned char *bytes = aligned_alloc(PAGE, CHUNK_PAGES * pair);
	int r = bytes == NULL ? -ENOMEM : 0;

	for (uint64_t page = 0; page < pages && r == 0; page += CHUNK_PAGES) {
		uint64_t count = pages - page;
		long n;

		if (count > CHUNK_PAGES)
			count = CHUNK_PAGES;
		n = tracker->store->ops->read(
			tracker->store, bytes, count * pair,
			tracker_page_offset(tracker->intent.capacity, page, 0));
		if (n < 0)
			r = read_failed(tracker, n, reason);
		else if ((uint64_t)n < count * pair)
			r = reason_set(reason, -EBADMSG,
				       "%s: they end within the map of "
				       "changes, so they were cut off: restore "
				       "them, or remove them if this host is "
				       "to become a new copy of the disk",
				       tracker->store->name);
		for (uint64_t i = 0; r == 0 && i < count; i++)
			load_page(tracker, page + i, bytes + i * pair);
	}
	free(bytes);
	return r;
}

/* C1. */
static void
recover(struct tracker *tracker)
{
	struct intent_extent *extent;
	unsigned int count = 0;

	list_for_each_entry (extent, &tracker->intent.lru, entry) {
		widen(tracker, intent_offset(&tracker->intent, extent->number),
		      intent_length(&tracker->intent, extent->number));
		count++;
	}
	if (count > 0)
		log_info("tracker",
			 "%s: it was not stopped cleanly: %u extents of %u KiB "
			 "count as changed",
			 tracker->store->name, count,
			 1u << (tracker->intent.shift - 10));
}

static int
read_all(struct tracker *tracker, struct reason *reason)
{
	int r = read_slots(tracker, reason);

	if (r == 0)
		r = read_pages(tracker, reason);
	if (r == 0)
		recover(tracker);
	return r;
}

/* --- open --- */

static uint32_t
either(uint32_t asked, uint32_t usual)
{
	return asked != 0 ? asked : usual;
}

static void
plan(struct tracker *tracker, const struct tracker_options *options)
{
	struct metadata_map *fresh = &tracker->fresh;

	if (getrandom(&fresh->id, sizeof(fresh->id), 0) != sizeof(fresh->id))
		abort(); /* ids that are not unique would be a lie */
	fresh->id |= 1;	 /* never 0 */
	fresh->region = either(options->region, DIRTY_MAP_REGION);
	fresh->extent = either(options->extent, INTENT_EXTENT);
	if (options->extent == 0 && fresh->extent < fresh->region)
		fresh->extent = fresh->region;
	fresh->capacity = either(options->capacity, INTENT_CAPACITY);
}

static int
check_options(const struct tracker *tracker,
	      const struct tracker_options *options, struct reason *reason)
{
	const struct metadata_map *row = tracker_row(tracker);

	if (!dirty_map_is_region(row->region) ||
	    !intent_is_extent(row->extent) || row->extent < row->region)
		return reason_set(reason, -EINVAL,
				  "regions of %u bytes in extents of %u cannot "
				  "be tracked: give powers of two, regions of "
				  "4K to 1M, extents of 64K to 1G",
				  row->region, row->extent);
	if (row->capacity < INTENT_CAPACITY_MIN ||
	    row->capacity > INTENT_CAPACITY_MAX)
		return reason_set(reason, -EINVAL,
				  "%u extents cannot be logged: %d to %d can",
				  row->capacity, INTENT_CAPACITY_MIN,
				  INTENT_CAPACITY_MAX);
	if (either(options->region, row->region) != row->region ||
	    either(options->extent, row->extent) != row->extent ||
	    either(options->capacity, row->capacity) != row->capacity)
		return reason_set(
			reason, -EINVAL,
			"%s: changes are tracked there in regions of "
			"%u bytes and %u extents of %u, as was asked "
			"for when they were made: leave that as it is",
			tracker->store->name, row->region, row->capacity,
			row->extent);
	return 0;
}

static int
allocate(struct tracker *tracker)
{
	const struct metadata_map *row = tracker_row(tracker);
	uint64_t size = state_of(tracker)->size;
	int r = dirty_map_open(&tracker->map, size, row->region, row->id);

	if (r == 0)
		r = intent_open(&tracker->intent, size, row->extent,
				row->capacity, row->id);
	if (r < 0)
		return r;
	tracker->slot_bytes =
		aligned_alloc(PAGE, intent_slot_bytes(row->capacity));
	tracker->page_bytes = aligned_alloc(PAGE, (size_t)TRACKER_BATCH * PAGE);
	if (tracker->slot_bytes == NULL || tracker->page_bytes == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < TRACKER_BATCH; i++) {
		tracker->page[i].tracker = tracker;
		tracker->page[i].bytes = tracker->page_bytes + i * PAGE;
	}
	return 0;
}

/* A guest's write is not to fail because metadata have no room.  Those that are
 * there already are good for as long as there is some. */
static int
reserve(struct tracker *tracker, struct reason *reason)
{
	const struct store_ops *ops = tracker->store->ops;
	uint64_t length = last_place(tracker) + PAGE;
	int r = ops->reserve == NULL ? 0 : ops->reserve(tracker->store, length);

	if (r == 0)
		return 0;
	(void)reason_set(reason, r,
			 "%s: there is no room for %" PRIu64
			 " KiB of metadata (%s): make room, or keep them "
			 "elsewhere",
			 tracker->store->name, length >> 10, strerror(-r));
	if (tracker->fresh.id != 0)
		return r;
	log_warn("tracker", "%s", reason_text(reason, r));
	return 0;
}

int
tracker_open(struct tracker *tracker, struct loop *loop,
	     struct metadata *metadata, struct image_io *io,
	     const struct tracker_options *options,
	     const struct tracker_events *events, struct reason *reason)
{
	int r;

	memset(tracker, 0, sizeof(*tracker));
	tracker->loop = loop;
	tracker->metadata = metadata;
	tracker->store = metadata_store(metadata);
	tracker->io = io;
	tracker->events = events;
	tracker->is_new = options->is_new;
	INIT_LIST_HEAD(&tracker->room);
	INIT_LIST_HEAD(&tracker->marking);
	INIT_LIST_HEAD(&tracker->syncs);
	INIT_LIST_HEAD(&tracker->syncing);
	task_init(&tracker->work, loop, tracker_work);
	timer_init(&tracker->tick, loop, tracker_on_tick);
	if (state_of(tracker)->map.id == 0)
		plan(tracker, options);
	r = check_options(tracker, options, reason);
	if (r == 0)
		r = allocate(tracker);
	if (r == 0)
		r = reserve(tracker, reason);
	if (r == 0 && tracker->fresh.id == 0)
		r = read_all(tracker, reason);
	return r;
}

void
tracker_close(struct tracker *tracker)
{
	if (tracker->loop == NULL)
		return;
	task_cancel(&tracker->work);
	timer_clear(&tracker->tick);
	dirty_map_close(&tracker->map);
	intent_close(&tracker->intent);
	free(tracker->slot_bytes);
	free(tracker->page_bytes);
	memset(tracker, 0, sizeof(*tracker));
}

/* --- start --- */

static void
end_phase(struct tracker *tracker)
{
	void (*on_end)(void *owner) = tracker->on_end;

	tracker->on_end = NULL;
	on_end(tracker->owner);
}

static void
on_committed(struct metadata_commit *commit, int error)
{
	struct tracker *tracker = container_of(commit, struct tracker, commit);

	if (error < 0)
		tracker_fail(tracker, error);
	else
		tracker->on_phase(tracker);
}

static void
commit(struct tracker *tracker, void (*then)(struct tracker *tracker))
{
	tracker->on_phase = then;
	tracker->commit.on_done = on_committed;
	metadata_commit(tracker->metadata, &tracker->commit);
}

static void
started(struct tracker *tracker)
{
	tracker->running = true;
	timer_set(&tracker->tick, TRACKER_TICK_S * NS_PER_S);
	task_post(&tracker->work);
	end_phase(tracker);
}

static void
on_made(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, flush_op);
	struct metadata_state *state = state_of(tracker);

	if (error < 0) {
		tracker_fail(tracker, error);
		return;
	}
	state->map = tracker->fresh;
	tracker->fresh.id = 0;
	/* What was written before there was a map, nobody knows. */
	if (state->history.count > 0 && !tracker->is_new) {
		state->map.unknown_epoch = state->epoch;
		state->map.wide_epoch = state->epoch;
		state->map.suspect_all = true;
	}
	commit(tracker, started);
}

static void
on_set_written(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, flush_op);

	if (error < 0) {
		tracker_fail(tracker, error);
		return;
	}
	op->on_done = on_made;
	tracker->store->ops->flush(tracker->store, op);
}

static void
on_end_written(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, flush_op);
	size_t length;

	if (error < 0) {
		tracker_fail(tracker, error);
		return;
	}
	length = intent_encode(&tracker->intent, tracker->slot_bytes);
	op->on_done = on_set_written;
	tracker->store->ops->write(
		tracker->store, op, tracker->slot_bytes, length,
		tracker_slot_offset(tracker->intent.capacity,
				    tracker->intent.generation %
					    TRACKER_SLOTS));
}

/* The state without a map is durable: nothing but that counts until there is
 * one. */
static void
make(struct tracker *tracker)
{
	memset(tracker->page_bytes, 0, PAGE);
	tracker->flush_op.on_done = on_end_written;
	tracker->store->ops->write(tracker->store, &tracker->flush_op,
				   tracker->page_bytes, PAGE,
				   last_place(tracker));
}

static void
on_recovered(struct tracker_sync *sync)
{
	struct tracker *tracker =
		container_of(sync, struct tracker, phase_sync);

	tracker->running = false;
	commit(tracker, started);
}

void
tracker_start(struct tracker *tracker, void (*on_end)(void *owner))
{
	tracker->on_end = on_end;
	if (tracker->fresh.id != 0) {
		commit(tracker, make);
		return;
	}
	state_of(tracker)->map.image_size = 0;
	state_of(tracker)->map.image_time_ns = 0;
	if (!tracker->recovered) {
		commit(tracker, started);
		return;
	}
	tracker->running = true; /* passes are, holds come later */
	tracker->phase_sync =
		(struct tracker_sync){ .all = true, .on_done = on_recovered };
	tracker_sync(tracker, &tracker->phase_sync);
}

/* --- stop --- */

/* The set that is durable has nothing to do with what has left. */
static void
record_image(struct tracker *tracker)
{
	struct metadata_map *row = &state_of(tracker)->map;

	row->image_size = tracker->image_size;
	row->image_time_ns = tracker->image_time_ns;
	commit(tracker, end_phase);
}

void
tracker_go_on_stopping(struct tracker *tracker)
{
	const struct intent *intent = &tracker->intent;

	if (tracker->pass != PASS_NONE || tracker->slot_busy ||
	    intent->count > 0 || tracker->map.dirty_pages > 0) {
		/* pages of no extent: the last suspects were absolved */
		if (tracker->pass == PASS_NONE && intent->count == 0 &&
		    tracker->map.dirty_pages > 0 && list_empty(&tracker->syncs))
			tracker_sync(tracker, &tracker->phase_sync);
		return;
	}
	if (!tracker->emptied) {
		tracker->emptied = true;
		tracker_write_slot(tracker);
		return;
	}
	tracker->stopping = false;
	tracker->running = false;
	record_image(tracker);
}

static void
on_last_pages(struct tracker_sync *sync)
{
	(void)sync; /* work() looks */
}

void
tracker_stop(struct tracker *tracker, uint64_t image_size,
	     uint64_t image_time_ns, void (*on_end)(void *owner))
{
	tracker->on_end = on_end;
	tracker->image_size = image_size;
	tracker->image_time_ns = image_time_ns;
	tracker->phase_sync =
		(struct tracker_sync){ .all = true, .on_done = on_last_pages };
	tracker->stopping = true;
	tracker->emptied = false;
	timer_clear(&tracker->tick);
	task_post(&tracker->work);
}

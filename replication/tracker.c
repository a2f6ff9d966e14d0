/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracker - see tracker.h.  Here: holds, the set of intents, and the passes
 * that write the map; what is read at open and how it starts and stops stands
 * in tracker_open.c.
 *
 * One pass is under way at a time: it encodes the pages that it is about, a few
 * at once, and ends with one flush.  A pass that lets extents leave flushes the
 * image beside that.  work() decides what is next, from the loop, so that what
 * one turn asks for is done together.
 */
#include "replication/tracker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "replication/tracker_private.h"

#define PAGE DIRTY_MAP_PAGE_BYTES

static void pass_go_on(struct tracker *tracker);

void
tracker_fail(struct tracker *tracker, int error)
{
	if (tracker->error < 0)
		return;
	tracker->error = error;
	/* Who stops closes the image when he hears it. */
	if (!tracker->stopping || !tracker->image_flushing)
		tracker->events->on_failed(tracker->owner, error);
}

static void
poke(struct tracker *tracker)
{
	task_post(&tracker->work);
}

/* --- the set of intents (T1) --- */

static void
release_marked(struct tracker *tracker)
{
	struct tracker_hold *hold, *spare;
	LIST_HEAD(due);

	list_for_each_entry_safe (hold, spare, &tracker->marking, entry) {
		if (intent_is_durable(&tracker->intent, hold->offset,
				      hold->length))
			list_move_tail(&hold->entry, &due);
	}
	while (!list_empty(&due)) {
		hold = list_first_entry(&due, struct tracker_hold, entry);
		list_del_init(&hold->entry);
		hold->on_held(hold);
	}
}

static void
on_slot_flushed(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, slot_op);

	tracker->slot_busy = false;
	if (error < 0) {
		tracker_fail(tracker, error);
		return;
	}
	intent_written(&tracker->intent);
	release_marked(tracker);
	poke(tracker);
}

static void
on_slot_written(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, slot_op);

	if (error < 0) {
		tracker->slot_busy = false;
		tracker_fail(tracker, error);
		return;
	}
	op->on_done = on_slot_flushed;
	tracker->store->ops->flush(tracker->store, op);
}

void
tracker_write_slot(struct tracker *tracker)
{
	size_t length = intent_encode(&tracker->intent, tracker->slot_bytes);
	unsigned int slot = tracker->intent.generation % TRACKER_SLOTS;

	assert(!tracker->slot_busy);
	tracker->slot_busy = true;
	tracker->stale = false;
	tracker->intent_writes++;
	tracker->slot_op.on_done = on_slot_written;
	tracker->store->ops->write(
		tracker->store, &tracker->slot_op, tracker->slot_bytes, length,
		tracker_slot_offset(tracker->intent.capacity, slot));
}

/* --- holds --- */

uint64_t
tracker_max_length(const struct tracker *tracker)
{
	return (uint64_t)(tracker->intent.capacity / 4)
	       << tracker->intent.shift;
}

static void
take(struct tracker *tracker, struct tracker_hold *hold)
{
	hold->taken = true;
	intent_take(&tracker->intent, hold->offset, hold->length);
}

bool
tracker_hold(struct tracker *tracker, struct tracker_hold *hold)
{
	assert(hold->length <= tracker_max_length(tracker));
	hold->taken = false;
	if (intent_is_durable(&tracker->intent, hold->offset, hold->length)) {
		take(tracker, hold);
		return true;
	}
	if (list_empty(&tracker->room) &&
	    intent_has_room(&tracker->intent, hold->offset, hold->length)) {
		take(tracker, hold);
		list_add_tail(&hold->entry, &tracker->marking);
	} else {
		list_add_tail(&hold->entry, &tracker->room);
	}
	poke(tracker);
	return false;
}

void
tracker_cancel(struct tracker *tracker, struct tracker_hold *hold)
{
	list_del_init(&hold->entry);
	if (hold->taken)
		tracker_release(tracker, hold->offset, hold->length);
}

void
tracker_hold_again(struct tracker *tracker, uint64_t offset, uint64_t length)
{
	intent_take(&tracker->intent, offset, length);
}

void
tracker_release(struct tracker *tracker, uint64_t offset, uint64_t length)
{
	intent_put(&tracker->intent, offset, length);
	if (!list_empty(&tracker->room))
		poke(tracker);
}

/* Those for which there is room now, in their order. */
static void
take_waiting(struct tracker *tracker)
{
	while (!list_empty(&tracker->room)) {
		struct tracker_hold *hold = list_first_entry(
			&tracker->room, struct tracker_hold, entry);

		if (!intent_has_room(&tracker->intent, hold->offset,
				     hold->length))
			return;
		list_move_tail(&hold->entry, &tracker->marking);
		take(tracker, hold);
	}
}

/* --- a pass --- */

static void
end_syncs(struct tracker *tracker)
{
	LIST_HEAD(due);

	list_splice_tail_init(&tracker->syncing, &due);
	while (!list_empty(&due)) {
		struct tracker_sync *sync =
			list_first_entry(&due, struct tracker_sync, entry);

		list_del_init(&sync->entry);
		sync->on_done(sync);
	}
}

static void
pass_end(struct tracker *tracker)
{
	enum tracker_pass pass = tracker->pass;

	if (!tracker->pages_done || tracker->image_flushing)
		return;
	tracker->pass = PASS_NONE;
	if (pass == PASS_LEAVE)
		tracker->stale = intent_leave_end(&tracker->intent) > 0 ||
				 tracker->stale;
	else
		end_syncs(tracker);
	poke(tracker);
}

static void
on_pages_flushed(struct store_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, flush_op);

	tracker->pages_flushing = false;
	if (error < 0) {
		tracker_fail(tracker, error);
		return;
	}
	tracker->pages_done = true;
	pass_end(tracker);
}

static void
on_page_written(struct store_op *op, int error)
{
	struct tracker_page *page = container_of(op, struct tracker_page, op);
	struct tracker *tracker = page->tracker;

	page->busy = false;
	tracker->pages_busy--;
	if (error < 0)
		tracker_fail(tracker, error);
	else
		pass_go_on(tracker);
}

static void
write_page(struct tracker *tracker, uint64_t number)
{
	struct tracker_page *page = tracker->page;

	while (page->busy)
		page++;
	page->busy = true;
	tracker->pages_busy++;
	tracker->page_writes++;
	tracker->map.page[number].batch = tracker->batch;
	dirty_map_encode(&tracker->map, number, page->bytes);
	page->op.on_done = on_page_written;
	tracker->store->ops->write(
		tracker->store, &page->op, page->bytes, PAGE,
		tracker_page_offset(tracker->intent.capacity, number,
				    tracker->map.page[number].generation));
}

/* The next page of extents that leave. */
static bool
next_of_leaving(struct tracker *tracker, uint64_t *ret_page)
{
	const struct intent *intent = &tracker->intent;
	const struct dirty_map *map = &tracker->map;

	while (tracker->extent_at != NULL) {
		const struct intent_extent *extent = tracker->extent_at;
		uint64_t offset = intent_offset(intent, extent->number);
		uint64_t end = offset + intent_length(intent, extent->number);
		uint64_t first = dirty_map_page_of(map, offset);
		uint64_t last = dirty_map_page_of(map, end - 1);

		if (!extent->leaving || tracker->page_at > last) {
			tracker->extent_at =
				intent_next_leaving(intent, extent);
			tracker->page_at = 0;
			continue;
		}
		if (tracker->page_at < first)
			tracker->page_at = first;
		*ret_page = tracker->page_at++;
		return true;
	}
	return false;
}

/* The next page that the pass is to write: dirty, and not written by it. */
static bool
next_page(struct tracker *tracker, uint64_t *ret_page)
{
	const struct dirty_map *map = &tracker->map;
	uint64_t number;

	for (;;) {
		if (tracker->pass == PASS_LEAVE) {
			if (!next_of_leaving(tracker, &number))
				return false;
		} else {
			number = dirty_map_next_dirty(map, tracker->page_at);
			if (number >= map->pages)
				return false;
			tracker->page_at = number + 1;
			if (tracker->pass == PASS_SUSPECTS &&
			    map->page[number].suspects == 0)
				continue;
		}
		if (map->page[number].dirty &&
		    map->page[number].batch != tracker->batch) {
			*ret_page = number;
			return true;
		}
	}
}

static void
pass_go_on(struct tracker *tracker)
{
	uint64_t number;

	if (tracker->error < 0)
		return;
	while (!tracker->pages_seen && tracker->pages_busy < TRACKER_BATCH) {
		if (next_page(tracker, &number))
			write_page(tracker, number);
		else
			tracker->pages_seen = true;
	}
	if (!tracker->pages_seen || tracker->pages_busy > 0 ||
	    tracker->pages_flushing)
		return;
	tracker->pages_flushing = true;
	tracker->flush_op.on_done = on_pages_flushed;
	tracker->store->ops->flush(tracker->store, &tracker->flush_op);
}

static void
pass_begin(struct tracker *tracker, enum tracker_pass pass)
{
	assert(tracker->pass == PASS_NONE);
	tracker->pass = pass;
	tracker->batch++;
	tracker->page_at = 0;
	tracker->pages_seen = false;
	tracker->pages_done = false;
	pass_go_on(tracker);
}

/* --- extents leave (T2) --- */

static void
suspect_leaving(struct tracker *tracker)
{
	const struct intent *intent = &tracker->intent;
	const struct intent_extent *extent = NULL;

	while ((extent = intent_next_leaving(intent, extent)) != NULL)
		dirty_map_suspect(&tracker->map,
				  intent_offset(intent, extent->number),
				  intent_length(intent, extent->number));
}

void
tracker_distrust(struct tracker *tracker)
{
	const struct intent *intent = &tracker->intent;
	const struct intent_extent *extent;

	tracker->distrust = true;
	list_for_each_entry (extent, &intent->lru, entry)
		dirty_map_suspect(&tracker->map,
				  intent_offset(intent, extent->number),
				  intent_length(intent, extent->number));
	intent_stay(&tracker->intent);
}

static void
on_image_flushed(struct image_op *op, int error)
{
	struct tracker *tracker = container_of(op, struct tracker, image_flush);

	tracker->image_flushing = false;
	if (tracker->error < 0) {
		if (tracker->stopping)
			tracker->events->on_failed(tracker->owner,
						   tracker->error);
		return;
	}
	if (error < 0 && !tracker->distrust) {
		/* T5: once more, as suspects */
		tracker->distrust = true;
		intent_stay(&tracker->intent);
		tracker->events->on_flush_failed(tracker->owner, error);
	}
	pass_end(tracker);
}

static void
leave(struct tracker *tracker, unsigned int max, uint32_t idle)
{
	if (intent_leave_begin(&tracker->intent, max, idle) == 0)
		return;
	if (tracker->distrust)
		suspect_leaving(tracker);
	tracker->extent_at = intent_next_leaving(&tracker->intent, NULL);
	tracker->image_flushing = true;
	tracker->image_flushes++;
	tracker->image_flush = (struct image_op){ .op = TD_OP_FLUSH,
						  .on_done = on_image_flushed };
	image_io_start(tracker->io, &tracker->image_flush);
	pass_begin(tracker, PASS_LEAVE);
}

/* --- what is next --- */

void
tracker_sync(struct tracker *tracker, struct tracker_sync *sync)
{
	list_add_tail(&sync->entry, &tracker->syncs);
	poke(tracker);
}

static bool
wants_all(const struct tracker *tracker)
{
	const struct tracker_sync *sync;

	list_for_each_entry (sync, &tracker->syncing, entry) {
		if (sync->all)
			return true;
	}
	return false;
}

static void
next_pass(struct tracker *tracker)
{
	const struct intent *intent = &tracker->intent;
	unsigned int spare = intent->capacity - intent->count;

	if (!list_empty(&tracker->syncs)) {
		list_splice_tail_init(&tracker->syncs, &tracker->syncing);
		pass_begin(tracker,
			   wants_all(tracker) ? PASS_ALL : PASS_SUSPECTS);
	} else if (tracker->stopping) {
		leave(tracker, intent->capacity, 0);
	} else if (!list_empty(&tracker->room)) {
		leave(tracker, intent->capacity / 2, 0);
	} else if (spare < intent->capacity / 8) {
		leave(tracker, intent->capacity / 8, 0);
	}
}

void
tracker_work(struct task *task)
{
	struct tracker *tracker = container_of(task, struct tracker, work);

	if (tracker->error < 0)
		return;
	take_waiting(tracker);
	if (tracker->running && tracker->pass == PASS_NONE)
		next_pass(tracker);
	if (!tracker->slot_busy && tracker->running) {
		if (tracker->intent.wanted > 0 ||
		    (tracker->stale && tracker->pass == PASS_NONE))
			tracker_write_slot(tracker);
		release_marked(tracker);
	}
	if (tracker->stopping)
		tracker_go_on_stopping(tracker);
}

/* What was not written to for long leaves, so that a crash names little. */
void
tracker_on_tick(struct timer *timer)
{
	struct tracker *tracker = container_of(timer, struct tracker, tick);

	timer_set(timer, TRACKER_TICK_S * NS_PER_S);
	tracker->intent.tick++;
	if (tracker->error == 0 && tracker->pass == PASS_NONE &&
	    !tracker->stopping)
		leave(tracker, tracker->intent.capacity, TRACKER_IDLE);
}

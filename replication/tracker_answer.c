/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracker_answer - what a tracker can be asked, and what changes all of it at
 * once.  The state's row counts for every region: an unknown epoch, and all
 * being suspect.
 */
#include <jansson.h>

#include "replication/tracker_private.h"

void
tracker_copied(struct tracker *tracker, uint64_t offset, uint64_t length,
	       uint64_t epoch)
{
	struct dirty_map *map = &tracker->map;
	uint64_t region = 1ull << map->shift, end = offset + length;
	uint64_t first = (offset + region - 1) / region * region;
	uint64_t last = end == map->size ? end : end / region * region;

	if (epoch > 0)
		dirty_map_stamp(map, offset, length, epoch);
	if (first < last)
		dirty_map_set(map, first, last - first, epoch);
}

void
tracker_forget(struct tracker *tracker, uint64_t epoch)
{
	struct metadata_map *state = &metadata_state(tracker->metadata)->map;

	state->unknown_epoch = epoch;
	state->wide_epoch = epoch;
}

void
tracker_absolve(struct tracker *tracker)
{
	metadata_state(tracker->metadata)->map.suspect_all = false;
	dirty_map_absolve(&tracker->map);
}

/* --- questions --- */

bool
tracker_has_suspects(const struct tracker *tracker)
{
	return tracker->map.suspects > 0 || tracker_row(tracker)->suspect_all;
}

uint64_t
tracker_stamp_of(const struct tracker *tracker, uint64_t offset)
{
	uint64_t stamp = dirty_map_stamp_of(&tracker->map, offset);
	uint64_t unknown = tracker_row(tracker)->unknown_epoch;

	return stamp > unknown ? stamp : unknown;
}

static void
all_from(const struct tracker *tracker, uint64_t from,
	 struct dirty_map_run *ret_run)
{
	uint64_t offset = from >> tracker->map.shift << tracker->map.shift;

	*ret_run = (struct dirty_map_run){
		.offset = offset,
		.length = tracker->map.size - offset,
		.next = tracker->map.size,
	};
}

void
tracker_next(const struct tracker *tracker, uint64_t since, uint64_t from,
	     uint64_t budget, struct dirty_map_run *ret_run)
{
	if (since < tracker_row(tracker)->unknown_epoch)
		all_from(tracker, from, ret_run);
	else
		dirty_map_next(&tracker->map, since, from, budget, ret_run);
}

void
tracker_next_doubtful(const struct tracker *tracker, uint64_t since,
		      uint64_t from, uint64_t budget,
		      struct dirty_map_run *ret_run)
{
	const struct metadata_map *row = tracker_row(tracker);

	if (since < row->unknown_epoch || row->suspect_all)
		all_from(tracker, from, ret_run);
	else
		dirty_map_next_doubtful(&tracker->map, since, from, budget,
					ret_run);
}

uint64_t
tracker_alike(const struct tracker *tracker, uint64_t offset, uint64_t max)
{
	const struct dirty_map *map = &tracker->map;
	uint64_t stamp = tracker_stamp_of(tracker, offset);
	uint64_t at = offset;

	do
		at = ((at >> map->shift) + 1) << map->shift;
	while (at < map->size && at - offset < max &&
	       tracker_stamp_of(tracker, at) == stamp);
	return at - offset < max ? at - offset : max;
}

bool
tracker_is_exact(const struct tracker *tracker, uint64_t since)
{
	const struct metadata_map *row = tracker_row(tracker);

	return since >= row->wide_epoch && since >= row->unknown_epoch;
}

static json_t *
number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

struct json_t *
tracker_json(const struct tracker *tracker)
{
	const struct dirty_map *map = &tracker->map;
	const struct intent *intent = &tracker->intent;
	const struct metadata_map *row = tracker_row(tracker);
	uint64_t memory =
		map->pages * (DIRTY_MAP_STAMPS * sizeof(*map->stamps) +
			      sizeof(*map->page)) +
		intent->extents * sizeof(*intent->index) +
		intent->capacity * sizeof(*intent->extent);

	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:o, s:o, "
		"s:o, s:o, s:o}",
		"region", number(row->region), "extent", number(row->extent),
		"capacity", number(row->capacity), "extents",
		number(intent->count), "dirty_pages", number(map->dirty_pages),
		"suspects", number(map->suspects), "suspect_all",
		row->suspect_all, "unknown", row->unknown_epoch > 0,
		"wide_epoch", number(row->wide_epoch), "intent_writes",
		number(tracker->intent_writes), "page_writes",
		number(tracker->page_writes), "image_flushes",
		number(tracker->image_flushes), "memory_bytes", number(memory));
}

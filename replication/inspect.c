/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect - see inspect.h.
 *
 * The state that counts is that of metadata_read(), as in a daemon; intents and
 * pages are judged by the functions that a daemon has for them.  The map is
 * told as it would be after a start: with what the intents and lost pages add.
 */
#include "replication/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "replication/checkpoint.h"
#include "replication/dirty_map.h"
#include "replication/intent.h"
#include "replication/tracker.h"

#define COPIES	   2
#define SLOTS	   2
#define PLACES	   2 /* of a page */
#define ALIGN	   4096
#define NAMED_MAX  16 /* damaged pages that are named one by one */
#define SEARCH_MAX 1000000

struct inspect {
	struct store *store;		   /* borrowed */
	json_t *report, *problems, *notes; /* the last two borrowed */
	struct metadata_state state;
	struct intent intent;
	struct dirty_map map;
	unsigned char *slots[SLOTS];   /* owned */
	unsigned char *places[PLACES]; /* owned */
	uint64_t pages_written, pages_torn, pages_lost;
	bool no_intents;
};

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

static json_t *
number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *
hex(const unsigned char *bytes, size_t length)
{
	char text[2 * HISTORY_DIGEST + 1] = "";

	for (size_t i = 0; i < length; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return json_string(text);
}

static json_t *
hex64(uint64_t value)
{
	char text[17];

	(void)snprintf(text, sizeof(text), "%016" PRIx64, value);
	return json_string(text);
}

static void say(json_t *list, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void
say(json_t *list, const char *format, ...)
{
	char text[2 * REASON_MAX];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)json_array_append_new(list, json_string_nocheck(text));
}

static bool
is_blank(const unsigned char *bytes, size_t length)
{
	return length == 0 ||
	       (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

/* --- the two copies of the superblock --- */

static const char *
copy_words(int error, const unsigned char *bytes, size_t length)
{
	if (length == 0)
		return "missing";
	if (is_blank(bytes, length))
		return "blank";
	if (error == 0)
		return "whole";
	if (error == -EPROTONOSUPPORT)
		return "newer";
	if (length < METADATA_COPY_BYTES)
		return "truncated";
	return error == -EMEDIUMTYPE ? "foreign" : "torn";
}

static json_t *
copy_json(struct inspect *inspect, int index, unsigned char *bytes)
{
	static struct metadata_state state;
	uint64_t offset = (uint64_t)index * METADATA_COPY_BYTES;
	struct store *store = inspect->store;
	struct reason why = { "" };
	uint64_t generation = 0;
	const char *words;
	long length =
		store->ops->read(store, bytes, METADATA_COPY_BYTES, offset);
	int r;

	if (length < 0)
		return json_pack("{s:o, s:s, s:s}", "offset", number(offset),
				 "found", "unreadable", "why",
				 strerror((int)-length));
	r = metadata_decode(bytes, (size_t)length, &state, &generation, &why);
	words = copy_words(r, bytes, (size_t)length);
	if (r == 0 && generation % COPIES != (uint64_t)index) {
		words = "misplaced";
		(void)reason_set(&why, -EBADMSG,
				 "its generation belongs to the other place");
	}
	if (strcmp(words, "missing") == 0 || strcmp(words, "blank") == 0)
		why.text[0] = '\0';
	else if (r < 0)
		(void)metadata_decode_head(bytes, (size_t)length, &generation,
					   NULL);
	return json_pack("{s:o, s:s, s:o, s:s}", "offset", number(offset),
			 "found", words, "generation",
			 generation > 0 ? number(generation) : json_null(),
			 "why", why.text);
}

static const char *
found_in(const json_t *copies, size_t index)
{
	return json_string_value(
		json_object_get(json_array_get(copies, index), "found"));
}

static bool
any_found(const json_t *copies, const char *words)
{
	return strcmp(found_in(copies, 0), words) == 0 ||
	       strcmp(found_in(copies, 1), words) == 0;
}

static const char *
verdict_of(int error, bool is_new, const json_t *copies)
{
	if (error == 0)
		return is_new ? "new" : "whole";
	if (error == -EPROTONOSUPPORT)
		return "newer";
	if (any_found(copies, "unreadable"))
		return "unreadable";
	if (any_found(copies, "truncated") ||
	    strcmp(found_in(copies, 1), "missing") == 0)
		return "truncated";
	return error == -EMEDIUMTYPE ? "foreign" : "torn";
}

/* One copy beside the one that counts is what the last crash tore, or what no
 * commit has filled yet. */
static void
note_copies(struct inspect *inspect, const json_t *copies)
{
	for (size_t i = 0; i < COPIES; i++) {
		const char *words = found_in(copies, i);

		if (strcmp(words, "whole") != 0 && strcmp(words, "blank") != 0)
			say(inspect->notes,
			    "copy %zu of the superblock is %s, as a crash "
			    "within a commit leaves it; the other one counts",
			    i, words);
	}
}

/* Whether there is a state. */
static bool
read_state(struct inspect *inspect)
{
	unsigned char *bytes = aligned_alloc(ALIGN, METADATA_COPY_BYTES);
	struct reason reason = { "" };
	json_t *copies = json_array();
	uint64_t generation = 0;
	bool is_new = false;
	int r = -ENOMEM;

	for (int i = 0; bytes != NULL && i < COPIES; i++)
		(void)json_array_append_new(copies,
					    copy_json(inspect, i, bytes));
	if (bytes != NULL)
		r = metadata_read(inspect->store, &inspect->state, &generation,
				  &is_new, &reason);
	free(bytes);
	set(inspect->report, "verdict",
	    json_string(r == -ENOMEM ? "unreadable"
				     : verdict_of(r, is_new, copies)));
	set(inspect->report, "refused",
	    r < 0 ? json_string_nocheck(reason_text(&reason, r)) : json_null());
	set(inspect->report, "generation",
	    r == 0 && !is_new ? number(generation) : json_null());
	set(inspect->report, "copies", copies);
	if (r < 0)
		say(inspect->problems, "%s", reason_text(&reason, r));
	else if (!is_new)
		note_copies(inspect, copies);
	return r == 0 && !is_new;
}

/* --- the state --- */

static json_t *
peers_json(const struct metadata_state *state)
{
	static const unsigned char none[METADATA_ID];
	json_t *list = json_array();

	for (int i = 0; i < METADATA_PEERS; i++) {
		const struct metadata_peer *peer = &state->peer[i];

		if (memcmp(peer->replica_id, none, METADATA_ID) == 0)
			continue;
		(void)json_array_append_new(
			list,
			json_pack("{s:o, s:o, s:o, s:o, s:b}", "replica_id",
				  hex(peer->replica_id, METADATA_ID),
				  "incarnation", number(peer->incarnation),
				  "met", number(peer->met), "stood",
				  number(peer->stood), "may_be_synced",
				  peer->may_be_synced));
	}
	return list;
}

static json_t *
history_json(const struct history *history)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entry[i];

		(void)json_array_append_new(
			list, json_pack("{s:o, s:o, s:b}", "timeline",
					hex64(entry->timeline), "first_epoch",
					number(entry->first_epoch), "forced",
					(entry->flags & HISTORY_FORCED) != 0));
	}
	return json_pack("{s:o, s:o, s:o}", "dropped", number(history->dropped),
			 "digest", hex(history->digest, HISTORY_DIGEST),
			 "entries", list);
}

static json_t *
state_json(const struct metadata_state *state)
{
	json_t *object = json_object();

	set(object, "disk_id", hex(state->disk_id, METADATA_ID));
	set(object, "replica_id", hex(state->replica_id, METADATA_ID));
	set(object, "role",
	    json_string(state->role == METADATA_PRIMARY ? "primary"
							: "secondary"));
	set(object, "size", number(state->size));
	set(object, "sector_size", number(state->sector_size));
	set(object, "epoch", number(state->epoch));
	set(object, "incarnation", number(state->incarnation));
	set(object, "active", json_boolean(state->active));
	set(object, "consistent", json_boolean(state->consistent));
	set(object, "outdated", json_boolean(state->outdated));
	set(object, "primary_last", json_boolean(state->primary_last));
	set(object, "peers", peers_json(state));
	set(object, "history", history_json(&state->history));
	return object;
}

/* --- intents --- */

static json_t *
slot_json(struct inspect *inspect, unsigned int index, uint64_t *ret_generation)
{
	size_t size = intent_slot_bytes(inspect->state.map.capacity);
	uint64_t offset =
		tracker_slot_offset(inspect->state.map.capacity, index);
	uint64_t generation = 0;
	const char *words = "blank";
	long length;

	*ret_generation = 0;
	length = inspect->store->ops->read(inspect->store,
					   inspect->slots[index], size, offset);
	if (length < 0) {
		words = "unreadable";
	} else {
		switch (intent_check(&inspect->intent, inspect->slots[index],
				     (size_t)length, &generation)) {
		case INTENT_WHOLE:
			words = generation % SLOTS == index ? "whole"
							    : "misplaced";
			break;
		case INTENT_BLANK:
			break;
		case INTENT_DAMAGED:
			words = "torn";
			break;
		}
	}
	if (strcmp(words, "whole") == 0)
		*ret_generation = generation;
	return json_pack("{s:o, s:s, s:o}", "offset", number(offset), "found",
			 words, "generation",
			 generation > 0 ? number(generation) : json_null());
}

static json_t *
members_json(const struct intent *intent)
{
	const struct intent_extent *extent;
	json_t *list = json_array();

	list_for_each_entry (extent, &intent->lru, entry)
		(void)json_array_append_new(
			list,
			json_pack(
				"[o, o]",
				number(intent_offset(intent, extent->number)),
				number(intent_length(intent, extent->number))));
	return list;
}

static void
inspect_intents(struct inspect *inspect)
{
	uint64_t generation[SLOTS];
	json_t *list = json_array(), *intents;
	unsigned int counts;

	for (unsigned int i = 0; i < SLOTS; i++)
		(void)json_array_append_new(
			list, slot_json(inspect, i, &generation[i]));
	counts = generation[1] > generation[0] ? 1 : 0;
	if (generation[counts] > 0) {
		intent_decode(&inspect->intent, inspect->slots[counts]);
		if (any_found(list, "torn"))
			say(inspect->notes,
			    "slot %u of the intents is torn, as a crash leaves "
			    "it; the other one counts",
			    1 - counts);
	} else {
		say(inspect->problems,
		    "no set of intents is whole: every region counts as "
		    "changed");
		inspect->no_intents = true;
	}
	intents = json_pack("{s:o, s:o, s:o, s:o, s:o}", "slots", list,
			    "extent", number(inspect->state.map.extent),
			    "capacity", number(inspect->state.map.capacity),
			    "count", number(inspect->intent.count), "extents",
			    members_json(&inspect->intent));
	set(inspect->report, "intents", intents);
}

/* --- the map --- */

static uint64_t
page_bytes(const struct inspect *inspect, uint64_t page, uint64_t *ret_length)
{
	uint64_t begin = (page * DIRTY_MAP_STAMPS) << inspect->map.shift;
	uint64_t length = (uint64_t)DIRTY_MAP_STAMPS << inspect->map.shift;

	*ret_length = length < inspect->state.size - begin
			      ? length
			      : inspect->state.size - begin;
	return begin;
}

/* Whether the set of intents explains a page that is damaged. */
static bool
was_being_written(const struct inspect *inspect, uint64_t page)
{
	uint64_t length, begin = page_bytes(inspect, page, &length);
	const struct intent_extent *extent;

	list_for_each_entry (extent, &inspect->intent.lru, entry) {
		uint64_t at = intent_offset(&inspect->intent, extent->number);

		if (at < begin + length &&
		    begin < at + intent_length(&inspect->intent,
					       extent->number))
			return true;
	}
	return false;
}

static void
lose_page(struct inspect *inspect, uint64_t page)
{
	uint64_t length, begin = page_bytes(inspect, page, &length);

	if (inspect->pages_lost++ < NAMED_MAX)
		say(inspect->problems,
		    "page %" PRIu64 " of the map is damaged: the %" PRIu64
		    " bytes from offset %" PRIu64 " on count as changed",
		    page, length, begin);
	dirty_map_stamp(&inspect->map, begin, length, inspect->state.epoch);
	dirty_map_suspect(&inspect->map, begin, length);
}

static void
inspect_page(struct inspect *inspect, uint64_t page)
{
	enum dirty_map_bytes found[PLACES] = { DIRTY_MAP_BLANK,
					       DIRTY_MAP_BLANK };
	uint32_t generation[PLACES] = { 0, 0 };
	struct store *store = inspect->store;
	bool damaged = false;
	int counts = -1;

	for (unsigned int i = 0; i < PLACES; i++) {
		long length = store->ops->read(
			store, inspect->places[i], DIRTY_MAP_PAGE_BYTES,
			tracker_page_offset(inspect->state.map.capacity, page,
					    i));

		found[i] = length == DIRTY_MAP_PAGE_BYTES
				   ? dirty_map_check(&inspect->map, page,
						     inspect->places[i],
						     &generation[i])
				   : DIRTY_MAP_DAMAGED;
		if (found[i] == DIRTY_MAP_WHOLE && generation[i] % PLACES != i)
			found[i] = DIRTY_MAP_DAMAGED;
		damaged |= found[i] == DIRTY_MAP_DAMAGED;
		if (found[i] == DIRTY_MAP_WHOLE &&
		    (counts < 0 ||
		     dirty_map_is_newer(generation[i], generation[counts])))
			counts = (int)i;
	}
	if (counts >= 0) {
		inspect->pages_written++;
		dirty_map_decode(&inspect->map, page, inspect->places[counts]);
	}
	if (!damaged)
		return;
	if (was_being_written(inspect, page))
		inspect->pages_torn++;
	else
		lose_page(inspect, page);
}

static void
read_map(struct inspect *inspect)
{
	for (uint64_t page = 0; page < inspect->map.pages; page++)
		inspect_page(inspect, page);
	if (inspect->pages_lost > NAMED_MAX)
		say(inspect->problems, "so are %" PRIu64 " more pages",
		    inspect->pages_lost - NAMED_MAX);
	if (inspect->pages_torn > 0)
		say(inspect->notes,
		    "%" PRIu64 " pages of the map are torn within the intents, "
		    "as a crash leaves them",
		    inspect->pages_torn);
}

/* What a start adds (C1). */
static void
add_unknown(struct inspect *inspect)
{
	const struct metadata_state *state = &inspect->state;
	const struct intent_extent *extent;

	if (state->map.unknown_epoch > 0)
		dirty_map_stamp(&inspect->map, 0, state->size,
				state->map.unknown_epoch);
	if (inspect->no_intents)
		dirty_map_stamp(&inspect->map, 0, state->size, state->epoch);
	list_for_each_entry (extent, &inspect->intent.lru, entry) {
		uint64_t at = intent_offset(&inspect->intent, extent->number);
		uint64_t length =
			intent_length(&inspect->intent, extent->number);

		dirty_map_stamp(&inspect->map, at, length, state->epoch);
		dirty_map_suspect(&inspect->map, at, length);
	}
}

/* Bytes in regions stamped above `since`. */
static uint64_t
changed_since(const struct dirty_map *map, uint64_t since)
{
	struct dirty_map_run run = { .next = 0 };
	uint64_t bytes = 0;

	while (run.next < map->size) {
		dirty_map_next(map, since, run.next, SEARCH_MAX, &run);
		bytes += run.length;
	}
	return bytes;
}

static void
newest_and_oldest(const struct dirty_map *map, uint64_t *ret_newest,
		  uint64_t *ret_oldest)
{
	*ret_newest = *ret_oldest = 0;
	for (uint64_t region = 0; region < map->regions; region++) {
		uint64_t stamp = dirty_map_stamp_of(map, region << map->shift);

		if (stamp == 0)
			continue;
		if (stamp > *ret_newest)
			*ret_newest = stamp;
		if (*ret_oldest == 0 || stamp < *ret_oldest)
			*ret_oldest = stamp;
	}
}

static json_t *
map_json(const struct inspect *inspect)
{
	const struct metadata_map *map = &inspect->state.map;
	uint64_t newest, oldest;
	json_t *object = json_object();

	newest_and_oldest(&inspect->map, &newest, &oldest);
	set(object, "id", hex64(map->id));
	set(object, "offset", number(tracker_page_offset(map->capacity, 0, 0)));
	set(object, "region", number(map->region));
	set(object, "regions", number(inspect->map.regions));
	set(object, "pages", number(inspect->map.pages));
	set(object, "pages_written", number(inspect->pages_written));
	set(object, "pages_torn", number(inspect->pages_torn));
	set(object, "pages_lost", number(inspect->pages_lost));
	set(object, "changed_bytes", number(changed_since(&inspect->map, 0)));
	set(object, "suspect_regions", number(inspect->map.suspects));
	set(object, "suspect_all", json_boolean(map->suspect_all));
	set(object, "newest_epoch", number(newest));
	set(object, "oldest_epoch", number(oldest));
	set(object, "unknown_epoch", number(map->unknown_epoch));
	set(object, "wide_epoch", number(map->wide_epoch));
	set(object, "image_size",
	    map->image_size > 0 ? number(map->image_size) : json_null());
	set(object, "image_time_ns",
	    map->image_size > 0 ? number(map->image_time_ns) : json_null());
	return object;
}

static json_t *
checkpoints_json(const struct inspect *inspect)
{
	const struct metadata_state *state = &inspect->state;
	json_t *list = json_array();

	for (unsigned int i = 0; i < state->checkpoints; i++) {
		const struct metadata_checkpoint *row = &state->checkpoint[i];
		struct reason reason = { "" };
		int r = checkpoint_may_answer(state, row, &reason);
		bool exact = row->epoch >= state->map.wide_epoch &&
			     inspect->intent.count == 0 &&
			     !inspect->no_intents && inspect->pages_lost == 0;

		(void)json_array_append_new(
			list,
			json_pack("{s:s, s:o, s:o, s:b, s:s, s:s, s:o}", "name",
				  row->name, "timeline", hex64(row->timeline),
				  "epoch", number(row->epoch), "confirmed",
				  row->confirmed, "answer",
				  r < 0	  ? "refused"
				  : exact ? "exact"
					  : "over-approximated",
				  "why", r < 0 ? reason.text : "",
				  "changed_bytes",
				  r < 0 ? json_null()
					: number(changed_since(&inspect->map,
							       row->epoch))));
	}
	return list;
}

/* --- together --- */

static bool
open_parts(struct inspect *inspect)
{
	const struct metadata_map *map = &inspect->state.map;
	size_t slot = intent_slot_bytes(map->capacity);

	for (int i = 0; i < SLOTS; i++) {
		inspect->slots[i] = aligned_alloc(ALIGN, slot);
		inspect->places[i] = aligned_alloc(ALIGN, DIRTY_MAP_PAGE_BYTES);
		if (inspect->slots[i] == NULL || inspect->places[i] == NULL)
			return false;
	}
	return intent_open(&inspect->intent, inspect->state.size, map->extent,
			   map->capacity, map->id) == 0 &&
	       dirty_map_open(&inspect->map, inspect->state.size, map->region,
			      map->id) == 0;
}

/* Before anything of the size of the disk is allotted: the file reaches to the
 * map's end. */
static bool
is_cut_off(struct inspect *inspect)
{
	const struct metadata_map *map = &inspect->state.map;
	uint64_t page = (uint64_t)map->region * DIRTY_MAP_STAMPS;
	uint64_t pages =
		inspect->state.size / page + (inspect->state.size % page != 0);
	uint64_t end = tracker_page_offset(map->capacity, pages, 0);
	struct reason reason;
	char last;

	if (inspect->store->ops->read(inspect->store, &last, 1, end - 1) == 1)
		return false;
	/* as tracker_open() says */
	(void)reason_set(
		&reason, -EBADMSG,
		"%s: they end within the map of changes, so they were "
		"cut off: restore them, or remove them if this host is "
		"to become a new copy of the disk",
		inspect->store->name);
	say(inspect->problems, "%s", reason.text);
	set(inspect->report, "refused", json_string_nocheck(reason.text));
	set(inspect->report, "verdict", json_string("truncated"));
	return true;
}

static bool
inspect_tracking(struct inspect *inspect)
{
	if (is_cut_off(inspect))
		return true;
	if (!open_parts(inspect))
		return false;
	inspect_intents(inspect);
	read_map(inspect);
	add_unknown(inspect);
	set(inspect->report, "map", map_json(inspect));
	set(inspect->report, "checkpoints", checkpoints_json(inspect));
	return true;
}

struct json_t *
inspect_metadata(struct store *store)
{
	struct inspect *inspect = calloc(1, sizeof(*inspect));
	json_t *report = json_object();
	bool fine = inspect != NULL;

	if (inspect == NULL) {
		json_decref(report);
		return NULL;
	}
	inspect->store = store;
	inspect->report = report;
	inspect->problems = json_array();
	inspect->notes = json_array();
	for (const char *const *key =
		     (const char *const[]){ "state", "intents", "map", NULL };
	     *key != NULL; key++)
		set(report, *key, json_null());
	set(report, "checkpoints", json_array());
	set(report, "problems", inspect->problems);
	set(report, "notes", inspect->notes);
	if (read_state(inspect)) {
		set(report, "state", state_json(&inspect->state));
		if (inspect->state.map.id != 0)
			fine = inspect_tracking(inspect);
	}
	intent_close(&inspect->intent);
	dirty_map_close(&inspect->map);
	for (int i = 0; i < SLOTS; i++) {
		free(inspect->slots[i]);
		free(inspect->places[i]);
	}
	free(inspect);
	if (!fine) {
		json_decref(report);
		return NULL;
	}
	return report;
}

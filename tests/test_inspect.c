/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_inspect - metadata read off line: what is whole, what a crash tore, and
 * what none leaves, each named.
 */
#include "tests/test.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "core/loop.h"
#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/dirty_map.h"
#include "replication/inspect.h"
#include "replication/intent.h"
#include "replication/wire.h"
#include "tests/state.h"

#define KIB    1024ull
#define MIB    (1024 * KIB)
#define SIZE   (128 * MIB) /* three pages of the map */
#define REGION (64 * KIB)
#define EXTENT (4 * MIB)
#define EPOCH  9
#define ROOM   (256 * KIB)

/* A file in memory, only read. */
struct fixture {
	struct store store;
	size_t length;
	struct metadata_state state;
	struct intent intent;
	struct dirty_map map;
	json_t *report;
	unsigned char bytes[ROOM];
};

static long
array_read(struct store *store, void *buf, size_t length, uint64_t offset)
{
	const struct fixture *f = container_of(store, struct fixture, store);

	if (offset >= f->length)
		return 0;
	if (length > f->length - offset)
		length = f->length - offset;
	memcpy(buf, f->bytes + offset, length);
	return (long)length;
}

static const struct store_ops array_ops = { .read = array_read };

static size_t
slot_at(const struct fixture *f, uint64_t generation)
{
	return METADATA_BYTES +
	       generation % 2 * intent_slot_bytes(f->state.map.capacity);
}

static size_t
page_at(const struct fixture *f, uint64_t page, uint64_t generation)
{
	return METADATA_BYTES + 2 * intent_slot_bytes(f->state.map.capacity) +
	       (page * 2 + generation % 2) * DIRTY_MAP_PAGE_BYTES;
}

static void
put_state(struct fixture *f, uint64_t generation)
{
	metadata_encode(&f->state, generation,
			f->bytes + generation % 2 * METADATA_COPY_BYTES);
}

static void
put_intents(struct fixture *f)
{
	static unsigned char slot[64 * KIB];
	size_t length = intent_encode(&f->intent, slot);

	memcpy(f->bytes + slot_at(f, f->intent.generation), slot, length);
	intent_written(&f->intent);
}

static void
put_page(struct fixture *f, uint64_t page)
{
	unsigned char bytes[DIRTY_MAP_PAGE_BYTES];

	dirty_map_encode(&f->map, page, bytes);
	memcpy(f->bytes + page_at(f, page, f->map.page[page].generation), bytes,
	       sizeof(bytes));
}

/* As after a clean stop: generations 4 and 5 of the state, an empty set of
 * intents, 1 MiB stamped in epoch 5 and 2 MiB in epoch 9. */
static int
setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	f->store = (struct store){ .ops = &array_ops, .name = "it.meta" };
	state_fill(&f->state, 4);
	f->state.size = SIZE;
	f->state.sector_size = 512;
	f->state.consistent = true;
	f->state.epoch = f->state.history.entry[27].first_epoch + EPOCH;
	f->state.map = (struct metadata_map){
		.id = 77,
		.region = REGION,
		.extent = EXTENT,
		.capacity = 64,
	};
	f->state.checkpoints = 1;
	f->state.checkpoint[0] = (struct metadata_checkpoint){
		.name = "monday",
		.timeline = history_last(&f->state.history)->timeline,
		.epoch = f->state.epoch - 2,
		.confirmed = true,
	};
	assert_int_equal(intent_open(&f->intent, SIZE, EXTENT, 64, 77), 0);
	assert_int_equal(dirty_map_open(&f->map, SIZE, REGION, 77), 0);
	put_state(f, 4);
	put_state(f, 5);
	put_intents(f);
	put_intents(f);
	dirty_map_stamp(&f->map, 0, MIB, f->state.epoch - 4);
	dirty_map_stamp(&f->map, 70 * MIB, 2 * MIB, f->state.epoch);
	put_page(f, 0);
	put_page(f, 1);
	f->length = page_at(f, f->map.pages, 0);
	assert_true(f->length <= ROOM);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	json_decref(f->report);
	intent_close(&f->intent);
	dirty_map_close(&f->map);
	test_free(f);
	return 0;
}

static void
look(struct fixture *f)
{
	json_decref(f->report);
	f->report = inspect_metadata(&f->store);
	assert_non_null(f->report);
}

static const char *
text_at(const struct fixture *f, const char *key)
{
	return json_string_value(json_object_get(f->report, key));
}

static long long
number_at(const struct fixture *f, const char *object, const char *key)
{
	return json_integer_value(
		json_object_get(json_object_get(f->report, object), key));
}

static const char *
found(const struct fixture *f, size_t copy)
{
	return json_string_value(json_object_get(
		json_array_get(json_object_get(f->report, "copies"), copy),
		"found"));
}

static bool
any_says(const struct fixture *f, const char *list, const char *text)
{
	const json_t *sentence;
	size_t i;

	json_array_foreach (json_object_get(f->report, list), i, sentence) {
		if (strstr(json_string_value(sentence), text) != NULL)
			return true;
	}
	return false;
}

static void
assert_problem(struct fixture *f, const char *verdict, const char *text)
{
	look(f);
	assert_string_equal(text_at(f, "verdict"), verdict);
	if (!any_says(f, "problems", text))
		fail_msg("no problem says \"%s\"", text);
}

/* Nothing but what a crash may leave. */
static void
assert_note(struct fixture *f, const char *text)
{
	look(f);
	assert_string_equal(text_at(f, "verdict"), "whole");
	assert_int_equal(
		json_array_size(json_object_get(f->report, "problems")), 0);
	if (!any_says(f, "notes", text))
		fail_msg("no note says \"%s\"", text);
}

static const json_t *
checkpoint(const struct fixture *f)
{
	return json_array_get(json_object_get(f->report, "checkpoints"), 0);
}

static const char *
answer(const struct fixture *f)
{
	return json_string_value(json_object_get(checkpoint(f), "answer"));
}

static long long
changed_since_checkpoint(const struct fixture *f)
{
	return json_integer_value(
		json_object_get(checkpoint(f), "changed_bytes"));
}

/* --- whole --- */

static void
test_what_was_written_is_told(void **state)
{
	struct fixture *f = *state;
	const json_t *member;

	look(f);
	assert_string_equal(text_at(f, "verdict"), "whole");
	assert_int_equal(
		json_integer_value(json_object_get(f->report, "generation")),
		5);
	assert_int_equal(
		json_array_size(json_object_get(f->report, "problems")), 0);
	assert_int_equal(json_array_size(json_object_get(f->report, "notes")),
			 0);
	assert_int_equal(number_at(f, "state", "size"), SIZE);
	assert_int_equal(number_at(f, "state", "epoch"), f->state.epoch);
	member = json_object_get(f->report, "state");
	assert_int_equal(json_array_size(json_object_get(member, "peers")), 4);
	member = json_object_get(member, "history");
	assert_int_equal(json_array_size(json_object_get(member, "entries")),
			 28);
	assert_int_equal(number_at(f, "intents", "count"), 0);
	assert_int_equal(number_at(f, "map", "pages"), 3);
	assert_int_equal(number_at(f, "map", "pages_written"), 2);
	assert_int_equal(number_at(f, "map", "changed_bytes"), 3 * MIB);
	assert_int_equal(number_at(f, "map", "newest_epoch"), f->state.epoch);
	assert_int_equal(number_at(f, "map", "oldest_epoch"),
			 f->state.epoch - 4);
	assert_string_equal(answer(f), "exact");
	assert_int_equal(changed_since_checkpoint(f), 2 * MIB);
}

static void
test_the_newer_of_two_pages_and_sets_counts(void **state)
{
	struct fixture *f = *state;

	dirty_map_stamp(&f->map, MIB, MIB, f->state.epoch);
	put_page(f, 0);
	intent_take(&f->intent, MIB, MIB);
	put_intents(f);
	look(f);
	assert_int_equal(number_at(f, "map", "changed_bytes"), 6 * MIB);
	assert_int_equal(number_at(f, "intents", "count"), 1);
	/* the extent counts as changed, all of it */
	assert_string_equal(answer(f), "over-approximated");
	assert_int_equal(changed_since_checkpoint(f), 4 * MIB + 2 * MIB);
}

static void
test_a_disk_without_a_map_has_none(void **state)
{
	struct fixture *f = *state;

	f->state.map = (struct metadata_map){ .id = 0 };
	f->state.checkpoints = 0;
	memset(f->state.checkpoint, 0, sizeof(f->state.checkpoint));
	put_state(f, 6);
	f->length = METADATA_BYTES;
	look(f);
	assert_string_equal(text_at(f, "verdict"), "whole");
	assert_true(json_is_null(json_object_get(f->report, "map")));
	assert_true(json_is_null(json_object_get(f->report, "intents")));
}

/* --- what a crash leaves --- */

static void
test_a_torn_commit_is_a_note(void **state)
{
	struct fixture *f = *state;

	memset(f->bytes + 4096, 0xee, 512);
	assert_note(f, "copy 0 of the superblock is torn");
	assert_string_equal(found(f, 0), "torn");
	assert_string_equal(found(f, 1), "whole");
}

static void
test_a_torn_set_of_intents_is_a_note(void **state)
{
	struct fixture *f = *state;

	f->bytes[slot_at(f, f->intent.generation + 1) + 33] ^= 1;
	assert_note(f, "slot 1 of the intents is torn");
	assert_string_equal(answer(f), "exact");
}

static void
test_a_torn_page_within_the_intents_is_a_note(void **state)
{
	struct fixture *f = *state;

	intent_take(&f->intent, 0, 1);
	put_intents(f);
	put_page(f, 0); /* generation 2 */
	f->bytes[page_at(f, 0, 2) + 2000] ^= 1;
	assert_note(f, "1 pages of the map are torn");
	/* generation 1 counts, and the intent */
	assert_int_equal(number_at(f, "map", "changed_bytes"), 6 * MIB);
}

static void
test_a_first_commit_that_never_ended_is_new(void **state)
{
	struct fixture *f = *state;

	memset(f->bytes, 0, sizeof(f->bytes));
	f->length = 0;
	look(f);
	assert_string_equal(text_at(f, "verdict"), "new");
	put_state(f, 1);
	memset(f->bytes + METADATA_COPY_BYTES + 512, 0, 4096);
	f->length = METADATA_BYTES;
	look(f);
	assert_string_equal(text_at(f, "verdict"), "new");
	assert_int_equal(
		json_array_size(json_object_get(f->report, "problems")), 0);
	assert_true(json_is_null(json_object_get(f->report, "state")));
}

/* --- what none leaves --- */

static void
test_two_torn_copies_are_refused(void **state)
{
	struct fixture *f = *state;

	f->bytes[300] ^= 1;
	f->bytes[METADATA_COPY_BYTES + 300] ^= 1;
	assert_problem(f, "torn", "checksum is wrong");
	assert_non_null(strstr(text_at(f, "refused"), "it.meta"));
	assert_true(json_is_null(json_object_get(f->report, "state")));
}

static void
test_another_programs_file_is_foreign(void **state)
{
	struct fixture *f = *state;

	memset(f->bytes, 'x', sizeof(f->bytes));
	assert_problem(f, "foreign", "not a replica's metadata");
}

static void
test_a_newer_format_is_named(void **state)
{
	struct fixture *f = *state;

	put32(f->bytes + 8, 2);
	put32(f->bytes + 60, wire_crc(f->bytes, 60));
	assert_problem(f, "newer", "version 2");
	assert_string_equal(found(f, 0), "newer");
}

static void
test_a_file_cut_off_within_the_copies_is_truncated(void **state)
{
	struct fixture *f = *state;

	f->length = METADATA_COPY_BYTES + 4096;
	f->bytes[300] ^= 1;
	assert_problem(f, "truncated", "checksum is wrong");
	f->bytes[300] ^= 1;
	assert_problem(f, "truncated", "truncated");
}

static void
test_a_file_cut_off_within_the_map_is_truncated(void **state)
{
	struct fixture *f = *state;

	f->length -= 1;
	assert_problem(f, "truncated", "they end within the map");
	assert_true(json_is_object(json_object_get(f->report, "state")));
	f->length = METADATA_BYTES;
	assert_problem(f, "truncated", "they end within the map");
}

static void
test_a_damaged_page_outside_the_intents_counts_as_changed(void **state)
{
	struct fixture *f = *state;

	f->bytes[page_at(f, 2, 0) + 100] = 1;
	assert_problem(f, "whole", "page 2 of the map is damaged");
	assert_int_equal(number_at(f, "map", "pages_lost"), 1);
	assert_int_equal(number_at(f, "map", "suspect_regions"), 8);
	/* the last 8 regions */
	assert_int_equal(changed_since_checkpoint(f), 2 * MIB + 8 * REGION);
	assert_string_equal(answer(f), "over-approximated");
}

static void
test_without_intents_everything_counts_as_changed(void **state)
{
	struct fixture *f = *state;

	f->bytes[slot_at(f, 0)] ^= 1;
	f->bytes[slot_at(f, 1)] ^= 1;
	assert_problem(f, "whole", "no set of intents is whole");
	assert_int_equal(changed_since_checkpoint(f), SIZE);
}

static void
test_exchanged_places_do_not_count(void **state)
{
	struct fixture *f = *state;

	memcpy(f->bytes + page_at(f, 0, 0), f->bytes + page_at(f, 0, 1),
	       DIRTY_MAP_PAGE_BYTES);
	assert_problem(f, "whole", "page 0 of the map is damaged");
}

/* --- what checkpoints can be asked --- */

static void
test_a_checkpoint_of_a_left_history_is_refused(void **state)
{
	struct fixture *f = *state;

	f->state.checkpoint[0].timeline = 0xbad;
	put_state(f, 6);
	look(f);
	assert_string_equal(answer(f), "refused");
	assert_non_null(
		strstr(json_string_value(json_object_get(checkpoint(f), "why")),
		       "a history that this disk has left"));
	assert_true(
		json_is_null(json_object_get(checkpoint(f), "changed_bytes")));
}

static void
test_what_was_stamped_too_wide_is_told(void **state)
{
	struct fixture *f = *state;

	f->state.map.wide_epoch = f->state.epoch;
	f->state.map.unknown_epoch = f->state.epoch - 3;
	put_state(f, 6);
	look(f);
	assert_string_equal(answer(f), "over-approximated");
	assert_int_equal(changed_since_checkpoint(f), 2 * MIB);
	assert_int_equal(number_at(f, "map", "changed_bytes"), SIZE);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_written_is_told),
		TEST(test_the_newer_of_two_pages_and_sets_counts),
		TEST(test_a_disk_without_a_map_has_none),
		TEST(test_a_torn_commit_is_a_note),
		TEST(test_a_torn_set_of_intents_is_a_note),
		TEST(test_a_torn_page_within_the_intents_is_a_note),
		TEST(test_a_first_commit_that_never_ended_is_new),
		TEST(test_two_torn_copies_are_refused),
		TEST(test_another_programs_file_is_foreign),
		TEST(test_a_newer_format_is_named),
		TEST(test_a_file_cut_off_within_the_copies_is_truncated),
		TEST(test_a_file_cut_off_within_the_map_is_truncated),
		TEST(test_a_damaged_page_outside_the_intents_counts_as_changed),
		TEST(test_without_intents_everything_counts_as_changed),
		TEST(test_exchanged_places_do_not_count),
		TEST(test_a_checkpoint_of_a_left_history_is_refused),
		TEST(test_what_was_stamped_too_wide_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

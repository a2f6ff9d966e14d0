/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata.c - the verb metadata: a replica's metadata file, off line.
 *
 * dump prints what replication/inspect.c reports, as text or JSON; check prints
 * what is wrong and is silent of the rest.  Neither asks a daemon, and both are
 * refused while one has the file open.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/reason.h"
#include "replication/inspect.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/verbs.h"

#define EXTENTS_SHOWN 8

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static unsigned long long
number_in(const json_t *object, const char *key)
{
	return (unsigned long long)json_integer_value(
		json_object_get(object, key));
}

static bool
is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* --- dump --- */

static void
print_copies(const json_t *report)
{
	json_t *generation, *copies = json_object_get(report, "copies");
	json_t *counts = json_object_get(report, "generation");
	const json_t *copy;
	size_t i;

	json_array_foreach (copies, i, copy) {
		generation = json_object_get(copy, "generation");
		printf("  copy %zu      at %llu, %s", i,
		       number_in(copy, "offset"), text_of(copy, "found"));
		if (json_is_integer(generation))
			printf(", generation %lld",
			       (long long)json_integer_value(generation));
		if (json_is_integer(counts) && json_equal(counts, generation))
			printf(", counts");
		if (*text_of(copy, "why"))
			printf(": %s", text_of(copy, "why"));
		putchar('\n');
	}
}

static void
print_history(const json_t *history)
{
	const json_t *entry;
	size_t i;

	if (number_in(history, "dropped") > 0)
		printf("  history     %llu older timelines are told by a "
		       "digest, %s\n",
		       number_in(history, "dropped"),
		       text_of(history, "digest"));
	json_array_foreach (json_object_get(history, "entries"), i, entry) {
		printf("  history     timeline %s from epoch %llu%s\n",
		       text_of(entry, "timeline"),
		       number_in(entry, "first_epoch"),
		       is_true(entry, "forced") ? ", forced" : "");
	}
}

static void
print_state(const json_t *state)
{
	char size[SIZE_TEXT_MAX];
	const json_t *peer;
	size_t i;

	size_text(size, number_in(state, "size"));
	printf("  disk        %s, %s (%llu bytes) in sectors of %llu\n",
	       text_of(state, "disk_id"), size, number_in(state, "size"),
	       number_in(state, "sector_size"));
	printf("  replica     %s, %s, incarnation %llu\n",
	       text_of(state, "replica_id"), text_of(state, "role"),
	       number_in(state, "incarnation"));
	printf("  state       epoch %llu, %sactive, %sconsistent%s%s\n",
	       number_in(state, "epoch"),
	       is_true(state, "active") ? "" : "not ",
	       is_true(state, "consistent") ? "" : "not ",
	       is_true(state, "outdated") ? ", outdated" : "",
	       is_true(state, "primary_last") ? ", was the primary last" : "");
	json_array_foreach (json_object_get(state, "peers"), i, peer) {
		printf("  peer        %s, incarnation %llu%s\n",
		       text_of(peer, "replica_id"),
		       number_in(peer, "incarnation"),
		       is_true(peer, "may_be_synced") ? ", may be in sync"
						      : "");
	}
	print_history(json_object_get(state, "history"));
}

static void
print_intents(const json_t *intents)
{
	const json_t *slot, *extent;
	char size[SIZE_TEXT_MAX];
	size_t i;

	size_text(size, number_in(intents, "extent"));
	json_array_foreach (json_object_get(intents, "slots"), i, slot) {
		printf("  slot %zu      at %llu, %s, generation %llu\n", i,
		       number_in(slot, "offset"), text_of(slot, "found"),
		       number_in(slot, "generation"));
	}
	printf("  intents     %llu of %llu extents of %s\n",
	       number_in(intents, "count"), number_in(intents, "capacity"),
	       size);
	json_array_foreach (json_object_get(intents, "extents"), i, extent) {
		if (i == EXTENTS_SHOWN) {
			printf("              ... (all with --json)\n");
			break;
		}
		printf("              offset %lld, %lld bytes\n",
		       (long long)json_integer_value(json_array_get(extent, 0)),
		       (long long)json_integer_value(
			       json_array_get(extent, 1)));
	}
}

static void
print_map(const json_t *map)
{
	char region[SIZE_TEXT_MAX], changed[SIZE_TEXT_MAX];

	size_text(region, number_in(map, "region"));
	size_text(changed, number_in(map, "changed_bytes"));
	printf("  map         at %llu, %llu regions of %s, %llu of %llu pages "
	       "written, %llu torn, %llu lost\n",
	       number_in(map, "offset"), number_in(map, "regions"), region,
	       number_in(map, "pages_written"), number_in(map, "pages"),
	       number_in(map, "pages_torn"), number_in(map, "pages_lost"));
	printf("  changed     %s", changed);
	if (number_in(map, "newest_epoch") > 0)
		printf(", in epochs %llu to %llu",
		       number_in(map, "oldest_epoch"),
		       number_in(map, "newest_epoch"));
	putchar('\n');
	if (is_true(map, "suspect_all"))
		printf("  suspect     every region: the peer may hold any "
		       "otherwise\n");
	else if (number_in(map, "suspect_regions") > 0)
		printf("  suspect     %llu regions, which the peer may hold "
		       "otherwise\n",
		       number_in(map, "suspect_regions"));
	if (json_is_integer(json_object_get(map, "image_size")))
		printf("  image       left by a clean stop with %llu bytes\n",
		       number_in(map, "image_size"));
}

static void
print_checkpoints(const json_t *checkpoints)
{
	char size[SIZE_TEXT_MAX];
	const json_t *row;
	size_t i;

	json_array_foreach (checkpoints, i, row) {
		printf("  checkpoint  %s: timeline %s, epoch %llu, ",
		       text_of(row, "name"), text_of(row, "timeline"),
		       number_in(row, "epoch"));
		size_text(size, number_in(row, "changed_bytes"));
		if (strcmp(text_of(row, "answer"), "refused") == 0)
			printf("%s\n", text_of(row, "why"));
		else
			printf("%s changed since, %s\n", size,
			       text_of(row, "answer"));
	}
}

static void
print_sentences(const json_t *list, const char *prefix)
{
	const json_t *sentence;
	size_t i;

	json_array_foreach (list, i, sentence) {
		printf("  %-11s %s\n", prefix, json_string_value(sentence));
	}
}

static void
print_report(const char *path, const json_t *report)
{
	printf("%s: %s\n", path, text_of(report, "verdict"));
	print_copies(report);
	if (json_is_object(json_object_get(report, "state")))
		print_state(json_object_get(report, "state"));
	if (json_is_object(json_object_get(report, "intents")))
		print_intents(json_object_get(report, "intents"));
	if (json_is_object(json_object_get(report, "map")))
		print_map(json_object_get(report, "map"));
	print_checkpoints(json_object_get(report, "checkpoints"));
	print_sentences(json_object_get(report, "problems"), "problem");
	print_sentences(json_object_get(report, "notes"), "note");
}

/* --- check --- */

static int
tell_problems(const struct context *context, const char *path,
	      const json_t *report)
{
	const json_t *list = json_object_get(report, "problems"), *sentence;
	int code = EXIT_OK;
	size_t i;

	json_array_foreach (list, i, sentence) {
		const char *text = json_string_value(sentence);
		bool named = strstr(text, path) != NULL;

		code = complain(context, EXIT_REFUSED, "%s%s%s",
				named ? "" : path, named ? "" : ": ", text);
	}
	if (code == EXIT_OK && !has(context, ARG_JSON)) {
		printf("%s: %s\n", path, text_of(report, "verdict"));
		print_sentences(json_object_get(report, "notes"), "note");
	}
	return code;
}

/* --- the verb --- */

static int
look(const struct context *context, const char *path, json_t **ret_report)
{
	struct reason reason = { "" };
	struct store *store = NULL;
	int r = store_open_to_read(&store, path, &reason);

	if (r < 0)
		return complain(context,
				r == -ENOENT ? EXIT_NONE : EXIT_REFUSED, "%s",
				reason_text(&reason, r));
	*ret_report = inspect_metadata(store);
	store->ops->close(store);
	return *ret_report != NULL
		       ? EXIT_OK
		       : complain(context, EXIT_REFUSED, "out of memory");
}

int
verb_metadata(struct context *context)
{
	const char *what = context->operands[0], *path = context->operands[1];
	bool dump = strcmp(what, "dump") == 0;
	json_t *report = NULL;
	int r;

	if (!dump && strcmp(what, "check") != 0)
		return complain(context, EXIT_USAGE,
				"say dump or check, not \"%s\"", what);
	r = look(context, path, &report);
	if (r != EXIT_OK)
		return r;
	if (has(context, ARG_JSON))
		print_json(report);
	if (!dump)
		r = tell_problems(context, path, report);
	else if (!has(context, ARG_JSON))
		print_report(path, report);
	if (dump && !json_is_null(json_object_get(report, "refused")))
		r = EXIT_REFUSED;
	json_decref(report);
	return r;
}

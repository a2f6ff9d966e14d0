/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ask - see ask.h.
 */
#include "replication/ask.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "replication/checkpoint.h"

#define WORDS_MAX 128 /* bytes of what stands behind a command */

static json_t *
number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *
timeline_json(const struct metadata_checkpoint *row)
{
	char timeline[17];

	(void)snprintf(timeline, sizeof(timeline), "%016" PRIx64,
		       row->timeline);
	return json_string(timeline);
}

static json_t *
row_json(const struct metadata_state *state,
	 const struct metadata_checkpoint *row)
{
	struct reason why = { "" };
	bool answerable = checkpoint_may_answer(state, row, &why) == 0;

	return json_pack("{s:s, s:o, s:o, s:b, s:b, s:s}", "name", row->name,
			 "timeline", timeline_json(row), "epoch",
			 number(row->epoch), "confirmed", row->confirmed,
			 "answerable", answerable, "why",
			 answerable ? "" : why.text);
}

void
ask_list(const struct metadata_state *state, struct json_t *result)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < state->checkpoints; i++)
		(void)json_array_append_new(
			list, row_json(state, &state->checkpoint[i]));
	(void)json_object_set_new(result, "checkpoints", list);
}

/* Up to two words. */
static int
split(const char *words, char first[WORDS_MAX], char second[WORDS_MAX],
      struct reason *reason)
{
	char rest[WORDS_MAX];
	int count;

	first[0] = second[0] = rest[0] = '\0';
	if (strlen(words) >= WORDS_MAX)
		return reason_set(reason, -EINVAL, "the command is too long");
	count = sscanf(words, "%127s %127s %127s", first, second, rest);
	return count > 2 ? reason_set(reason, -EINVAL, "unknown word '%.64s'",
				      rest)
			 : 0;
}

int
ask_parse(const char *words, enum ask_verb *ret_verb,
	  char ret_name[METADATA_CHECKPOINT_NAME], struct reason *reason)
{
	char verb[WORDS_MAX], name[WORDS_MAX];
	int r = split(words, verb, name, reason);

	if (r < 0)
		return r;
	if (strcmp(verb, "list") == 0)
		*ret_verb = ASK_LIST;
	else if (strcmp(verb, "create") == 0)
		*ret_verb = ASK_CREATE;
	else if (strcmp(verb, "delete") == 0)
		*ret_verb = ASK_DELETE;
	else
		return reason_set(reason, -EINVAL,
				  "checkpoint '%.64s' is no command: create, "
				  "list and delete are",
				  verb);
	if (strlen(name) >= METADATA_CHECKPOINT_NAME)
		return reason_set(reason, -ENAMETOOLONG,
				  "a checkpoint's name has %d bytes at most",
				  METADATA_CHECKPOINT_NAME - 1);
	(void)snprintf(ret_name, METADATA_CHECKPOINT_NAME, "%.63s", name);
	return 0;
}

/* The runs from `from` on: as many as an answer holds and a slice finds.
 * Returns where to go on. */
static uint64_t
add_runs(const struct tracker *tracker, const struct metadata_state *state,
	 uint64_t since, uint64_t from, json_t *runs)
{
	uint64_t end = from + ((uint64_t)TRACKER_REGIONS << tracker->map.shift);
	struct dirty_map_run run;

	while (from < state->size && from < end &&
	       json_array_size(runs) < ASK_RUNS) {
		tracker_next(tracker, since, from, TRACKER_REGIONS, &run);
		from = run.next;
		if (run.offset >= state->size || run.length == 0)
			continue;
		if (run.length > state->size - run.offset)
			run.length = state->size - run.offset;
		(void)json_array_append_new(
			runs, json_pack("[o, o]", number(run.offset),
					number(run.length)));
	}
	return from < state->size ? from : state->size;
}

int
ask_changed(const struct tracker *tracker, struct metadata_state *state,
	    const char *words, struct json_t *result, struct reason *reason)
{
	char name[WORDS_MAX], from[WORDS_MAX], *end = from;
	const struct metadata_checkpoint *row;
	unsigned long long offset = 0;
	uint64_t next;
	json_t *runs;
	int r = split(words, name, from, reason);

	if (r < 0)
		return r;
	if (from[0] != '\0')
		offset = strtoull(from, &end, 10);
	if (*end != '\0' || (from[0] != '\0' && (*from < '0' || *from > '9')) ||
	    offset > state->size)
		return reason_set(reason, -EINVAL,
				  "'%.64s' is no offset on this disk", from);
	row = checkpoint_find(state, name, reason);
	if (row == NULL)
		return -ENOENT;
	r = checkpoint_may_answer(state, row, reason);
	if (r < 0)
		return r;
	runs = json_array();
	next = add_runs(tracker, state, row->epoch, offset, runs);
	(void)json_object_update_new(
		result,
		json_pack("{s:s, s:o, s:o, s:b, s:o, s:o, s:o, s:o}",
			  "checkpoint", row->name, "timeline",
			  timeline_json(row), "epoch", number(row->epoch),
			  "exact", tracker_is_exact(tracker, row->epoch),
			  "region", number(1ull << tracker->map.shift), "size",
			  number(state->size), "runs", runs, "next",
			  number(next)));
	return 0;
}

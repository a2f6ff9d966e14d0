/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * track.c - the verbs about changes: checkpoint, changed, resolve.
 *
 * A checkpoint that was made counts once it is confirmed: create waits for
 * that.  The daemon answers "changed" a slice at a time; here the slices become
 * one answer, and runs that touch one run.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/reason.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

#define LOOK_MS	    20
#define SECONDS_MAX 86400

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static long long
number_in(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static bool
is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

static int
find(struct context *context, struct client **ret_client)
{
	json_t *status = NULL;
	int r = disk_find(context, ret_client, &status);

	json_decref(status);
	return r;
}

/* --- checkpoint --- */

static long
now_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (long)time.tv_sec;
}

/* The row of a name; NULL if there is none.  Borrowed. */
static const json_t *
row_of(const json_t *result, const char *name)
{
	const json_t *row;
	size_t i;

	json_array_foreach (json_object_get(result, "checkpoints"), i, row)
		if (strcmp(text_of(row, "name"), name) == 0)
			return row;
	return NULL;
}

/* E1: every write before it is done on all members. */
static int
wait_confirmed(struct client *client, const char *name, long limit_s,
	       struct reason *reason)
{
	struct timespec pause = { .tv_nsec = LOOK_MS * 1000000l };
	long limit = now_s() + limit_s;

	for (;;) {
		json_t *result = NULL;
		bool confirmed;
		int r = client_call(client, "checkpoints", NULL, CLIENT_QUICK_S,
				    &result, reason);

		if (r < 0)
			return r;
		confirmed = is_true(row_of(result, name), "confirmed");
		json_decref(result);
		if (confirmed)
			return 0;
		if (limit_s > 0 && now_s() > limit)
			return reason_set(reason, -ETIMEDOUT,
					  "checkpoint %s is not confirmed "
					  "after %ld s, since the peer has not "
					  "answered; it may still be",
					  name, limit_s);
		nanosleep(&pause, NULL);
	}
}

static int
list_checkpoints(const struct context *context, struct client *client,
		 struct reason *reason)
{
	json_t *result = NULL;
	const json_t *row;
	size_t i;
	int r = client_call(client, "checkpoints", NULL, CLIENT_QUICK_S,
			    &result, reason);

	if (r < 0)
		return r;
	if (has(context, ARG_JSON)) {
		print_json(result);
		json_decref(result);
		return 0;
	}
	json_array_foreach (json_object_get(result, "checkpoints"), i, row) {
		printf("%-24s timeline %s, epoch %lld, %s\n",
		       text_of(row, "name"), text_of(row, "timeline"),
		       number_in(row, "epoch"),
		       *text_of(row, "why")	   ? text_of(row, "why")
		       : is_true(row, "confirmed") ? "confirmed"
						   : "not confirmed");
	}
	json_decref(result);
	return 0;
}

static int
change_checkpoint(const struct context *context, struct client *client,
		  bool create, const char *name, struct reason *reason)
{
	long limit_s = number_of(context, ARG_LIMIT, SECONDS_MAX, 0);
	int r = client_call(
		client, create ? "checkpoint-create" : "checkpoint-delete",
		json_pack("{s:s}", "name", name), CLIENT_QUICK_S, NULL, reason);

	if (r == 0 && create)
		r = wait_confirmed(client, name, limit_s, reason);
	return r;
}

int
verb_checkpoint(struct context *context)
{
	const char *what = context->operands[0];
	bool create = strcmp(what, "create") == 0;
	bool list = strcmp(what, "list") == 0;
	struct reason reason = { "" };
	struct client *client = NULL;
	int r;

	if (!create && !list && strcmp(what, "delete") != 0)
		return complain(context, EXIT_USAGE,
				"say create, list or delete, not \"%s\"", what);
	if (list == (context->operand_count == 2))
		return complain(context, EXIT_USAGE,
				list ? "list takes no name"
				     : "say which checkpoint: NAME");
	r = find(context, &client);
	if (r != EXIT_OK)
		return r;
	r = list ? list_checkpoints(context, client, &reason)
		 : change_checkpoint(context, client, create,
				     context->operands[1], &reason);
	client_free(client);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

/* --- changed --- */

/* [offset, length] behind the others; one with the last if they touch. */
static void
add_run(json_t *runs, const json_t *run)
{
	json_int_t offset = json_integer_value(json_array_get(run, 0));
	json_int_t length = json_integer_value(json_array_get(run, 1));
	size_t count = json_array_size(runs);
	json_t *last = count > 0 ? json_array_get(runs, count - 1) : NULL;
	json_t *end = json_array_get(last, 1);

	if (last && json_integer_value(json_array_get(last, 0)) +
				    json_integer_value(end) ==
			    offset)
		json_integer_set(end, json_integer_value(end) + length);
	else
		json_array_append_new(runs,
				      json_pack("[I, I]", offset, length));
}

/* A name may be given again between two slices: they mean two checkpoints. */
static bool
is_same_checkpoint(const json_t *a, const json_t *b)
{
	return json_equal(json_object_get(a, "timeline"),
			  json_object_get(b, "timeline")) &&
	       json_equal(json_object_get(a, "epoch"),
			  json_object_get(b, "epoch"));
}

/* All slices: {"checkpoint", "timeline", "epoch", "exact", "region", "size",
 * "runs"}. */
static int
ask_changed(struct client *client, const char *since, json_t **ret_answer,
	    struct reason *reason)
{
	json_t *answer = NULL, *runs = json_array();
	json_int_t from = 0, size = 1;
	const json_t *run;
	size_t i;

	while (from < size) {
		json_t *slice = NULL;
		int r = client_call(
			client, "changed",
			json_pack("{s:s, s:I}", "since", since, "from", from),
			CLIENT_QUICK_S, &slice, reason);

		if (r == 0 && number_in(slice, "next") <= from) {
			json_decref(slice);
			r = reason_set(reason, -EPROTO,
				       "the daemon's answer does not go on");
		}
		if (r < 0) {
			json_decref(answer);
			json_decref(runs);
			return r;
		}
		if (answer && !is_same_checkpoint(answer, slice)) {
			json_decref(slice);
			json_decref(answer);
			answer = NULL;
			json_array_clear(runs);
			from = 0;
			continue;
		}
		json_array_foreach (json_object_get(slice, "runs"), i, run) {
			add_run(runs, run);
		}
		from = number_in(slice, "next");
		size = number_in(slice, "size");
		/* what one of them knows too widely, the whole does */
		if (answer && !is_true(answer, "exact"))
			json_object_set_new(slice, "exact", json_false());
		json_decref(answer);
		answer = slice;
	}
	json_object_set_new(answer, "runs", runs);
	json_object_del(answer, "next");
	*ret_answer = answer;
	return 0;
}

static void
print_changed(const struct context *context, const json_t *answer)
{
	char text[SIZE_TEXT_MAX];
	unsigned long long bytes = 0;
	const json_t *run;
	size_t i;

	json_array_foreach (json_object_get(answer, "runs"), i, run) {
		bytes += (unsigned long long)json_integer_value(
			json_array_get(run, 1));
		printf("%lld %lld\n",
		       (long long)json_integer_value(json_array_get(run, 0)),
		       (long long)json_integer_value(json_array_get(run, 1)));
	}
	if (has(context, ARG_RAW))
		return;
	size_text(text, bytes);
	printf("%s changed since %s, %s\n", text, text_of(answer, "checkpoint"),
	       is_true(answer, "exact")
		       ? "exact"
		       : "over-approximated: it names too much, never too "
			 "little");
}

int
verb_changed(struct context *context)
{
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *answer = NULL;
	int r;

	if (!has(context, ARG_SINCE))
		return complain(context, EXIT_USAGE,
				"say since which checkpoint: --since NAME");
	r = find(context, &client);
	if (r != EXIT_OK)
		return r;
	r = ask_changed(client, context->text[ARG_SINCE], &answer, &reason);
	client_free(client);
	if (r < 0)
		return complain_of(context, r, &reason);
	if (has(context, ARG_JSON))
		print_json(answer);
	else
		print_changed(context, answer);
	json_decref(answer);
	return EXIT_OK;
}

void
track_print(const json_t *tracking)
{
	char region[SIZE_TEXT_MAX], extent[SIZE_TEXT_MAX];

	size_text(region, (uint64_t)number_in(tracking, "region"));
	size_text(extent, (uint64_t)number_in(tracking, "extent"));
	printf("  tracks      regions of %s; %lld of %lld extents of %s would "
	       "count as changed after a crash%s\n",
	       region, number_in(tracking, "extents"),
	       number_in(tracking, "capacity"), extent,
	       is_true(tracking, "unknown")
		       ? "; all count as changed, since that was not known"
		       : "");
}

/* --- resolve --- */

int
verb_resolve(struct context *context)
{
	const char *side = context->text[ARG_SIDE];

	if (!side || (strcmp(side, "local") != 0 && strcmp(side, "peer") != 0))
		return complain(context, EXIT_USAGE,
				"say whose changes are to go: --discard local "
				"or --discard peer");
	return disk_command(context, "resolve",
			    json_pack("{s:s}", "discard", side),
			    CLIENT_QUICK_S);
}

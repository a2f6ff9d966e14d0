/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify.c - the verb verify: orders a primary to compare the two replicas, and
 * waits for what it finds.
 *
 * The members are those of replication/verify.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/reason.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

#define LOOK_MS	    50
#define SECONDS_MAX (7L * 86400)

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

/* --- what was found --- */

static void
print_findings(const json_t *verify)
{
	const json_t *finding;
	size_t i;

	json_array_foreach (json_object_get(verify, "findings"), i, finding) {
		printf("%s: %llu bytes at offset %llu%s%s\n",
		       text_of(finding, "what"), number_in(finding, "length"),
		       number_in(finding, "offset"),
		       *text_of(finding, "errno") ? ": " : "",
		       text_of(finding, "errno"));
	}
	if (number_in(verify, "more") > 0)
		printf("and %llu more\n", number_in(verify, "more"));
}

static int
conclude(const struct context *context, const json_t *verify)
{
	char different[SIZE_TEXT_MAX], unreadable[SIZE_TEXT_MAX];
	unsigned long long bytes = number_in(verify, "different_bytes");
	unsigned long long mute = number_in(verify, "unreadable_bytes");

	if (has(context, ARG_JSON))
		print_json(verify);
	else
		print_findings(verify);
	if (strcmp(text_of(verify, "state"), "stopped") == 0)
		return complain(context, EXIT_REFUSED,
				"the verification did not end: %s",
				text_of(verify, "why"));
	size_text(different, bytes);
	size_text(unreadable, mute);
	if (mute > 0)
		return complain(context, EXIT_REFUSED,
				"%s differ, and %s could not be read: replace "
				"the disk that cannot be read",
				different, unreadable);
	if (number_in(verify, "repaired_bytes") < bytes)
		return complain(context, EXIT_REFUSED,
				"%s differ between the two replicas: find out "
				"which is right; \"--repair-from local\" "
				"copies this host's",
				different);
	if (!has(context, ARG_JSON) && bytes > 0)
		printf("repaired: %s differed, and were copied to the peer\n",
		       different);
	else if (!has(context, ARG_JSON))
		printf("the two replicas are equal\n");
	return EXIT_OK;
}

/* --- the order --- */

static long
now_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (long)time.tv_sec;
}

static void
look_later(void)
{
	struct timespec pause = { .tv_nsec = LOOK_MS * 1000000l };

	nanosleep(&pause, NULL);
}

/* *ret_status is that of the end. */
static int
wait_end(struct client *client, long limit_s, json_t **ret_status,
	 struct reason *reason)
{
	long limit = now_s() + limit_s;
	bool closed;

	for (;;) {
		const json_t *verify;
		json_t *status;
		int r = client_call(client, "status", NULL, CLIENT_QUICK_S,
				    &status, reason);

		if (r < 0)
			return r;
		verify = json_object_get(json_object_get(status, "replica"),
					 "verify");
		if (json_is_object(verify) &&
		    strcmp(text_of(verify, "state"), "running") != 0) {
			*ret_status = status;
			return 0;
		}
		closed = !json_is_object(verify);
		json_decref(status);
		if (closed)
			return reason_set(reason, -ESHUTDOWN,
					  "the disk was closed before the "
					  "verification had ended");
		if (limit_s > 0 && now_s() > limit)
			return reason_set(reason, -ETIMEDOUT,
					  "it has not ended after %ld s; it "
					  "goes on",
					  limit_s);
		look_later();
	}
}

int
verb_verify(struct context *context)
{
	long limit_s = number_of(context, ARG_LIMIT, SECONDS_MAX, 0);
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *status = NULL;
	int r;

	if (has(context, ARG_REPAIR) &&
	    strcmp(context->text[ARG_REPAIR], "local") != 0)
		return complain(context, EXIT_USAGE,
				"--repair-from %s: only \"local\", this host's "
				"bytes; if the peer's are right, hand the disk "
				"over to it first (tap-ctl demote)",
				context->text[ARG_REPAIR]);
	if (has(context, ARG_STOP))
		return disk_command(context, "verify",
				    json_pack("{s:b}", "stop", 1),
				    CLIENT_QUICK_S);
	r = disk_find(context, &client, &status);
	if (r != EXIT_OK)
		return r;
	json_decref(status);
	r = client_call(client, "verify",
			json_pack("{s:b}", "repair", has(context, ARG_REPAIR)),
			CLIENT_QUICK_S, NULL, &reason);
	if (r == 0)
		r = wait_end(client, limit_s, &status, &reason);
	client_free(client);
	if (r < 0)
		return complain_of(context, r, &reason);
	r = conclude(
		context,
		json_object_get(json_object_get(status, "replica"), "verify"));
	json_decref(status);
	return r;
}

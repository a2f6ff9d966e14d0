/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair.c - a replicated disk: how it is, in words, and the verbs promote,
 * demote and resync.
 *
 * The daemon takes an order at once and tells in its status while the change
 * goes on ("change") and why it failed ("change_error"); the verbs wait for
 * that end.  The members are those of replication/replica_status.c.
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
#define BAR_WIDTH   24
#define BAR_MAX	    (BAR_WIDTH + 3)
#define RATE_MAX    (2 * SIZE_TEXT_MAX + 64)
#define SECONDS_MAX 86400

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static json_int_t
integer_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static bool
is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* --- progress of a resync --- */

static const char *
bar_text(char text[BAR_MAX], json_int_t done, json_int_t total)
{
	int full =
		total > 0 ? (int)((double)done / (double)total * BAR_WIDTH) : 0;

	text[0] = '[';
	memset(text + 1, '#', (size_t)full);
	memset(text + 1 + full, '.', (size_t)(BAR_WIDTH - full));
	text[BAR_WIDTH + 1] = ']';
	text[BAR_WIDTH + 2] = '\0';
	return text;
}

static void
time_text(char *text, size_t size, json_int_t seconds)
{
	if (seconds < 60)
		snprintf(text, size, "%d s", (int)seconds);
	else if (seconds < 3600)
		snprintf(text, size, "%d min", (int)(seconds / 60));
	else
		snprintf(text, size, "%d h %02d min", (int)(seconds / 3600),
			 (int)(seconds / 60 % 60));
}

/* "80 MiB/s, 3 s left" */
static const char *
rate_text(char text[RATE_MAX], const json_t *resync)
{
	json_int_t rate = integer_of(resync, "bytes_per_s");
	const json_t *eta = json_object_get(resync, "eta_s");
	char size[SIZE_TEXT_MAX], left[32] = "?";

	size_text(size, (uint64_t)rate);
	if (json_is_integer(eta))
		time_text(left, sizeof(left), json_integer_value(eta));
	snprintf(text, RATE_MAX, "%s/s, %s left", size, left);
	return text;
}

static int
percent_of(const json_t *resync)
{
	json_int_t total = integer_of(resync, "total_bytes");

	return total > 0 ? (int)((double)integer_of(resync, "done_bytes") *
				 100 / (double)total)
			 : 0;
}

static void
print_resync(const json_t *resync)
{
	json_int_t done = integer_of(resync, "done_bytes");
	json_int_t total = integer_of(resync, "total_bytes");
	char bar[BAR_MAX], rate[RATE_MAX];
	char done_text[SIZE_TEXT_MAX], total_text[SIZE_TEXT_MAX];

	size_text(done_text, (uint64_t)done);
	size_text(total_text, (uint64_t)total);
	printf("  resync      %s %d %%, %s of %s, %s\n",
	       bar_text(bar, done, total), percent_of(resync), done_text,
	       total_text, rate_text(rate, resync));
	if (*text_of(resync, "trouble"))
		printf("  trouble     %s\n", text_of(resync, "trouble"));
}

static void
print_side(const char *who, const json_t *side)
{
	char size[SIZE_TEXT_MAX];

	if (!json_is_object(side)) {
		printf("%s would lose what is not counted yet", who);
		return;
	}
	size_text(size, (uint64_t)integer_of(side, "bytes"));
	printf("%s would lose %s in %lld regions", who, size,
	       (long long)integer_of(side, "regions"));
}

/* H4 */
static void
print_fork(const json_t *fork)
{
	printf("  fork        after timeline %s, epoch %lld: ",
	       text_of(fork, "timeline"), (long long)integer_of(fork, "epoch"));
	print_side("this host", json_object_get(fork, "local"));
	print_side(", the peer", json_object_get(fork, "peer"));
	putchar('\n');
}

/* "nine of ten of the guest's requests took 12 ms, of 10 ms: held back" */
static void
print_pace(const json_t *pace)
{
	printf("  pace        nine of ten of the guest's requests take %.1f "
	       "ms, %lld ms are granted: %s\n",
	       (double)integer_of(pace, "latency_us") / 1000,
	       (long long)integer_of(pace, "budget_ms"),
	       is_true(pace, "held_back") ? "held back for the guest"
					  : "at full speed");
}

static void
print_verify(const json_t *verify)
{
	bool running = strcmp(text_of(verify, "state"), "running") == 0;
	json_int_t bad = integer_of(verify, "different_bytes") +
			 integer_of(verify, "unreadable_bytes");
	char rate[RATE_MAX], size[SIZE_TEXT_MAX];

	size_text(size, (uint64_t)bad);
	printf("  verify      %s, %d %%", text_of(verify, "state"),
	       percent_of(verify));
	if (running)
		printf(", %s", is_true(verify, "waiting")
				       ? "waits until the two are in sync"
				       : rate_text(rate, verify));
	printf(", %s%s\n", bad > 0 ? size : "no difference",
	       bad > 0 ? " differed or could not be read" : "");
}

/* --- status --- */

/* Why each of the peer's addresses is of no use now. */
static void
print_no_path(const json_t *link)
{
	const json_t *paths = json_object_get(link, "paths");

	for (size_t i = 0; i < json_array_size(paths); i++) {
		const json_t *path = json_array_get(paths, i);

		if (*text_of(path, "why"))
			printf("  path        %s\n", text_of(path, "why"));
	}
}

static void
print_peer(const json_t *link)
{
	const char *state = text_of(link, "state");
	const char *address = text_of(link, "peer_address");
	json_int_t reconnects = integer_of(link, "reconnects");

	printf("  peer        %s%s%s", state, *address ? ", " : "", address);
	if (strcmp(state, "up") == 0 && integer_of(link, "round_trip_us") > 0)
		printf(", round trip %lld us",
		       (long long)integer_of(link, "round_trip_us"));
	if (reconnects > 0)
		printf(", connected again %lld time%s", (long long)reconnects,
		       reconnects == 1 ? "" : "s");
	putchar('\n');
	if (*text_of(link, "path_why"))
		printf("  path        %s; %s\n", text_of(link, "path"),
		       text_of(link, "path_why"));
	if (strcmp(state, "up") != 0)
		print_no_path(link);
}

/* A failover: another host, or on a secondary this one, takes over. */
static void
print_failover(const json_t *failover)
{
	printf("  failover    %s%s\n",
	       is_true(failover, "possible") ? "now would lose: " : "not now: ",
	       text_of(failover, "loses"));
}

static void
print_change(const json_t *replica)
{
	const char *change = text_of(replica, "change");
	const char *error = text_of(replica, "change_error");

	if (*change)
		printf("  change      %s is under way\n", change);
	else if (*error)
		printf("  change      the last one failed: %s\n", error);
}

/* Without one there is nothing to tell. */
static void
print_arbiter(const json_t *arbiter)
{
	const char *name = text_of(arbiter, "name");

	if (*name != '\0' && strcmp(name, "none") != 0)
		printf("  arbiter     %s: %s\n", name,
		       text_of(arbiter, "says"));
}

void
pair_print(const json_t *replica)
{
	const char *why = text_of(replica, "why");
	char since[32];

	time_text(since, sizeof(since), integer_of(replica, "state_s"));
	printf("  role        %s\n", text_of(replica, "role"));
	printf("  state       %s for %s, %sin sync\n",
	       text_of(replica, "state"), since,
	       is_true(replica, "in_sync") ? "" : "not ");
	if (*why)
		printf("  why         %s\n", why);
	if (is_true(replica, "diverged"))
		printf("  diverged    both hosts wrote alone: \"tap-ctl "
		       "resolve "
		       "--discard local\" gives up what this one wrote, "
		       "\"--discard peer\" what the other did\n");
	if (json_is_object(json_object_get(replica, "fork")))
		print_fork(json_object_get(replica, "fork"));
	print_failover(json_object_get(replica, "failover"));
	if (json_is_object(json_object_get(replica, "resync")))
		print_resync(json_object_get(replica, "resync"));
	if (json_is_object(json_object_get(replica, "pace")) &&
	    (json_is_object(json_object_get(replica, "resync")) ||
	     strcmp(text_of(json_object_get(replica, "verify"), "state"),
		    "running") == 0))
		print_pace(json_object_get(replica, "pace"));
	if (json_is_object(json_object_get(replica, "verify")))
		print_verify(json_object_get(replica, "verify"));
	print_change(replica);
	print_peer(json_object_get(replica, "link"));
	print_arbiter(json_object_get(replica, "arbiter"));
	if (is_true(replica, "insecure_network"))
		printf("  network     insecure: whoever reaches the address "
		       "reads and changes the disk\n");
}

void
pair_print_row(const json_t *replica)
{
	const json_t *resync = json_object_get(replica, "resync");
	const json_t *failover = json_object_get(replica, "failover");
	char bar[BAR_MAX], rate[RATE_MAX];

	printf("  %s, %s", text_of(replica, "role"), text_of(replica, "state"));
	if (json_is_object(resync))
		printf("  %s %d %%, %s",
		       bar_text(bar, integer_of(resync, "done_bytes"),
				integer_of(resync, "total_bytes")),
		       percent_of(resync), rate_text(rate, resync));
	else if (is_true(replica, "in_sync"))
		printf(", in sync");
	else
		printf(": %s", text_of(replica, "why"));
	if (is_true(failover, "possible"))
		printf("; a failover loses: %s", text_of(failover, "loses"));
}

/* --- orders --- */

static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void
look_later(void)
{
	struct timespec pause = { .tv_nsec = LOOK_MS * 1000000l };

	nanosleep(&pause, NULL);
}

/* Whether an order that was taken has ended: 1, or a negative errno. */
static int
has_ended(const json_t *replica, const char *role, struct reason *reason)
{
	const char *error = text_of(replica, "change_error");
	const char *state = text_of(replica, "state");

	if (!json_is_object(replica))
		return reason_set(reason, -ESHUTDOWN,
				  "the disk was closed before the order had "
				  "ended");
	if (*text_of(replica, "change"))
		return 0;
	if (*error)
		return reason_set(reason, -EIO, "%s", error);
	if (strcmp(state, "failed") == 0)
		return reason_set(reason, -EIO, "%s", text_of(replica, "why"));
	/* going on alone is no change of its own: a lost peer is given up */
	return strcmp(text_of(replica, "role"), role) == 0 &&
	       strcmp(state, "lost") != 0;
}

static int
wait_end(struct client *client, const char *role, long limit_s,
	 json_t **ret_status, struct reason *reason)
{
	double limit = now() + (double)limit_s;
	json_t *status;
	int r;

	for (;;) {
		r = client_call(client, "status", NULL, CLIENT_QUICK_S, &status,
				reason);
		if (r < 0)
			return r;
		r = has_ended(json_object_get(status, "replica"), role, reason);
		if (r > 0) {
			*ret_status = status;
			return 0;
		}
		json_decref(status);
		if (r < 0)
			return r;
		if (limit_s > 0 && now() > limit)
			return reason_set(reason, -ETIMEDOUT,
					  "it has not ended after %ld s; it "
					  "goes on",
					  limit_s);
		look_later();
	}
}

/* Give the order and wait until the replica has the role. */
static int
change_role(struct context *context, const char *role, json_t *arguments)
{
	long limit_s = number_of(context, ARG_LIMIT, SECONDS_MAX, 0);
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *status = NULL;
	int r;

	r = disk_find(context, &client, &status);
	if (r != EXIT_OK) {
		json_decref(arguments);
		return r;
	}
	json_decref(status);
	r = client_call(client, context->verb->name, arguments, 0, NULL,
			&reason);
	if (r == 0)
		r = wait_end(client, role, limit_s, &status, &reason);
	if (r == 0) {
		if (has(context, ARG_JSON))
			print_json(status);
		json_decref(status);
	}
	client_free(client);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

int
verb_promote(struct context *context)
{
	return change_role(context, "primary",
			   json_pack("{s:b, s:b}", "alone",
				     has(context, ARG_ALONE), "force",
				     has(context, ARG_LOSS)));
}

int
verb_demote(struct context *context)
{
	return change_role(context, "secondary", NULL);
}

int
verb_resync(struct context *context)
{
	if (has(context, ARG_DISCARD) &&
	    strcmp(context->text[ARG_DISCARD], "local") != 0)
		return complain(context, EXIT_USAGE,
				"--discard %s: only \"local\" can be given up, "
				"what this host wrote",
				context->text[ARG_DISCARD]);
	return disk_command(
		context, "resync",
		json_pack("{s:b}", "discard", has(context, ARG_DISCARD)), 0);
}

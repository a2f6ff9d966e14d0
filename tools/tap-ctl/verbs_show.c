/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_show.c - the verbs that look: list, status, stats, events.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/reason.h"
#include "tools/common/run_dir.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

static const char *
text_of(const json_t *status, const char *key)
{
	const char *text = json_string_value(json_object_get(status, key));

	return text ? text : "";
}

static long long
integer_of(const json_t *status, const char *key)
{
	return json_integer_value(json_object_get(status, key));
}

/* --- list --- */

/* The bits by which blktap wrote a state (its drivers/tapdisk-vbd.h): closed
 * 0x2, quiesced 0x8, pause asked for 0x10, paused 0x20, shutdown 0x40. */
static unsigned int
state_bits(const char *state)
{
	static const struct {
		const char *state;
		unsigned int bits;
	} table[] = {
		{ "running", 0 },   { "closed", 0x2 },	 { "pausing", 0x10 },
		{ "paused", 0x2a }, { "closing", 0x40 },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].state, state) == 0)
			return table[i].bits;
	return 0x1;
}

/* -t and -f, of one image in the stack: "TYPE:PATH", up to '|' or the end. */
static bool
image_is_listed(const struct context *context, const char *image)
{
	size_t type_length = strcspn(image, ":|");
	const char *type = context->text[ARG_TYPE];
	const char *file = context->text[ARG_FILE];
	const char *path = image + type_length + (image[type_length] == ':');

	if (type && (strlen(type) != type_length ||
		     strncmp(image, type, type_length) != 0))
		return false;
	return !file || (strcspn(path, "|") == strlen(file) &&
			 strncmp(path, file, strlen(file)) == 0);
}

/* A disk without an image matches neither. */
static bool
is_listed(const struct context *context, const json_t *status)
{
	const char *image = text_of(status, "image");

	if (!has(context, ARG_TYPE) && !has(context, ARG_FILE))
		return true;
	while (*image) {
		if (image_is_listed(context, image))
			return true;
		image += strcspn(image, "|");
		image += *image == '|';
	}
	return false;
}

static void
list_as_row(const json_t *status)
{
	char minor[16] = "-", size[SIZE_TEXT_MAX] = "-";

	if (json_is_integer(json_object_get(status, "minor")))
		snprintf(minor, sizeof(minor), "%lld",
			 integer_of(status, "minor"));
	if (*text_of(status, "image"))
		size_text(size, (uint64_t)integer_of(status, "size"));
	printf("%-16s %7lld %5s %-8s %9s %7lld  %s\n", text_of(status, "name"),
	       integer_of(status, "pid"), minor, text_of(status, "state"), size,
	       integer_of(status, "clients"), text_of(status, "image"));
}

/* The line that toolstacks parse. */
static void
list_as_line(const json_t *status)
{
	bool attached = json_is_integer(json_object_get(status, "minor"));
	const char *image = text_of(status, "image");

	printf("pid=%lld", integer_of(status, "pid"));
	if (attached)
		printf(" minor=%lld", integer_of(status, "minor"));
	if (attached || *image)
		printf(" state=%#x", state_bits(text_of(status, "state")));
	if (*image)
		printf(" args=%s", image);
	putchar('\n');
}

struct listing {
	bool tty;
	json_t *all; /* for --json */
	unsigned char attached[RUN_DIR_MINORS];
};

static void
list_one(struct context *context, json_t *status, void *arg)
{
	struct listing *listing = arg;
	json_t *minor = json_object_get(status, "minor");

	if (json_is_integer(minor) && json_integer_value(minor) >= 0 &&
	    json_integer_value(minor) < RUN_DIR_MINORS)
		listing->attached[json_integer_value(minor)] = 1;
	if (!is_listed(context, status))
		return;
	if (has(context, ARG_JSON))
		json_array_append(listing->all, status);
	else if (listing->tty)
		list_as_row(status);
	else
		list_as_line(status);
}

/* A minor that nobody is attached to. */
static void
list_minor(int minor, void *arg)
{
	struct listing *listing = arg;

	if (listing->attached[minor])
		return;
	if (listing->all)
		json_array_append_new(listing->all,
				      json_pack("{s:i}", "minor", minor));
	else if (listing->tty)
		printf("%-16s %7s %5d %-8s\n", "-", "-", minor, "free");
	else
		printf("minor=%d\n", minor);
}

int
verb_list(struct context *context)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	int r;

	if (!listing)
		return complain(context, EXIT_REFUSED, "out of memory");
	listing->tty = isatty(STDOUT_FILENO);
	listing->all = has(context, ARG_JSON) ? json_array() : NULL;
	if (listing->tty && !listing->all)
		printf("%-16s %7s %5s %-8s %9s %7s  %s\n", "NAME", "PID",
		       "MINOR", "STATE", "SIZE", "CLIENTS", "IMAGE");
	r = disk_each(context, list_one, listing);
	if (r == EXIT_OK && !has(context, ARG_NAME) && !has(context, ARG_PID) &&
	    !has(context, ARG_MINOR) && !has(context, ARG_TYPE) &&
	    !has(context, ARG_FILE))
		run_dir_each_minor(context->run_dir, list_minor, listing);
	if (r == EXIT_OK && listing->all)
		print_json(listing->all);
	json_decref(listing->all);
	free(listing);
	return r;
}

/* --- status --- */

#define WHEN_MAX 32

static const char *
when_text(char text[WHEN_MAX], long long when)
{
	time_t time = (time_t)when;
	struct tm tm;

	text[0] = '\0';
	if (localtime_r(&time, &tm))
		strftime(text, WHEN_MAX, "%F %T", &tm);
	return text;
}

static void
print_failures(const json_t *failures)
{
	const json_t *last = json_object_get(failures, "last");
	char when[WHEN_MAX];

	if (!json_is_object(last))
		return;
	printf("  failures    %lld, the last at %s: %s of %lld bytes at "
	       "offset %lld: %s\n",
	       integer_of(failures, "count"),
	       when_text(when, integer_of(last, "when")),
	       text_of(last, "operation"), integer_of(last, "length"),
	       integer_of(last, "offset"), text_of(last, "errno"));
}

static void
print_status(const json_t *status)
{
	json_t *frontends = json_object_get(status, "frontends"), *frontend;
	char when[WHEN_MAX], prefix[32];
	const char *name;

	printf("%s %s\n", text_of(status, "name"), text_of(status, "words"));
	if (*text_of(status, "image"))
		printf("  image       %s\n", text_of(status, "image"));
	json_object_foreach (frontends, name, frontend) {
		(void)snprintf(prefix, sizeof(prefix), "  %-11s ", name);
		print_addresses_of(frontend, prefix);
	}
	if (json_is_object(json_object_get(status, "replica")))
		pair_print(json_object_get(status, "replica"));
	if (json_is_object(json_object_get(status, "tracking")))
		track_print(json_object_get(status, "tracking"));
	printf("  requests    %lld under way, %lld waiting, %lld past their "
	       "time limit\n",
	       integer_of(status, "in_flight"), integer_of(status, "waiting"),
	       integer_of(status, "timed_out"));
	printf("  process     %lld, disk I/O by %s\n",
	       integer_of(status, "pid"), text_of(status, "backend"));
	print_failures(json_object_get(status, "failures"));
	printf("  %-11s since %s\n", text_of(status, "state"),
	       when_text(when, integer_of(status, "since")));
}

static void
status_one(struct context *context, json_t *status, void *arg)
{
	json_t *all = arg;

	(void)context;
	if (all)
		json_array_append(all, status);
	else
		print_status(status);
}

int
verb_status(struct context *context)
{
	struct client *client = NULL;
	json_t *status = NULL, *all;
	int r;

	if (has(context, ARG_WATCH))
		return watch(context);
	if (has(context, ARG_NAME) || has(context, ARG_PID) ||
	    has(context, ARG_MINOR)) {
		r = disk_find(context, &client, &status);
		if (r != EXIT_OK)
			return r;
		if (has(context, ARG_JSON))
			print_json(status);
		else
			print_status(status);
		client_free(client);
		json_decref(status);
		return EXIT_OK;
	}
	all = has(context, ARG_JSON) ? json_array() : NULL;
	r = disk_each(context, status_one, all);
	if (r == EXIT_OK && all)
		print_json(all);
	json_decref(all);
	return r;
}

int
verb_stats(struct context *context)
{
	context->text[ARG_JSON] = ""; /* there is no other form */
	return disk_command(context, "stats", NULL, CLIENT_QUICK_S);
}

/* --- events --- */

#define FOLLOWED_MAX 256

struct followed {
	struct client *clients[FOLLOWED_MAX];
	struct pollfd polls[FOLLOWED_MAX];
	nfds_t count;
};

static int
follow(struct context *context, struct followed *followed, pid_t pid)
{
	struct reason reason = { "" };
	struct client *client;
	int r;

	if (followed->count == FOLLOWED_MAX)
		return complain(context, EXIT_REFUSED,
				"at most %d disks can be followed",
				FOLLOWED_MAX);
	r = client_open(&client, context->run_dir, pid, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	r = client_call(client, "events", NULL, CLIENT_QUICK_S, NULL, &reason);
	if (r < 0) {
		client_free(client);
		return complain_of(context, r, &reason);
	}
	followed->clients[followed->count] = client;
	followed->polls[followed->count].fd = client_fd(client);
	followed->polls[followed->count].events = POLLIN;
	followed->count++;
	return EXIT_OK;
}

static void
follow_one(struct context *context, json_t *status, void *arg)
{
	follow(context, arg, (pid_t)integer_of(status, "pid"));
}

static void
unfollow(struct followed *followed, nfds_t i)
{
	client_free(followed->clients[i]);
	followed->count--;
	followed->clients[i] = followed->clients[followed->count];
	followed->polls[i] = followed->polls[followed->count];
}

/* One line of the i-th; it may hold more, which client_pending() tells. */
static void
print_event(struct followed *followed, nfds_t i)
{
	json_t *event;

	do {
		event = client_next(followed->clients[i]);
		if (!event) {
			unfollow(followed, i);
			return;
		}
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(event);
	} while (client_has_line(followed->clients[i]));
	fflush(stdout);
}

int
verb_events(struct context *context)
{
	static struct followed followed;
	nfds_t i;
	int r;

	r = disk_each(context, follow_one, &followed);
	if (r == EXIT_OK && followed.count == 0)
		return complain(context, EXIT_NONE,
				"there is no such disk to follow");
	while (followed.count > 0 && !ferror(stdout)) {
		if (poll(followed.polls, followed.count, -1) < 0 &&
		    errno != EINTR)
			return complain(context, EXIT_REFUSED,
					"cannot wait for events: %s",
					strerror(errno));
		for (i = followed.count; i-- > 0;)
			if (followed.polls[i].revents)
				print_event(&followed, i);
	}
	return r;
}

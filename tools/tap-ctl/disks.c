/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disks.c - finds the daemon that a person or toolstack means.
 *
 * By -p the daemon is asked straight; by -n or -m alone all are asked.  A
 * daemon that does not answer is passed over when all are asked, with a
 * sentence on standard error, so that one that hangs hides no other.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "tools/common/run_dir.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

/* Connect and ask who it is. */
static int
ask(const char *run_dir, pid_t pid, struct client **ret_client,
    json_t **ret_status, struct reason *reason)
{
	struct client *client;
	int r = client_open(&client, run_dir, pid, reason);

	if (r < 0)
		return r;
	r = client_call(client, "status", NULL, CLIENT_QUICK_S, ret_status,
			reason);
	if (r < 0)
		client_free(client);
	else
		*ret_client = client;
	return r;
}

/* -n and -m; what is not given matches everything. */
static bool
matches(const struct context *context, const json_t *status)
{
	const json_t *name = json_object_get(status, "name");
	const json_t *minor = json_object_get(status, "minor");

	if (has(context, ARG_NAME) &&
	    (!json_is_string(name) ||
	     strcmp(json_string_value(name), context->text[ARG_NAME]) != 0))
		return false;
	return !has(context, ARG_MINOR) ||
	       (json_is_integer(minor) &&
		json_integer_value(minor) ==
			number_of(context, ARG_MINOR, RUN_DIR_MINORS - 1, -1));
}

static int
find_by_pid(struct context *context, struct client **ret_client,
	    json_t **ret_status)
{
	pid_t pid = (pid_t)number_of(context, ARG_PID, INT32_MAX, 0);
	struct reason reason = { "" };
	int r;

	r = ask(context->run_dir, pid, ret_client, ret_status, &reason);
	if (r < 0)
		return complain_of(context, r, &reason);
	if (matches(context, *ret_status))
		return EXIT_OK;
	client_free(*ret_client);
	json_decref(*ret_status);
	return complain(context, EXIT_NONE,
			"tapdisk %d serves another disk; \"tap-ctl list\" "
			"shows which",
			(int)pid);
}

static int
not_found(const struct context *context)
{
	if (has(context, ARG_NAME))
		return complain(context, EXIT_NONE,
				"there is no disk named %s; \"tap-ctl list\" "
				"shows those there are",
				context->text[ARG_NAME]);
	return complain(context, EXIT_NONE,
			"no tapdisk is attached to minor %s; \"tap-ctl list\" "
			"shows those there are",
			context->text[ARG_MINOR]);
}

int
disk_find(struct context *context, struct client **ret_client,
	  json_t **ret_status)
{
	struct reason reason = { "" };
	pid_t *pids = NULL;
	int i, count;

	if (has(context, ARG_PID))
		return find_by_pid(context, ret_client, ret_status);
	if (!has(context, ARG_NAME) && !has(context, ARG_MINOR))
		return complain(context, EXIT_USAGE,
				"say which disk: -n NAME, or -p PID and "
				"-m MINOR");
	count = run_dir_list(context->run_dir, &pids, &reason);
	if (count < 0)
		return complain_of(context, count, &reason);
	for (i = 0; i < count; i++) {
		if (ask(context->run_dir, pids[i], ret_client, ret_status,
			&reason) < 0)
			continue;
		if (matches(context, *ret_status))
			break;
		client_free(*ret_client);
		json_decref(*ret_status);
	}
	free(pids);
	return i < count ? EXIT_OK : not_found(context);
}

int
disk_each(struct context *context,
	  void (*visit)(struct context *context, json_t *status, void *arg),
	  void *arg)
{
	struct reason reason = { "" };
	struct client *client;
	pid_t *pids = NULL;
	json_t *status;
	int i, r, count;

	count = run_dir_list(context->run_dir, &pids, &reason);
	if (count < 0)
		return complain_of(context, count, &reason);
	for (i = 0; i < count; i++) {
		r = ask(context->run_dir, pids[i], &client, &status, &reason);
		if (r < 0 && r != -ENOENT)
			complain_of(context, r, &reason);
		if (r < 0)
			continue;
		if (matches(context, status))
			visit(context, status, arg);
		client_free(client);
		json_decref(status);
	}
	free(pids);
	return EXIT_OK;
}

int
disk_command(struct context *context, const char *command, json_t *arguments,
	     unsigned int limit_s)
{
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *status = NULL, *result = NULL;
	int r;

	r = disk_find(context, &client, &status);
	if (r != EXIT_OK) {
		json_decref(arguments);
		return r;
	}
	r = client_call(client, command, arguments, limit_s, &result, &reason);
	if (r == 0) {
		if (has(context, ARG_JSON))
			print_json(result);
		json_decref(result);
	}
	client_free(client);
	json_decref(status);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair.c - what the daemon tells of a replicated disk, and what it can be
 * ordered to do with it: promote, demote, resync, verify.
 *
 * The replica itself is an image of the stack; it is reached by its type only,
 * with the words of its driver.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/reason.h"
#include "tools/common/pair.h"
#include "tools/tapdisk/daemon.h"

/* --- status --- */

/* What the driver of the replica tells; NULL without one.  Borrowed. */
json_t *
pair_replica(const json_t *images)
{
	const char *type;
	json_t *image;
	size_t i;

	json_array_foreach (images, i, image) {
		type = json_string_value(json_object_get(image, "type"));
		if (type && strcmp(type, PAIR_TYPE) == 0)
			return json_object_get(image, "driver");
	}
	return NULL;
}

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* For a state's word, as replica.h names it, what the host does. */
static const char *
state_words(const json_t *replica)
{
	static const struct {
		const char *state, *words;
	} table[] = {
		{ "waiting", "is primary and waits for its peer" },
		{ "solo", "is primary, alone" },
		{ "resync", "is primary and copies to its peer" },
		{ "paired", "is primary and brings its peer in sync" },
		{ "lost", "is primary, has lost its peer and holds requests" },
		{ "secondary", "is secondary, without its primary" },
		{ "target", "is secondary and is being copied to" },
		{ "synced", "is secondary" },
		{ "failed", "has a replica that failed" },
	};
	size_t i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(table[i].state, text_of(replica, "state")) == 0)
			return table[i].words;
	return "is a replica";
}

void
pair_say(const json_t *replica, char *text, size_t length)
{
	if (json_is_true(json_object_get(replica, "in_sync")))
		snprintf(text, length, "is %s, in sync with its peer",
			 text_of(replica, "role"));
	else
		snprintf(text, length, "%s", state_words(replica));
}

const char *
pair_role(const struct daemon *daemon)
{
	json_t *status = vbd_json(daemon->vbd);
	const json_t *replica = pair_replica(json_object_get(status, "images"));
	const char *role = NULL;

	if (replica)
		role = strcmp(text_of(replica, "role"), "primary") == 0
			       ? "primary"
			       : "secondary";
	json_decref(status);
	return role;
}

/* --- orders --- */

static void
order(struct control_call *call, const char *command)
{
	struct daemon *daemon = control_context(call);
	enum vbd_state state = vbd_state(daemon->vbd);
	struct reason reason = { "" };
	int r;

	if (state != VBD_RUNNING) {
		r = reason_set(&reason, -ENODEV,
			       "%s is %s; only a disk that is running can be "
			       "ordered to %.*s",
			       daemon->name, vbd_state_name(state),
			       (int)strcspn(command, " "), command);
	} else if (!pair_is_in(vbd_image_name(daemon->vbd))) {
		r = reason_set(&reason, -EOPNOTSUPP,
			       "%s is not replicated; open it with --role and "
			       "--peer",
			       daemon->name);
	} else {
		daemon_instruct(call, PAIR_TYPE, command);
		return;
	}
	control_refuse(call, r, &reason);
}

void
pair_promote(struct control_call *call, json_t *arguments)
{
	int alone = 0, force = 0;
	char command[32];

	if (!control_unpack(call, arguments, "{s?b, s?b}", "alone", &alone,
			    "force", &force))
		return;
	snprintf(command, sizeof(command), "promote%s%s",
		 alone ? " --alone" : "", force ? " --force" : "");
	order(call, command);
}

void
pair_demote(struct control_call *call, json_t *arguments)
{
	if (control_unpack(call, arguments, "{}"))
		order(call, "demote");
}

void
pair_resync(struct control_call *call, json_t *arguments)
{
	int discard = 0;

	if (control_unpack(call, arguments, "{s?b}", "discard", &discard))
		order(call, discard ? "resync --discard" : "resync");
}

void
pair_verify(struct control_call *call, json_t *arguments)
{
	int repair = 0, stop = 0;

	if (control_unpack(call, arguments, "{s?b, s?b}", "repair", &repair,
			   "stop", &stop))
		order(call, stop     ? "verify --stop"
			    : repair ? "verify --repair"
				     : "verify");
}

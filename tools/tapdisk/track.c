/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * track.c - what the daemon can be asked about changes: checkpoints, what
 * changed since one, and which side of two that parted is given up.
 *
 * Whoever tracks is an image of the stack, the driver log or the replica below
 * it; it is reached by its type only, with the words of its driver.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/reason.h"
#include "tools/common/pair.h"
#include "tools/tapdisk/daemon.h"

#define TRACK_TYPE "log"

json_t *
track_tracking(const json_t *images)
{
	json_t *image, *tracking;
	size_t i;

	json_array_foreach (images, i, image) {
		tracking = json_object_get(json_object_get(image, "driver"),
					   "tracking");
		if (json_is_object(tracking))
			return tracking;
	}
	return NULL;
}

/* The type of the image that tracks; NULL without one. */
static const char *
tracker_of(const struct daemon *daemon)
{
	json_t *status = vbd_json(daemon->vbd);
	const json_t *images = json_object_get(status, "images");
	const char *type = pair_replica(images)	    ? PAIR_TYPE
			   : track_tracking(images) ? TRACK_TYPE
						    : NULL;

	json_decref(status);
	return type;
}

static void
ask(struct control_call *call, const char *command)
{
	struct daemon *daemon = control_context(call);
	const char *type = tracker_of(daemon);
	enum vbd_state state = vbd_state(daemon->vbd);
	struct reason reason = { "" };
	int r;

	if (state != VBD_RUNNING) {
		r = reason_set(&reason, -ENODEV,
			       "%s is %s; only a disk that is running tells "
			       "what changed",
			       daemon->name, vbd_state_name(state));
	} else if (!type) {
		r = reason_set(&reason, -EOPNOTSUPP,
			       "the changes of %s are not tracked; open it "
			       "with --track, or as one of two replicas",
			       daemon->name);
	} else {
		daemon_instruct(call, type, command);
		return;
	}
	control_refuse(call, r, &reason);
}

/* A name is one word of a command: what would be two is refused here. */
static void
ask_of(struct control_call *call, const char *words, const char *name,
       const char *more)
{
	char command[512];
	struct reason reason;
	int length;

	length = snprintf(command, sizeof(command), "%s %s%s", words, name,
			  more);
	if (strpbrk(name, " \t\n") || !*name)
		control_refuse(call,
			       reason_set(&reason, -EINVAL,
					  "a checkpoint's name is made of "
					  "letters, digits and . _ - :"),
			       &reason);
	else if (length < 0 || (size_t)length >= sizeof(command))
		control_refuse(call,
			       reason_set(&reason, -ENAMETOOLONG,
					  "a checkpoint's name is not as long "
					  "as that"),
			       &reason);
	else
		ask(call, command);
}

void
track_create(struct control_call *call, json_t *arguments)
{
	const char *name = NULL;

	if (control_unpack(call, arguments, "{s:s}", "name", &name))
		ask_of(call, "checkpoint create", name, "");
}

void
track_delete(struct control_call *call, json_t *arguments)
{
	const char *name = NULL;

	if (control_unpack(call, arguments, "{s:s}", "name", &name))
		ask_of(call, "checkpoint delete", name, "");
}

void
track_list(struct control_call *call, json_t *arguments)
{
	if (control_unpack(call, arguments, "{}"))
		ask(call, "checkpoint list");
}

void
track_changed(struct control_call *call, json_t *arguments)
{
	const char *since = NULL;
	json_int_t from = 0;
	char more[32];

	if (!control_unpack(call, arguments, "{s:s, s?I}", "since", &since,
			    "from", &from))
		return;
	(void)snprintf(more, sizeof(more), " %" PRId64, (int64_t)from);
	ask_of(call, "changed", since, more);
}

void
track_resolve(struct control_call *call, json_t *arguments)
{
	const char *discard = NULL, *type = tracker_of(control_context(call));
	struct reason reason;

	if (!control_unpack(call, arguments, "{s:s}", "discard", &discard))
		return;
	if (type && strcmp(type, PAIR_TYPE) != 0) {
		control_refuse(call,
			       reason_set(&reason, -EOPNOTSUPP,
					  "this disk has no peer that it could "
					  "have parted from"),
			       &reason);
		return;
	}
	if (strcmp(discard, "local") == 0)
		ask(call, "resolve --discard local");
	else if (strcmp(discard, "peer") == 0)
		ask(call, "resolve --discard peer");
	else
		control_refuse(call,
			       reason_set(&reason, -EINVAL,
					  "say which side is to be discarded: "
					  "local or peer"),
			       &reason);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * events.c - what is told to those who listen: opened, closed, paused,
 * unpaused, resized, io-error.
 *
 * io-error comes at most once a second and tells of all failures since the one
 * before; the last one stands in full, in status, too.
 */
#include <stdio.h>
#include <time.h>

#include "core/log.h"
#include "core/request.h"
#include "core/stats.h"
#include "tools/tapdisk/daemon.h"

/* What happened when the state `from` became `to`; NULL: nothing to tell. */
static const char *
change_event(enum vbd_state from, enum vbd_state to)
{
	switch (to) {
	case VBD_CLOSED:
		return "closed";
	case VBD_RUNNING:
		return from == VBD_CLOSED ? "opened" : "unpaused";
	case VBD_PAUSED:
		return "paused";
	case VBD_PAUSING:
	case VBD_CLOSING:
		return NULL;
	}
	return NULL;
}

static void
tell_event(struct daemon *daemon, const char *event)
{
	log_info("disk", "%s", event);
	control_event(daemon->control, event,
		      json_pack("{s:s, s:s, s:s, s:I}", "name", daemon->name,
				"state", vbd_state_name(daemon->seen_state),
				"image", vbd_image_name(daemon->vbd), "size",
				(json_int_t)daemon->seen_size));
}

/* --- failed requests --- */

static json_t *
failure_json(const struct daemon *daemon)
{
	const struct daemon_failure *last = &daemon->last_failure;

	return json_pack(
		"{s:s, s:I, s:I, s:s, s:I}", "operation", td_op_name(last->op),
		"offset", (json_int_t)last->offset, "length",
		(json_int_t)last->length, "errno", errno_name(last->error),
		"when", (json_int_t)last->when);
}

/* One event for all failures since the last one. */
static void
tell_failures(struct daemon *daemon)
{
	json_t *fields = failure_json(daemon);

	json_object_set_new(fields, "name", json_string(daemon->name));
	json_object_set_new(fields, "count",
			    json_integer((json_int_t)daemon->untold));
	control_event(daemon->control, "io-error", fields);
	daemon->untold = 0;
	timer_set(&daemon->failure_pause, NS_PER_S);
}

static void
on_failure_pause(struct timer *timer)
{
	struct daemon *daemon =
		container_of(timer, struct daemon, failure_pause);

	if (daemon->untold > 0)
		tell_failures(daemon);
}

static void
on_failure(struct vbd_listener *listener, const struct request *request,
	   int error)
{
	struct daemon *daemon = container_of(listener, struct daemon, listener);

	daemon->last_failure = (struct daemon_failure){
		.op = request->op,
		.offset = request->offset,
		.length = request->length,
		.error = error,
		.when = time(NULL),
	};
	daemon->failures++;
	daemon->untold++;
	if (!timer_is_set(&daemon->failure_pause))
		tell_failures(daemon);
}

json_t *
events_failures(const struct daemon *daemon)
{
	return json_pack(
		"{s:I, s:o}", "count", (json_int_t)daemon->failures, "last",
		daemon->failures > 0 ? failure_json(daemon) : json_null());
}

/* --- changes --- */

static void
on_change(struct vbd_listener *listener)
{
	struct daemon *daemon = container_of(listener, struct daemon, listener);
	enum vbd_state from = daemon->seen_state, to = vbd_state(daemon->vbd);
	uint64_t size = to == VBD_CLOSED ? 0 : vbd_size(daemon->vbd);
	bool resized = size != daemon->seen_size && from != VBD_CLOSED &&
		       to != VBD_CLOSED;

	daemon->seen_state = to;
	daemon->seen_size = size;
	if (from != to) {
		daemon->since = time(NULL);
		if (change_event(from, to))
			tell_event(daemon, change_event(from, to));
	}
	if (resized)
		tell_event(daemon, "resized");
}

void
events_init(struct daemon *daemon)
{
	daemon->seen_state = vbd_state(daemon->vbd);
	daemon->since = time(NULL);
	daemon->listener.on_change = on_change;
	daemon->listener.on_failure = on_failure;
	timer_init(&daemon->failure_pause, daemon->loop, on_failure_pause);
	vbd_listen(daemon->vbd, &daemon->listener);
}

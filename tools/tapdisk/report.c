/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * report.c - what the daemon tells of itself: status, for people and programs,
 * and stats.
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/io.h"
#include "core/pool.h"
#include "tools/common/size.h"
#include "tools/tapdisk/daemon.h"

static void
say_running(const struct daemon *daemon, const json_t *replica, char *text,
	    size_t length)
{
	unsigned int clients = disk_clients(daemon);
	char size[SIZE_TEXT_MAX], pair[80] = "";

	if (replica)
		pair_say(replica, pair, sizeof(pair));
	if (vbd_admits(daemon->vbd, NULL) < 0) {
		snprintf(text, length, "%s%sserves nobody", pair,
			 replica ? "; " : "");
		return;
	}
	size_text(size, vbd_size(daemon->vbd));
	snprintf(text, length, "%s%sserves %s, %s, to %u client%s", pair,
		 replica ? "; " : "", size,
		 vbd_is_read_only(daemon->vbd) ? "read-only" : "read-write",
		 clients, clients == 1 ? "" : "s");
}

/* One sentence in plain words. */
static void
say(const struct daemon *daemon, const json_t *replica, char *text,
    size_t length)
{
	unsigned int pending = vbd_pending(daemon->vbd);

	switch (vbd_state(daemon->vbd)) {
	case VBD_CLOSED:
		snprintf(text, length, "waits for a disk to open");
		return;
	case VBD_RUNNING:
		say_running(daemon, replica, text, length);
		return;
	case VBD_PAUSING:
		snprintf(text, length,
			 "is being paused; %u requests have to end first",
			 pending);
		return;
	case VBD_PAUSED:
		snprintf(text, length,
			 "is paused; %u requests wait for unpause", pending);
		return;
	case VBD_CLOSING:
		snprintf(text, length,
			 "is being closed; %u requests have to end first",
			 pending);
		return;
	}
}

json_t *
report_status(const struct daemon *daemon)
{
	json_t *status = vbd_json(daemon->vbd);
	json_t *replica = pair_replica(json_object_get(status, "images"));
	json_t *tracking = track_tracking(json_object_get(status, "images"));
	char words[160];

	say(daemon, replica, words, sizeof(words));
	json_object_set(status, "replica", replica ? replica : json_null());
	json_object_set(status, "tracking", tracking ? tracking : json_null());
	json_object_del(status, "stats");
	json_object_del(status, "images");
	json_object_update_new(
		status,
		json_pack("{s:s, s:i, s:o, s:s, s:s, s:i, s:o, s:o, s:I, "
			  "s:{s:I, s:I}}",
			  "name", daemon->name, "pid", (int)getpid(), "minor",
			  daemon->minor == RUN_DIR_NO_MINOR
				  ? json_null()
				  : json_integer(daemon->minor),
			  "words", words, "backend",
			  io_backend_name(daemon->io), "clients",
			  (int)disk_clients(daemon), "frontends",
			  disk_frontends(daemon), "failures",
			  events_failures(daemon), "since",
			  (json_int_t)daemon->since, "pool", "size",
			  (json_int_t)pool_size(daemon->pool), "in_use",
			  (json_int_t)pool_in_use(daemon->pool)));
	return status;
}

static json_int_t
sectors(json_t *stats, const char *op)
{
	json_t *bytes = json_object_get(json_object_get(stats, op), "bytes");

	return json_integer_value(bytes) >> SECTOR_SHIFT;
}

/* The members that readers of blktap's statistics look for come beside ours:
 * secs (sectors read, written) and reqs_outstanding. */
json_t *
report_stats(const struct daemon *daemon)
{
	json_t *object = vbd_json(daemon->vbd);
	json_t *stats = json_object_get(object, "stats");

	json_object_update_new(
		object,
		json_pack("{s:s, s:[I, I], s:i}", "name", daemon->name, "secs",
			  sectors(stats, "read"), sectors(stats, "write"),
			  "reqs_outstanding", (int)vbd_pending(daemon->vbd)));
	return object;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * disk.c - the changes of the disk: open, close, pause.
 *
 * Closing has three steps: the frontends take nothing new and see through what
 * they took; the vbd flushes and closes the images; the last answers leave.
 * The first step has half of the stop time limit, the last one a quarter, at
 * most ANSWERS_MS: then clients that hang are cut off.  A disk that is not
 * running sees no request through, so there the first step is left out and
 * requests that wait are refused.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/reason.h"
#include "tools/tapdisk/daemon.h"
#include "tools/tapdisk/frontend.h"
#include "tools/tapdisk/options.h"

#define LOOK_MS	   2
#define ANSWERS_MS 2000

/* --- frontends --- */

void
disk_cut_off(struct daemon *daemon)
{
	int i;

	for (i = 0; i < DAEMON_FRONTENDS_MAX; i++) {
		if (daemon->servers[i])
			daemon->frontends[i]->free(daemon->servers[i]);
		daemon->servers[i] = NULL;
	}
}

static int
offer(struct daemon *daemon, struct reason *reason)
{
	int i;

	for (i = 0; daemon->frontends[i]; i++) {
		assert(i < DAEMON_FRONTENDS_MAX);
		daemon->servers[i] = daemon->frontends[i]->open(daemon, reason);
		if (!daemon->servers[i]) {
			disk_cut_off(daemon);
			return -EIO;
		}
	}
	return 0;
}

json_t *
disk_frontends(const struct daemon *daemon)
{
	json_t *all = json_object();
	int i;

	for (i = 0; i < DAEMON_FRONTENDS_MAX; i++)
		if (daemon->servers[i])
			json_object_set_new(
				all, daemon->frontends[i]->name,
				daemon->frontends[i]->json(daemon->servers[i]));
	return all;
}

unsigned int
disk_clients(const struct daemon *daemon)
{
	unsigned int clients = 0;
	int i;

	for (i = 0; i < DAEMON_FRONTENDS_MAX; i++)
		if (daemon->servers[i])
			clients += daemon->frontends[i]->clients(
				daemon->servers[i]);
	return clients;
}

/* --- one change at a time --- */

static int
begin_change(struct daemon *daemon, const char *change, struct reason *reason)
{
	if (daemon->change)
		return reason_set(reason, -EBUSY,
				  "%s is just being %s; try again when that "
				  "has ended",
				  daemon->name, daemon->change);
	daemon->change = change;
	return 0;
}

/* Tell the one who asked, who may have been told of the time limit already. */
static void
tell(struct daemon *daemon, int error, const struct reason *reason)
{
	daemon_done_t on_done = daemon->on_done;

	timer_clear(&daemon->limit);
	daemon->on_done = NULL;
	if (on_done)
		on_done(daemon, daemon->done_arg, error, reason);
}

static void
end_change(struct daemon *daemon, int error, const struct reason *reason)
{
	if (error < 0)
		log_error("disk", "%s", reason_text(reason, error));
	daemon->change = NULL;
	tell(daemon, error, reason);
}

static void
on_limit(struct timer *timer)
{
	struct daemon *daemon = container_of(timer, struct daemon, limit);
	struct reason reason;

	reason_set(&reason, -ETIMEDOUT,
		   "%s is not yet %s: %u requests are under way; it goes on",
		   daemon->name, daemon->change, vbd_pending(daemon->vbd));
	tell(daemon, -ETIMEDOUT, &reason);
}

static void
ask(struct daemon *daemon, unsigned int limit_s, daemon_done_t on_done,
    void *arg)
{
	daemon->on_done = on_done;
	daemon->done_arg = arg;
	if (limit_s > 0)
		timer_set(&daemon->limit, limit_s * NS_PER_S);
}

/* --- open --- */

/* The vbd is open and cannot be offered: close it, then tell why. */
static void
on_unopened(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	struct daemon *daemon =
		container_of(waiter, struct daemon, close_waiter);

	end_change(daemon, error, reason);
}

int
disk_open(struct daemon *daemon, const struct vbd_options *options,
	  struct reason *reason)
{
	int r;

	if (vbd_state(daemon->vbd) != VBD_CLOSED)
		return reason_set(reason, -EBUSY,
				  "%s is open already, with %s; close it first",
				  daemon->name, vbd_image_name(daemon->vbd));
	r = begin_change(daemon, "opened", reason);
	if (r < 0)
		return r;
	r = vbd_open(daemon->vbd, options, reason);
	if (r < 0) {
		daemon->change = NULL;
		return r;
	}
	r = offer(daemon, reason);
	if (r < 0) {
		daemon->change = "closed";
		daemon->close_waiter.on_done = on_unopened;
		vbd_close(daemon->vbd, &daemon->close_waiter);
		return r;
	}
	daemon->change = NULL;
	return 0;
}

/* --- close --- */

static void
wait_for_clients(struct daemon *daemon, uint64_t limit_ns)
{
	daemon->clients_until_ns = loop_now(daemon->loop) + limit_ns;
	timer_set(&daemon->clients, 0);
}

static void
on_closed(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	struct daemon *daemon =
		container_of(waiter, struct daemon, close_waiter);
	uint64_t limit_ns = daemon->options->stop_timeout_s * NS_PER_S / 4;

	if (limit_ns > ANSWERS_MS * NS_PER_MS)
		limit_ns = ANSWERS_MS * NS_PER_MS;
	daemon->close_error = error;
	reason_set(&daemon->close_reason, error, "%s",
		   reason_text(reason, error));
	wait_for_clients(daemon, limit_ns);
}

static void
close_vbd(struct daemon *daemon)
{
	daemon->close_waiter.on_done = on_closed;
	vbd_close(daemon->vbd, &daemon->close_waiter);
}

/* Looks whether the clients have gone, for the first and the last step. */
static void
on_clients(struct timer *timer)
{
	struct daemon *daemon = container_of(timer, struct daemon, clients);

	if (disk_clients(daemon) > 0 &&
	    loop_now(daemon->loop) < daemon->clients_until_ns) {
		timer_set(timer, LOOK_MS * NS_PER_MS);
		return;
	}
	if (vbd_state(daemon->vbd) != VBD_CLOSED) {
		close_vbd(daemon);
		return;
	}
	disk_cut_off(daemon);
	end_change(daemon, daemon->close_error, &daemon->close_reason);
}

/* A close may come while a pause waits for a request that hangs. */
static void
give_up_pause(struct daemon *daemon)
{
	struct reason reason;

	if (!daemon->change || vbd_state(daemon->vbd) != VBD_PAUSING)
		return;
	reason_set(&reason, -ECANCELED, "%s is being closed", daemon->name);
	daemon->change = NULL;
	tell(daemon, -ECANCELED, &reason);
}

int
disk_close(struct daemon *daemon, unsigned int limit_s, daemon_done_t on_done,
	   void *arg, struct reason *reason)
{
	int i, r;

	if (vbd_state(daemon->vbd) == VBD_CLOSED)
		return reason_set(reason, -ENODEV, "%s is not open",
				  daemon->name);
	give_up_pause(daemon);
	r = begin_change(daemon, "closed", reason);
	if (r < 0)
		return r;
	ask(daemon, limit_s, on_done, arg);
	for (i = 0; i < DAEMON_FRONTENDS_MAX; i++)
		if (daemon->servers[i])
			daemon->frontends[i]->quiesce(daemon->servers[i]);
	if (vbd_state(daemon->vbd) == VBD_RUNNING)
		wait_for_clients(daemon, daemon->options->stop_timeout_s *
						 NS_PER_S / 2);
	else
		close_vbd(daemon);
	return 0;
}

/* --- pause --- */

static void
on_paused(struct vbd_waiter *waiter, int error, const struct reason *reason)
{
	struct daemon *daemon =
		container_of(waiter, struct daemon, pause_waiter);

	if (vbd_state(daemon->vbd) != VBD_CLOSED) /* else: given up */
		end_change(daemon, error, reason);
}

int
disk_pause(struct daemon *daemon, unsigned int limit_s, daemon_done_t on_done,
	   void *arg, struct reason *reason)
{
	int r;

	if (vbd_state(daemon->vbd) != VBD_RUNNING)
		return reason_set(reason, -EINVAL,
				  "%s is %s; only a running disk can be paused",
				  daemon->name,
				  vbd_state_name(vbd_state(daemon->vbd)));
	r = begin_change(daemon, "paused", reason);
	if (r < 0)
		return r;
	ask(daemon, limit_s, on_done, arg);
	daemon->role = pair_role(daemon); /* the name may be older */
	daemon->pause_waiter.on_done = on_paused;
	vbd_pause(daemon->vbd, &daemon->pause_waiter);
	return 0;
}

void
disk_init(struct daemon *daemon)
{
	timer_init(&daemon->clients, daemon->loop, on_clients);
	timer_init(&daemon->limit, daemon->loop, on_limit);
}

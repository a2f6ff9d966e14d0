/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vbd - a disk's states: opening, pausing, closing, resizing; see vbd.h.
 * What happens to a single request stands in vbd_request.c.
 *
 * A change of state that has to wait (pause, close) goes in steps, each taken
 * by vbd_advance() when the one before is over: everything in flight back,
 * then one flush, then the images are closed.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/reason.h"
#include "core/vbd_private.h"

const char *
vbd_state_name(enum vbd_state state)
{
	switch (state) {
	case VBD_CLOSED:
		return "closed";
	case VBD_RUNNING:
		return "running";
	case VBD_PAUSING:
		return "pausing";
	case VBD_PAUSED:
		return "paused";
	case VBD_CLOSING:
		return "closing";
	}
	return "unknown";
}

static void
vbd_changed(struct vbd *vbd)
{
	struct vbd_listener *listener, *spare;

	list_for_each_entry_safe (listener, spare, &vbd->listeners, entry)
		listener->on_change(listener);
}

static void
vbd_set_state(struct vbd *vbd, enum vbd_state state)
{
	vbd->state = state;
	vbd_changed(vbd);
}

/* A driver changed its mind on service or size. */
static void
on_images_change(struct image_stack *stack)
{
	struct vbd *vbd = container_of(stack, struct vbd, images);

	vbd->size = stack->top->info.size;
	vbd_changed(vbd);
}

struct vbd *
vbd_new(struct loop *loop, struct io *io, const struct driver_type *types)
{
	struct vbd *vbd = calloc(1, sizeof(*vbd));

	if (vbd == NULL)
		return NULL;
	vbd->loop = loop;
	image_stack_init(&vbd->images, loop, io, types, vbd_on_part);
	vbd->images.on_change = on_images_change;
	INIT_LIST_HEAD(&vbd->waiting);
	INIT_LIST_HEAD(&vbd->active);
	INIT_LIST_HEAD(&vbd->back);
	INIT_LIST_HEAD(&vbd->retrying);
	INIT_LIST_HEAD(&vbd->ended);
	INIT_LIST_HEAD(&vbd->changes);
	INIT_LIST_HEAD(&vbd->drains);
	INIT_LIST_HEAD(&vbd->listeners);
	task_init(&vbd->run, loop, vbd_on_run);
	timer_init(&vbd->retry_timer, loop, vbd_on_retry);
	timer_init(&vbd->limit_timer, loop, vbd_on_limit);
	return vbd;
}

struct vbd *
vbd_free(struct vbd *vbd)
{
	if (vbd == NULL)
		return NULL;
	assert(vbd->state == VBD_CLOSED && vbd_pending(vbd) == 0);
	assert(list_empty(&vbd->changes) && list_empty(&vbd->drains));
	task_cancel(&vbd->run);
	timer_clear(&vbd->retry_timer);
	timer_clear(&vbd->limit_timer);
	image_stack_done(&vbd->images);
	free(vbd->name);
	free(vbd);
	return NULL;
}

int
vbd_open(struct vbd *vbd, const struct vbd_options *options,
	 struct reason *reason)
{
	char *name;
	int r;

	if (vbd->state != VBD_CLOSED)
		return reason_set(reason, -EBUSY,
				  "the disk is open already, with %s: close it "
				  "first",
				  vbd->name);
	name = strdup(options->image);
	if (name == NULL)
		return -ENOMEM;
	r = image_stack_open(&vbd->images, name, options->flags, reason);
	if (r < 0) {
		free(name);
		return r;
	}
	free(vbd->name);
	vbd->name = name;
	vbd->flags = options->flags;
	vbd->limit_ns = NS_PER_S * (options->timeout_s > 0 ? options->timeout_s
							   : VBD_TIMEOUT_S);
	vbd->change_error = 0;
	vbd->size = vbd->images.top->info.size;
	vbd->sector_size = (unsigned int)vbd->images.top->info.sector_size;
	log_info("vbd", "opened %s, %llu MiB", name,
		 (unsigned long long)(vbd_size(vbd) >> 20));
	vbd_set_state(vbd, VBD_RUNNING);
	return 0;
}

/* --- pause and close --- */

static void
tell_waiters(struct list_head *list, int error, const struct reason *reason)
{
	LIST_HEAD(due);

	list_splice_tail_init(list, &due);
	while (!list_empty(&due)) {
		struct vbd_waiter *waiter =
			list_first_entry(&due, struct vbd_waiter, entry);

		list_del_init(&waiter->entry);
		waiter->on_done(waiter, error, reason);
	}
}

static void
on_flush_done(struct request *request, int result)
{
	request->vbd->change_error = result;
}

static void
on_flush_release(struct request *request)
{
	struct vbd *vbd = request->vbd;

	vbd->change = VBD_CHANGE_FLUSHED;
	task_post(&vbd->run);
}

static void
begin_flush(struct vbd *vbd)
{
	vbd->change = VBD_CHANGE_FLUSHING;
	vbd->flush = (struct request){ .op = TD_OP_FLUSH,
				       .flags = REQUEST_LAST,
				       .on_done = on_flush_done,
				       .on_release = on_flush_release };
	vbd_start_own(vbd, &vbd->flush);
}

/* A pause whose flush failed is called off: the image stays open, so that the
 * operator can see what is the matter.  A close goes on, and tells. */
static void
end_change(struct vbd *vbd)
{
	struct reason reason = { .text = "" };
	int error = vbd->change_error;

	vbd->change = VBD_CHANGE_NONE;
	if (error < 0) {
		(void)reason_set(&reason, error,
				 "%s: the last flush failed: %s; what was "
				 "written since the one before may be lost",
				 vbd->name, strerror(-error));
		log_error("vbd", "%s", reason.text);
	}
	if (vbd->state == VBD_PAUSING && error < 0) {
		vbd_set_state(vbd, VBD_RUNNING);
	} else {
		struct reason closing = { .text = "" };
		int r = image_stack_close(&vbd->images, &closing);

		if (r < 0 && error == 0) {
			error = r;
			reason = closing;
			log_error("vbd", "%s", reason.text);
		}
		vbd_set_state(vbd, vbd->state == VBD_PAUSING ? VBD_PAUSED
							     : VBD_CLOSED);
		log_info("vbd", "%s %s", vbd_state_name(vbd->state), vbd->name);
	}
	tell_waiters(&vbd->changes, error, &reason);
}

void
vbd_advance(struct vbd *vbd)
{
	if (vbd->active_count == 0 && vbd->waiting_count == 0)
		tell_waiters(&vbd->drains, 0, NULL);
	switch (vbd->change) {
	case VBD_CHANGE_NONE:
	case VBD_CHANGE_FLUSHING:
		return;
	case VBD_CHANGE_DRAINING:
		if (vbd->active_count == 0)
			begin_flush(vbd);
		return;
	case VBD_CHANGE_FLUSHED:
		end_change(vbd);
		return;
	}
}

static void
begin_change(struct vbd *vbd, enum vbd_state state)
{
	vbd->change = VBD_CHANGE_DRAINING;
	vbd->change_error = 0;
	vbd_set_state(vbd, state);
}

void
vbd_close(struct vbd *vbd, struct vbd_waiter *waiter)
{
	list_add_tail(&waiter->entry, &vbd->changes);
	task_post(&vbd->run);
	vbd_refuse_waiting(vbd, -ESHUTDOWN);
	switch (vbd->state) {
	case VBD_RUNNING:
		begin_change(vbd, VBD_CLOSING);
		return;
	case VBD_PAUSING: /* the steps are the same */
		vbd_set_state(vbd, VBD_CLOSING);
		return;
	case VBD_PAUSED:
	case VBD_CLOSED: /* nothing is open: only the state is left */
		vbd->change = VBD_CHANGE_FLUSHED;
		vbd->change_error = 0;
		vbd_set_state(vbd, VBD_CLOSING);
		return;
	case VBD_CLOSING:
		return;
	}
}

void
vbd_pause(struct vbd *vbd, struct vbd_waiter *waiter)
{
	struct reason reason;

	switch (vbd->state) {
	case VBD_RUNNING:
		begin_change(vbd, VBD_PAUSING);
		break;
	case VBD_PAUSING:
		break;
	case VBD_PAUSED:
		vbd->change = VBD_CHANGE_FLUSHED;
		vbd_set_state(vbd, VBD_PAUSING);
		break;
	case VBD_CLOSED:
	case VBD_CLOSING:
		(void)reason_set(&reason, -EINVAL,
				 "the disk is %s and cannot be paused",
				 vbd_state_name(vbd->state));
		waiter->on_done(waiter, -EINVAL, &reason);
		return;
	}
	list_add_tail(&waiter->entry, &vbd->changes);
	task_post(&vbd->run);
}

int
vbd_unpause(struct vbd *vbd, const char *image, struct reason *reason)
{
	const char *wanted = image != NULL ? image : vbd->name;
	const td_disk_info_t *info;
	char *name;
	int r;

	if (vbd->state != VBD_PAUSED)
		return reason_set(reason, -EINVAL, "the disk is %s, not paused",
				  vbd_state_name(vbd->state));
	name = strdup(wanted);
	if (name == NULL)
		return -ENOMEM;
	r = image_stack_open(&vbd->images, name, vbd->flags, reason);
	if (r == 0) {
		info = &vbd->images.top->info;
		if (info->size < vbd->size ||
		    info->sector_size != vbd->sector_size) {
			r = reason_set(reason, -EMEDIUMTYPE,
				       "%s has %llu sectors in units of %llu "
				       "bytes, the guest knows %llu in units "
				       "of %u: the disk stays paused",
				       name, (unsigned long long)info->size,
				       (unsigned long long)info->sector_size,
				       (unsigned long long)vbd->size,
				       vbd->sector_size);
			(void)image_stack_close(&vbd->images, NULL);
		}
	}
	if (r < 0) {
		free(name);
		return r;
	}
	free(vbd->name);
	vbd->name = name;
	vbd->size = vbd->images.top->info.size;
	vbd_renew_deadlines(vbd);
	vbd_set_state(vbd, VBD_RUNNING);
	log_info("vbd", "running again with %s", name);
	task_post(&vbd->run);
	return 0;
}

void
vbd_drain(struct vbd *vbd, struct vbd_waiter *waiter)
{
	list_add_tail(&waiter->entry, &vbd->drains);
	task_post(&vbd->run);
}

int
vbd_resize(struct vbd *vbd, uint64_t bytes, struct reason *reason)
{
	td_sector_t sectors = bytes >> SECTOR_SHIFT;
	int r;

	if (vbd->state != VBD_RUNNING)
		return reason_set(reason, -EINVAL,
				  "the disk is %s: only a running one can be "
				  "resized",
				  vbd_state_name(vbd->state));
	if (bytes % vbd->sector_size != 0)
		return reason_set(reason, -EINVAL,
				  "a size of %llu bytes is no multiple of the "
				  "disk's sectors of %u bytes",
				  (unsigned long long)bytes, vbd->sector_size);
	if (bytes > 0 && sectors < vbd->size)
		return reason_set(reason, -EINVAL,
				  "the disk has %llu bytes and cannot shrink "
				  "to %llu",
				  (unsigned long long)vbd_size(vbd),
				  (unsigned long long)bytes);
	r = image_stack_resize(&vbd->images, sectors, reason);
	if (r < 0)
		return r;
	vbd->size = vbd->images.top->info.size;
	log_info("vbd", "the disk now has %llu bytes",
		 (unsigned long long)vbd_size(vbd));
	vbd_changed(vbd);
	return 0;
}

/* --- questions --- */

unsigned int
vbd_pending(const struct vbd *vbd)
{
	return vbd->active_count + vbd->waiting_count + vbd->ended_count;
}

enum vbd_state
vbd_state(const struct vbd *vbd)
{
	return vbd->state;
}

uint64_t
vbd_size(const struct vbd *vbd)
{
	return vbd->size << SECTOR_SHIFT;
}

unsigned int
vbd_sector_size(const struct vbd *vbd)
{
	return vbd->sector_size;
}

bool
vbd_is_read_only(const struct vbd *vbd)
{
	if (vbd->flags & TD_OPEN_RDONLY)
		return true;
	return vbd->images.top != NULL &&
	       !image_can(vbd->images.top, TD_OP_WRITE);
}

bool
vbd_can(const struct vbd *vbd, int op)
{
	switch (op) {
	case TD_OP_READ:
	case TD_OP_FLUSH:
	case TD_OP_BLOCK_STATUS:
		return true;
	case TD_OP_WRITE:
	case TD_OP_WRITE_ZEROES:
		return !vbd_is_read_only(vbd);
	default:
		return !vbd_is_read_only(vbd) && vbd->images.top != NULL &&
		       image_can(vbd->images.top, op);
	}
}

const char *
vbd_image_name(const struct vbd *vbd)
{
	return vbd->state == VBD_CLOSED || vbd->name == NULL ? "" : vbd->name;
}

struct image_stack *
vbd_images(struct vbd *vbd)
{
	return &vbd->images;
}

void
vbd_set_pool(struct vbd *vbd, struct pool *pool)
{
	vbd->images.pool = pool;
}

int
vbd_admits(const struct vbd *vbd, struct reason *reason)
{
	if (vbd->state == VBD_CLOSED || vbd->state == VBD_CLOSING)
		return reason_set(reason, -ESHUTDOWN, "the disk is %s",
				  vbd_state_name(vbd->state));
	if (vbd->images.service == TD_SERVICE_REFUSED)
		return reason_set(reason, -ESHUTDOWN, "%s", vbd->images.why);
	return 0;
}

void
vbd_listen(struct vbd *vbd, struct vbd_listener *listener)
{
	list_add_tail(&listener->entry, &vbd->listeners);
}

void
vbd_unlisten(struct vbd_listener *listener)
{
	list_del_init(&listener->entry);
}

struct json_t *
vbd_json(const struct vbd *vbd)
{
	json_t *object = json_pack(
		"{s:s, s:I, s:I, s:b, s:I, s:I, s:I, s:o, s:o}", "state",
		vbd_state_name(vbd->state), "size", (json_int_t)vbd_size(vbd),
		"sector_size", (json_int_t)vbd->sector_size, "read_only",
		vbd_is_read_only(vbd), "in_flight",
		(json_int_t)vbd->active_count, "waiting",
		(json_int_t)vbd->waiting_count, "timed_out",
		(json_int_t)vbd->timed_out_count, "stats",
		stats_json(&vbd->stats), "images",
		image_stack_json(&vbd->images));

	(void)json_object_set_new(object, "service",
				  json_string_nocheck(vbd->images.why));
	(void)json_object_set_new(object, "image",
				  json_string_nocheck(vbd_image_name(vbd)));
	return object;
}

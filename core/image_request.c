/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_request - requests on their way down a stack of images and back: the
 * calls of tapdisk-interface.h, except those of core/io.
 *
 * Every image knows how many sectors it holds, in all and of each request
 * (ticket.h): what was queued to it less what it completed or forwarded.  A
 * driver that gives back more than it holds is named and stopped at once,
 * before its lie can end another request; one that gives back too little is
 * named when the request's time is up.
 *
 * Who is called when: a driver's td_queue_*() is called from anywhere; the
 * core's own callback is called straight away, since it only counts; a
 * driver's callback comes from the loop (struct image_stack, held).
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/log.h"
#include "core/reason.h"
#include "core/ticket.h"

typedef void (*queue_fn)(td_driver_t *, td_request_t);

static queue_fn
queue_of(const struct tap_disk *ops, int op)
{
	switch (op) {
	case TD_OP_READ:
		return ops->td_queue_read;
	case TD_OP_WRITE:
		return ops->td_queue_write;
	case TD_OP_FLUSH:
		return ops->td_queue_flush;
	case TD_OP_DISCARD:
		return ops->td_queue_discard;
	case TD_OP_WRITE_ZEROES:
		return ops->td_queue_write_zeroes;
	case TD_OP_BLOCK_STATUS:
		return ops->td_queue_block_status;
	}
	return NULL;
}

bool
image_can(const td_image_t *image, int op)
{
	if (op == TD_OP_FLUSH || op == TD_OP_BLOCK_STATUS)
		return true; /* a NULL has a meaning */
	if (queue_of(image->driver->ops, op) == NULL)
		return false;
	return !image->filter || image_can(image->below, op);
}

void
image_panic(const td_image_t *image, const td_request_t *treq, const char *what)
{
	log_error("image",
		  "driver %s (%s) %s: %d sectors at sector %llu of a %s; this "
		  "is a bug of the driver, and going on could harm the disk",
		  image->type, image->driver->name, what, treq->secs,
		  (unsigned long long)treq->sec, td_op_name(treq->op));
	abort();
}

/* --- back up --- */

static void
deliver_first(struct image_stack *stack)
{
	struct image_held held = stack->held[stack->held_first];

	stack->held_first = (stack->held_first + 1) % IMAGE_HELD_MAX;
	stack->held_count--;
	((td_callback_t)held.treq.cb)(held.treq, held.res);
}

void
image_stack_deliver(struct task *task)
{
	struct image_stack *stack =
		container_of(task, struct image_stack, deliver);
	unsigned int due = stack->held_count;

	while (due-- > 0 && stack->held_count > 0)
		deliver_first(stack);
	if (stack->held_count > 0)
		task_post(&stack->deliver);
}

/* Whether `next` continues `last`, so that one call can speak for both. */
static bool
held_continues(const struct image_held *last, const td_request_t *next, int res)
{
	return last->res == res && last->treq.cb == next->cb &&
	       last->treq.cb_data == next->cb_data &&
	       last->treq.id == next->id && last->treq.op == next->op &&
	       last->treq.private == next->private &&
	       last->treq.sec + (td_sector_t)last->treq.secs == next->sec;
}

static void
hold(struct image_stack *stack, const td_request_t *treq, int res)
{
	struct image_held *held;

	if (stack->held_count > 0) {
		held = &stack->held[(stack->held_first + stack->held_count -
				     1) %
				    IMAGE_HELD_MAX];
		if (held_continues(held, treq, res)) {
			held->treq.secs += treq->secs;
			return;
		}
	}
	if (stack->held_count == IMAGE_HELD_MAX)
		deliver_first(stack);
	held = &stack->held[(stack->held_first + stack->held_count) %
			    IMAGE_HELD_MAX];
	*held = (struct image_held){ .treq = *treq, .res = res };
	stack->held_count++;
	task_post(&stack->deliver);
}

/* Call the request's callback, or see to it that it is called. */
static void
call_back(struct image_stack *stack, const td_request_t *treq, int res)
{
	if ((td_callback_t)treq->cb == stack->core_callback)
		stack->core_callback(*treq, res);
	else
		hold(stack, treq, res);
}

/* Why a driver cannot give these sectors back; NULL if it can. */
static const char *
find_wrong(const td_image_t *image, const td_request_t *treq)
{
	int left = treq->secs;

	if (ticket_look_up(image->tickets, image, treq, &left) == TICKET_SPENT)
		return "what it had given back before";
	if (treq->secs <= 0 || treq->secs > left ||
	    (uint64_t)treq->secs > image->outstanding)
		return "more than it was given";
	return NULL;
}

/* The driver lets go of a part: `did` says how. */
static void
release(td_image_t *image, const td_request_t *treq, const char *did)
{
	const char *wrong = find_wrong(image, treq);
	char what[64];

	if (wrong != NULL) {
		(void)snprintf(what, sizeof(what), "%s %s", did, wrong);
		image_panic(image, treq, what);
	}
	ticket_use(image->tickets, image, treq);
	stats_set_depth(&image->stats, tickets_live(image->tickets));
	image->outstanding -= (uint64_t)treq->secs;
}

void
td_complete_request(td_request_t treq, int res)
{
	td_image_t *image = treq.image;
	uint64_t bytes = 0;

	release(image, &treq, "completed");
	if (treq.op != TD_OP_FLUSH)
		bytes = (uint64_t)treq.secs << SECTOR_SHIFT;
	if (res > 0)
		res = -res; /* the old drivers were of two minds */
	stats_count(&image->stats, treq.op, bytes,
		    loop_now(image->stack->loop) - treq.queued_ns, res);
	call_back(image->stack, &treq, res);
}

/* --- down --- */

static int
check_range(const td_image_t *image, const td_request_t *treq)
{
	td_sector_t unit = image->info.sector_size >> SECTOR_SHIFT;

	if (treq->op == TD_OP_FLUSH)
		return 0;
	if (treq->secs <= 0 || treq->sec > image->info.size ||
	    (td_sector_t)treq->secs > image->info.size - treq->sec)
		return -EINVAL;
	if (treq->op != TD_OP_BLOCK_STATUS && unit > 1 &&
	    (treq->sec % unit != 0 || (td_sector_t)treq->secs % unit != 0))
		return -EINVAL;
	if (treq->op != TD_OP_READ && treq->op != TD_OP_BLOCK_STATUS &&
	    (image->flags & TD_OPEN_RDONLY))
		return -EPERM;
	return 0;
}

/* A driver without the operation: what its NULL means. */
static void
queue_missing(td_image_t *image, const td_request_t *treq)
{
	switch (treq->op) {
	case TD_OP_FLUSH:
		if (image->filter)
			td_queue_request(image->below, *treq);
		else
			call_back(image->stack, treq, 0);
		return;
	case TD_OP_BLOCK_STATUS:
		td_add_extent(*treq, treq->sec, (td_sector_t)treq->secs, 0);
		call_back(image->stack, treq, 0);
		return;
	case TD_OP_WRITE:
		call_back(image->stack, treq, -EPERM);
		return;
	default:
		call_back(image->stack, treq, -EOPNOTSUPP);
		return;
	}
}

void
td_queue_request(td_image_t *image, td_request_t treq)
{
	queue_fn queue = queue_of(image->driver->ops, treq.op);
	int r = check_range(image, &treq);

	treq.image = image;
	if (r < 0) {
		call_back(image->stack, &treq, r);
		return;
	}
	if (queue == NULL) {
		queue_missing(image, &treq);
		return;
	}
	treq.queued_ns = loop_now(image->stack->loop);
	image->outstanding += (uint64_t)treq.secs;
	ticket_issue(image->tickets, image, &treq);
	stats_set_depth(&image->stats, tickets_live(image->tickets));
	queue(image->driver, treq);
}

void
td_queue_read(td_image_t *image, td_request_t treq)
{
	assert(treq.op == TD_OP_READ);
	td_queue_request(image, treq);
}

void
td_queue_write(td_image_t *image, td_request_t treq)
{
	assert(treq.op == TD_OP_WRITE);
	td_queue_request(image, treq);
}

/* Below the end of a chain there is nothing, and nothing reads as zeros. */
static void
answer_with_zeros(td_image_t *image, td_request_t treq)
{
	switch (treq.op) {
	case TD_OP_READ:
		memset(treq.buf, 0, (size_t)treq.secs << SECTOR_SHIFT);
		call_back(image->stack, &treq, 0);
		return;
	case TD_OP_BLOCK_STATUS:
		td_add_extent(treq, treq.sec, (td_sector_t)treq.secs,
			      TD_EXTENT_HOLE | TD_EXTENT_ZERO);
		call_back(image->stack, &treq, 0);
		return;
	case TD_OP_FLUSH:
		call_back(image->stack, &treq, 0);
		return;
	default:
		call_back(image->stack, &treq, -EPERM);
		return;
	}
}

/* Whether a driver forwards a request of its own: one with a callback of its
 * own, which leaves the request that it may be a copy of with the driver. */
static bool
is_drivers_own(const td_image_t *image, const td_request_t *treq)
{
	if (treq->given_to == image)
		return treq->cb != treq->given_cb ||
		       treq->cb_data != treq->given_cb_data;
	return (td_callback_t)treq->cb != image->stack->core_callback;
}

void
td_forward_request(td_request_t treq)
{
	td_image_t *image = treq.image;
	td_image_t *below = image->below;
	td_request_t beyond = treq;
	td_sector_t inside;

	if (!is_drivers_own(image, &treq))
		release(image, &treq, "forwarded");
	if (below == NULL) {
		answer_with_zeros(image, treq);
		return;
	}
	if (image->filter || treq.op == TD_OP_FLUSH ||
	    treq.sec + (td_sector_t)treq.secs <= below->info.size) {
		td_queue_request(below, treq);
		return;
	}

	/* a parent may be shorter than its child */
	inside = treq.sec < below->info.size ? below->info.size - treq.sec : 0;
	treq.secs = (int)inside;
	beyond.sec += inside;
	beyond.secs -= (int)inside;
	if (beyond.op == TD_OP_READ)
		beyond.buf += inside << SECTOR_SHIFT;
	if (inside > 0)
		td_queue_request(below, treq);
	answer_with_zeros(image, beyond);
}

td_image_t *
td_image_below(td_driver_t *driver)
{
	return driver->image->below;
}

void
td_set_service(td_driver_t *driver, enum td_service service, const char *why)
{
	struct image_stack *stack = driver->image->stack;

	stack->service = service;
	(void)snprintf(stack->why, sizeof(stack->why), "%s",
		       service == TD_SERVICE_OPEN ? "" : why);
	if (stack->top != NULL && stack->on_change != NULL)
		stack->on_change(stack);
}

void
td_set_size(td_driver_t *driver, td_sector_t size)
{
	struct image_stack *stack = driver->image->stack;

	driver->info.size = size;
	driver->image->info.size = size;
	if (stack->top == NULL)
		return;
	for (int i = stack->leaf; i >= 0; i--) {
		td_image_t *above = stack->images[i];

		if (above->filter && above->driver->ops->td_resize == NULL) {
			above->driver->info.size = above->below->info.size;
			above->info.size = above->below->info.size;
		}
	}
	if (stack->on_change != NULL)
		stack->on_change(stack);
}

struct pool *
td_pool(td_driver_t *driver)
{
	return driver->image->stack->pool;
}

int
td_reason(td_driver_t *driver, int error, const char *format, ...)
{
	va_list args;

	if (driver->reason == NULL)
		return error;
	va_start(args, format);
	(void)vsnprintf(driver->reason->text, REASON_MAX, format, args);
	va_end(args);
	return error;
}

/* --- block status --- */

void
td_add_extent(td_request_t treq, td_sector_t sec, td_sector_t secs,
	      uint32_t flags)
{
	struct td_extents *extents = (struct td_extents *)(void *)treq.buf;
	struct td_extent *last;

	assert(treq.op == TD_OP_BLOCK_STATUS);
	if (secs == 0)
		return;
	if (extents->count > 0) {
		last = &extents->extent[extents->count - 1];
		if (last->sec + last->secs == sec && last->flags == flags) {
			last->secs += secs;
			return;
		}
	}
	if (extents->count < TD_EXTENTS_MAX)
		extents->extent[extents->count++] = (struct td_extent){
			.sec = sec, .secs = secs, .flags = flags
		};
}

static int
compare_extents(const void *left, const void *right)
{
	const struct td_extent *a = left, *b = right;

	return a->sec < b->sec ? -1 : a->sec > b->sec;
}

void
td_extents_settle(struct td_extents *extents, td_sector_t sec, td_sector_t secs)
{
	td_sector_t at = sec, end = sec + secs;
	int kept = 0;

	qsort(extents->extent, (size_t)extents->count,
	      sizeof(extents->extent[0]), compare_extents);
	for (int i = 0; i < extents->count && at < end; i++) {
		struct td_extent next = extents->extent[i];

		if (next.sec != at)
			break;
		if (next.secs > end - at)
			next.secs = end - at;
		at += next.secs;
		if (kept > 0 && extents->extent[kept - 1].flags == next.flags)
			extents->extent[kept - 1].secs += next.secs;
		else
			extents->extent[kept++] = next;
	}
	if (kept == 0) /* nothing usable: data is the safe word */
		extents->extent[kept++] =
			(struct td_extent){ .sec = sec, .secs = secs };
	extents->count = kept;
}

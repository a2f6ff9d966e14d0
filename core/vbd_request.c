/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vbd_request - the life of a request; see request.h and vbd.h.
 *
 *   WAITING --start--> ACTIVE --all parts back--> ENDED --> on_done, on_release
 *                       ^  |
 *              1 ms     |  v a part was busy
 *                     RETRYING
 *
 * An attempt hands the whole request to the top image under a fresh id; the
 * parts that come back carry it, so that a part given back twice is known for
 * one although its request is long over.  Write zeroes that no driver takes
 * become writes of zeros, a piece an attempt; FUA becomes a flush after it.  A
 * request of which a driver did some parts and was too busy for others goes on
 * in smaller pieces: the driver may have room for less than all of it.
 *
 * vbd_on_part() may run inside a driver: it only counts.  All else is done by
 * the task vbd_on_run().
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "core/log.h"
#include "core/vbd_private.h"

#define RETRY_NS     (1 * NS_PER_MS)
#define LIMIT_TICK   (NS_PER_S / 4)
#define OVERTAKE_MAX 64 /* of those that wait, so many may start early */
#define ZEROES_MAX   (1u << 20) /* bytes of one write of zeros */

static char zeroes[ZEROES_MAX] __attribute__((aligned(4096)));

static bool
changes_data(const struct request *request)
{
	return request->op == TD_OP_WRITE || request->op == TD_OP_DISCARD ||
	       request->op == TD_OP_WRITE_ZEROES;
}

static bool
overlap(const struct request *a, const struct request *b)
{
	return a->offset < b->offset + b->length &&
	       b->offset < a->offset + a->length;
}

static bool
list_overlaps(const struct list_head *list, const struct request *request)
{
	const struct request *other;

	list_for_each_entry (other, list, entry) {
		if (changes_data(other) && overlap(other, request))
			return true;
	}
	return false;
}

/* V1: whether a range that `request` changes is held. */
static bool
is_held_up(struct vbd *vbd, const struct request *request)
{
	return changes_data(request) &&
	       (list_overlaps(&vbd->active, request) ||
		list_overlaps(&vbd->back, request) ||
		list_overlaps(&vbd->retrying, request));
}

static int
check(const struct vbd *vbd, const struct request *request)
{
	uint64_t size = vbd_size(vbd);

	if (vbd->state == VBD_CLOSED || vbd->state == VBD_CLOSING)
		return -ESHUTDOWN;
	if (request->op == TD_OP_FLUSH)
		return 0;
	if (request->length == 0 || request->offset % vbd->sector_size != 0 ||
	    request->length % vbd->sector_size != 0 ||
	    request->length >> SECTOR_SHIFT > INT_MAX)
		return -EINVAL;
	if (request->offset > size || request->length > size - request->offset)
		return changes_data(request) ? -ENOSPC : -EINVAL;
	if (changes_data(request) && vbd_is_read_only(vbd))
		return -EPERM;
	if (request->op == TD_OP_DISCARD && !vbd_can(vbd, TD_OP_DISCARD) &&
	    vbd->state == VBD_RUNNING)
		return -EOPNOTSUPP;
	return 0;
}

/* --- ending --- */

static void
request_end(struct request *request, int result)
{
	struct vbd *vbd = request->vbd;

	request->state = REQUEST_ENDED;
	request->result = result;
	list_add_tail(&request->entry, &vbd->ended);
	vbd->ended_count++;
	task_post(&vbd->run);
}

static void
log_failure(const struct request *request, int result)
{
	log_warn("vbd", "%s of %llu bytes at offset %llu: %s",
		 td_op_name(request->op), (unsigned long long)request->length,
		 (unsigned long long)request->offset, strerror(-result));
}

static void
tell_failure(const struct request *request, int result)
{
	struct vbd_listener *listener, *spare;

	list_for_each_entry_safe (listener, spare, &request->vbd->listeners,
				  entry) {
		if (listener->on_failure != NULL)
			listener->on_failure(listener, request, result);
	}
}

static void
request_done(struct request *request, int result)
{
	struct vbd *vbd = request->vbd;

	stats_end(&vbd->stats, request->op, request->length,
		  loop_now(vbd->loop) - request->begun_ns, result);
	if (result == -EIO || result == -ENOSPC || result == -ETIMEDOUT) {
		log_failure(request, result);
		tell_failure(request, result);
	}
	request->on_done(request, result);
}

/* on_release may free the request, so it comes last. */
static void
deliver_ended(struct vbd *vbd)
{
	LIST_HEAD(due);

	list_splice_tail_init(&vbd->ended, &due);
	while (!list_empty(&due)) {
		struct request *request =
			list_first_entry(&due, struct request, entry);

		list_del(&request->entry);
		vbd->ended_count--;
		request->state = REQUEST_IDLE;
		if (request->timed_out)
			vbd->timed_out_count--;
		else
			request_done(request, request->result);
		request->on_release(request);
	}
}

/* --- attempts --- */

/* Bytes of the present attempt. */
static uint64_t
attempted(const struct request *request)
{
	uint64_t left = request->length - request->moved;

	if (request->emulating && left > ZEROES_MAX)
		left = ZEROES_MAX;
	return left < request->piece ? left : request->piece;
}

/* What the present attempt asks of the stack. */
static td_request_t
to_treq(const struct request *request)
{
	td_request_t treq = {
		.op = request->op,
		.buf = request->buffer,
		.sec = (request->offset + request->moved) >> SECTOR_SHIFT,
		.secs = (int)(attempted(request) >> SECTOR_SHIFT),
		.cb = (void *)vbd_on_part,
		.cb_data = (void *)request,
		.id = request->id,
	};

	if (request->flags & REQUEST_NO_UNMAP)
		treq.flags |= TD_REQUEST_NO_UNMAP;
	if (request->flags & REQUEST_FAST)
		treq.flags |= TD_REQUEST_FAST;
	if (request->flags & REQUEST_LAST)
		treq.flags |= TD_REQUEST_LAST;
	if (request->op == TD_OP_FLUSH || request->flushing) {
		treq.op = TD_OP_FLUSH;
		treq.sec = 0;
		treq.secs = 1;
	} else if (request->emulating) {
		treq.op = TD_OP_WRITE;
		treq.buf = zeroes;
	} else if (request->op == TD_OP_BLOCK_STATUS) {
		if (request->moved == 0)
			request->extents->count = 0;
		treq.buf = (char *)request->extents;
	} else if (treq.buf != NULL) {
		treq.buf += request->moved;
	}
	return treq;
}

/* The request is on no list. */
static void
request_attempt(struct request *request)
{
	struct vbd *vbd = request->vbd;
	td_request_t treq;

	request->state = REQUEST_ACTIVE;
	request->id = ++vbd->next_id;
	request->busy = false;
	request->advanced = false;
	treq = to_treq(request);
	request->outstanding = (uint64_t)treq.secs;
	list_add_tail(&request->entry, &vbd->active);
	td_queue_request(vbd->images.top, treq);
}

static void
request_start(struct request *request)
{
	struct vbd *vbd = request->vbd;

	vbd->active_count++;
	if (!timer_is_set(&vbd->limit_timer))
		timer_set(&vbd->limit_timer, LIMIT_TICK);
	request_attempt(request);
}

void
vbd_on_part(td_request_t treq, int res)
{
	struct request *request = treq.cb_data;
	struct vbd *vbd;

	if (request->id != treq.id || request->state != REQUEST_ACTIVE ||
	    request->outstanding < (uint64_t)treq.secs)
		image_panic(treq.image, &treq,
			    "completed sectors that were completed before");
	vbd = request->vbd;
	if (res == -EBUSY || res == -EAGAIN || res == -EINTR)
		request->busy = true;
	else if (res == 0)
		request->advanced = true;
	else if (request->result == 0)
		request->result = res;
	request->outstanding -= (uint64_t)treq.secs;
	if (request->outstanding > 0)
		return;
	list_move_tail(&request->entry, &vbd->back);
	task_post(&vbd->run);
}

/* All parts of an attempt are back: is there another one to make? */
static bool
wants_more(struct request *request)
{
	uint64_t bytes;

	if (request->timed_out)
		return false;
	if (request->op == TD_OP_WRITE_ZEROES && !request->emulating &&
	    request->result == -EOPNOTSUPP &&
	    !(request->flags & REQUEST_FAST)) {
		request->result = 0;
		request->emulating = true;
		return true;
	}
	if (request->result < 0 || request->flushing)
		return false;
	if (request->op != TD_OP_FLUSH) {
		bytes = attempted(request);
		request->moved += bytes;
		if (request->moved < request->length) {
			if (request->piece == bytes) /* it may take more */
				request->piece *= 2;
			return true;
		}
	}
	if ((request->flags & REQUEST_FUA) && changes_data(request)) {
		request->flushing = true;
		return true;
	}
	return false;
}

/* It was busy, so it goes again; see the top. */
static void
request_retry(struct request *request)
{
	struct vbd *vbd = request->vbd;
	uint64_t half;

	if (request->advanced && request->op != TD_OP_FLUSH &&
	    !request->flushing) {
		half = attempted(request) / 2;
		half -= half % vbd->sector_size;
		request->piece = half > 0 ? half : vbd->sector_size;
	}
	request->state = REQUEST_RETRYING;
	list_add_tail(&request->entry, &vbd->retrying);
	if (!timer_is_set(&vbd->retry_timer))
		timer_set(&vbd->retry_timer, RETRY_NS);
}

static void
take_back(struct vbd *vbd)
{
	while (!list_empty(&vbd->back)) {
		struct request *request =
			list_first_entry(&vbd->back, struct request, entry);

		list_del(&request->entry);
		if (request->busy && request->result == 0 &&
		    !request->timed_out) {
			request_retry(request);
			continue;
		}
		if (wants_more(request)) {
			request_attempt(request);
			continue;
		}
		vbd->active_count--;
		if (request->op == TD_OP_BLOCK_STATUS && request->result == 0)
			td_extents_settle(request->extents,
					  request->offset >> SECTOR_SHIFT,
					  request->length >> SECTOR_SHIFT);
		request_end(request, request->result);
	}
}

void
vbd_on_retry(struct timer *timer)
{
	struct vbd *vbd = container_of(timer, struct vbd, retry_timer);
	LIST_HEAD(due);

	list_splice_tail_init(&vbd->retrying, &due);
	while (!list_empty(&due)) {
		struct request *request =
			list_first_entry(&due, struct request, entry);

		list_del(&request->entry);
		request_attempt(request);
	}
}

/* --- waiting --- */

/* Start what may start, in order; a few may overtake those held up by an
 * overlap, never one that they overlap themselves. */
static void
start_waiting(struct vbd *vbd)
{
	struct request *request, *spare;
	LIST_HEAD(passed);
	unsigned int looked_at = 0;

	if (vbd->state != VBD_RUNNING)
		return;
	list_for_each_entry_safe (request, spare, &vbd->waiting, entry) {
		if (vbd->active_count >= VBD_DEPTH ||
		    looked_at++ >= OVERTAKE_MAX)
			break;
		list_del(&request->entry);
		if (is_held_up(vbd, request) ||
		    (changes_data(request) &&
		     list_overlaps(&passed, request))) {
			list_add_tail(&request->entry, &passed);
			continue;
		}
		vbd->waiting_count--;
		request_start(request);
	}
	list_splice_tail_init(&vbd->waiting, &passed);
	list_splice_tail_init(&passed, &vbd->waiting);
}

void
vbd_refuse_waiting(struct vbd *vbd, int error)
{
	while (!list_empty(&vbd->waiting)) {
		struct request *request =
			list_first_entry(&vbd->waiting, struct request, entry);

		list_del(&request->entry);
		vbd->waiting_count--;
		request_end(request, error);
	}
}

void
vbd_on_run(struct task *task)
{
	struct vbd *vbd = container_of(task, struct vbd, run);

	take_back(vbd);
	start_waiting(vbd);
	deliver_ended(vbd);
	vbd_advance(vbd);
}

static void
request_reset(struct vbd *vbd, struct request *request)
{
	uint64_t now = loop_now(vbd->loop);

	request->vbd = vbd;
	request->begun_ns = now;
	request->deadline_ns = now + vbd->limit_ns;
	request->moved = 0;
	request->piece = UINT64_MAX;
	request->result = 0;
	request->busy = false;
	request->timed_out = false;
	request->emulating = false;
	request->flushing = false;
	stats_begin(&vbd->stats);
}

void
vbd_submit(struct vbd *vbd, struct request *request)
{
	int r;

	assert(request->state == REQUEST_IDLE);
	request_reset(vbd, request);
	r = check(vbd, request);
	if (r == 0 && vbd->waiting_count >= VBD_WAITING_MAX)
		r = -ENOMEM;
	if (r < 0) {
		request_end(request, r);
		return;
	}
	if (vbd->state == VBD_RUNNING && vbd->waiting_count == 0 &&
	    vbd->active_count < VBD_DEPTH && !is_held_up(vbd, request)) {
		request_start(request);
		return;
	}
	request->state = REQUEST_WAITING;
	list_add_tail(&request->entry, &vbd->waiting);
	vbd->waiting_count++;
	task_post(&vbd->run);
}

/* The vbd's own flush goes past the queue and the state. */
void
vbd_start_own(struct vbd *vbd, struct request *request)
{
	request_reset(vbd, request);
	request_start(request);
}

/* --- time limits --- */

/* V4: done for the guest, held until the parts are back. */
static void
give_up(struct request *request)
{
	struct vbd *vbd = request->vbd;
	const td_image_t *holder = image_stack_holder(&vbd->images);

	log_error("vbd",
		  "%s of %llu bytes at offset %llu is past its time limit of "
		  "%llu s, held by driver %s (%s); its buffer and range stay "
		  "held until it comes back",
		  td_op_name(request->op), (unsigned long long)request->length,
		  (unsigned long long)request->offset,
		  (unsigned long long)(vbd->limit_ns / NS_PER_S),
		  holder != NULL ? holder->type : "none",
		  holder != NULL ? holder->driver->name : "");
	request->timed_out = true;
	vbd->timed_out_count++;
	request_done(request, -ETIMEDOUT);
}

/* Requests without parts in flight just end. */
static void
expire_list(struct list_head *list, unsigned int *count, uint64_t now)
{
	struct request *request, *spare;

	list_for_each_entry_safe (request, spare, list, entry) {
		if (request->deadline_ns > now)
			continue;
		list_del(&request->entry);
		(*count)--;
		request_end(request, -ETIMEDOUT);
	}
}

void
vbd_on_limit(struct timer *timer)
{
	struct vbd *vbd = container_of(timer, struct vbd, limit_timer);
	uint64_t now = loop_now(vbd->loop);
	struct request *request, *spare;

	if (vbd->images.service == TD_SERVICE_HELD)
		vbd_renew_deadlines(vbd); /* they wait on purpose */
	if (vbd->state == VBD_RUNNING)
		expire_list(&vbd->waiting, &vbd->waiting_count, now);
	expire_list(&vbd->retrying, &vbd->active_count, now);
	list_for_each_entry_safe (request, spare, &vbd->active, entry) {
		if (request->deadline_ns <= now && !request->timed_out)
			give_up(request);
	}
	if (vbd->active_count > 0 || vbd->waiting_count > 0)
		timer_set(&vbd->limit_timer, LIMIT_TICK);
	task_post(&vbd->run);
}

void
vbd_renew_deadlines(struct vbd *vbd)
{
	uint64_t deadline = loop_now(vbd->loop) + vbd->limit_ns;
	struct request *request;

	list_for_each_entry (request, &vbd->waiting, entry)
		request->deadline_ns = deadline;
	list_for_each_entry (request, &vbd->retrying, entry)
		request->deadline_ns = deadline;
	list_for_each_entry (request, &vbd->active, entry)
		request->deadline_ns = deadline;
}

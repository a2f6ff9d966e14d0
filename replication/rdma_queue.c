/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_queue - the queue pair of a connection with all that it needs, and when
 * the loop looks at it.
 *
 * Q1  The queue pair has two completion queues, since nobody may rely on the
 *     order of send and receive completions, and one completion channel.
 * Q2  Arm, then poll: a completion that comes in between is not missed.
 * Q3  Polling without sleep lasts at most RDMA_POLL_MAX_NS after something
 *     came, and no longer than the loop may (loop_busy_poll()).  The time
 *     doubles while it finds something and is halved when it does not; a
 *     connection that slept RDMA_POLL_IDLE_NS sleeps at once.
 * Q4  Completions of sends wake nobody as long as receives do: they are looked
 *     for at each waking, and are armed only if a message waits for the room
 *     that they give, or if one has not come for RDMA_REAP_NS.
 * Q5  Once the queue pair is destroyed the device touches our memory no more,
 *     whether or not it ever flushed what was posted: teardown waits for
 *     nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "replication/rdma_private.h"

#define RNR_TIMER    14 /* 1.28 ms, by the table of ibv_modify_qp(3) */
#define RECEIVE_ROOM 2	/* elements: the head, the payload */

static uint64_t
poll_max_ns(const struct rdma_channel *rdma)
{
	uint64_t max = loop_busy_poll(rdma->context.loop);

	return max < RDMA_POLL_MAX_NS ? max : RDMA_POLL_MAX_NS;
}

static void
on_completion(struct watch *watch, unsigned int events)
{
	struct rdma_channel *rdma =
		container_of(watch, struct rdma_channel, completions_watch);
	int armed = rdma->send_armed + rdma->receive_armed;
	struct ibv_cq *cq;
	void *unused;

	(void)events;
	do { /* no more events than were asked for: each is a system call */
		if (ibv_get_cq_event(rdma->completions, &cq, &unused) != 0)
			break;
		ibv_ack_cq_events(cq, 1);
		if (cq == rdma->send_cq)
			rdma->send_armed = false;
		else
			rdma->receive_armed = false;
	} while (--armed > 0);
	if (rdma->slept_ns != 0) {
		uint64_t slept = loop_now(rdma->context.loop) - rdma->slept_ns;

		if (slept < poll_max_ns(rdma)) {
			if (rdma->poll_ns < 2 * slept)
				rdma->poll_ns = 2 * slept;
			if (rdma->poll_ns < RDMA_POLL_MIN_NS)
				rdma->poll_ns = RDMA_POLL_MIN_NS;
		} else if (slept > RDMA_POLL_IDLE_NS) {
			rdma->poll_ns = 0;
		}
		rdma->slept_ns = 0;
	}
	task_post(&rdma->task);
}

/* --- making --- */

/* What a queue pair can have is known by trying only. */
static int
make_queue_pair(struct rdma_channel *rdma, struct reason *reason)
{
	struct ibv_qp_init_attr attributes = {
		.send_cq = rdma->send_cq,
		.recv_cq = rdma->receive_cq,
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = rdma->sends_max,
			 .max_recv_wr = rdma->receives_max,
			 .max_send_sge = 2,
			 .max_recv_sge = RECEIVE_ROOM,
			 .max_inline_data = RDMA_INLINE },
	};
	struct ibv_qp_cap wanted = attributes.cap;
	int error = 0;

	for (;;) {
		attributes.cap = wanted;
		if (rdma_create_qp(rdma->id, rdma->device->pd, &attributes) ==
		    0)
			break;
		error = errno;
		if (wanted.max_inline_data > 0) {
			wanted.max_inline_data /= 2;
			if (wanted.max_inline_data < RDMA_HEAD_MAX)
				wanted.max_inline_data = 0;
		} else if (wanted.max_recv_wr >= 2 * RDMA_RECEIVES_MIN) {
			wanted.max_recv_wr /= 2;
			wanted.max_send_wr = (wanted.max_send_wr + 1) / 2;
		} else {
			return reason_set(
				reason, -error,
				"the RDMA device %s gives no queue pair%s: %s",
				ibv_get_device_name(rdma->id->verbs->device),
				rdma->caller ? ""
					     : ", or the caller has given up",
				strerror(error));
		}
	}
	rdma->inline_max = attributes.cap.max_inline_data;
	rdma->sends_max = wanted.max_send_wr;
	rdma->receives_max = wanted.max_recv_wr;
	return 0;
}

static int
make_completions(struct rdma_channel *rdma, struct reason *reason)
{
	struct ibv_context *verbs = rdma->id->verbs;
	int r;

	rdma->completions = ibv_create_comp_channel(verbs);
	if (rdma->completions != NULL)
		rdma->send_cq = ibv_create_cq(verbs, (int)rdma->sends_max, NULL,
					      rdma->completions, 0);
	if (rdma->send_cq != NULL)
		rdma->receive_cq = ibv_create_cq(verbs, (int)rdma->receives_max,
						 NULL, rdma->completions, 0);
	if (rdma->completions == NULL || rdma->receive_cq == NULL) {
		r = errno > 0 ? -errno : -ENOMEM;
	} else {
		r = rdma_set_nonblocking(rdma->completions->fd);
		if (r == 0)
			r = watch_open(&rdma->completions_watch,
				       rdma->context.loop,
				       rdma->completions->fd, WATCH_READ,
				       on_completion);
	}
	if (r < 0)
		return reason_set(reason, r,
				  "the RDMA device %s gives no completion "
				  "queues: %s",
				  ibv_get_device_name(verbs->device),
				  strerror(-r));
	return 0;
}

int
rdma_queue_open(struct rdma_channel *rdma, struct reason *reason)
{
	int r;

	rdma->device = rdma_device_get(&rdma->context, rdma->id, reason);
	if (rdma->device == NULL)
		return -ENODEV;
	list_add_tail(&rdma->device_entry, &rdma->device->channels);
	rdma->sends_max = rdma->device->sends_max;
	rdma->receives_max = rdma->device->receives_max;
	r = make_completions(rdma, reason);
	if (r == 0)
		r = make_queue_pair(rdma, reason);
	if (r < 0)
		return r;
	rdma->memory = pool_get(rdma->context.pool, RDMA_MEMORY);
	if (rdma->memory == NULL)
		return reason_set(reason, -ENOBUFS,
				  "no buffers for a connection now");
	rdma->head_size = WIRE_HEADER + RDMA_ENVELOPE;
	if (rdma_greeting_flags(&rdma->context) & RDMA_SEALED)
		rdma->head_size += RDMA_SEAL;
	r = rdma_send_open(rdma);
	if (r == 0)
		r = rdma_receive_open(rdma);
	if (r < 0)
		return reason_set(reason, r, "no buffers for a connection now");
	return 0;
}

int
rdma_queue_greeted(struct rdma_channel *rdma,
		   const struct rdma_greeting *greeting,
		   const unsigned char *caller_nonce,
		   const unsigned char *listener_nonce, struct reason *reason)
{
	struct key_bytes key = { rdma->context.key, rdma->context.key_length };

	rdma->peer_limit = greeting->receives - RDMA_RESERVE;
	rdma->slot = greeting->slot < RDMA_SLOT ? greeting->slot : RDMA_SLOT;
	if ((rdma_greeting_flags(&rdma->context) & RDMA_SEALED) == 0)
		return 0;
	rdma->seal = rdma_seal_new(&key, rdma->caller, caller_nonce,
				   listener_nonce, reason);
	return rdma->seal == NULL ? -ENOMEM : 0;
}

void
rdma_queue_established(struct rdma_channel *rdma)
{
	struct ibv_qp_attr attributes = { .min_rnr_timer = RNR_TIMER };

	/* A safety net: with credits no SEND meets a lack of receives. */
	if (ibv_modify_qp(rdma->id->qp, &attributes, IBV_QP_MIN_RNR_TIMER) != 0)
		log_debug("rdma", "%s: the RNR timer stays as it was",
			  rdma->channel.peer);
}

/* --- the end --- */

void
rdma_queue_close(struct rdma_channel *rdma)
{
	watch_close(&rdma->completions_watch);
	if (rdma->id != NULL && rdma->id->qp != NULL)
		rdma_destroy_qp(rdma->id);
	if (rdma->receive_cq != NULL)
		(void)ibv_destroy_cq(rdma->receive_cq);
	if (rdma->send_cq != NULL)
		(void)ibv_destroy_cq(rdma->send_cq);
	if (rdma->completions != NULL)
		(void)ibv_destroy_comp_channel(rdma->completions);
	rdma->receive_cq = NULL;
	rdma->send_cq = NULL;
	rdma->completions = NULL;
	rdma_receive_close(rdma);
	rdma_send_close(rdma);
	rdma->seal = rdma_seal_free(rdma->seal);
	pool_put(rdma->context.pool, rdma->memory);
	rdma->memory = NULL;
	if (rdma->device != NULL) {
		list_del(&rdma->device_entry);
		rdma_device_put(rdma->device);
	}
	rdma->device = NULL;
}

/* --- polling and sleep --- */

static bool
arm(struct rdma_channel *rdma, struct ibv_cq *cq, bool *armed)
{
	struct reason reason;
	int r;

	if (*armed)
		return false;
	r = ibv_req_notify_cq(cq, 0);
	if (r != 0) {
		(void)reason_set(&reason, -r,
				 "completions cannot be waited for: %s",
				 strerror(r));
		rdma_fail(rdma, -r, &reason);
		return false;
	}
	*armed = true;
	return true;
}

/* Keep polling for a while; false when that is over. */
static bool
poll_on(struct rdma_channel *rdma, uint64_t now)
{
	if (rdma->busy) {
		rdma->busy = false;
		rdma->poll_end_ns = now + rdma->poll_ns;
		if (rdma->polling && 2 * rdma->poll_ns <= poll_max_ns(rdma))
			rdma->poll_ns *= 2;
		rdma->polling = rdma->poll_ns > 0;
	}
	if (!rdma->polling)
		return false;
	if (now < rdma->poll_end_ns)
		return true;
	rdma->polling = false;
	rdma->poll_ns /= 2;
	if (rdma->poll_ns < RDMA_POLL_MIN_NS)
		rdma->poll_ns = 0;
	return false;
}

void
rdma_queue_rest(struct rdma_channel *rdma)
{
	uint64_t now = loop_now(rdma->context.loop);
	bool armed = false;

	if (poll_on(rdma, now)) {
		task_post(&rdma->task);
		return;
	}
	if (rdma_send_wants_to_hear(rdma))
		armed = arm(rdma, rdma->send_cq, &rdma->send_armed);
	armed |= arm(rdma, rdma->receive_cq, &rdma->receive_armed);
	if (armed) {
		task_post(&rdma->task); /* Q2 */
		return;
	}
	if (rdma->slept_ns == 0)
		rdma->slept_ns = now;
}

void
rdma_status_reason(enum ibv_wc_status status, struct reason *reason)
{
	switch ((int)status) {
	case IBV_WC_RETRY_EXC_ERR:
		(void)reason_set(reason, -ETIMEDOUT,
				 "the peer's device does not answer any more");
		break;
	case IBV_WC_RNR_RETRY_EXC_ERR:
		(void)reason_set(reason, -ETIMEDOUT,
				 "the peer has no receive for a message");
		break;
	case IBV_WC_WR_FLUSH_ERR:
		(void)reason_set(reason, -ECONNRESET,
				 "the connection has ended");
		break;
	default:
		(void)reason_set(reason, -EIO, "%s", ibv_wc_status_str(status));
		break;
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_send - from the sends of a channel to work requests, and from their
 * completions back.
 *
 *   waiting -> posted, in the ring `sent` -> on_done
 *
 * S1  A message is one SEND for each slot of its payload, each with the whole
 *     head.  What is due in a turn is posted as one chain: one doorbell, and
 *     one signalled completion, that of its last, which ends all before it.
 * S2  A send's bytes are read by the device until its completion: on_done
 *     waits for that, whatever the peer has acknowledged.
 * S3  The device reads registered memory only.  Heads are built in the
 *     channel's own; a payload outside of the pool is copied ("bounced").
 *     What is short enough the device takes along with the work request.
 * S4  Each SEND but a report takes a credit: a receive that the peer has
 *     posted, as it told.  Without one everything waits, in order.  A report
 *     tells the peer of new credits when nothing else does; two receives are
 *     kept for those, and no more than two are under way.
 * S5  A post that fails is a lost connection.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/rdma_private.h"

static_assert(sizeof(struct rdma_progress) <=
		      sizeof(((struct channel_send *)0)->private),
	      "the progress of a send fits into it");

/* One chain, while it is built. */
struct chain {
	struct ibv_send_wr requests[RDMA_CHAIN];
	struct ibv_sge elements[RDMA_CHAIN][2];
	unsigned int count;
};

static struct rdma_progress *
progress_of(struct channel_send *send)
{
	return (struct rdma_progress *)(void *)send->private;
}

/* --- memory --- */

static char *
head_of(struct rdma_channel *rdma, uint64_t number)
{
	return rdma->memory + number % rdma->sends_max * RDMA_HEAD_ROOM;
}

static bool
is_registered(const struct rdma_channel *rdma, const void *payload)
{
	const char *base = pool_base(rdma->context.pool);
	const char *at = payload;

	return at >= base && at < base + pool_size(rdma->context.pool);
}

/* A ring: what was taken first comes back first.  NULL: no room now. */
static char *
take_bounce(struct rdma_channel *rdma, uint32_t length, uint32_t *ret_taken)
{
	uint32_t skip = 0;
	char *at;

	if (rdma->bounce_used == 0)
		rdma->bounce_at = 0;
	if (rdma->bounce_at + length > rdma->bounce_size)
		skip = rdma->bounce_size - rdma->bounce_at;
	if (rdma->bounce_used + skip + length > rdma->bounce_size)
		return NULL;
	rdma->bounce_at = (rdma->bounce_at + skip) % rdma->bounce_size;
	at = rdma->bounce + rdma->bounce_at;
	rdma->bounce_at += length;
	*ret_taken = skip + length;
	rdma->bounce_used += *ret_taken;
	return at;
}

static void
on_reap(struct timer *timer)
{
	struct rdma_channel *rdma =
		container_of(timer, struct rdma_channel, reap);

	if (rdma->send_tail < rdma->send_due)
		rdma->overdue = true;
	task_post(&rdma->task);
}

bool
rdma_send_wants_to_hear(struct rdma_channel *rdma)
{
	bool wants = rdma->overdue || !list_empty(&rdma->waiting);

	rdma->overdue = false;
	if (rdma->send_tail == rdma->send_head)
		return false;
	if (!wants && !timer_is_set(&rdma->reap)) {
		rdma->send_due = rdma->send_head;
		timer_set(&rdma->reap, RDMA_REAP_NS);
	}
	return wants;
}

int
rdma_send_open(struct rdma_channel *rdma)
{
	size_t heads =
		(size_t)(rdma->sends_max + rdma->receives_max) * RDMA_HEAD_ROOM;

	assert(heads + RDMA_SLOT <= RDMA_MEMORY);
	rdma->bounce = rdma->memory + heads;
	rdma->bounce_size = (uint32_t)(RDMA_MEMORY - heads);
	timer_init(&rdma->reap, rdma->context.loop, on_reap);
	if (rdma->sent == NULL) /* not for an earlier address */
		rdma->sent = calloc(RDMA_SENDS, sizeof(*rdma->sent));
	return rdma->sent == NULL ? -ENOMEM : 0;
}

void
rdma_send_close(struct rdma_channel *rdma)
{
	timer_clear(&rdma->reap);
}

void
rdma_send_give_back(struct rdma_channel *rdma)
{
	struct channel_send *send;

	for (; rdma->send_tail < rdma->send_head; rdma->send_tail++) {
		send = rdma->sent[rdma->send_tail % rdma->sends_max].send;
		if (send != NULL)
			list_add_tail(&send->entry, &rdma->ended);
	}
	list_splice_tail_init(&rdma->waiting, &rdma->ended);
	while (!list_empty(&rdma->ended)) {
		send = list_first_entry(&rdma->ended, struct channel_send,
					entry);
		list_del(&send->entry);
		send->on_done(send, -ECANCELED);
	}
	free(rdma->sent);
}

/* --- building a chain --- */

/* A SEND of `length` bytes at `payload` behind the header.  `bounced` is what
 * it took of the ring. */
static void
add(struct rdma_channel *rdma, struct chain *chain,
    const unsigned char header[WIRE_HEADER], struct rdma_envelope *envelope,
    const char *payload, uint32_t length, struct rdma_sent sent)
{
	uint64_t number = rdma->send_head++;
	char *head = head_of(rdma, number);
	unsigned char *seal =
		(unsigned char *)head + WIRE_HEADER + RDMA_ENVELOPE;
	struct ibv_sge *elements = chain->elements[chain->count];
	struct ibv_send_wr *request = &chain->requests[chain->count++];

	rdma->told = rdma_receive_limit(rdma);
	envelope->limit = rdma->told;
	envelope->number = (uint32_t)(number + 1);
	envelope->reports = rdma->reports_in;
	memcpy(head, header, WIRE_HEADER);
	rdma_encode_envelope(envelope, (unsigned char *)head + WIRE_HEADER);
	if (rdma->seal != NULL)
		rdma_seal_make(rdma->seal, number + 1, head, payload, length,
			       seal);
	rdma->sent[number % rdma->sends_max] = sent;
	elements[0] = (struct ibv_sge){
		.addr = (uintptr_t)head,
		.length = rdma->head_size,
		.lkey = rdma->device->mr->lkey,
	};
	elements[1] = (struct ibv_sge){
		.addr = (uintptr_t)payload,
		.length = length,
		.lkey = rdma->device->mr->lkey,
	};
	*request = (struct ibv_send_wr){
		.wr_id = number,
		.sg_list = elements,
		.num_sge = length > 0 ? 2 : 1,
		.opcode = IBV_WR_SEND,
	};
	if (rdma->head_size + length <= rdma->inline_max)
		request->send_flags = IBV_SEND_INLINE;
	if (chain->count > 1)
		chain->requests[chain->count - 2].next = request;
}

static bool
has_credit(const struct rdma_channel *rdma)
{
	return (int32_t)(rdma->peer_limit - rdma->counted) > 0;
}

/* The next segment of the first send that waits; false if it cannot go. */
static bool
add_segment(struct rdma_channel *rdma, struct chain *chain)
{
	struct channel_send *send =
		list_first_entry(&rdma->waiting, struct channel_send, entry);
	struct rdma_progress *progress = progress_of(send);
	struct rdma_envelope envelope = { .segment = progress->segment };
	struct rdma_sent sent = { NULL, 0 };
	const char *payload = (const char *)send->payload + progress->offset;
	size_t length = send->length - progress->offset;
	char *copy;

	if (!has_credit(rdma))
		return false;
	if (length > rdma->slot)
		length = rdma->slot;
	if (length > 0 && !is_registered(rdma, payload) &&
	    rdma->head_size + length > rdma->inline_max) {
		copy = take_bounce(rdma, (uint32_t)length, &sent.bounced);
		if (copy == NULL)
			return false;
		memcpy(copy, payload, length);
		payload = copy;
	}
	if (progress->offset + length == send->length) {
		sent.send = send;
		list_del(&send->entry);
	}
	progress->offset += length;
	progress->segment++;
	rdma->counted++;
	add(rdma, chain, send->header, &envelope, payload, (uint32_t)length,
	    sent);
	return true;
}

static void
add_report(struct rdma_channel *rdma, struct chain *chain)
{
	static const unsigned char no_header[WIRE_HEADER];
	struct rdma_envelope envelope = { .flags = RDMA_REPORT };
	struct rdma_sent sent = { NULL, 0 };

	rdma->reports_out++;
	add(rdma, chain, no_header, &envelope, NULL, 0, sent);
}

static bool
may_report(const struct rdma_channel *rdma)
{
	return (uint8_t)(rdma->reports_out - rdma->reports_told) < RDMA_RESERVE;
}

/* --- posting --- */

static bool
has_room(const struct rdma_channel *rdma)
{
	return rdma->send_head - rdma->send_tail < rdma->sends_max;
}

static int
post(struct rdma_channel *rdma, struct chain *chain)
{
	struct ibv_send_wr *bad = NULL;
	struct reason reason;
	int r;

	chain->requests[chain->count - 1].send_flags |= IBV_SEND_SIGNALED;
	r = ibv_post_send(rdma->id->qp, chain->requests, &bad);
	if (r == 0)
		return 0;
	(void)reason_set(&reason, -r, "a message cannot be posted: %s",
			 strerror(r));
	rdma_fail(rdma, -r, &reason);
	return -r;
}

void
rdma_send_push(struct rdma_channel *rdma)
{
	struct chain chain;
	bool more = true;

	while (more && rdma->state == RDMA_OPEN) {
		chain.count = 0;
		while (chain.count < RDMA_CHAIN && has_room(rdma)) {
			if (list_empty(&rdma->waiting) ||
			    !add_segment(rdma, &chain))
				break;
		}
		more = chain.count == RDMA_CHAIN;
		if (!more && rdma_receive_report_due(rdma) &&
		    may_report(rdma) && has_room(rdma))
			add_report(rdma, &chain);
		if (chain.count > 0 && post(rdma, &chain) < 0)
			return;
	}
}

/* --- completions --- */

/* All up to the number are out. */
static void
end_up_to(struct rdma_channel *rdma, uint64_t number)
{
	for (; rdma->send_tail <= number; rdma->send_tail++) {
		struct rdma_sent *sent =
			&rdma->sent[rdma->send_tail % rdma->sends_max];

		rdma->bounce_used -= sent->bounced;
		if (sent->send != NULL)
			list_add_tail(&sent->send->entry, &rdma->ended);
		sent->send = NULL;
	}
}

static void
take(struct rdma_channel *rdma, const struct ibv_wc *completion)
{
	struct reason reason;

	if (completion->status != IBV_WC_SUCCESS) {
		rdma_status_reason(completion->status, &reason);
		rdma_fail(rdma, -ECONNRESET, &reason);
	} else if (completion->wr_id >= rdma->send_head) {
		(void)reason_set(&reason, -EIO,
				 "the device completed what was not posted");
		rdma_fail(rdma, -EIO, &reason);
	} else {
		/* one that came before ends nothing */
		end_up_to(rdma, completion->wr_id);
	}
}

static bool
deliver_ended(struct rdma_channel *rdma)
{
	bool gone = false;

	/* cppcheck-suppress autoVariables */
	rdma->gone = &gone;
	while (!list_empty(&rdma->ended)) {
		struct channel_send *send = list_first_entry(
			&rdma->ended, struct channel_send, entry);

		list_del(&send->entry);
		send->on_done(send, 0);
		if (gone)
			return false;
	}
	rdma->gone = NULL;
	return true;
}

bool
rdma_send_reap(struct rdma_channel *rdma)
{
	struct ibv_wc completions[RDMA_COMPLETIONS];
	struct reason reason;
	int count = 0;

	if (rdma->send_tail < rdma->send_head)
		count = ibv_poll_cq(rdma->send_cq, RDMA_COMPLETIONS,
				    completions);
	if (count < 0) {
		(void)reason_set(&reason, -EIO,
				 "completions cannot be polled for");
		rdma_fail(rdma, -EIO, &reason);
	}
	for (int i = 0; i < count; i++)
		take(rdma, &completions[i]);
	if (count == RDMA_COMPLETIONS)
		task_post(&rdma->task);
	return deliver_ended(rdma);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_receive - from completions to messages, and receives posted again.
 *
 *   lacking -> posted -> arrived -> delivered -> lacking
 *
 * R1  A receive has two elements: the head, and a slot of the pool where the
 *     payload lands, aligned, so that an image can be written from there.  The
 *     payload of a sequenced message is given away with its slot, and the
 *     receive gets another; a control message leaves its slot, so that control
 *     never waits for the pool.
 * R2  A message longer than a slot comes in several SENDs and is put together
 *     in one buffer, by a copy.  The link cuts what guests write so that this
 *     is rare.
 * R3  Few receives are posted until data come: who only called, or only gets
 *     acknowledgements, takes little of the pool.
 * R4  The credit that the peer is told of is what is posted, less the reserve
 *     for reports, never more.
 * R5  Nothing of a SEND is used before all of it has been checked: its length,
 *     its place in the stream, its MAC if there is a key, its header.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "replication/rdma_private.h"

/* --- posting --- */

static void on_refill(struct pool_waiter *waiter, void *buffer);
static void on_assembly(struct pool_waiter *waiter, void *buffer);

int
rdma_receive_open(struct rdma_channel *rdma)
{
	char *head = rdma->memory + (size_t)rdma->sends_max * RDMA_HEAD_ROOM;

	rdma->receives = calloc(rdma->receives_max, sizeof(*rdma->receives));
	if (rdma->receives == NULL)
		return -ENOMEM;
	pool_waiter_init(&rdma->refill, on_refill);
	pool_waiter_init(&rdma->assembly_waiter, on_assembly);
	for (unsigned int i = 0; i < rdma->receives_max; i++) {
		struct rdma_receive *receive = &rdma->receives[i];

		receive->head =
			(unsigned char *)head + (size_t)i * RDMA_HEAD_ROOM;
		list_add_tail(&receive->entry, &rdma->lacking);
	}
	rdma_receive_fill(rdma);
	return rdma->posted < RDMA_RECEIVES_MIN ? -ENOBUFS : 0;
}

void
rdma_receive_close(struct rdma_channel *rdma)
{
	struct pool *pool = rdma->context.pool;

	if (rdma->refilling)
		pool_cancel(pool, &rdma->refill);
	if (rdma->assembling)
		pool_cancel(pool, &rdma->assembly_waiter);
	pool_put(pool, rdma->assembly);
	for (unsigned int i = 0;
	     rdma->receives != NULL && i < rdma->receives_max; i++)
		pool_put(pool, rdma->receives[i].buffer);
	free(rdma->receives);
	rdma->receives = NULL;
	rdma->assembly = NULL;
	rdma->refilling = false;
	rdma->assembling = false;
	rdma->receives_used = 0;
	rdma->posted = 0;
	INIT_LIST_HEAD(&rdma->arrived);
	INIT_LIST_HEAD(&rdma->lacking);
}

static void
set_stalled(struct rdma_channel *rdma)
{
	rdma->channel.stalled =
		rdma->assembling ||
		(rdma->refilling && rdma->told == rdma->received);
}

static void
wait_for_buffer(struct rdma_channel *rdma)
{
	if (!rdma->refilling)
		pool_wait(rdma->context.pool, &rdma->refill, RDMA_SLOT);
	rdma->refilling = true;
}

/* Take a receive that can be posted; NULL: there is none. */
static struct rdma_receive *
next_to_post(struct rdma_channel *rdma)
{
	unsigned int target = rdma->data_came ? rdma->receives_max : RDMA_FEW;
	struct rdma_receive *receive;

	if (list_empty(&rdma->lacking) || rdma->receives_used >= target)
		return NULL;
	receive = list_first_entry(&rdma->lacking, struct rdma_receive, entry);
	if (receive->buffer == NULL)
		receive->buffer = pool_get(rdma->context.pool, RDMA_SLOT);
	if (receive->buffer == NULL) {
		wait_for_buffer(rdma);
		return NULL;
	}
	list_del(&receive->entry);
	rdma->receives_used++;
	return receive;
}

/* Post up to RDMA_CHAIN at once; how many. */
static unsigned int
post_some(struct rdma_channel *rdma)
{
	struct ibv_recv_wr requests[RDMA_CHAIN], *bad = NULL;
	struct ibv_sge elements[RDMA_CHAIN][2];
	struct rdma_receive *receive;
	struct reason reason;
	unsigned int count = 0;
	int r;

	while (count < RDMA_CHAIN && (receive = next_to_post(rdma)) != NULL) {
		elements[count][0] = (struct ibv_sge){
			.addr = (uintptr_t)receive->head,
			.length = rdma->head_size,
			.lkey = rdma->device->mr->lkey,
		};
		elements[count][1] = (struct ibv_sge){
			.addr = (uintptr_t)receive->buffer,
			.length = RDMA_SLOT,
			.lkey = rdma->device->mr->lkey,
		};
		requests[count] = (struct ibv_recv_wr){
			.wr_id = (uint64_t)(receive - rdma->receives),
			.sg_list = elements[count],
			.num_sge = 2,
		};
		if (count > 0)
			requests[count - 1].next = &requests[count];
		receive->posted = true;
		count++;
	}
	if (count == 0)
		return 0;
	r = ibv_post_recv(rdma->id->qp, requests, &bad);
	if (r != 0) {
		(void)reason_set(&reason, -r, "a receive cannot be posted: %s",
				 strerror(r));
		rdma_fail(rdma, -r, &reason);
		return 0;
	}
	rdma->posted += count;
	return count;
}

void
rdma_receive_fill(struct rdma_channel *rdma)
{
	if (rdma->state == RDMA_BROKEN)
		return;
	while (post_some(rdma) == RDMA_CHAIN)
		;
	set_stalled(rdma);
}

static void
on_refill(struct pool_waiter *waiter, void *buffer)
{
	struct rdma_channel *rdma =
		container_of(waiter, struct rdma_channel, refill);
	struct rdma_receive *receive;

	rdma->refilling = false;
	list_for_each_entry (receive, &rdma->lacking, entry) {
		if (receive->buffer != NULL)
			continue;
		receive->buffer = buffer;
		list_del(&receive->entry);
		list_add(&receive->entry, &rdma->lacking);
		buffer = NULL;
		break;
	}
	pool_put(rdma->context.pool, buffer);
	task_post(&rdma->task);
}

/* --- credit --- */

uint32_t
rdma_receive_limit(const struct rdma_channel *rdma)
{
	return rdma->posted - RDMA_RESERVE - rdma->reports_in;
}

bool
rdma_receive_report_due(const struct rdma_channel *rdma)
{
	uint32_t untold = rdma_receive_limit(rdma) - rdma->told;
	uint32_t left = rdma->told - rdma->received;
	uint32_t few = rdma->receives_used / 8;

	return untold > 0 && (untold > few || left <= few);
}

/* --- arriving --- */

void
rdma_receive_take(struct rdma_channel *rdma)
{
	struct ibv_wc completions[RDMA_COMPLETIONS];
	struct rdma_receive *receive;
	struct reason reason;
	int count =
		ibv_poll_cq(rdma->receive_cq, RDMA_COMPLETIONS, completions);

	if (count < 0) {
		(void)reason_set(&reason, -EIO,
				 "completions cannot be polled for");
		rdma_fail(rdma, -EIO, &reason);
	}
	for (int i = 0; i < count; i++) {
		const struct ibv_wc *completion = &completions[i];

		if (completion->wr_id >= rdma->receives_max ||
		    !rdma->receives[completion->wr_id].posted)
			continue; /* it came before */
		receive = &rdma->receives[completion->wr_id];
		receive->posted = false;
		if (completion->status != IBV_WC_SUCCESS) {
			rdma_status_reason(completion->status, &reason);
			rdma_fail(rdma, -ECONNRESET, &reason);
			continue;
		}
		receive->length = completion->byte_len;
		rdma->channel.bytes_in += completion->byte_len;
		list_add_tail(&receive->entry, &rdma->arrived);
	}
	if (count > 0)
		rdma->busy = true;
	if (count == RDMA_COMPLETIONS)
		task_post(&rdma->task);
}

static int
refuse(struct rdma_channel *rdma, int error, const char *text)
{
	struct reason reason;

	(void)reason_set(&reason, error, "%s", text);
	rdma->deaf = true;
	rdma_fail(rdma, error, &reason);
	return error;
}

/* What stands around the message.  0 or a negative errno. */
static int
open_envelope(struct rdma_channel *rdma, const struct rdma_receive *receive,
	      struct rdma_envelope *ret_envelope)
{
	const unsigned char *head = receive->head;
	uint32_t credit;

	if (receive->length < rdma->head_size ||
	    receive->length > rdma->head_size + rdma->slot ||
	    rdma_decode_envelope(head + WIRE_HEADER, ret_envelope) < 0)
		return refuse(rdma, -EPROTO,
			      "the peer sent what is no message");
	if (rdma->seal != NULL &&
	    !rdma_seal_is_right(rdma->seal, rdma->received_all + 1, head,
				receive->buffer,
				receive->length - rdma->head_size,
				head + WIRE_HEADER + RDMA_ENVELOPE))
		return rdma->received_all == 0
			       ? refuse(rdma, -EPERM,
					"the peer has another key: give both "
					"hosts the same")
			       : refuse(rdma, -EBADMSG,
					"a message came with a wrong proof: "
					"somebody else is on the network");
	if (ret_envelope->number != (uint32_t)(rdma->received_all + 1))
		return refuse(rdma, -EPROTO,
			      "the peer's messages came out of "
			      "order");
	rdma->received_all++;
	credit = ret_envelope->limit - rdma->counted;
	if (credit > RDMA_RECEIVES_MAX)
		return refuse(rdma, -EPROTO,
			      "the peer grants less credit than before");
	rdma->peer_limit = ret_envelope->limit;
	rdma->reports_told = ret_envelope->reports;
	return 0;
}

/* Bytes of payload in the segment that should come. */
static uint32_t
segment_length(const struct rdma_channel *rdma)
{
	uint32_t length = wire_payload(&rdma->header);
	uint32_t before = rdma->segment * rdma->slot;

	return length - before < rdma->slot ? length - before : rdma->slot;
}

/* The header, of the first segment or again.  0 or a negative errno. */
static int
open_header(struct rdma_channel *rdma, const struct rdma_receive *receive,
	    const struct rdma_envelope *envelope)
{
	struct reason reason = { "" };

	if (envelope->segment != rdma->segment)
		return refuse(rdma, -EPROTO,
			      "the peer's messages came in "
			      "wrong pieces");
	if (rdma->segment > 0 &&
	    memcmp(rdma->first, receive->head, WIRE_HEADER) != 0)
		return refuse(rdma, -EPROTO, "the peer's messages came mixed");
	if (rdma->segment == 0) {
		if (wire_decode(receive->head, &rdma->header, &reason) < 0)
			return refuse(rdma, -EPROTO, reason.text);
		memcpy(rdma->first, receive->head, WIRE_HEADER);
		if (!wire_is_sequenced(rdma->header.type) &&
		    wire_payload(&rdma->header) > rdma->slot)
			return refuse(rdma, -EPROTO,
				      "the peer sent a control message that "
				      "takes more than a slot");
	}
	if (receive->length - rdma->head_size != segment_length(rdma))
		return refuse(rdma, -EPROTO,
			      "the peer sent another length than it said");
	return 0;
}

/* --- delivering --- */

static void
put_back(struct rdma_channel *rdma, struct rdma_receive *receive)
{
	list_move_tail(&receive->entry, &rdma->lacking);
	rdma->receives_used--;
}

/* False when the channel is gone. */
static bool
deliver(struct rdma_channel *rdma, void *payload)
{
	bool gone = false;

	rdma->segment = 0;
	/* cppcheck-suppress autoVariables */
	rdma->gone = &gone;
	rdma->channel.events->on_message(&rdma->channel, &rdma->header, payload,
					 wire_payload(&rdma->header));
	if (gone)
		return false;
	rdma->gone = NULL;
	return true;
}

/* A message in one SEND. */
static bool
deliver_whole(struct rdma_channel *rdma, struct rdma_receive *receive)
{
	bool sequenced = wire_is_sequenced(rdma->header.type);
	void *payload =
		wire_payload(&rdma->header) > 0 ? receive->buffer : NULL;

	rdma->data_came |= sequenced;
	if (sequenced && payload != NULL) {
		receive->buffer = NULL;
		put_back(rdma, receive);
		return deliver(rdma, payload);
	}
	if (!deliver(rdma, payload))
		return false;
	put_back(rdma, receive);
	return true;
}

static void
on_assembly(struct pool_waiter *waiter, void *buffer)
{
	struct rdma_channel *rdma =
		container_of(waiter, struct rdma_channel, assembly_waiter);

	rdma->assembling = false;
	rdma->assembly = buffer;
	task_post(&rdma->task);
}

/* A buffer for the whole of a message in several SENDs. */
static bool
has_assembly(struct rdma_channel *rdma)
{
	uint32_t length = wire_payload(&rdma->header);

	if (rdma->assembly == NULL)
		rdma->assembly = pool_get(rdma->context.pool, length);
	if (rdma->assembly != NULL)
		return true;
	rdma->assembling = true;
	pool_wait(rdma->context.pool, &rdma->assembly_waiter, length);
	return false;
}

/* One SEND of several; false when the channel is gone. */
static bool
assemble(struct rdma_channel *rdma, struct rdma_receive *receive)
{
	uint32_t length = segment_length(rdma);
	void *payload = rdma->assembly;

	rdma->data_came = true;
	memcpy(rdma->assembly + (size_t)rdma->segment * rdma->slot,
	       receive->buffer, length);
	put_back(rdma, receive);
	if ((uint64_t)rdma->segment * rdma->slot + length <
	    wire_payload(&rdma->header)) {
		rdma->segment++;
		return true;
	}
	rdma->assembly = NULL;
	return deliver(rdma, payload);
}

enum delivered {
	DELIVERED,
	DELIVER_WAIT, /* for the pool, or for ever */
	DELIVER_GONE,
};

static enum delivered
deliver_one(struct rdma_channel *rdma, struct rdma_receive *receive)
{
	struct rdma_envelope envelope;
	bool alive;

	if (!receive->opened) {
		if (open_envelope(rdma, receive, &envelope) < 0)
			return DELIVER_WAIT;
		if (envelope.flags & RDMA_REPORT &&
		    receive->length > rdma->head_size) {
			(void)refuse(rdma, -EPROTO,
				     "the peer sent a report with a payload");
			return DELIVER_WAIT;
		}
		if (envelope.flags & RDMA_REPORT) {
			rdma->reports_in++;
			put_back(rdma, receive);
			return DELIVERED;
		}
		rdma->received++;
		if (open_header(rdma, receive, &envelope) < 0)
			return DELIVER_WAIT;
		receive->opened = true;
	}
	if (wire_payload(&rdma->header) > rdma->slot) {
		if (!has_assembly(rdma))
			return DELIVER_WAIT;
		receive->opened = false;
		alive = assemble(rdma, receive);
	} else {
		receive->opened = false;
		alive = deliver_whole(rdma, receive);
	}
	return alive ? DELIVERED : DELIVER_GONE;
}

bool
rdma_receive_deliver(struct rdma_channel *rdma)
{
	for (unsigned int i = 0; !list_empty(&rdma->arrived); i++) {
		struct rdma_receive *receive = list_first_entry(
			&rdma->arrived, struct rdma_receive, entry);

		if (rdma->assembling || rdma->deaf)
			break;
		if (i == RDMA_TURN_MAX) {
			task_post(&rdma->task);
			break;
		}
		switch (deliver_one(rdma, receive)) {
		case DELIVERED:
			break;
		case DELIVER_WAIT:
			set_stalled(rdma);
			return true;
		case DELIVER_GONE:
			return false;
		}
	}
	return true;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_send - sequenced messages of a session, and their acknowledgements.
 *
 *   waiting -> sent (in the window) -> ended
 *
 * A message keeps its number over any number of connections.  The receiver
 * takes numbers in order without a gap, and remembers for the whole window how
 * each was acknowledged: what comes again after a reconnect is not delivered
 * again but acknowledged again.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/pool.h"
#include "replication/link_private.h"

uint64_t
link_lowest_unacknowledged(const struct link *link)
{
	if (list_empty(&link->sent))
		return link->next_sequence;
	return list_first_entry(&link->sent, struct link_send, entry)->sequence;
}

static struct link_send **
window_at(struct link *link, uint64_t sequence)
{
	return &link->window[sequence % LINK_WINDOW_MAX];
}

static struct link_seen *
seen_at(struct link *link, uint64_t sequence)
{
	return &link->seen[sequence % LINK_WINDOW_MAX];
}

static bool
is_usable(const struct link *link)
{
	return link->state == LINK_UP && link->connection != NULL;
}

/* --- sending --- */

static void
on_channel_done(struct channel_send *channel_send, int error)
{
	struct link_send *send =
		container_of(channel_send, struct link_send, channel_send);

	(void)error; /* the acknowledgement tells, or a replay */
	send->on_channel = false;
	if (send->ended)
		task_post(&send->link->task);
}

static void
transmit(struct link *link, struct link_send *send)
{
	struct wire_header header = {
		.type = send->type,
		.flags = send->flags,
		.sequence = send->sequence,
		.epoch = send->epoch,
		.offset = send->offset,
		.length = send->length,
	};
	size_t length = wire_payload(&header);

	if (length > 0 && send->payload_crc == 0)
		send->payload_crc = wire_crc(send->payload, length);
	header.payload_crc = length > 0 ? send->payload_crc : 0;
	link_fill_header(link, &header);
	wire_encode(&header, send->channel_send.header);
	send->channel_send.payload = length > 0 ? send->payload : NULL;
	send->channel_send.length = length;
	send->channel_send.on_done = on_channel_done;
	send->on_channel = true;
	link->bytes_sent += WIRE_HEADER + length;
	link->connection->said_ns = loop_now(link->options.context.loop);
	link->connection->channel->transport->send(link->connection->channel,
						   &send->channel_send);
}

/* Credit, and a place in the window for its number. */
static bool
has_credit(const struct link *link)
{
	return link->next_sequence <= link->peer_limit &&
	       link->next_sequence <
		       link_lowest_unacknowledged(link) + link->options.window;
}

void
link_push(struct link *link)
{
	while (is_usable(link) && !list_empty(&link->waiting) &&
	       has_credit(link)) {
		struct link_send *send = list_first_entry(
			&link->waiting, struct link_send, entry);

		send->sequence = link->next_sequence++;
		assert(*window_at(link, send->sequence) == NULL);
		*window_at(link, send->sequence) = send;
		list_move_tail(&send->entry, &link->sent);
		link->sent_count++;
		link->sent_total++;
		transmit(link, send);
	}
}

void
link_send(struct link *link, struct link_send *send)
{
	assert(link->session != 0);
	send->link = link;
	send->sequence = 0;
	send->payload_crc = 0;
	send->on_channel = false;
	send->received = false;
	send->ended = false;
	list_add_tail(&send->entry, &link->waiting);
	link_push(link);
}

bool
link_has_room(const struct link *link)
{
	return is_usable(link) && list_empty(&link->waiting) &&
	       has_credit(link);
}

uint32_t
link_piece_max(const struct link *link)
{
	const struct link_connection *connection = link->connection;
	uint32_t piece = 0;

	if (connection != NULL && connection->channel != NULL)
		piece = connection->channel->transport->piece;
	return piece > 0 ? piece : WIRE_PAYLOAD_MAX;
}

void
link_replay(struct link *link, uint64_t peer_received,
	    uint64_t peer_unacknowledged)
{
	uint64_t sequence = peer_unacknowledged;
	struct link_send *send;

	/* Acknowledgements that may have been lost go again; no older one can
	 * be missed. */
	link->acks_count = 0;
	if (sequence + LINK_WINDOW_MAX <= link->received)
		sequence = link->received - LINK_WINDOW_MAX + 1;
	for (; sequence <= link->received; sequence++) {
		const struct link_seen *seen = seen_at(link, sequence);

		if (seen->sequence == sequence && seen->kind != 0)
			link_acknowledge(link, sequence, seen->kind,
					 seen->status);
	}
	list_for_each_entry (send, &link->sent, entry) {
		if (send->sequence <= peer_received)
			continue;
		link->replayed++;
		transmit(link, send);
		if (link->connection == NULL)
			return;
	}
	link_push(link);
}

/* --- the end of a message --- */

static void
end_send(struct link_send *send, int status)
{
	send->ended = true;
	send->status = status;
	list_move_tail(&send->entry, &send->link->ended);
	task_post(&send->link->task);
}

void
link_deliver_ended(struct link *link)
{
	struct link_send *send, *spare;
	LIST_HEAD(due);

	list_for_each_entry_safe (send, spare, &link->ended, entry) {
		if (!send->on_channel)
			list_move_tail(&send->entry, &due);
	}
	while (!list_empty(&due)) {
		send = list_first_entry(&due, struct link_send, entry);
		list_del(&send->entry);
		send->on_ended(send, send->status);
	}
}

void
link_sends_give_back(struct link *link)
{
	struct link_send *send, *spare;

	list_for_each_entry_safe (send, spare, &link->sent, entry)
		end_send(send, -ENOTCONN);
	list_for_each_entry_safe (send, spare, &link->waiting, entry)
		end_send(send, -ENOTCONN);
	link_sends_init(link);
}

/* Whether it can be one of ours. */
static bool
take_ack(struct link *link, const struct wire_ack *ack)
{
	struct link_send *send = *window_at(link, ack->sequence);

	if (ack->sequence >= link->next_sequence)
		return false;
	if (send == NULL || send->sequence != ack->sequence)
		return true; /* of a replay: it has ended already */
	if (ack->kind == WIRE_ACK_RECEIVED) {
		if (!send->received && send->on_received != NULL)
			send->on_received(send);
		send->received = true;
		return true;
	}
	*window_at(link, ack->sequence) = NULL;
	link->sent_count--;
	end_send(send, ack->status);
	return true;
}

void
link_on_acks(struct link *link, const void *payload, size_t length)
{
	struct wire_ack acks[WIRE_ACKS_MAX];
	struct reason reason;
	int count = wire_decode_acks(payload, length, acks);
	bool well = count > 0;

	for (int i = 0; i < count && well; i++)
		well = take_ack(link, &acks[i]);
	if (!well) {
		(void)reason_set(&reason, -EPROTO,
				 "the peer acknowledged what it never got");
		link_lose(link, &reason);
		return;
	}
	link_push(link);
}

void
link_on_header(struct link *link, const struct wire_header *header)
{
	uint64_t acknowledged =
		wire_widen(header->acknowledged, link->next_sequence);
	uint64_t limit = acknowledged + header->credits;
	uint64_t proven = wire_widen(header->proven, link->received);

	if (acknowledged < link->next_sequence && limit > link->peer_limit &&
	    header->credits <= LINK_WINDOW_MAX)
		link->peer_limit = limit;
	if (proven > link->peer_proven && proven <= link->received) {
		link->peer_proven = proven;
		link->events->on_proven(link, proven);
	}
}

/* --- receiving --- */

void
link_on_sequenced(struct link *link, const struct wire_header *header,
		  void *payload, size_t length)
{
	struct reason reason;

	if (length > 0 && wire_crc(payload, length) != header->payload_crc) {
		(void)reason_set(&reason, -EBADMSG,
				 "a %s of the peer arrived damaged (its "
				 "checksum is wrong)",
				 wire_type_name(header->type));
		pool_put(link->options.context.pool, payload);
		link_connection_fail(link->connection, &reason);
		return;
	}
	if (header->sequence <= link->received) { /* of a replay */
		pool_put(link->options.context.pool, payload);
		return;
	}
	if (header->sequence != link->received + 1 ||
	    header->sequence > link->settled + LINK_WINDOW_MAX) {
		(void)reason_set(&reason, -EPROTO,
				 "the peer sent message %llu after %llu",
				 (unsigned long long)header->sequence,
				 (unsigned long long)link->received);
		pool_put(link->options.context.pool, payload);
		link_lose(link, &reason);
		return;
	}
	link->received = header->sequence;
	*seen_at(link, header->sequence) =
		(struct link_seen){ .sequence = header->sequence };
	link->events->on_message(link, header, payload);
}

void
link_acknowledge(struct link *link, uint64_t sequence, enum wire_ack_kind kind,
		 int status)
{
	struct link_seen *seen = seen_at(link, sequence);

	if (link->session == 0 || sequence > link->received ||
	    seen->sequence != sequence)
		return;
	if (kind != WIRE_ACK_RECEIVED) {
		seen->kind = kind;
		seen->status = status;
		while (link->settled < link->received &&
		       seen_at(link, link->settled + 1)->kind != 0 &&
		       seen_at(link, link->settled + 1)->sequence ==
			       link->settled + 1)
			link->settled++;
	}
	if (!is_usable(link))
		return; /* a replay asks for it again */
	if (link->acks_count == LINK_ACKS_MAX) {
		link->choked = true;
		task_post(&link->task);
		return;
	}
	link->acks[(link->acks_first + link->acks_count++) % LINK_ACKS_MAX] =
		(struct wire_ack){ .sequence = sequence,
				   .kind = kind,
				   .status = status };
	task_post(&link->task);
}

void
link_send_acks(struct link *link)
{
	struct wire_ack batch[WIRE_ACKS_MAX];
	unsigned char bytes[WIRE_ACKS_MAX * WIRE_ACK_BYTES];

	while (is_usable(link) && link->acks_count > 0 &&
	       link_control_has_room(link->connection)) {
		unsigned int count = 0;

		while (count < WIRE_ACKS_MAX && link->acks_count > 0) {
			batch[count++] = link->acks[link->acks_first];
			link->acks_first =
				(link->acks_first + 1) % LINK_ACKS_MAX;
			link->acks_count--;
		}
		wire_encode_acks(batch, count, bytes);
		link_control_send(link->connection, WIRE_ACK, 0, bytes,
				  (size_t)count * WIRE_ACK_BYTES, false);
	}
}

uint64_t
link_last_sequence(const struct link *link)
{
	return link->next_sequence - 1;
}

void
link_set_proven(struct link *link, uint64_t sequence)
{
	if (sequence > link->proven)
		link->proven = sequence;
}

void
link_sends_init(struct link *link)
{
	INIT_LIST_HEAD(&link->waiting);
	INIT_LIST_HEAD(&link->sent);
	memset(link->window, 0, sizeof(link->window));
	memset(link->seen, 0, sizeof(link->seen));
	link->next_sequence = 1;
	link->peer_limit = 0;
	link->sent_count = 0;
	link->proven = 0;
	link->received = 0;
	link->settled = 0;
	link->peer_proven = 0;
	link->acks_first = 0;
	link->acks_count = 0;
}

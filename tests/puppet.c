/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * puppet - see puppet.h.
 */
#include "tests/puppet.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/pool.h"
#include "core/reason.h"
#include "replication/history.h"
#include "replication/key.h"
#include "replication/link.h"
#include "tests/fake_transport.h"

#define POOL_BYTES (32u << 20)

/* --- saying --- */

static void
on_said(struct channel_send *send, int error)
{
	(void)error;
	free(send);
}

void
puppet_say_bytes(struct puppet *puppet, const unsigned char *header,
		 const void *payload, size_t length)
{
	struct channel_send *send = calloc(1, sizeof(*send) + length);

	assert(send != NULL);
	memcpy(send->header, header, WIRE_HEADER);
	if (length > 0)
		memcpy(send + 1, payload, length);
	send->payload = send + 1;
	send->length = length;
	send->on_done = on_said;
	puppet->channel->transport->send(puppet->channel, send);
}

void
puppet_say(struct puppet *puppet, struct wire_header header,
	   const void *payload, size_t length)
{
	unsigned char bytes[WIRE_HEADER];

	if (wire_is_sequenced(header.type) == false || header.length == 0)
		header.length = (uint32_t)length;
	if (length > 0 && header.payload_crc == 0)
		header.payload_crc = wire_crc(payload, length);
	wire_encode(&header, bytes);
	puppet_say_bytes(puppet, bytes, payload, length);
}

uint64_t
puppet_send(struct puppet *puppet, struct wire_header header,
	    const void *payload, size_t bytes)
{
	header.session = puppet->session;
	header.sequence = ++puppet->sequence;
	puppet_say(puppet, header, payload, bytes);
	return puppet->sequence;
}

void
puppet_acknowledge(struct puppet *puppet, uint64_t sequence,
		   enum wire_ack_kind kind, int status)
{
	struct wire_ack ack = { .sequence = sequence,
				.kind = kind,
				.status = status };
	struct wire_header header = { .type = WIRE_ACK,
				      .session = puppet->session };
	unsigned char bytes[WIRE_ACK_BYTES];

	wire_encode_acks(&ack, 1, bytes);
	puppet_say(puppet, header, bytes, sizeof(bytes));
}

static void
prove(struct puppet *puppet)
{
	struct key_bytes key = { (const unsigned char *)puppet->key,
				 puppet->key ? strlen(puppet->key) : 0 };
	struct key_bytes own = { puppet->own, puppet->own_length };
	struct key_bytes peer = { puppet->theirs, puppet->theirs_length };
	struct wire_header header = { .type = WIRE_AUTH };
	unsigned char binding[WIRE_MAC] = { 0 }, mac[WIRE_MAC];

	key_prove(&key, true, binding, &own, &peer, mac);
	puppet_say(puppet, header, mac, sizeof(mac));
}

void
puppet_greet(struct puppet *puppet)
{
	struct wire_header header = { .type = WIRE_HELLO };

	puppet->own_length = wire_encode_hello(&puppet->hello, puppet->own);
	puppet_say(puppet, header, puppet->own, puppet->own_length);
	if (puppet->theirs_length > 0 && !puppet->mute)
		prove(puppet);
}

/* What a replica remembers of a meeting that it has recorded (H0). */
static void
remember(struct puppet *puppet)
{
	struct wire_hello *hello = &puppet->hello;
	const struct wire_hello *other = &puppet->other;
	uint64_t said = 0, heard = 0;

	if (memcmp(hello->partner, other->replica_id, WIRE_ID) == 0)
		said = hello->met;
	if (memcmp(other->partner, hello->replica_id, WIRE_ID) == 0)
		heard = other->met;
	memcpy(hello->partner, other->replica_id, WIRE_ID);
	hello->peer_incarnation = other->incarnation;
	hello->met = 1 + (said > heard ? said : heard);
}

static void
say_begin(struct puppet *puppet, const struct wire_begin *begin)
{
	struct wire_header header = { .type = WIRE_BEGIN };
	unsigned char bytes[WIRE_BEGIN_BYTES];

	puppet->session = begin->session;
	puppet->sequence = 0;
	remember(puppet);
	wire_encode_begin(begin, bytes);
	puppet_say(puppet, header, bytes, sizeof(bytes));
	loop_run_until_idle(puppet->loop);
}

void
puppet_begin(struct puppet *puppet, uint64_t session)
{
	struct wire_begin begin = { .session = session,
				    .outcome = MEETING_WE_SOURCE };

	say_begin(puppet, &begin);
}

static struct meeting_side
side_of(const struct wire_hello *hello)
{
	return (struct meeting_side){
		.history = &hello->history,
		.epoch = hello->epoch,
		.active = hello->flags & WIRE_ACTIVE,
		.consistent = hello->flags & WIRE_CONSISTENT,
		.primary_last = hello->flags & WIRE_PRIMARY_LAST,
		.discard = hello->flags & WIRE_DISCARD,
	};
}

void
puppet_begin_fairly(struct puppet *puppet, uint64_t session,
		    const struct wire_begin *like)
{
	struct meeting_side we = side_of(&puppet->hello);
	struct meeting_side other = side_of(&puppet->other);
	struct reason reason = { "" };
	struct meeting meeting = meeting_decide(&we, &other, &reason);
	struct wire_begin begin = {
		.session = session,
		.outcome = meeting.outcome,
		.timeline = meeting.timeline,
		.epoch = meeting.epoch,
		.incarnation = puppet->other.incarnation,
		.resume_copy = like != NULL && like->resume_copy,
		.clean = like != NULL && like->clean,
	};

	say_begin(puppet, &begin);
}

void
puppet_agree(struct puppet *puppet)
{
	struct wire_header header = { .type = WIRE_BEGUN };

	remember(puppet);
	puppet->hello.stood = puppet->hello.met;
	puppet->session = puppet->begin.session;
	puppet->sequence = 0;
	puppet_say(puppet, header, NULL, 0);
}

/* --- hearing --- */

static void
puppet_on_open(struct channel *channel)
{
	struct puppet *puppet = channel->owner;

	puppet->open = true;
	if (!puppet->silent)
		puppet_greet(puppet);
}

static void
hear_hello(struct puppet *puppet, const void *payload, size_t length)
{
	(void)wire_decode_hello(payload, length, &puppet->other, NULL);
	memcpy(puppet->theirs, payload, length);
	puppet->theirs_length = length;
	if (puppet->own_length > 0 && !puppet->mute)
		prove(puppet);
}

static void
hear_acks(struct puppet *puppet, const void *payload, size_t length)
{
	struct wire_ack acks[WIRE_ACKS_MAX];
	int count = wire_decode_acks(payload, length, acks);

	for (int i = 0; i < count && puppet->acked < PUPPET_LOG; i++)
		puppet->acks[puppet->acked++] = acks[i];
}

static void
hear_regions(struct puppet *puppet, const void *payload, size_t length)
{
	static struct wire_region regions[WIRE_REGIONS_MAX];
	bool last;
	int count = wire_decode_regions(payload, length, regions, &last);

	for (int i = 0; i < count && puppet->named < PUPPET_LOG; i++)
		puppet->regions[puppet->named++] = regions[i];
}

/* From now on it is what the source is (M2). */
static void
hear_synced(struct puppet *puppet, const void *payload, size_t length)
{
	static struct wire_synced synced;

	if (wire_decode_synced(payload, length, &synced) < 0)
		return;
	puppet->hello.history = synced.history;
	puppet->hello.epoch = synced.epoch;
	memcpy(puppet->hello.disk_id, synced.disk_id, WIRE_ID);
	puppet->hello.flags |= WIRE_CONSISTENT;
}

static void
hear_sequenced(struct puppet *puppet, const struct wire_header *header,
	       void *payload, size_t length)
{
	if (puppet->logged < PUPPET_LOG)
		puppet->log[puppet->logged++] = *header;
	if (header->type == WIRE_REGIONS)
		hear_regions(puppet, payload, length);
	else if (header->type == WIRE_SYNCED)
		hear_synced(puppet, payload, length);
	pool_put(puppet->pool, payload);
	if (!puppet->keep_acks)
		puppet_acknowledge(
			puppet, header->sequence,
			header->type == WIRE_FLUSH ||
					header->type == WIRE_SYNCED ||
					(header->flags & WIRE_FLAG_DURABLE)
				? WIRE_ACK_DURABLE
				: WIRE_ACK_WRITTEN,
			0);
}

static void
puppet_on_message(struct channel *channel, const struct wire_header *header,
		  void *payload, size_t length)
{
	struct puppet *puppet = channel->owner;

	puppet->heard[header->type]++;
	if (wire_is_sequenced(header->type)) {
		hear_sequenced(puppet, header, payload, length);
		return;
	}
	switch (header->type) {
	case WIRE_HELLO:
		hear_hello(puppet, payload, length);
		break;
	case WIRE_BEGIN:
		if (wire_decode_begin(payload, length, &puppet->begin) == 0 &&
		    !puppet->hesitant)
			puppet_agree(puppet);
		break;
	case WIRE_BEGUN:
		puppet->hello.stood = puppet->hello.met;
		break;
	case WIRE_PING:
		puppet_say(puppet,
			   (struct wire_header){ .type = WIRE_PONG,
						 .session = puppet->session,
						 .offset = header->offset },
			   NULL, 0);
		break;
	case WIRE_ACK:
		hear_acks(puppet, payload, length);
		break;
	case WIRE_REFUSE:
	case WIRE_GOODBYE:
		wire_decode_text(payload, length, puppet->text);
		break;
	default:
		break;
	}
}

static void
puppet_on_close(struct channel *channel, int error, const struct reason *reason)
{
	struct puppet *puppet = channel->owner;

	(void)error;
	(void)reason;
	puppet->closed = true;
	puppet->channel = NULL;
	channel->transport->close(channel);
}

static const struct channel_events puppet_events = {
	.on_open = puppet_on_open,
	.on_message = puppet_on_message,
	.on_close = puppet_on_close,
};

/* --- what it has heard --- */

const struct wire_ack *
puppet_ack_of(const struct puppet *puppet, uint64_t sequence)
{
	for (unsigned int i = 0; i < puppet->acked; i++) {
		if (puppet->acks[i].sequence == sequence &&
		    puppet->acks[i].kind != WIRE_ACK_RECEIVED)
			return &puppet->acks[i];
	}
	return NULL;
}

const struct wire_header *
puppet_last(const struct puppet *puppet, enum wire_type type)
{
	for (unsigned int i = puppet->logged; i > 0; i--) {
		if (puppet->log[i - 1].type == type)
			return &puppet->log[i - 1];
	}
	return NULL;
}

bool
puppet_was_named(const struct puppet *puppet, uint64_t offset)
{
	for (unsigned int i = 0; i < puppet->named; i++) {
		const struct wire_region *region = &puppet->regions[i];

		if (offset >= region->offset &&
		    offset - region->offset < region->length)
			return true;
	}
	return false;
}

bool
puppet_was_sent(const struct puppet *puppet, enum wire_type type,
		uint64_t offset)
{
	for (unsigned int i = 0; i < puppet->logged; i++) {
		const struct wire_header *header = &puppet->log[i];

		if (header->type == type && offset >= header->offset &&
		    offset - header->offset < header->length)
			return true;
	}
	return false;
}

void
puppet_forget(struct puppet *puppet)
{
	memset(puppet->heard, 0, sizeof(puppet->heard));
	puppet->text[0] = '\0';
	puppet->logged = puppet->acked = puppet->named = 0;
	puppet->closed = false;
}

/* --- life --- */

struct puppet *
puppet_new(struct loop *loop, const char *key)
{
	struct puppet *puppet = calloc(1, sizeof(*puppet));
	struct wire_hello *hello;

	assert(puppet != NULL);
	puppet->loop = loop;
	puppet->key = key;
	puppet->pool = pool_new(loop, POOL_BYTES, NULL);
	hello = &puppet->hello;
	hello->version_min = WIRE_VERSION_MIN;
	hello->version_max = WIRE_VERSION_MAX;
	hello->header_length = WIRE_HEADER;
	hello->window = LINK_WINDOW_MAX;
	hello->payload_max = WIRE_PAYLOAD_MAX;
	hello->flags = key != NULL ? WIRE_KEYED : 0;
	hello->role = WIRE_PRIMARY;
	memset(hello->nonce, 0x77, WIRE_NONCE);
	memset(hello->replica_id, 0xaa, WIRE_ID);
	hello->size = PUPPET_SIZE;
	hello->sector_size = 512;
	hello->incarnation = 1;
	return puppet;
}

void
puppet_call(struct puppet *puppet, const char *address)
{
	struct transport_context context = { .loop = puppet->loop,
					     .pool = puppet->pool };

	puppet->own_length = puppet->theirs_length = 0;
	puppet->channel = transport_fake.connect(&context, address,
						 &puppet_events, puppet, NULL);
	loop_run_until_idle(puppet->loop);
}

void
puppet_hang_up(struct puppet *puppet)
{
	if (puppet->channel != NULL)
		puppet->channel->transport->close(puppet->channel);
	puppet->channel = NULL;
	loop_run_until_idle(puppet->loop);
}

struct puppet *
puppet_free(struct puppet *puppet)
{
	if (puppet == NULL)
		return NULL;
	puppet_hang_up(puppet);
	pool_free(puppet->pool);
	free(puppet);
	return NULL;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - see wire.h; docs/protocol.md gives the layouts that stand here as
 * offsets.  Two files: headers and acknowledgements here, the structures of
 * hello, begin and synced in wire_hello.c.
 */
#include "replication/wire.h"

#include <assert.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"

#define HEADER_CRC_AT 60
#define ERRNO_MAX     4095 /* Linux's own bound */

static_assert(WIRE_HEADER == HEADER_CRC_AT + 4, "the CRC is the header's end");
static_assert(WIRE_TEXT_MAX >= REASON_MAX, "a reason fits into a message");

/* What each type must look like. */
struct rule {
	const char *name;
	uint32_t payload_min, payload_max;
	bool ranged;	/* offset and length name a range, length above 0 */
	uint16_t flags; /* that may be set */
};

#define WRITE_FLAGS (WIRE_FLAG_RECEIVED | WIRE_FLAG_DURABLE)

static const struct rule rules[] = {
	[WIRE_HELLO] = { "hello", WIRE_HELLO_PREFIX, WIRE_HELLO_MAX, false, 0 },
	[WIRE_AUTH] = { "auth", WIRE_MAC, WIRE_MAC, false, 0 },
	[WIRE_RESUME] = { "resume", 0, 0, false, 0 },
	[WIRE_BEGIN] = { "begin", WIRE_BEGIN_BYTES, WIRE_BEGIN_BYTES, false,
			 0 },
	[WIRE_BEGUN] = { "begun", 0, 0, false, 0 },
	[WIRE_REFUSE] = { "refuse", 0, WIRE_TEXT_MAX, false, 0 },
	[WIRE_PING] = { "ping", 0, 0, false, 0 },
	[WIRE_PONG] = { "pong", 0, 0, false, 0 },
	[WIRE_ACK] = { "ack", WIRE_ACK_BYTES, WIRE_ACKS_MAX *WIRE_ACK_BYTES,
		       false, 0 },
	[WIRE_GOODBYE] = { "goodbye", 0, WIRE_TEXT_MAX, false, 0 },
	[WIRE_WRITE] = { "write", 1, WIRE_PAYLOAD_MAX, true, WRITE_FLAGS },
	[WIRE_ZERO] = { "zero", 0, 0, true, WRITE_FLAGS },
	[WIRE_FLUSH] = { "flush", 0, 0, false, 0 },
	[WIRE_COPY] = { "copy", 1, WIRE_PAYLOAD_MAX, true, 0 },
	[WIRE_COPY_ZERO] = { "copy-zero", 0, 0, true, 0 },
	[WIRE_SYNCED] = { "synced", 1, WIRE_SYNCED_MAX, false, 0 },
	[WIRE_HANDOVER] = { "handover", 0, 0, false, 0 },
	[WIRE_VERIFY] = { "verify", WIRE_DIGEST, WIRE_DIGEST, true,
			  WIRE_FLAG_STAMP },
	[WIRE_REGIONS] = { "regions", WIRE_REGIONS_HEAD, WIRE_REGIONS_BYTES,
			   false, 0 },
	[WIRE_CHECKPOINT] = { "checkpoint", WIRE_CHECKPOINT_BYTES,
			      WIRE_CHECKPOINT_BYTES, false, 0 },
};

static const struct rule *
rule_of(unsigned int type)
{
	if (type >= sizeof(rules) / sizeof(rules[0]) ||
	    rules[type].name == NULL)
		return NULL;
	return &rules[type];
}

bool
wire_is_sequenced(enum wire_type type)
{
	return type >= WIRE_WRITE;
}

const char *
wire_type_name(enum wire_type type)
{
	const struct rule *rule = rule_of(type);

	return rule == NULL ? "?" : rule->name;
}

uint32_t
wire_payload(const struct wire_header *header)
{
	if (header->type == WIRE_ZERO || header->type == WIRE_COPY_ZERO)
		return 0;
	if (header->type == WIRE_VERIFY)
		return WIRE_DIGEST;
	return header->length;
}

uint32_t
wire_crc(const void *data, size_t length)
{
	/* ISA-L's parameter is not const, and it takes an int */
	unsigned char *at = (unsigned char *)(uintptr_t)data;

	assert(length <= INT32_MAX);
	return ~crc32_iscsi(at, (int)length, ~0u);
}

uint64_t
wire_widen(uint32_t low, uint64_t near)
{
	return near + (uint64_t)(int64_t)(int32_t)(low - (uint32_t)near);
}

void
wire_encode(const struct wire_header *header,
	    unsigned char ret_bytes[WIRE_HEADER])
{
	put32(ret_bytes, WIRE_MAGIC);
	put16(ret_bytes + 4, (uint16_t)header->type);
	put16(ret_bytes + 6, header->flags);
	put64(ret_bytes + 8, header->session);
	put64(ret_bytes + 16, header->sequence);
	put64(ret_bytes + 24, header->epoch);
	put64(ret_bytes + 32, header->offset);
	put32(ret_bytes + 40, header->length);
	put32(ret_bytes + 44, header->payload_crc);
	put32(ret_bytes + 48, header->credits);
	put32(ret_bytes + 52, header->acknowledged);
	put32(ret_bytes + 56, header->proven);
	put32(ret_bytes + HEADER_CRC_AT, wire_crc(ret_bytes, HEADER_CRC_AT));
}

/* The fields against each other and the type's rule. */
static int
check_fields(const struct wire_header *header, struct reason *reason)
{
	const struct rule *rule = rule_of(header->type);
	uint32_t payload = wire_payload(header);

	if ((header->flags & ~rule->flags) != 0)
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s with unknown flags 0x%x",
				  rule->name, header->flags);
	if ((header->sequence != 0) != wire_is_sequenced(header->type))
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s with sequence number "
				  "%llu",
				  rule->name,
				  (unsigned long long)header->sequence);
	if (payload < rule->payload_min || payload > rule->payload_max)
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s with %u bytes of "
				  "payload; %u to %u are allowed",
				  rule->name, payload, rule->payload_min,
				  rule->payload_max);
	if (payload == 0 && header->payload_crc != 0)
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s with the checksum of a "
				  "payload that is not there",
				  rule->name);
	if (rule->ranged &&
	    (header->length == 0 ||
	     header->offset > (uint64_t)INT64_MAX - header->length))
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s of %u bytes at offset "
				  "%llu, which is no range",
				  rule->name, header->length,
				  (unsigned long long)header->offset);
	if (header->type == WIRE_VERIFY && header->length > WIRE_VERIFY_MAX)
		return reason_set(reason, -EPROTO,
				  "the peer sent a %s of %u bytes; %u are "
				  "allowed",
				  rule->name, header->length, WIRE_VERIFY_MAX);
	return 0;
}

int
wire_decode(const unsigned char bytes[WIRE_HEADER],
	    struct wire_header *ret_header, struct reason *reason)
{
	struct wire_header header;
	unsigned int type = get16(bytes + 4);
	int r;

	if (get32(bytes) != WIRE_MAGIC)
		return reason_set(reason, -EPROTO,
				  "the peer does not speak tapdisk's "
				  "replication protocol (its bytes begin with "
				  "%02x %02x %02x %02x)",
				  bytes[0], bytes[1], bytes[2], bytes[3]);
	if (get32(bytes + HEADER_CRC_AT) != wire_crc(bytes, HEADER_CRC_AT))
		return reason_set(reason, -EPROTO,
				  "a message's header came with a wrong "
				  "checksum: the network corrupts data");
	if (rule_of(type) == NULL)
		return reason_set(reason, -EPROTO,
				  "the peer sent a message of unknown type %u",
				  type);
	header = (struct wire_header){
		.type = (enum wire_type)type,
		.flags = get16(bytes + 6),
		.session = get64(bytes + 8),
		.sequence = get64(bytes + 16),
		.epoch = get64(bytes + 24),
		.offset = get64(bytes + 32),
		.length = get32(bytes + 40),
		.payload_crc = get32(bytes + 44),
		.credits = get32(bytes + 48),
		.acknowledged = get32(bytes + 52),
		.proven = get32(bytes + 56),
	};
	r = check_fields(&header, reason);
	if (r < 0)
		return r;
	*ret_header = header;
	return 0;
}

/* --- acknowledgements --- */

void
wire_encode_acks(const struct wire_ack *acks, unsigned int count,
		 unsigned char *ret_bytes)
{
	for (unsigned int i = 0; i < count; i++) {
		unsigned char *at = ret_bytes + (size_t)i * WIRE_ACK_BYTES;

		assert(acks[i].status <= 0 && acks[i].status >= -ERRNO_MAX);
		put64(at, acks[i].sequence);
		put16(at + 8, (uint16_t)acks[i].kind);
		put16(at + 10, (uint16_t)-acks[i].status);
		put32(at + 12, 0);
	}
}

static int
decode_ack(const unsigned char *at, struct wire_ack *ret_ack)
{
	unsigned int kind = get16(at + 8), status = get16(at + 10);

	if (get64(at) == 0 || kind < WIRE_ACK_RECEIVED ||
	    kind > WIRE_ACK_DURABLE || status > ERRNO_MAX ||
	    get32(at + 12) != 0)
		return -EPROTO;
	/* what is merely received has not failed yet */
	if (kind == WIRE_ACK_RECEIVED && status != 0)
		return -EPROTO;
	*ret_ack = (struct wire_ack){
		.sequence = get64(at),
		.kind = (enum wire_ack_kind)kind,
		.status = -(int)status,
	};
	return 0;
}

int
wire_decode_acks(const unsigned char *bytes, size_t length,
		 struct wire_ack ret_acks[WIRE_ACKS_MAX])
{
	size_t count = length / WIRE_ACK_BYTES;

	if (count == 0 || count > WIRE_ACKS_MAX || length % WIRE_ACK_BYTES != 0)
		return -EPROTO;
	for (size_t i = 0; i < count; i++) {
		if (decode_ack(bytes + i * WIRE_ACK_BYTES, &ret_acks[i]) < 0)
			return -EPROTO;
	}
	return (int)count;
}

/* --- sentences --- */

size_t
wire_encode_text(const char *text, unsigned char ret_bytes[WIRE_TEXT_MAX])
{
	size_t length = strnlen(text, WIRE_TEXT_MAX);

	memcpy(ret_bytes, text, length);
	return length;
}

void
wire_decode_text(const unsigned char *bytes, size_t length,
		 char ret_text[WIRE_TEXT_MAX + 1])
{
	if (length > WIRE_TEXT_MAX)
		length = WIRE_TEXT_MAX;
	for (size_t i = 0; i < length; i++) {
		bool control = bytes[i] < 0x20 || bytes[i] == 0x7f;

		ret_text[i] = control ? '?' : (char)bytes[i];
	}
	ret_text[length] = '\0';
}

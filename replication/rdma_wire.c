/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_wire - see rdma_wire.h; the layouts stand here as offsets.
 */
#include "replication/rdma_wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"

#define GREETING_CRC_AT 44
#define ENVELOPE_CRC_AT 12

static_assert(RDMA_GREETING == GREETING_CRC_AT + 4, "the CRC is the end");
static_assert(RDMA_GREETING <= 56, "RDMA_PS_TCP leaves a caller 56 bytes");
static_assert(RDMA_ENVELOPE == ENVELOPE_CRC_AT + 4, "the CRC is the end");
static_assert(WIRE_HELLO_MAX <= RDMA_SLOT_MIN &&
		      WIRE_ACKS_MAX * WIRE_ACK_BYTES <= RDMA_SLOT_MIN,
	      "a control message takes one slot");

void
rdma_encode_greeting(const struct rdma_greeting *greeting,
		     unsigned char ret_bytes[RDMA_GREETING])
{
	put32(ret_bytes, RDMA_MAGIC);
	put16(ret_bytes + 4, greeting->version_min);
	put16(ret_bytes + 6, greeting->version_max);
	put32(ret_bytes + 8, greeting->flags);
	put32(ret_bytes + 12, greeting->slot);
	put32(ret_bytes + 16, greeting->receives);
	put32(ret_bytes + 20, (uint32_t)greeting->refusal);
	memcpy(ret_bytes + 24, greeting->nonce, RDMA_NONCE);
	put32(ret_bytes + 40, 0);
	put32(ret_bytes + GREETING_CRC_AT,
	      wire_crc(ret_bytes, GREETING_CRC_AT));
}

static int
check_greeting(const struct rdma_greeting *greeting, struct reason *reason)
{
	if (greeting->version_min == 0 ||
	    greeting->version_min > greeting->version_max)
		return reason_set(reason, -EPROTO,
				  "the peer's greeting names the versions %u "
				  "to %u, which is no range",
				  greeting->version_min, greeting->version_max);
	if (greeting->version_min > RDMA_VERSION ||
	    greeting->version_max < RDMA_VERSION)
		return reason_set(reason, -EPROTONOSUPPORT,
				  "the peer speaks versions %u to %u of the "
				  "RDMA transport, this side %u: upgrade "
				  "tapdisk on the older host",
				  greeting->version_min, greeting->version_max,
				  RDMA_VERSION);
	if (greeting->refusal > RDMA_REFUSED_BUSY)
		return reason_set(reason, -EPROTO,
				  "the peer refuses for an unknown cause (%u)",
				  (unsigned int)greeting->refusal);
	if (greeting->refusal != RDMA_NOT_REFUSED)
		return 0; /* the rest means nothing */
	if ((greeting->flags & ~(RDMA_KEYED | RDMA_SEALED)) != 0 ||
	    greeting->slot < RDMA_SLOT_MIN || greeting->slot > RDMA_SLOT_MAX ||
	    greeting->receives < RDMA_RECEIVES_MIN ||
	    greeting->receives > RDMA_RECEIVES_MAX)
		return reason_set(reason, -EPROTO,
				  "the peer's greeting is none: flags 0x%x, "
				  "slots of %u bytes, %u receives",
				  greeting->flags, greeting->slot,
				  greeting->receives);
	return 0;
}

int
rdma_decode_greeting(const void *bytes, size_t length,
		     struct rdma_greeting *ret_greeting, struct reason *reason)
{
	const unsigned char *from = bytes;
	struct rdma_greeting greeting;
	int r;

	if (length < RDMA_GREETING || get32(from) != RDMA_MAGIC ||
	    get32(from + GREETING_CRC_AT) != wire_crc(from, GREETING_CRC_AT))
		return reason_set(reason, -EPROTO,
				  "what answers there is no tapdisk");
	greeting = (struct rdma_greeting){
		.version_min = get16(from + 4),
		.version_max = get16(from + 6),
		.flags = get32(from + 8),
		.slot = get32(from + 12),
		.receives = get32(from + 16),
		.refusal = (enum rdma_refusal)get32(from + 20),
	};
	memcpy(greeting.nonce, from + 24, RDMA_NONCE);
	r = check_greeting(&greeting, reason);
	if (r < 0)
		return r;
	*ret_greeting = greeting;
	return 0;
}

void
rdma_encode_envelope(const struct rdma_envelope *envelope,
		     unsigned char ret_bytes[RDMA_ENVELOPE])
{
	put32(ret_bytes, envelope->limit);
	put32(ret_bytes + 4, envelope->number);
	ret_bytes[8] = envelope->flags;
	ret_bytes[9] = envelope->reports;
	put16(ret_bytes + 10, envelope->segment);
	put32(ret_bytes + ENVELOPE_CRC_AT,
	      wire_crc(ret_bytes, ENVELOPE_CRC_AT));
}

int
rdma_decode_envelope(const unsigned char bytes[RDMA_ENVELOPE],
		     struct rdma_envelope *ret_envelope)
{
	if (get32(bytes + ENVELOPE_CRC_AT) !=
		    wire_crc(bytes, ENVELOPE_CRC_AT) ||
	    (bytes[8] & ~RDMA_REPORT) != 0)
		return -EPROTO;
	*ret_envelope = (struct rdma_envelope){
		.limit = get32(bytes),
		.number = get32(bytes + 4),
		.flags = bytes[8],
		.reports = bytes[9],
		.segment = get16(bytes + 10),
	};
	return 0;
}

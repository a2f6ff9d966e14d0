/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_wire - what travels over RDMA beside the messages themselves: the
 * greeting in the private data of a connection's set-up, and the envelope that
 * follows a message's header in each SEND.  docs/protocol.md specifies both;
 * all numbers are little-endian.
 *
 * Encoding and decoding only, and no verbs: a peer is not trusted, and this is
 * where its bytes are checked.
 */
#ifndef REPLICATION_RDMA_WIRE_H
#define REPLICATION_RDMA_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/wire.h"

struct reason;

/* --- the greeting --- */

#define RDMA_MAGIC	  0x52524454u /* "TDRR" */
#define RDMA_VERSION	  1u
#define RDMA_GREETING	  48u /* bytes; the private data may be longer */
#define RDMA_NONCE	  16u
#define RDMA_KEYED	  0x1u	      /* the sender has a key */
#define RDMA_SEALED	  0x2u	      /* every message carries a MAC */
#define RDMA_SLOT_MIN	  (32u << 10) /* so that control messages take one */
#define RDMA_SLOT_MAX	  WIRE_PAYLOAD_MAX
#define RDMA_RECEIVES_MIN 8u
#define RDMA_RECEIVES_MAX 65536u
#define RDMA_RESERVE	  2u /* receives that are kept for reports */

enum rdma_refusal {
	RDMA_NOT_REFUSED,
	RDMA_REFUSED_VERSION,
	RDMA_REFUSED_KEY,  /* one side has a key, the other none */
	RDMA_REFUSED_SEAL, /* one side wants a MAC, the other none */
	RDMA_REFUSED_BUSY, /* no room for one more connection */
};

struct rdma_greeting {
	uint16_t version_min, version_max;
	uint32_t flags;	   /* RDMA_KEYED, ... */
	uint32_t slot;	   /* bytes of payload that a SEND may carry */
	uint32_t receives; /* posted so far, reserve and all */
	enum rdma_refusal refusal;
	unsigned char nonce[RDMA_NONCE];
};

void rdma_encode_greeting(const struct rdma_greeting *greeting,
			  unsigned char ret_bytes[RDMA_GREETING]);
/* -EPROTO or -EPROTONOSUPPORT and a reason; the output is untouched then. */
int rdma_decode_greeting(const void *bytes, size_t length,
			 struct rdma_greeting *ret_greeting,
			 struct reason *reason);

/* --- the envelope --- */

#define RDMA_ENVELOPE 16u /* bytes, behind the header */
#define RDMA_SEAL     16u /* bytes of the MAC behind that, if there is one */
#define RDMA_HEAD_MAX (WIRE_HEADER + RDMA_ENVELOPE + RDMA_SEAL)

/* It tells about credits only; there is no message in it. */
#define RDMA_REPORT 0x1u

struct rdma_envelope {
	uint32_t limit;	  /* SENDs, reports apart, that the other may have
			   * made on this connection in all */
	uint32_t number;  /* of this SEND, from 1 */
	uint8_t flags;	  /* RDMA_REPORT */
	uint8_t reports;  /* low bits of how many reports have come */
	uint16_t segment; /* of its message, from 0 */
};

void rdma_encode_envelope(const struct rdma_envelope *envelope,
			  unsigned char ret_bytes[RDMA_ENVELOPE]);
/* -EPROTO for a wrong checksum or an unknown flag. */
int rdma_decode_envelope(const unsigned char bytes[RDMA_ENVELOPE],
			 struct rdma_envelope *ret_envelope);

#endif

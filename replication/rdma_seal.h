/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_seal - the proof, in each message over RDMA, that it comes from who has
 * the key, on this connection, in this place of the stream, unchanged.  RDMA
 * has no TLS: a seal authenticates, it hides nothing.
 *
 * A seal is an AES-256-GMAC over the header, the envelope and the payload of a
 * SEND.  Its key is made of the pre-shared key and the nonces of both
 * greetings, one for each direction; its nonce is the number of the SEND.
 */
#ifndef REPLICATION_RDMA_SEAL_H
#define REPLICATION_RDMA_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/key.h"
#include "replication/rdma_wire.h"

struct reason;
struct rdma_seal;

/* For one connection; NULL and a reason without memory.  `caller`: this side
 * is who called. */
struct rdma_seal *rdma_seal_new(const struct key_bytes *key, bool caller,
				const unsigned char caller_nonce[RDMA_NONCE],
				const unsigned char listener_nonce[RDMA_NONCE],
				struct reason *reason);
struct rdma_seal *rdma_seal_free(struct rdma_seal *seal); /* takes NULL */

/* `head` is header and envelope. */
void rdma_seal_make(struct rdma_seal *seal, uint64_t number, const void *head,
		    const void *payload, size_t length,
		    unsigned char ret_mac[RDMA_SEAL]);
/* Whether the peer made it. */
bool rdma_seal_is_right(struct rdma_seal *seal, uint64_t number,
			const void *head, const void *payload, size_t length,
			const unsigned char mac[RDMA_SEAL]);

/* What the proof in hello is bound to: the same at both ends of this
 * connection, and nowhere else. */
void rdma_seal_binding(const struct rdma_seal *seal,
		       unsigned char ret_binding[WIRE_MAC]);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport - the ways in which the bytes of a link move: tcp, rdma, and sim
 * in tests.  A channel is one connection; it moves whole messages (a header
 * and its payload) in order, and knows nothing of sessions.
 *
 * C1  Messages arrive in the order sent, whole, each once; header CRCs are
 *     checked by the channel, payload CRCs by the link.
 * C2  on_open, on_message and on_close come from the loop, never from inside
 *     a channel's call.  on_close comes once, last, and not after close().
 * C3  Every send's on_done runs exactly once; with -ECANCELED from inside
 *     close().  That a send was done does not say that it arrived: only an
 *     acknowledgement can.
 * C4  close() ends within a deadline whatever the peer does.
 * C5  With a key in its context a channel of tcp is encrypted, and open only
 *     when the peer has shown that it has the same key; one of rdma carries a
 *     proof of it in each message, and is not encrypted.  on_close with -EPERM
 *     says that the peer has another or none: a refusal, for the operator to
 *     hear.
 */
#ifndef REPLICATION_TRANSPORT_H
#define REPLICATION_TRANSPORT_H

#include <stdbool.h>

#include "core/list.h"
#include "replication/wire.h"

struct channel;
struct io;
struct loop;
struct pool;
struct reason;
struct transport;

/* Data leave from where they lie: borrowed until on_done. */
struct channel_send {
	struct list_head entry;
	unsigned char header[WIRE_HEADER];
	const void *payload;
	size_t length; /* of payload */
	void (*on_done)(struct channel_send *send, int error);
	void *private[24]; /* the transport's */
};

struct channel_events {
	/* The connection is up (encrypted, if it is to be). */
	void (*on_open)(struct channel *channel);
	/* `payload` (NULL when length is 0) of a sequenced message comes from
	 * the pool, and who is called owns it; that of a control message is
	 * the channel's, and good during the call. */
	void (*on_message)(struct channel *channel,
			   const struct wire_header *header, void *payload,
			   size_t length);
	void (*on_close)(struct channel *channel, int error,
			 const struct reason *reason);
};

struct channel {
	const struct transport *transport;
	const struct channel_events *events; /* borrowed */
	void *owner;			     /* events' user; set by him */
	char peer[128];	   /* the other end's address, for people */
	uint64_t bytes_in; /* so far: a long message is a sign of life too */
	bool stalled;	   /* bytes wait for the pool: not the peer's fault */
};

/* What a transport needs of its surroundings; borrowed. */
struct transport_context {
	struct loop *loop;
	struct io *io;	   /* name look-ups; NULL in tests that need none */
	struct pool *pool; /* payloads */
	const unsigned char *key; /* pre-shared; NULL without */
	size_t key_length;
	bool no_mac; /* rdma: no proof in each message */
};

/* Someone who listens. */
struct acceptor {
	const struct transport *transport;
	/* Takes the channel, which is not open yet; it sets events and owner
	 * before it returns. */
	void (*on_accept)(struct acceptor *acceptor, struct channel *channel);
	void *owner;
	char address[128]; /* as bound */
};

struct transport {
	const char *scheme; /* "tcp" of tcp://host:port */
	/* Bytes of payload that a message should not exceed, for it to arrive
	 * without a copy; 0: any. */
	uint32_t piece;

	/* `address` is what stands behind "scheme://". */
	struct acceptor *(*listen)(const struct transport_context *context,
				   const char *address,
				   void (*on_accept)(struct acceptor *,
						     struct channel *),
				   void *owner, struct reason *reason);
	void (*stop)(struct acceptor *acceptor); /* frees it */

	/* The name is looked up anew; on_open or on_close tells the end. */
	struct channel *(*connect)(const struct transport_context *context,
				   const char *address,
				   const struct channel_events *events,
				   void *owner, struct reason *reason);

	void (*send)(struct channel *channel, struct channel_send *send);
	/* Frees the channel. */
	void (*close)(struct channel *channel);
	/* Whether bytes between here and the peer are encrypted. */
	bool (*is_private)(const struct channel *channel);
	/* Whether each message proves that it comes from who has the key. */
	bool (*is_authentic)(const struct channel *channel);
	/* Whether it may lead beyond this host: nobody there can speak for the
	 * peer.  NULL: never. */
	bool (*is_safe)(const struct transport_context *context);
	/* Bytes that the two ends of this channel alone know, for the proof in
	 * hello to be good for no other; zeros unless private.  NULL: zeros. */
	void (*bind)(struct channel *channel,
		     unsigned char ret_binding[WIRE_MAC]);
};

extern const struct transport transport_tcp, transport_rdma;

/* The transport for "scheme://address" out of a NULL-ended table, and where
 * the address begins.  NULL and a reason for an unknown scheme. */
const struct transport *
transport_find(const struct transport *const *transports, const char *url,
	       const char **ret_address, struct reason *reason);

/* Whether an address names this host only (127.0.0.0/8, ::1, localhost). */
bool transport_is_loopback(const char *address);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link - the session with the peer: connects or is connected to, says hello,
 * authenticates, and then carries sequenced messages across any number of
 * connections, until the session is given up.
 *
 *   DOWN -> CONNECTING -> GREETING -> MEETING -> UP <-> BROKEN -> CONNECTING
 *                            |          (resume) ^         |
 *                            +-------------------+         +-- grace over: lost
 *
 * K1  A sequenced message is delivered once and in order, however often the
 *     connection breaks within the grace time; every one is acknowledged by
 *     its receiver, out of order: perhaps as received, and once finally.
 * K2  link_send() never fails while the link has a session: without credit or
 *     connection the message waits.  At most LINK_WINDOW_MAX are on the way;
 *     owners bound what waits (link_has_room()).  When the session ends, every
 *     send not finally acknowledged comes back by on_ended() with -ENOTCONN,
 *     in order.
 * K3  What was sent stays borrowed until its on_ended().
 * K4  Nothing of an earlier session counts in a later one (H0): a session's
 *     number is random and every message carries it.
 * K5  A peer that is silent for the dead time has lost the connection.
 * K6  The peer's addresses are paths, the best first: a session goes on over
 *     whichever is up, and comes back to a better one that is up again.
 * K7  Events come from the loop, never from inside a link_*() call; on_ended()
 *     too.  The exception is link_stop(): on_ended() from inside.
 *
 * The link decides nothing about roles, timelines or copies: it asks and tells
 * its owner, the replica.
 */
#ifndef REPLICATION_LINK_H
#define REPLICATION_LINK_H

#include "core/loop.h"
#include "core/reason.h"
#include "replication/transport.h"

#define LINK_WINDOW_MAX	   512 /* sequenced messages without a final ack */
#define LINK_ADDRESSES_MAX 4   /* of the peer, in order of preference */

struct link;

enum link_state {
	LINK_DOWN,	 /* stopped */
	LINK_CONNECTING, /* no session; trying, or waiting to be called */
	LINK_GREETING,	 /* hello and authentication */
	LINK_MEETING,	 /* the owner decides */
	LINK_UP,	 /* session and connection */
	LINK_BROKEN,	 /* session, no connection, within the grace time */
};

/* A sequenced message on its way; lives in its owner until on_ended(). */
struct link_send {
	struct list_head entry;
	enum wire_type type;
	uint16_t flags; /* WIRE_FLAG_*, into the header */
	uint64_t epoch;
	uint64_t offset;
	uint32_t length;     /* of the range */
	const void *payload; /* borrowed; NULL for those without */
	uint64_t sequence;   /* given by the link */

	/* The peer has it in memory, checked (WIRE_ACK_RECEIVED).  May be
	 * NULL. */
	void (*on_received)(struct link_send *send);
	/* Finally acknowledged: `status` is 0 or the peer's negative errno;
	 * or -ENOTCONN: the session ended, the peer may have it or not. */
	void (*on_ended)(struct link_send *send, int status);

	/* the link's own */
	struct link *link;
	struct channel_send channel_send;
	uint32_t payload_crc; /* computed once, at the first sending */
	bool on_channel;      /* the transport borrows it */
	bool received, ended;
	int status;
};

struct link_options {
	const char *name; /* of the disk, for messages */
	const struct transport *const *transports; /* NULL-ended */
	struct transport_context context;
	const char *const *listen;     /* NULL-ended URLs; may be empty */
	const char *const *peers;      /* NULL-ended URLs; may be empty */
	unsigned int ping_ms;	       /* 0: 1000 */
	unsigned int dead_ms;	       /* 0: 5000 */
	unsigned int grace_ms;	       /* 0: 10000 */
	unsigned int connect_ms;       /* between attempts; 0: 500 */
	uint32_t window;	       /* 0: LINK_WINDOW_MAX */
	bool insecure_network;	       /* without a key beyond loopback */
	uint64_t (*random)(void *arg); /* NULL: the kernel's */
	void *random_arg;
};

struct link_events {
	/* A connection is up: fill in what the replica says of itself.  The
	 * link fills versions, limits, nonce, name and the session's fields.
	 * Returns a number for the state that it speaks of; several connections
	 * may be greeted before one leads to a meeting (link_greeting). */
	uint64_t (*on_greet)(struct link *link, struct wire_hello *ret_hello);

	/* Hellos are exchanged and authentic, and there is no session to
	 * resume.  The owner calls link_begin (as source), waits for on_begin
	 * and calls link_accept (as target), or calls link_refuse: now or
	 * later, once. */
	void (*on_meet)(struct link *link, const struct wire_hello *peer);
	/* Target: the source began, with its decision. */
	void (*on_begin)(struct link *link, const struct wire_begin *begin);
	/* The session stands: sequenced messages may go. */
	void (*on_up)(struct link *link);

	/* The connection broke; the session waits for the next one. */
	void (*on_broken)(struct link *link, const struct reason *reason);
	/* It came back in time; what was not acknowledged is replayed. */
	void (*on_resumed)(struct link *link);
	/* The session is over (grace time, protocol error, goodbye,
	 * link_drop).  All sends have come back. */
	void (*on_lost)(struct link *link, const struct reason *reason);
	/* A meeting ended without a session: we refused, the peer refused, or
	 * the connection broke.  `refused` tells the first two. */
	void (*on_refused)(struct link *link, bool refused,
			   const struct reason *reason);
	/* The peer says that it leaves cleanly (M7); on_lost follows. */
	void (*on_goodbye)(struct link *link, const struct reason *reason);

	/* A sequenced message, in order.  `payload` (NULL without) is from the
	 * pool and the owner's from now on.  It is to be acknowledged. */
	void (*on_message)(struct link *link, const struct wire_header *header,
			   void *payload);
	/* The peer's `proven` has moved to `sequence`. */
	void (*on_proven)(struct link *link, uint64_t sequence);
};

struct link *link_new(const struct link_options *options,
		      const struct link_events *events, void *owner,
		      struct reason *reason);
struct link *link_free(struct link *link); /* stopped before; takes NULL */
void *link_owner(const struct link *link);

/* Listen, and if `call` connect to the peers, again and again.  Addresses
 * that cannot be bound are an error now. */
int link_start(struct link *link, bool call, struct reason *reason);
/* Give up session and connections; sends come back; no on_lost. */
void link_stop(struct link *link);
/* From now on call, or only be called. */
void link_set_calling(struct link *link, bool call);

/* In a meeting: the state that on_greet told the peer (H0). */
uint64_t link_greeting(const struct link *link);
void link_begin(struct link *link, const struct wire_begin *begin);
void link_accept(struct link *link);
/* Say why, and end connection and session.  Calls are tried again later. */
void link_refuse(struct link *link, const struct reason *reason);
/* End the session, as if lost, and start anew. */
void link_drop(struct link *link, const struct reason *reason);
/* Send goodbye behind everything that waits, then end the session.  on_lost
 * comes when the goodbye is out, or cannot get out. */
void link_goodbye(struct link *link, const char *text);
/* A goodbye is on its way; link_stop() would cut it off. */
bool link_is_parting(const struct link *link);

void link_send(struct link *link, struct link_send *send);
/* Whether a send now would leave at once, as far as credit goes. */
bool link_has_room(const struct link *link);
/* Bytes of payload that a message of a guest's write should have at most. */
uint32_t link_piece_max(const struct link *link);

/* For a message got by on_message: early, at level `received`, or final. */
void link_acknowledge(struct link *link, uint64_t sequence,
		      enum wire_ack_kind kind, int status);
/* Of this session; 0: none was sent. */
uint64_t link_last_sequence(const struct link *link);
/* Tell the peer, with the next message, that all up to `sequence` is done on
 * both sides. */
void link_set_proven(struct link *link, uint64_t sequence);

enum link_state link_state(const struct link *link);
const char *link_state_name(enum link_state state);
/* {"state", "path", "path_why", "paths", "private", "authentic",
 * "peer_address", "round_trip_us", "sent", "unacknowledged", "reconnects",
 * "replayed", "bytes_sent", ...} */
struct json_t *link_json(const struct link *link);

#endif

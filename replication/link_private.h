/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_private.h - what link.c, link_path.c, link_connection.c and link_send.c
 * share.  Nobody else includes it.
 */
#ifndef REPLICATION_LINK_PRIVATE_H
#define REPLICATION_LINK_PRIVATE_H

#include "core/loop.h"
#include "replication/link.h"

#define LINK_CONNECTIONS_MAX                                                   \
	4		/* open or being opened, one in use among them         \
			 */
#define LINK_CONTROLS 8 /* control messages on their way */
#define LINK_ACKS_MAX (2 * LINK_WINDOW_MAX)

/* A control message with room for its payload. */
struct link_control {
	struct channel_send send;
	struct link_connection *connection; /* borrowed; NULL: free */
	bool last; /* the connection ends when it is out */
	unsigned char payload[WIRE_ACKS_MAX * WIRE_ACK_BYTES];
};

enum connection_state {
	CONNECTION_FREE,
	CONNECTION_OPENING,
	CONNECTION_HELLO, /* our hello is out, the peer's is not here */
	CONNECTION_AUTH,  /* his proof is not here */
	CONNECTION_READY, /* meeting or in use: link->connection */
	CONNECTION_ENDING,
};

struct link_connection {
	struct link *link; /* borrowed */
	enum connection_state state;
	struct channel *channel; /* owned */
	bool caller;
	unsigned int path; /* of the peer's addresses; if caller */
	uint64_t begun_ns, heard_ns, said_ns;
	uint64_t bytes_seen;	 /* of the channel's bytes_in */
	uint64_t own_session;	 /* that our hello named */
	uint64_t greeting;	 /* the owner's state that it told */
	struct wire_hello hello; /* the peer's */
	unsigned char own_bytes[WIRE_HELLO_MAX], peer_bytes[WIRE_HELLO_MAX];
	size_t own_length, peer_length;
	struct channel_send hello_send;
	struct link_control controls[LINK_CONTROLS];
};

/* What became of a message that was received, for a replay. */
struct link_seen {
	uint64_t sequence;
	enum wire_ack_kind kind; /* 0: not finally acknowledged */
	int status;
};

struct link {
	struct link_options options;
	const struct link_events *events; /* borrowed */
	void *owner;
	enum link_state state;
	bool calling;
	struct acceptor *acceptors[LINK_ADDRESSES_MAX]; /* owned */
	struct link_connection connections[LINK_CONNECTIONS_MAX];
	struct link_connection *connection; /* of session or meeting */
	struct link_connection *parting;    /* its goodbye is not out yet */
	unsigned int next_path;		    /* the one to call next */
	uint64_t next_call_ns;
	unsigned int next_probe; /* of the better ones */
	uint64_t next_probe_ns, probe_wait_ns;
	uint64_t path_since_ns;			    /* the one in use */
	struct reason path_why[LINK_ADDRESSES_MAX]; /* it is not used */
	uint64_t broken_ns; /* when the connection broke */
	struct timer tick;
	struct task task; /* delivers what is due */
	struct reason reason;
	bool choked; /* no room for acknowledgements */
	bool lost_due, refused_due, refused, up_due, goodbye_due;

	/* the session; 0: none */
	uint64_t session;
	uint64_t proposed; /* in a meeting: the number in BEGIN */
	unsigned char peer_id[WIRE_ID];

	/* what we send */
	uint64_t next_sequence;
	uint64_t peer_limit;	  /* the highest that the peer takes */
	struct list_head waiting; /* not yet given to a channel */
	struct list_head sent;	  /* in order of sequence */
	struct list_head ended;	  /* on_ended is due */
	struct link_send *window[LINK_WINDOW_MAX]; /* by sequence */
	unsigned int sent_count;
	uint64_t proven;

	/* what we receive */
	uint64_t received; /* the highest without a gap */
	uint64_t settled;  /* up to it all are finally acknowledged */
	struct link_seen seen[LINK_WINDOW_MAX];
	uint64_t peer_proven;
	struct wire_ack acks[LINK_ACKS_MAX]; /* to be sent: a ring */
	unsigned int acks_first, acks_count;

	/* for people */
	uint64_t sent_total, bytes_sent, reconnects, replayed, round_trip_ns;
};

/* --- link.c --- */

/* Tell the owner what is due. */
void link_deliver(struct link *link);
/* NULL: there are too many. */
struct link_connection *link_connection_take(struct link *link, bool caller);

/* --- link_path.c --- */

/* Call whom it is time to call. */
void link_path_tick(struct link *link, uint64_t now);
/* A connection failed, in use or not; before its close. */
void link_path_failed(const struct link_connection *connection,
		      const struct reason *reason);
/* The one in use did. */
void link_path_broke(const struct link_connection *connection);
/* This one is used from now on. */
void link_path_taken(struct link_connection *connection);
/* [{"address", "in_use", "why"}] */
struct json_t *link_path_json(const struct link *link);
/* Why the one in use is not the best one; "" if it is. */
void link_path_explain(const struct link *link, struct reason *ret_why);

/* --- link_connection.c --- */

extern const struct channel_events link_channel_events;

void link_connection_close(struct link_connection *connection); /* free too */
/* End session and connections, with a reason. */
void link_lose(struct link *link, const struct reason *reason);
/* This connection is of no use any more. */
void link_connection_fail(struct link_connection *connection,
			  const struct reason *reason);
/* A control message; dropped if there is no room.  `last`: the connection ends
 * when it is out. */
void link_control_send(struct link_connection *connection, enum wire_type type,
		       uint64_t offset, const void *payload, size_t length,
		       bool last);
bool link_control_has_room(const struct link_connection *connection);
void link_fill_header(const struct link *link, struct wire_header *header);

/* --- link_send.c --- */

void link_sends_init(struct link *link);
/* Send what may be sent. */
void link_push(struct link *link);
/* The lowest number of ours without a final acknowledgement, given or not. */
uint64_t link_lowest_unacknowledged(const struct link *link);
/* A connection came back: send again what the peer has not. */
void link_replay(struct link *link, uint64_t peer_received,
		 uint64_t peer_unacknowledged);
void link_on_sequenced(struct link *link, const struct wire_header *header,
		       void *payload, size_t length);
void link_on_acks(struct link *link, const void *payload, size_t length);
/* Every header tells these. */
void link_on_header(struct link *link, const struct wire_header *header);
/* The session ends: everything comes back. */
void link_sends_give_back(struct link *link);
void link_deliver_ended(struct link *link);
void link_send_acks(struct link *link);

#endif

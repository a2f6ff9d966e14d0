/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_private.h - what the rooms of the RDMA transport share; nobody else
 * includes it, nor the verbs' headers.
 *
 *   rdma.c          the transport: what a channel is told and tells
 *   rdma_connect.c  how a connection comes to be and ends: rdma_cm's events
 *   rdma_listen.c   who listens
 *   rdma_device.c   devices: limits, the registered pool, their own events
 *   rdma_queue.c    a connection's queue pair, its memory, polling and sleep
 *   rdma_send.c     from sends to work requests, credits, completions
 *   rdma_receive.c  from completions to messages, and receives posted again
 */
#ifndef REPLICATION_RDMA_PRIVATE_H
#define REPLICATION_RDMA_PRIVATE_H

#include <assert.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "core/loop.h"
#include "core/pool.h"
#include "core/reason.h"
#include "replication/lookup.h"
#include "replication/rdma_seal.h"
#include "replication/rdma_wire.h"
#include "replication/transport.h"

#define RDMA_SLOT	 (64u << 10)  /* bytes of payload of one receive */
#define RDMA_RECEIVES	 128u	      /* posted once data come */
#define RDMA_FEW	 16u	      /* posted until then */
#define RDMA_SENDS	 256u	      /* work requests on their way */
#define RDMA_CHAIN	 32u	      /* work requests of one doorbell */
#define RDMA_HEAD_ROOM	 128u	      /* bytes kept for a head */
#define RDMA_MEMORY	 (256u << 10) /* heads and bounced payloads */
#define RDMA_INLINE	 256u	      /* bytes, if the device can */
#define RDMA_COMPLETIONS 32	      /* taken at once */
#define RDMA_TURN_MAX	 64	      /* messages of one turn */
#define RDMA_EVENTS_MAX	 16	      /* of rdma_cm or a device, in one turn */

#define RDMA_POLL_MIN_NS  (2 * NS_PER_US)
#define RDMA_POLL_MAX_NS  (50 * NS_PER_US)
#define RDMA_POLL_IDLE_NS (10 * NS_PER_MS)
#define RDMA_REAP_NS	  (4 * NS_PER_MS)

static_assert(RDMA_HEAD_MAX <= RDMA_HEAD_ROOM, "a head has room");

/* --- devices --- */

/* One for each device and pool; lives as long as the pool, or until the
 * device is removed and the last connection has let go. */
struct rdma_device {
	struct list_head entry;
	struct loop *loop; /* borrowed, as the next two */
	struct ibv_context *verbs;
	struct pool *pool;
	struct pool_user user;
	struct ibv_pd *pd;	   /* owned */
	struct ibv_mr *mr;	   /* owned: the pool, for local use only */
	struct watch watch;	   /* of its asynchronous events */
	struct list_head channels; /* that use it */
	unsigned int sends_max, receives_max, completions_max;
	bool gone; /* removed: only destroy from now on */
	struct rdma_event_channel *keeper_events; /* owned, as the next */
	struct rdma_cm_id *keeper;
	struct watch keeper_watch;
};

/* The device of an id that is bound to one.  NULL and a reason. */
struct rdma_device *rdma_device_get(const struct transport_context *context,
				    struct rdma_cm_id *id,
				    struct reason *reason);
void rdma_device_put(struct rdma_device *device);
/* It was removed. */
void rdma_device_removed(struct rdma_device *device);

/* --- a connection --- */

enum rdma_state {
	RDMA_LOOKING_UP, /* the name */
	RDMA_RESOLVING,	 /* the address */
	RDMA_ROUTING,
	RDMA_CONNECTING, /* called; the answer is not here */
	RDMA_ACCEPTING,	 /* answered; it is not established */
	RDMA_OPEN,
	RDMA_BROKEN, /* on_close is due, or was told */
};

struct rdma_receive {
	struct list_head entry; /* of those that arrived, or lack a buffer */
	unsigned char *head;	/* of the channel's memory */
	char *buffer;		/* owned, of the pool; NULL: lacks one */
	uint32_t length;	/* that came, head and all */
	bool posted;
	bool opened; /* checked; waits for a buffer */
};

/* A work request on the send queue. */
struct rdma_sent {
	struct channel_send *send; /* that ends with it; NULL: none does */
	uint32_t bounced;	   /* bytes of the bounce ring */
};

/* Where a send has got to, in its `private`. */
struct rdma_progress {
	size_t offset; /* of the payload */
	uint16_t segment;
};

struct rdma_channel {
	struct channel channel;
	struct transport_context context;
	enum rdma_state state;
	bool caller;
	bool told_open, told_close;
	struct task task;
	bool *gone; /* told by close() to a handler on the stack */

	/* its end */
	int close_error; /* 0: none */
	struct reason close_reason;

	/* connecting: rdma_connect.c */
	struct rdma_event_channel *events; /* owned */
	struct rdma_cm_id *id;		   /* owned */
	struct watch events_watch;
	struct lookup *lookup;	/* borrowed; NULL: none is under way */
	struct addrinfo *found; /* owned */
	struct addrinfo *next;
	struct timer patience;
	int error; /* the last address's */
	struct reason why;
	unsigned char nonce[RDMA_NONCE];

	/* the queue pair: rdma_queue.c */
	struct rdma_device *device; /* borrowed; we are on its list */
	struct list_head device_entry;
	struct ibv_comp_channel *completions; /* owned, as the next two */
	struct ibv_cq *send_cq, *receive_cq;
	struct watch completions_watch;
	bool send_armed, receive_armed;
	char *memory;		/* owned, of the pool: RDMA_MEMORY bytes */
	unsigned int head_size; /* of each SEND, header and all */
	struct rdma_seal *seal; /* owned; NULL without a MAC */
	uint32_t inline_max;
	uint64_t poll_ns, poll_end_ns; /* polling goes on until */
	uint64_t slept_ns;	       /* since when; 0: awake */
	bool busy;		       /* something came in this turn */
	bool polling;

	/* sending: rdma_send.c */
	struct list_head waiting; /* channel_sends, in order */
	struct list_head ended;	  /* whose on_done is due */
	struct rdma_sent *sent;	  /* owned: a ring of sends_max */
	unsigned int sends_max;
	uint64_t send_head, send_tail; /* numbers: next, oldest under way */
	uint64_t send_due;	       /* who is older is overdue at reap */
	bool overdue;		       /* one was, and nobody armed since */
	char *bounce;		       /* of memory */
	uint32_t bounce_size, bounce_at, bounce_used;
	uint32_t slot;	     /* bytes of payload of each SEND, either way */
	uint32_t peer_limit; /* SENDs we may have made, reports apart */
	uint32_t counted;    /* SENDs made, reports apart */
	uint8_t reports_out, reports_told; /* made; that he says have come */
	struct timer reap;

	/* receiving: rdma_receive.c */
	struct rdma_receive *receives; /* owned: receives_max */
	unsigned int receives_max;     /* that the queue takes */
	unsigned int receives_used;    /* of them, posted or arrived */
	bool data_came;		       /* R3 */
	bool deaf; /* the peer broke the rules: nothing more is taken */
	struct list_head arrived, lacking;
	struct pool_waiter refill;
	bool refilling;
	uint32_t posted;       /* receives posted, ever */
	uint32_t told;	       /* the limit as last told */
	uint32_t received;     /* SENDs that came, reports apart */
	uint64_t received_all; /* with them */
	uint8_t reports_in;
	struct wire_header header; /* of a message of several segments */
	unsigned char first[WIRE_HEADER];
	uint16_t segment; /* the next one's */
	char *assembly;	  /* owned, of the pool */
	struct pool_waiter assembly_waiter;
	bool assembling; /* waits for it */
};

static inline struct rdma_channel *
rdma_of(const struct channel *channel)
{
	return container_of((struct channel *)(uintptr_t)channel,
			    struct rdma_channel, channel);
}

/* --- rdma.c --- */

struct rdma_channel *rdma_channel_new(const struct transport_context *context);
/* Its sends come back with -ECANCELED.  Takes NULL, and what is half made;
 * returns NULL. */
void *rdma_channel_free(struct rdma_channel *rdma);
/* The connection is of no use any more; the owner hears of it from the loop.
 * NULL: the words for the error. */
void rdma_fail(struct rdma_channel *rdma, int error,
	       const struct reason *reason);

/* 0 or a negative errno. */
int rdma_set_nonblocking(int fd);

/* --- rdma_connect.c --- */

/* Begin with the name; false and a reason if it is none. */
bool rdma_connect_begin(struct rdma_channel *rdma, const char *address,
			struct reason *reason);
/* Take a caller's id, which is bound to no queue pair yet, and answer. */
int rdma_connect_accept(struct rdma_channel *rdma, struct rdma_cm_id *id,
			const struct rdma_greeting *greeting,
			struct reason *reason);
/* Everything of rdma_cm's that it has. */
void rdma_connect_end(struct rdma_channel *rdma);
/* Whether a greeting suits ours; and if not, why, for both. */
enum rdma_refusal rdma_greeting_refusal(const struct transport_context *context,
					const struct rdma_greeting *greeting);
void rdma_refusal_reason(enum rdma_refusal refusal, struct reason *reason);
/* What is wrong with this host or its device, in a sentence that says what to
 * do.  Returns the error. */
int rdma_explain(int error, const char *what, const char *address,
		 struct reason *reason);
/* The flags of our greetings. */
uint32_t rdma_greeting_flags(const struct transport_context *context);

/* --- rdma_listen.c --- */

struct acceptor *
rdma_listen_begin(const struct transport_context *context, const char *address,
		  void (*on_accept)(struct acceptor *, struct channel *),
		  void *owner, struct reason *reason);
void rdma_listen_end(struct acceptor *acceptor);

/* --- rdma_queue.c --- */

/* Make the queue pair and post the first receives. */
int rdma_queue_open(struct rdma_channel *rdma, struct reason *reason);
/* Set up what the peer's greeting tells. */
int rdma_queue_greeted(struct rdma_channel *rdma,
		       const struct rdma_greeting *greeting,
		       const unsigned char *caller_nonce,
		       const unsigned char *listener_nonce,
		       struct reason *reason);
/* The connection stands. */
void rdma_queue_established(struct rdma_channel *rdma);
/* Nothing of the device touches our memory after this. */
void rdma_queue_close(struct rdma_channel *rdma);
/* Nothing is left to do: poll on for a while, or sleep. */
void rdma_queue_rest(struct rdma_channel *rdma);
void rdma_status_reason(enum ibv_wc_status status, struct reason *reason);

/* --- rdma_send.c --- */

int rdma_send_open(struct rdma_channel *rdma);
void rdma_send_close(struct rdma_channel *rdma);
/* Everything comes back with -ECANCELED. */
void rdma_send_give_back(struct rdma_channel *rdma);
/* Post what may go. */
void rdma_send_push(struct rdma_channel *rdma);
/* Take completions; false if the channel was closed meanwhile. */
bool rdma_send_reap(struct rdma_channel *rdma);
/* Whether the next completion of a send is to wake us (Q4). */
bool rdma_send_wants_to_hear(struct rdma_channel *rdma);

/* --- rdma_receive.c --- */

int rdma_receive_open(struct rdma_channel *rdma);
void rdma_receive_close(struct rdma_channel *rdma);
/* So many should be posted. */
void rdma_receive_fill(struct rdma_channel *rdma);
/* Take completions. */
void rdma_receive_take(struct rdma_channel *rdma);
/* Deliver what arrived; false if the channel was closed meanwhile. */
bool rdma_receive_deliver(struct rdma_channel *rdma);
/* The SENDs that the peer may make by now, reports apart. */
uint32_t rdma_receive_limit(const struct rdma_channel *rdma);
/* It should be told, by a report if need be. */
bool rdma_receive_report_due(const struct rdma_channel *rdma);

#endif

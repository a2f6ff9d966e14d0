/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_client - what the rooms of the NBD frontend share.
 *
 *   nbd_server.c        listeners, the list of clients, closing, JSON
 *   nbd_client.c        one connection: its bytes, time limits and end
 *   nbd_handshake.c     options on the wire: framing and replies
 *   nbd_options.c       what each option does
 *   nbd_transmission.c  commands: taken, checked, submitted, given back
 *   nbd_reply.c         replies to commands
 *   nbd_status.c        metadata contexts and block status
 *
 *   GREETING -> OPTIONS <-> TLS
 *                  |
 *            TRANSMISSION -> ENDING -> GONE -> freed
 *
 * A client goes through its bytes in nbd_client_run(): the room of its phase
 * takes what is in the buffer and says how many bytes it needs to go on, or 0
 * if it waits for something else, which will call nbd_client_run() again.
 * nbd_client_end() may be called anywhere: the client is freed later, from its
 * task, when no request of it is with the vbd.
 */
#ifndef CORE_FRONTENDS_NBD_CLIENT_H
#define CORE_FRONTENDS_NBD_CLIENT_H

#include "core/frontends/nbd.h"
#include "core/frontends/nbd_protocol.h"
#include "core/pool.h"
#include "core/reason.h"
#include "core/request.h"
#include "core/stream.h"
#include "core/vbd.h"

#define NBD_IN_BYTES	(128u << 10) /* buffer of what was received */
#define NBD_DIRECT_MIN	(32u << 10)  /* payloads that skip that buffer */
#define NBD_OPTION_MAX	(16u << 10)  /* data of an option; longer is refused */
#define NBD_SKIP_MAX	(1u << 20)   /* data of a refused option: skipped */
#define NBD_OUT_BYTES	(24u << 10)  /* replies to one option */
#define NBD_CACHE_BYTES (1u << 20)   /* one read of a cache command */
#define NBD_TEXT_MAX	128	     /* words in an error reply */

/* The contexts of a client: bits, and their ids on the wire. */
#define NBD_CONTEXT_ALLOCATION 0x1u

enum nbd_phase {
	NBD_GREETING,	  /* the client's flags are due */
	NBD_OPTIONS,	  /* haggling */
	NBD_TLS,	  /* the TLS handshake is under way */
	NBD_TRANSMISSION, /* commands */
	NBD_ENDING,	  /* takes no more; what it took ends and leaves */
	NBD_GONE,	  /* closed; requests are with the vbd yet */
};

struct nbd_client;

/* One command, from its header to the last byte of its reply. */
struct nbd_slot {
	struct request request; /* first: the vbd's hot fields */
	struct stream_send send;
	struct nbd_client *client; /* borrowed */
	struct list_head entry;	   /* on client->idle while free */
	char *buffer;		   /* owned: the pool's */
	size_t buffer_bytes;
	uint64_t cookie;
	uint64_t offset, length; /* as asked for */
	uint16_t type, flags;
	uint64_t begun_ns;
	bool more;	    /* a cache command has another part to read */
	unsigned int holds; /* reply, request: what still needs the slot */
	char head[NBD_STRUCTURED_BYTES + 14 + NBD_TEXT_MAX];
};

struct nbd_client {
	struct nbd_server *server; /* borrowed */
	struct list_head entry;	   /* on server->clients */
	struct stream stream;
	struct task task; /* goes on, or frees the client */
	unsigned int id;
	enum nbd_phase phase;
	char peer[80]; /* for people */

	struct timer timer; /* handshake, then progress */
	uint64_t progress;  /* bytes either way when it was set */

	/* what was received and not taken yet: in[in_begin .. in_end) */
	size_t in_begin, in_end;
	uint64_t skip; /* bytes to drop before anything else */

	/* the handshake */
	bool no_zeroes, structured, tls;
	bool starting_tls;     /* once the reply is out */
	bool leaving;	       /* closed once the reply is out */
	int export;	       /* chosen; an index */
	int context_export;    /* for which contexts were set */
	unsigned int contexts; /* NBD_CONTEXT_*, as set */
	struct stream_send reply;
	size_t out_length;
	bool replying; /* reply is out: the next option waits */

	/* transmission */
	struct nbd_slot *filling; /* its payload is on the way */
	size_t filled;
	bool large;   /* the last payload went straight to its buffer */
	bool starved; /* waits for a slot to come back */
	struct list_head idle;
	unsigned int busy; /* slots in use */
	size_t held;	   /* bytes of the pool */
	struct pool_waiter waiter;
	char *granted; /* owned: a buffer waited for */

	struct nbd_slot slots[NBD_REQUESTS_MAX];
	char out[NBD_OUT_BYTES];
	char in[NBD_IN_BYTES];
};

struct nbd_listener {
	struct listener listener;
	struct nbd_server *server; /* borrowed */
};

struct nbd_server {
	struct loop *loop; /* borrowed, as the next two */
	struct vbd *vbd;
	struct vbd_listener vbd_listener;
	struct pool *pool;
	bool read_only;
	enum nbd_tls tls;
	const struct tls_context *tls_context; /* borrowed */
	unsigned int clients_max;
	uint64_t handshake_ns, stall_ns;

	char *exports[NBD_EXPORTS_MAX]; /* owned */
	unsigned int export_count;
	char *description; /* owned; or NULL */
	struct nbd_listener listeners[NBD_LISTENERS_MAX];
	unsigned int listener_count;

	struct list_head clients;
	unsigned int client_count;
	unsigned int last_id;
	uint64_t accepted, refused;
	struct stats stats;

	bool closing;
};

/* nbd_client.c */

/* Takes `fd`; a negative errno if it cannot be served. */
int nbd_client_new(struct nbd_server *server, int fd);

/* Ended, and no request of it is with the vbd. */
void nbd_client_free(struct nbd_client *client);

/* Take what has come, then receive more. */
void nbd_client_run(struct nbd_client *client);

/* Bytes in the buffer, and the first of them. */
static inline size_t
nbd_client_available(const struct nbd_client *client)
{
	return client->in_end - client->in_begin;
}

static inline const char *
nbd_client_bytes(const struct nbd_client *client)
{
	return client->in + client->in_begin;
}

/* Bytes are on their way out or in: they must make progress. */
void nbd_client_expect_progress(struct nbd_client *client);

/* Take no more; close when everything taken has ended and left. */
void nbd_client_finish(struct nbd_client *client);

/* Close now.  Nothing of the client may be touched afterwards but its slots
 * that are with the vbd. */
void nbd_client_end(struct nbd_client *client);

/* With a line in the log that says why, as printf. */
void nbd_client_drop(struct nbd_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* nbd_handshake.c */

void nbd_greet(struct nbd_client *client);
size_t nbd_handshake_take(struct nbd_client *client);

/* Add a reply to an option to what is about to leave. */
void nbd_option_reply(struct nbd_client *client, uint32_t option, uint32_t type,
		      const void *data, size_t length);
void nbd_option_refuse(struct nbd_client *client, uint32_t option,
		       uint32_t type, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void nbd_handshake_send(struct nbd_client *client);

/* nbd_options.c */

void nbd_option_take(struct nbd_client *client, uint32_t option,
		     const char *data, size_t length);

/* The export called so, an index; negative if there is none. */
int nbd_export_find(const struct nbd_server *server, const char *name,
		    size_t length);
uint64_t nbd_export_size(const struct nbd_server *server);

/* Cuts 32 bits of length and as many bytes off an option's data; false if
 * there are fewer or they are too many for a string. */
bool nbd_option_string(const char **data, size_t *length, const char **string,
		       size_t *string_length);

/* nbd_transmission.c */

void nbd_transmission_begin(struct nbd_client *client);
size_t nbd_transmission_take(struct nbd_client *client);
void nbd_transmission_filled(struct nbd_client *client, size_t received);

/* A hold on the slot is over; after the last the slot is free again. */
void nbd_slot_drop_hold(struct nbd_slot *slot);

/* nbd_reply.c */

/* Answer a command, with `error` 0 or a negative errno, and words if there are
 * better ones than the errno's. */
void nbd_reply(struct nbd_slot *slot, int error, const char *words);

/* nbd_status.c */

void nbd_contexts_take(struct nbd_client *client, uint32_t option,
		       const char *data, size_t length);

/* What a block status needs of its buffer; the first part of the buffer is
 * the request's extents, the second the reply. */
#define NBD_STATUS_BYTES                                                       \
	(sizeof(struct td_extents) + NBD_STRUCTURED_BYTES + 4 +                \
	 8ul * TD_EXTENTS_MAX)
void nbd_status_reply(struct nbd_slot *slot);

#endif

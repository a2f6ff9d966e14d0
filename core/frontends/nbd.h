/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd - offers a vbd to NBD clients (NetworkBlockDevice, doc/proto.md).
 *
 * One server has some listeners, names for the one disk, and clients.  Clients
 * share the vbd, so a flush of one covers the writes of all (multi-conn).
 *
 * B1  Nothing is allocated after a client has been accepted (GnuTLS aside).
 * B2  A client holds at most NBD_REQUESTS_MAX requests and a quarter of the
 *     pool, unsent replies included; one request is always let in.  At a limit
 *     its socket is not read.
 * B3  A client that does not finish its handshake, or makes no progress with
 *     bytes that one side waits for, is dropped after a time limit.
 *
 * Owned by the daemon's main, which also decides what a lost disk means.
 */
#ifndef CORE_FRONTENDS_NBD_H
#define CORE_FRONTENDS_NBD_H

#include <stdbool.h>
#include <stdint.h>

struct json_t;
struct loop;
struct nbd_server;
struct pool;
struct reason;
struct tls_context;
struct vbd;

#define NBD_CLIENTS	  16 /* at once, unless set */
#define NBD_CLIENTS_MAX	  256
#define NBD_LISTENERS_MAX 8
#define NBD_EXPORTS_MAX	  32
#define NBD_NAME_MAX	  256 /* bytes of an export's name */
#define NBD_HANDSHAKE_S	  10  /* time limit, unless set */
#define NBD_STALL_S	  30  /* without progress, unless set */
#define NBD_REQUESTS_MAX  64  /* of one client */

enum nbd_tls {
	NBD_TLS_OFF,	 /* refused to who asks for it */
	NBD_TLS_ON,	 /* the client's choice */
	NBD_TLS_REQUIRE, /* nothing is told to who does not */
};

struct nbd_options {
	const char *const *listen; /* addresses (stream.h), NULL ends; copied */
	const char *const *exports; /* names, NULL ends; copied.  "" always
				     * means the first */
	const char *description;    /* for who asks; NULL for none; copied */
	bool read_only;
	enum nbd_tls tls;
	const struct tls_context *tls_context; /* borrowed; a server's */
	unsigned int clients_max;	       /* 0: NBD_CLIENTS */
	unsigned int mode;		       /* of Unix sockets */
	int group;			       /* of Unix sockets; -1: leave */
	uint64_t handshake_ns;		       /* 0: NBD_HANDSHAKE_S */
	uint64_t stall_ns;		       /* 0: NBD_STALL_S */
};

/* Listens at once.  `loop`, `vbd`, `pool` are borrowed.  NULL and a reason on
 * failure. */
struct nbd_server *nbd_server_new(struct loop *loop, struct vbd *vbd,
				  struct pool *pool,
				  const struct nbd_options *options,
				  struct reason *reason);

/* Stop listening and reading; what was taken so far ends and its replies leave,
 * then each connection is closed.  Requests that wait in the vbd hold theirs
 * open until the vbd lets them go or is closed. */
void nbd_server_quiesce(struct nbd_server *server);

/* Connections; after nbd_server_quiesce() 0 says that all have their replies.
 */
unsigned int nbd_server_clients(const struct nbd_server *server);

/* Cuts off who is left.  No request may be with the vbd: close that first. */
struct nbd_server *nbd_server_free(struct nbd_server *server);

/* Cut all connections now; new ones are let in. */
void nbd_server_drop_clients(struct nbd_server *server);

/* Serve a connection that somebody else accepted; takes `fd`. */
void nbd_server_adopt(struct nbd_server *server, int fd);

/* The i-th address as bound ("tcp:127.0.0.1:40123"); NULL after the last. */
const char *nbd_server_address(const struct nbd_server *server, unsigned int i);

/* {"listen", "exports", "read_only", "tls", "clients_max", "clients": [...],
 * "accepted", "refused", "stats"}; a new reference. */
struct json_t *nbd_server_json(const struct nbd_server *server);

#endif

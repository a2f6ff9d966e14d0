/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frontend - how the daemon starts and stops a protocol by which clients reach
 * the disk.  Rows stand in tapdisk.c; an adapter frontend_NAME.c fits each
 * module of core/frontends to this shape.
 *
 * Life: open -> (clients come and go) -> quiesce -> free.  Between the last two
 * the disk is closed; free needs it closed.
 */
#ifndef TOOLS_TAPDISK_FRONTEND_H
#define TOOLS_TAPDISK_FRONTEND_H

struct daemon;
struct json_t;
struct reason;

struct frontend {
	const char *name; /* "nbd" */

	/* Offer the disk that is open in `daemon`.  NULL and a reason. */
	void *(*open)(struct daemon *daemon, struct reason *reason);

	/* Take nothing new; what was taken ends, its answers leave, and the
	 * connections are closed. */
	void (*quiesce)(void *server);

	/* Connections; 0 after quiesce: everybody has got the answers. */
	unsigned int (*clients)(void *server);

	/* Cuts off who is left. */
	void (*free)(void *server);

	/* "addresses": URIs for clients, "clients": an array, and more; a new
	 * reference. */
	struct json_t *(*json)(void *server);
};

/* frontend_nbd.c */
extern const struct frontend frontend_nbd;

#endif

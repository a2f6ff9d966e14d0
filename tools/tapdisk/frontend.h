/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * frontend - how the daemon starts and stops a protocol by which clients reach
 * the disk.  Rows stand in tapdisk.c; an adapter frontend_NAME.c fits each
 * module of core/frontends to this shape.
 *
 * Life: open -> (clients come and go) -> quiesce -> free.  The disk may be
 * closed between quiesce and free, so that the last answers reach clients.
 */
#ifndef TOOLS_TAPDISK_FRONTEND_H
#define TOOLS_TAPDISK_FRONTEND_H

#include <stdbool.h>

struct daemon;
struct json_t;
struct reason;

struct frontend {
	const char *name; /* "nbd"; NULL ends the table */

	/* Offer the disk that is open in `daemon`.  NULL and a reason. */
	void *(*open)(struct daemon *daemon, struct reason *reason);

	/* Take no new clients and no new requests. */
	void (*quiesce)(void *server);

	/* After quiesce: has every client got its answers? */
	bool (*is_quiet)(void *server);

	/* Cuts off who is left. */
	void (*free)(void *server);

	unsigned int (*clients)(void *server);

	/* ["nbd+unix:///vm1?socket=/run/vm1.sock", ...]; a new reference. */
	struct json_t *(*addresses)(void *server);
};

#endif

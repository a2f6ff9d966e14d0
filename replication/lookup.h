/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup - the addresses behind the HOST:PORT of a transport's URL.
 *
 * To connect, a name is looked up on a helper thread, anew at each time; to
 * listen, here and now, since that is done once, at start.  IPv6 addresses
 * stand in brackets, as in [fd00::1]:7788; to listen, "*" is every address.
 */
#ifndef REPLICATION_LOOKUP_H
#define REPLICATION_LOOKUP_H

struct addrinfo;
struct io;
struct lookup;
struct reason;
struct sockaddr;

/* The end of a look-up, from the loop: 0 and the addresses, which are the
 * owner's (freeaddrinfo), or a negative errno and a reason. */
typedef void (*lookup_done_t)(void *owner, int error, struct addrinfo *found,
			      const struct reason *reason);

/* NULL and a reason if `address` is none.  The look-up frees itself when it
 * has ended. */
struct lookup *lookup_begin(struct io *io, const char *address,
			    lookup_done_t on_done, void *owner,
			    struct reason *reason);
/* The owner is not told any more; NULL is allowed. */
void lookup_cancel(struct lookup *lookup);

/* At once, to listen there.  0, or a negative errno and a reason. */
int lookup_now(const char *address, struct addrinfo **ret_found,
	       struct reason *reason);

/* "scheme://host:port" in numbers, for people. */
void lookup_name(const char *scheme, const struct sockaddr *address,
		 char *ret_text, unsigned int size);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lookup - see lookup.h.
 *
 * A helper thread cannot be stopped: a look-up whose owner has gone runs to its
 * end, and frees itself then.
 */
#include "replication/lookup.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/io.h"
#include "core/reason.h"

#define HOST_MAX 256
#define PORT_MAX 16

struct lookup {
	struct io_call call;
	lookup_done_t on_done; /* NULL: it was cancelled */
	void *owner;	       /* borrowed */
	char host[HOST_MAX], port[PORT_MAX];
	struct addrinfo *found; /* owned */
	int problem;		/* getaddrinfo()'s */
};

/* "host:port", "[::1]:port". */
static int
split_address(const char *address, char host[HOST_MAX], char port[PORT_MAX],
	      struct reason *reason)
{
	const char *colon = strrchr(address, ':');
	size_t length = colon == NULL ? 0 : (size_t)(colon - address);

	if (length > 2 && address[0] == '[' && colon[-1] == ']') {
		address++;
		length -= 2;
	}
	if (length == 0 || length >= HOST_MAX ||
	    strlen(colon + 1) >= PORT_MAX || colon[1] == '\0' ||
	    colon[1 + strspn(colon + 1, "0123456789")])
		return reason_set(reason, -EINVAL,
				  "'%s' is no address: write HOST:PORT",
				  address);
	memcpy(host, address, length);
	host[length] = '\0';
	(void)snprintf(port, PORT_MAX, "%s", colon + 1);
	return 0;
}

/* On a helper thread. */
static int
look_up(void *arg)
{
	struct lookup *lookup = arg;
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV };

	lookup->problem =
		getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
	return lookup->problem == 0 ? 0 : -EHOSTUNREACH;
}

static void
on_looked_up(struct io_call *call, int result)
{
	struct lookup *lookup = container_of(call, struct lookup, call);
	struct reason reason = { "" };

	if (lookup->on_done == NULL) {
		if (result == 0)
			freeaddrinfo(lookup->found);
	} else if (result == 0) {
		lookup->on_done(lookup->owner, 0, lookup->found, &reason);
	} else {
		(void)reason_set(&reason, result,
				 "the host %s cannot be found: %s",
				 lookup->host, gai_strerror(lookup->problem));
		lookup->on_done(lookup->owner, result, NULL, &reason);
	}
	free(lookup);
}

struct lookup *
lookup_begin(struct io *io, const char *address, lookup_done_t on_done,
	     void *owner, struct reason *reason)
{
	struct lookup *lookup = calloc(1, sizeof(*lookup));

	if (lookup == NULL ||
	    split_address(address, lookup->host, lookup->port, reason) < 0) {
		free(lookup);
		return NULL;
	}
	lookup->on_done = on_done;
	lookup->owner = owner;
	lookup->call.call = look_up;
	lookup->call.arg = lookup;
	lookup->call.on_done = on_looked_up;
	io_call(io, &lookup->call);
	return lookup;
}

void
lookup_cancel(struct lookup *lookup)
{
	if (lookup != NULL)
		lookup->on_done = NULL;
}

int
lookup_now(const char *address, struct addrinfo **ret_found,
	   struct reason *reason)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
				  .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV | AI_PASSIVE };
	char host[HOST_MAX], port[PORT_MAX];
	bool any;
	int r = split_address(address, host, port, reason);

	if (r < 0)
		return r;
	any = strcmp(host, "*") == 0;
	if (any)
		hints.ai_family = AF_INET6; /* IPv4 comes there, too */
	r = getaddrinfo(any ? NULL : host, port, &hints, ret_found);
	if (r != 0)
		return reason_set(reason, -EHOSTUNREACH,
				  "the host %s cannot be found: %s", host,
				  gai_strerror(r));
	return 0;
}

void
lookup_name(const char *scheme, const struct sockaddr *address, char *ret_text,
	    unsigned int size)
{
	char host[64] = "?", port[PORT_MAX] = "?";
	socklen_t length = address->sa_family == AF_INET6
				   ? sizeof(struct sockaddr_in6)
				   : sizeof(struct sockaddr_in);

	(void)getnameinfo(address, length, host, sizeof(host), port,
			  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	(void)snprintf(ret_text, size,
		       strchr(host, ':') ? "%s://[%s]:%s" : "%s://%s:%s",
		       scheme, host, port);
}

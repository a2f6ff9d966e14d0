/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * link_host - hosts for tests of the link: an owner that meets whom it meets,
 * and counts what it hears; and what such a test has.
 */
#ifndef TESTS_LINK_HOST_H
#define TESTS_LINK_HOST_H

#include "core/reason.h"
#include "replication/link.h"
#include "tests/puppet.h"

#define HOST_SENDS 4096 /* messages of a test */

struct host;

struct host_send {
	struct link_send send;
	struct host *host;
	unsigned char payload[8]; /* its number */
	int ended, status;
};

/* The owner of a link. */
struct host {
	struct link *link;
	struct loop *loop;
	struct pool *pool;
	bool owns_pool;
	const char *listens[LINK_ADDRESSES_MAX + 1];
	const char *peers[LINK_ADDRESSES_MAX + 1];
	bool source;
	bool keep_acks; /* acknowledge nothing */
	int met, up, broken, resumed, lost, refused, goodbyes;
	char text[REASON_MAX]; /* the last reason heard */

	/* received, in order */
	uint64_t got[HOST_SENDS];
	unsigned int got_count;

	/* sent */
	struct host_send sends[HOST_SENDS];
	unsigned int sent_count, ended_count, failed_count;
};

struct host *host_new(struct loop *loop, const char *listen, const char *peer,
		      bool source, const char *key);
/* In surroundings that it shares with others. */
struct host *host_new_in(const struct transport_context *context,
			 const char *listen, const char *peer, bool source);
/* With several addresses: NULL-ended, and not without one. */
struct host *host_new_paths(struct loop *loop, const char *const *listens,
			    const char *const *peers, bool source);
struct host *host_free(struct host *host);
void host_send(struct host *host, unsigned int count);
void host_acknowledge(struct host *host, uint64_t sequence);

#define assert_said(text, part)                                                \
	do {                                                                   \
		if (strstr(text, part) == NULL)                                \
			fail_msg("\"%s\" does not say \"%s\"", text, part);    \
	} while (0)

/* What a test of the link has. */
struct fixture {
	struct loop *loop;
	struct host *a, *b; /* a calls, and is the source */
	struct puppet *puppet;
};

int link_setup(void **state);
int link_teardown(void **state);
void pass_ms(struct fixture *f, unsigned int ms);
/* a and b, with a session. */
void open_pair(struct fixture *f);
/* Everything a sent arrived at b, once and in order, and came back well. */
void assert_all_arrived(const struct fixture *f);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_peer - a server with a disk for a test, and clients that speak raw NBD to
 * it over socketpairs, in the same thread: whoever waits turns the loop.
 *
 * Each function asserts; a test that calls one fails where it fails.
 */
#ifndef TESTS_NBD_PEER_H
#define TESTS_NBD_PEER_H

#include "core/frontends/nbd.h"
#include "core/frontends/nbd_protocol.h"
#include "core/pool.h"
#include "core/vbd.h"
#include "tests/fake_driver.h"

#define PEER_DATA_MAX (2u << 20)

/* "fake:SECTORS", "able:SECTORS" (tests/fake_driver.h), "ram:SIZE" */
struct nbd_world {
	struct loop *loop;
	struct pool *pool;
	struct vbd *vbd;
	struct fake *fake; /* the leaf, if it is one */
	struct nbd_server *server;
	bool disk_closed;
};

/* `options` NULL: two exports, "" and "disk". */
void nbd_world_open(struct nbd_world *world, const char *image,
		    const struct nbd_options *options);
void nbd_world_close(struct nbd_world *world);
void nbd_world_turn(struct nbd_world *world);
void nbd_world_close_disk(struct nbd_world *world);

struct peer {
	struct nbd_world *world;
	int fd;
	char data[PEER_DATA_MAX]; /* of the last reply */
};

struct peer *peer_new(struct nbd_world *world);
void peer_free(struct peer *peer); /* hangs up */

void peer_say(struct peer *peer, const void *data, size_t length);
void peer_hear(struct peer *peer, void *data, size_t length);
void peer_expect_silence(struct peer *peer);
void peer_expect_end(struct peer *peer);

/* --- handshake --- */

void peer_greet(struct peer *peer, uint32_t client_flags);
void peer_option(struct peer *peer, uint32_t option, const void *data,
		 size_t length);

/* The next reply, which is for `option`; its type.  Data ends with a NUL. */
uint32_t peer_option_reply(struct peer *peer, uint32_t option,
			   size_t *ret_length);
void peer_expect_reply(struct peer *peer, uint32_t option, uint32_t type);

/* An error reply whose words contain `words`. */
void peer_expect_refusal(struct peer *peer, uint32_t option, uint32_t type,
			 const char *words);

/* Data of GO and INFO: writes to `data`, returns its length. */
size_t peer_go_data(char *data, const char *name, const uint16_t *infos,
		    unsigned int count);

/* Data of LIST_ and SET_META_CONTEXT with at most one query. */
size_t peer_context_data(char *data, const char *name, const char *query);

/* All the way: greeting, structured replies with base:allocation if wanted,
 * GO to "". */
struct peer *peer_connect(struct nbd_world *world, bool structured);

/* --- transmission --- */

void peer_command(struct peer *peer, uint16_t flags, uint16_t type,
		  uint64_t cookie, uint64_t offset, uint32_t length);

struct peer_answer {
	bool structured;
	uint32_t error; /* NBD_E* */
	uint64_t cookie;
	uint16_t type;	/* of the chunk */
	size_t length;	/* of the data, in peer->data */
	uint64_t where; /* offset that it speaks of */
	char text[256];
};

/* `length`: bytes of data behind a simple reply without error. */
struct peer_answer peer_hear_answer(struct peer *peer, size_t length);

/* A simple reply with this error. */
void peer_expect_answer(struct peer *peer, uint64_t cookie, uint32_t error);

#endif

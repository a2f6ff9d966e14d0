/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * key - the secret that two replicas share, and what they prove with it.
 *
 * The file holds one line of 64 to 128 hexadecimal digits and is readable by
 * its owner only: `openssl rand -hex 32 >FILE; chmod 600 FILE`.
 */
#ifndef REPLICATION_KEY_H
#define REPLICATION_KEY_H

#include <stdbool.h>
#include <stddef.h>

#include "replication/wire.h"

#define KEY_MIN 32 /* bytes */
#define KEY_MAX 64

struct reason;

struct key_bytes {
	const unsigned char *bytes; /* not owned */
	size_t length;
};

/* Returns the length in bytes, or a negative errno and a reason. */
long key_load(const char *path, unsigned char ret_key[KEY_MAX],
	      struct reason *reason);

/*
 * HMAC-SHA256 over who proves (the one who called, or the one who was called),
 * the channel's binding, his hello and the other's.  The nonces in the hellos
 * make it good for one connection only, the binding for the encrypted channel
 * that it came through, and the first byte keeps an answer from being sent
 * back.  Without a key (length 0) it proves nothing but that the answer is to
 * this hello: a recorded one, played again, is none.
 */
void key_prove(const struct key_bytes *key, bool caller,
	       const unsigned char binding[WIRE_MAC],
	       const struct key_bytes *own_hello,
	       const struct key_bytes *peer_hello,
	       unsigned char ret_mac[WIRE_MAC]);

/* In a time that does not depend on where they differ. */
bool key_equal(const unsigned char *a, const unsigned char *b);

#endif

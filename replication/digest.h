/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * digest - SHA-256 of buffers, a slice at a turn of the loop, so that nobody
 * waits for the whole.
 *
 * One slice is hashed at a turn, whoever asked: jobs take their turns in the
 * order in which they began.  on_done comes from the loop.
 */
#ifndef REPLICATION_DIGEST_H
#define REPLICATION_DIGEST_H

#include "core/list.h"
#include "core/loop.h"
#include "replication/wire.h"

#define DIGEST_SLICE (64u << 10) /* bytes hashed at a turn */

/* One buffer; lives in its owner until on_done. */
struct digest {
	struct list_head entry;	    /* among the jobs */
	const unsigned char *bytes; /* borrowed */
	size_t left;
	unsigned char value[WIRE_DIGEST]; /* when it is done */
	void (*on_done)(struct digest *digest);
};

struct digester {
	struct timer turn;
	struct list_head jobs;
	struct hash_hd_st *hash; /* owned: GnuTLS's */
};

int digester_open(struct digester *digester, struct loop *loop);
/* Jobs that are left never end.  Takes one that was not opened. */
void digester_close(struct digester *digester);

/* `length` is not 0. */
void digest_start(struct digester *digester, struct digest *digest,
		  const void *bytes, size_t length);

#endif

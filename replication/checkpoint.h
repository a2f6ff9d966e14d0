/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint - named positions in a replica's state, and what may be asked
 * about them (rules E1 and E2).
 *
 * It changes the state in memory only; its owner makes it durable, and
 * confirms.
 */
#ifndef REPLICATION_CHECKPOINT_H
#define REPLICATION_CHECKPOINT_H

#include "replication/metadata.h"

struct reason;

#define CHECKPOINT_BYTES 96 /* a row, in the state and on the wire */

void checkpoint_encode(const struct metadata_checkpoint *row,
		       unsigned char *ret_bytes);
/* 0 or -EBADMSG; what the rows say together is checkpoints_check()'s.  Bytes
 * that mean nothing yet are ignored. */
int checkpoint_decode(const unsigned char *bytes,
		      struct metadata_checkpoint *ret_row);

/* From outside: names are good and differ, positions are plausible.  0 or
 * -EBADMSG. */
int checkpoints_check(const struct metadata_checkpoint *rows,
		      unsigned int count);

/* Whether checkpoint_cut() would succeed. */
int checkpoint_may_cut(const struct metadata_state *state, const char *name,
		       struct reason *reason);

/*
 * A cut with a name: the checkpoint is (last timeline, epoch), the epoch grows
 * by one.  Not confirmed yet.  A name that is bad, too long or taken, a full
 * table, a replica that is not consistent: -EINVAL, -ENAMETOOLONG, -EEXIST,
 * -ENOSPC, -EPERM and a sentence; nothing is changed.
 */
int checkpoint_cut(struct metadata_state *state, const char *name,
		   struct reason *reason);

/* NULL and -ENOENT's sentence if there is none. */
struct metadata_checkpoint *checkpoint_find(struct metadata_state *state,
					    const char *name,
					    struct reason *reason);

int checkpoint_delete(struct metadata_state *state, const char *name,
		      struct reason *reason);

/* Whether the answer to "changed since" can be given (E2): 0, or a negative
 * errno and why not. */
int checkpoint_may_answer(const struct metadata_state *state,
			  const struct metadata_checkpoint *checkpoint,
			  struct reason *reason);

#endif

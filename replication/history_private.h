/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history_private.h - what history.c (the list) and meeting.c (the decision)
 * share.  Nobody else includes it.
 */
#ifndef REPLICATION_HISTORY_PRIVATE_H
#define REPLICATION_HISTORY_PRIVATE_H

#include "replication/history.h"

/* From the digest of entries 0 .. n - 1 to that of 0 .. n. */
void history_digest_add(unsigned char digest[HISTORY_DIGEST],
			const struct history_entry *entry);

/* Timeline and first epoch: what the rules call equal. */
bool history_same_entry(const struct history_entry *a,
			const struct history_entry *b);

#endif

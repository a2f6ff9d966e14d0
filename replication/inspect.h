/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * inspect - a replica's metadata, read off line: what is found of each part,
 * and what a daemon that opened them would make of it.
 *
 * It changes nothing and needs no daemon.  What a crash may leave (an older
 * copy that is torn, a page of the map within the intents) is a note; what none
 * leaves is a problem.
 */
#ifndef REPLICATION_INSPECT_H
#define REPLICATION_INSPECT_H

#include "replication/metadata.h"

/*
 * A new reference, NULL if there is no memory.  docs/tap-ctl.8, "metadata",
 * lists the members; "problems" and "notes" are sentences, "verdict" is one of
 * whole, new, torn, foreign, newer, truncated, unreadable.
 */
struct json_t *inspect_metadata(struct store *store);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - the filter that TD_OPEN_LOG_DIRTY puts on top of a stack: what of the
 * disk was changed when, and named checkpoints.
 *
 * Above remus it forwards everything: the replica tracks, and answers for it.
 * Above any other image it has metadata of its own, by the same rules (W1, W2,
 * C1), so that the disk may later become one of two replicas with them.
 *
 *   meta=FILE, region=, extent=, extents=    see tracked.h
 *
 * Commands: "checkpoint create NAME|list|delete NAME", "changed NAME [FROM]".
 */
#ifndef REPLICATION_LOG_H
#define REPLICATION_LOG_H

#include "core/tapdisk.h"

extern struct tap_disk tapdisk_log;

#endif

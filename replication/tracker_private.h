/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracker_private.h - what the two files of the tracker share; nobody else
 * includes it.
 */
#ifndef REPLICATION_TRACKER_PRIVATE_H
#define REPLICATION_TRACKER_PRIVATE_H

#include "replication/tracker.h"

#define TRACKER_SLOTS 2 /* of intents */

/* --- tracker.c --- */

void tracker_fail(struct tracker *tracker, int error);
void tracker_write_slot(struct tracker *tracker);
void tracker_work(struct task *task);
void tracker_on_tick(struct timer *timer);

/* --- tracker_open.c --- */

/* The row of the state, also while it is not there yet. */
const struct metadata_map *tracker_row(const struct tracker *tracker);

/* Something has ended that the stop may wait for. */
void tracker_go_on_stopping(struct tracker *tracker);

#endif

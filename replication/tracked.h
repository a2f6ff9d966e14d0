/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tracked - what the drivers remus and log have in common: where the metadata
 * lie beside an image, and the options of the tracker.
 *
 *   meta=FILE      the metadata (the image's path and ".meta")
 *   region=BYTES   the unit of tracking: 4K to 1M (64K)
 *   extent=BYTES   the unit of write intent: 64K to 1G (4M)
 *   extents=N      at most so many in the log of intents: 64 to 16384 (2048)
 */
#ifndef REPLICATION_TRACKED_H
#define REPLICATION_TRACKED_H

#include "core/tapdisk-interface.h"
#include "replication/tracker.h"

/* As remus_program's look_at_image. */
typedef bool tracked_look(const char *path, uint64_t *ret_size,
			  uint64_t *ret_time_ns);

/* The path of the leaf below, if `look` says that it is a file; else NULL.
 * Borrowed. */
const char *tracked_file(td_driver_t *driver, tracked_look *look);

/* Fill `meta`, if it is empty, with the place beside the image's file. */
int tracked_find_meta(td_driver_t *driver, tracked_look *look, char *meta,
		      size_t length);

/* Take an option of the tracker: 1; 0 if `key` is none of them; or a negative
 * errno and a sentence. */
int tracked_take(td_driver_t *driver, struct tracker_options *options,
		 const char *key, const char *value);

#endif

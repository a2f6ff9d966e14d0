/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_map - which regions of the disk the target of a resync still lacks: one
 * bit a region, in memory.
 *
 * It is valid for one target and one life of both processes; what was copied
 * and is changed later without the target is marked again, so that a copy that
 * broke off goes on where it was (rule H8).
 */
#ifndef REPLICATION_COPY_MAP_H
#define REPLICATION_COPY_MAP_H

#include <stdbool.h>
#include <stdint.h>

#define COPY_REGION (64u << 10) /* bytes, at most */

struct copy_map {
	uint64_t size;	    /* bytes, of the disk */
	unsigned int shift; /* a region has 1 << shift bytes */
	uint64_t count;	    /* regions */
	uint64_t marked;    /* of them */
	uint64_t *words;    /* owned */
};

/* All unmarked.  `region` is a power of two; above COPY_REGION that is taken.
 * 0 or -ENOMEM. */
int copy_map_open(struct copy_map *map, uint64_t size, uint32_t region);
void copy_map_close(struct copy_map *map); /* closed ones too */

void copy_map_mark_all(struct copy_map *map);
void copy_map_clear_all(struct copy_map *map);

/* Every region that [offset, offset + length) touches. */
void copy_map_mark(struct copy_map *map, uint64_t offset, uint64_t length);
/* Whole regions: offset is a multiple of one, the end is one or the disk's. */
void copy_map_clear(struct copy_map *map, uint64_t offset, uint64_t length);

bool copy_map_is_marked(const struct copy_map *map, uint64_t offset);
/* Whether every region that the range touches is marked. */
bool copy_map_covers(const struct copy_map *map, uint64_t offset,
		     uint64_t length);

/* The first marked region at or after `from` (bytes); map->size if none. */
uint64_t copy_map_next(const struct copy_map *map, uint64_t from);
/* Bytes from `offset` on that are marked without a gap, at most `max`. */
uint64_t copy_map_run(const struct copy_map *map, uint64_t offset,
		      uint64_t max);
/* Bytes in marked regions. */
uint64_t copy_map_bytes(const struct copy_map *map);

#endif

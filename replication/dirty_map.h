/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_map - when each region of a disk was last changed: a stamp a region,
 * the epoch of its last change; and which regions are suspect, that is, may be
 * otherwise on the peer although no stamp says so.
 *
 * A stamp is a 31-bit offset from a 64-bit base: 0 says never changed, k epoch
 * base + k - 1.  The base belongs to a page of DIRTY_MAP_STAMPS stamps; when an
 * epoch is too far above it, the page is rebased: stamps below the new base are
 * raised to it.  The bit that is left says that the region is suspect.
 *
 * S1  stamp_of() is never below what was stamped: rounding, rebasing and a page
 *     that cannot be read make it greater, so an answer is too wide, never too
 *     narrow.
 * S2  Stamps only grow, but for dirty_map_set() (rule M2).
 * S3  Nothing here takes longer than the region it is asked about; a search
 *     is given a budget and goes on from where it stopped.
 * S4  A page is dirty when what dirty_map_encode() last gave is not all that it
 *     holds.
 * S5  A region is suspect until it is set (M2) or all are absolved.
 *
 * No I/O; docs/format.md specifies the bytes of a page.  4 bytes a region and
 * 24 bytes a page: 65 MiB for 1 TiB in regions of 64 KiB.
 */
#ifndef REPLICATION_DIRTY_MAP_H
#define REPLICATION_DIRTY_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reason;

#define DIRTY_MAP_REGION     (64u << 10) /* bytes, unless set otherwise */
#define DIRTY_MAP_REGION_MIN (4u << 10)
#define DIRTY_MAP_REGION_MAX (1u << 20)

#define DIRTY_MAP_STAMPS     1020 /* of a page */
#define DIRTY_MAP_PAGE_BYTES 4096 /* encoded */

struct dirty_map_page {
	uint64_t base;	     /* 0: nothing was ever stamped */
	uint32_t max;	     /* no stamp of the page is above */
	uint32_t generation; /* of what was encoded last */
	uint32_t batch;	     /* its owner's: when it was written last */
	uint16_t suspects;   /* regions */
	bool dirty;
};

struct dirty_map {
	uint64_t size;		     /* bytes, of the disk */
	uint64_t regions;	     /* of the disk; the last may be shorter */
	uint64_t pages;		     /* of the map */
	unsigned int shift;	     /* a region has 1 << shift bytes */
	uint64_t id;		     /* of the file whose pages these are */
	uint32_t *stamps;	     /* owned: pages * DIRTY_MAP_STAMPS */
	struct dirty_map_page *page; /* owned */
	uint64_t dirty_pages;
	uint64_t suspects; /* regions */
};

static inline bool
dirty_map_is_region(uint32_t bytes)
{
	return bytes >= DIRTY_MAP_REGION_MIN && bytes <= DIRTY_MAP_REGION_MAX &&
	       (bytes & (bytes - 1)) == 0;
}

/* `region` is a power of two from DIRTY_MAP_REGION_MIN to _MAX, else -EINVAL.
 * Nothing is stamped.  0, -EINVAL or -ENOMEM. */
int dirty_map_open(struct dirty_map *map, uint64_t size, uint32_t region,
		   uint64_t id);
void dirty_map_close(struct dirty_map *map); /* closed ones too */

/* Every region that [offset, offset + length) touches: max(stamp, epoch).
 * `epoch` is not 0. */
void dirty_map_stamp(struct dirty_map *map, uint64_t offset, uint64_t length,
		     uint64_t epoch);
/* The same, but to `epoch` also if that is lower (M2); 0: never changed.  They
 * are not suspect any more. */
void dirty_map_set(struct dirty_map *map, uint64_t offset, uint64_t length,
		   uint64_t epoch);

/* Of the region that `offset` lies in; 0: never changed. */
uint64_t dirty_map_stamp_of(const struct dirty_map *map, uint64_t offset);

/* Every region that [offset, offset + length) touches is suspect. */
void dirty_map_suspect(struct dirty_map *map, uint64_t offset, uint64_t length);
bool dirty_map_is_suspect(const struct dirty_map *map, uint64_t offset);
/* None is any more. */
void dirty_map_absolve(struct dirty_map *map);

struct dirty_map_run {
	uint64_t offset, length; /* bytes; length 0: none found */
	uint64_t next;		 /* where to go on; size: all was seen */
};

/*
 * The first run of regions stamped above `since` at or after `from` (bytes, as
 * is the run).  Looks at `budget` regions, or at as many pages that have none,
 * and a page more at most: with none found, or one cut short, the search goes
 * on at ret_run->next.
 */
void dirty_map_next(const struct dirty_map *map, uint64_t since, uint64_t from,
		    uint64_t budget, struct dirty_map_run *ret_run);
/* The same, of regions that are stamped above `since` or suspect. */
void dirty_map_next_doubtful(const struct dirty_map *map, uint64_t since,
			     uint64_t from, uint64_t budget,
			     struct dirty_map_run *ret_run);

/* --- pages --- */

uint64_t dirty_map_page_of(const struct dirty_map *map, uint64_t offset);

/* The first dirty page at or after `from`; map->pages if there is none. */
uint64_t dirty_map_next_dirty(const struct dirty_map *map, uint64_t from);

/* A page's bytes, of its next generation; it is clean from now on. */
void dirty_map_encode(struct dirty_map *map, uint64_t page,
		      unsigned char *ret_bytes);

enum dirty_map_bytes {
	DIRTY_MAP_WHOLE,
	DIRTY_MAP_BLANK,   /* zeros: never written */
	DIRTY_MAP_DAMAGED, /* torn, of another map, or nonsense */
};

/* What bytes in a page's place are; *ret_generation only of a whole one. */
enum dirty_map_bytes dirty_map_check(const struct dirty_map *map, uint64_t page,
				     const unsigned char *bytes,
				     uint32_t *ret_generation);
/* Take a whole page's stamps in the place of ours; it is clean. */
void dirty_map_decode(struct dirty_map *map, uint64_t page,
		      const unsigned char *bytes);

/* Whether generation a was written after b: they wrap round. */
static inline bool
dirty_map_is_newer(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

#endif

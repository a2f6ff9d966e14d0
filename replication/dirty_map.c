/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * dirty_map - see dirty_map.h.
 *
 * A page's bytes: checksum, generation, base, stamps.  The checksum begins with
 * the map's id and the page's number, which are not stored: a page in another's
 * place, or left over from another map, is damaged.
 *
 * A base leaves room below the first epoch that is stamped, since a target may
 * be given older stamps (M2).
 */
#include "replication/dirty_map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/bytes.h"
#include "replication/wire.h"

enum {
	AT_CRC = 0,
	AT_GENERATION = 4,
	AT_BASE = 8,
	AT_STAMPS = 16,
};

static_assert(AT_STAMPS + DIRTY_MAP_STAMPS * 4 == DIRTY_MAP_PAGE_BYTES,
	      "a page is full");

#define SUSPECT	   (1u << 31)
#define STAMP_MAX  (SUSPECT - 1) /* the other bits */
#define ROOM_BELOW (1ull << 30)	 /* epochs below the first one stamped */
#define NONE	   UINT32_MAX	 /* a limit above which no stamp is */
#define LANES	   4		 /* stamps compared at once */

typedef int32_t lanes __attribute__((vector_size(4 * LANES), aligned(4)));

static_assert(DIRTY_MAP_STAMPS % LANES == 0, "a page is whole lanes");

/* --- open and close --- */

int
dirty_map_open(struct dirty_map *map, uint64_t size, uint32_t region,
	       uint64_t id)
{
	memset(map, 0, sizeof(*map));
	if (!dirty_map_is_region(region) || size > INT64_MAX)
		return -EINVAL;
	map->size = size;
	map->id = id;
	map->shift = (unsigned int)__builtin_ctz(region);
	map->regions = (size + region - 1) >> map->shift;
	map->pages = (map->regions + DIRTY_MAP_STAMPS - 1) / DIRTY_MAP_STAMPS;
	map->stamps = calloc(map->pages ? map->pages : 1,
			     DIRTY_MAP_STAMPS * sizeof(*map->stamps));
	map->page = calloc(map->pages ? map->pages : 1, sizeof(*map->page));
	if (map->stamps == NULL || map->page == NULL) {
		dirty_map_close(map);
		return -ENOMEM;
	}
	return 0;
}

void
dirty_map_close(struct dirty_map *map)
{
	free(map->stamps);
	free(map->page);
	memset(map, 0, sizeof(*map));
}

/* --- stamps --- */

static uint32_t *
stamps_of(const struct dirty_map *map, uint64_t page)
{
	return map->stamps + page * DIRTY_MAP_STAMPS;
}

static void
dirty(struct dirty_map *map, struct dirty_map_page *page)
{
	if (!page->dirty)
		map->dirty_pages++;
	page->dirty = true;
}

/* A stamp when the base grows by `up` (S1). */
static uint32_t
rebased(uint32_t stamp, uint64_t up)
{
	if (stamp == 0)
		return 0;
	return stamp > up ? stamp - (uint32_t)up : 1;
}

static void
rebase(struct dirty_map *map, uint64_t number, uint64_t base)
{
	struct dirty_map_page *page = &map->page[number];
	uint32_t *stamps = stamps_of(map, number);
	uint64_t up = base - page->base;

	for (int i = 0; i < DIRTY_MAP_STAMPS; i++)
		stamps[i] = (stamps[i] & SUSPECT) |
			    rebased(stamps[i] & STAMP_MAX, up);
	page->max = rebased(page->max, up);
	page->base = base;
}

/* The stamp for an epoch in a page; makes room for it. */
static uint32_t
to_stamp(struct dirty_map *map, uint64_t number, uint64_t epoch)
{
	struct dirty_map_page *page = &map->page[number];

	if (epoch == 0)
		return 0;
	if (page->base == 0)
		page->base = epoch > ROOM_BELOW ? epoch - ROOM_BELOW : 1;
	if (epoch < page->base)
		return 1;
	if (epoch - page->base >= STAMP_MAX)
		rebase(map, number, epoch - ROOM_BELOW);
	return (uint32_t)(epoch - page->base + 1);
}

/* The greatest stamp, and how many are suspect. */
static void
look_over(struct dirty_map *map, uint64_t number)
{
	struct dirty_map_page *page = &map->page[number];
	const uint32_t *stamps = stamps_of(map, number);
	uint32_t max = 0, suspects = 0;

	for (int i = 0; i < DIRTY_MAP_STAMPS; i++) {
		uint32_t stamp = stamps[i] & STAMP_MAX;

		max = stamp > max ? stamp : max;
		suspects += stamps[i] >> 31;
	}
	map->suspects += suspects;
	map->suspects -= page->suspects;
	page->suspects = (uint16_t)suspects;
	page->max = max;
}

enum change {
	CHANGE_STAMP,
	CHANGE_SET,
	CHANGE_SUSPECT,
};

static uint32_t
changed(uint32_t old, uint32_t stamp, enum change how)
{
	switch (how) {
	case CHANGE_STAMP:
		return (old & STAMP_MAX) < stamp ? (old & SUSPECT) | stamp
						 : old;
	case CHANGE_SET:
		return stamp;
	case CHANGE_SUSPECT:
		break;
	}
	return old | SUSPECT;
}

/* Stamps [from, to) of one page. */
static void
change(struct dirty_map *map, uint64_t number, unsigned int from,
       unsigned int to, uint64_t epoch, enum change how)
{
	struct dirty_map_page *page = &map->page[number];
	uint32_t stamp = to_stamp(map, number, epoch);
	uint32_t *stamps = stamps_of(map, number);
	bool any = false;

	for (unsigned int i = from; i < to; i++) {
		uint32_t new = changed(stamps[i], stamp, how);

		any = any || new != stamps[i];
		stamps[i] = new;
	}
	if (!any)
		return;
	dirty(map, page);
	if (how != CHANGE_STAMP)
		look_over(map, number);
	else if (stamp > page->max)
		page->max = stamp;
}

static void
change_range(struct dirty_map *map, uint64_t offset, uint64_t length,
	     uint64_t epoch, enum change how)
{
	uint64_t region = offset >> map->shift, end;

	assert(length <= map->size && offset <= map->size - length);
	if (length == 0)
		return;
	end = ((offset + length - 1) >> map->shift) + 1;
	while (region < end) {
		uint64_t number = region / DIRTY_MAP_STAMPS;
		uint64_t first = number * DIRTY_MAP_STAMPS;
		uint64_t last = first + DIRTY_MAP_STAMPS;

		last = last < end ? last : end;
		change(map, number, (unsigned int)(region - first),
		       (unsigned int)(last - first), epoch, how);
		region = last;
	}
}

void
dirty_map_stamp(struct dirty_map *map, uint64_t offset, uint64_t length,
		uint64_t epoch)
{
	assert(epoch != 0);
	change_range(map, offset, length, epoch, CHANGE_STAMP);
}

void
dirty_map_set(struct dirty_map *map, uint64_t offset, uint64_t length,
	      uint64_t epoch)
{
	change_range(map, offset, length, epoch, CHANGE_SET);
}

void
dirty_map_suspect(struct dirty_map *map, uint64_t offset, uint64_t length)
{
	change_range(map, offset, length, 0, CHANGE_SUSPECT);
}

bool
dirty_map_is_suspect(const struct dirty_map *map, uint64_t offset)
{
	assert(offset >> map->shift < map->regions);
	return map->stamps[offset >> map->shift] & SUSPECT;
}

void
dirty_map_absolve(struct dirty_map *map)
{
	for (uint64_t number = 0; map->suspects > 0; number++) {
		struct dirty_map_page *page = &map->page[number];
		uint32_t *stamps = stamps_of(map, number);

		if (page->suspects == 0)
			continue;
		for (int i = 0; i < DIRTY_MAP_STAMPS; i++)
			stamps[i] &= STAMP_MAX;
		map->suspects -= page->suspects;
		page->suspects = 0;
		dirty(map, page);
	}
}

uint64_t
dirty_map_stamp_of(const struct dirty_map *map, uint64_t offset)
{
	uint64_t region = offset >> map->shift;
	uint32_t stamp;

	assert(region < map->regions);
	stamp = map->stamps[region] & STAMP_MAX;
	return stamp == 0
		       ? 0
		       : map->page[region / DIRTY_MAP_STAMPS].base + stamp - 1;
}

/* --- searching --- */

/* What is looked for: stamps of which those bits that `mask` leaves are above
 * the limit of their page.  With the bit for suspects left, they all are. */
struct quest {
	uint64_t since;
	uint32_t mask;
};

/* NONE: no region of the page is among them. */
static uint32_t
limit_of(const struct dirty_map_page *page, const struct quest *quest)
{
	uint32_t limit = 0;

	if (quest->since >= page->base)
		limit = quest->since - page->base + 1 >= STAMP_MAX
				? STAMP_MAX
				: (uint32_t)(quest->since - page->base + 1);
	if (page->max > limit ||
	    (page->suspects > 0 && (quest->mask & SUSPECT)))
		return limit;
	return NONE;
}

/* All ones where a stamp is among them.  Signed numbers, which processors
 * compare at once; a suspect is negative. */
static inline lanes
among(const uint32_t *stamps, uint32_t limit, uint32_t mask)
{
	lanes masked = *(const lanes *)stamps & (int32_t)mask;

	/* the sign, drawn over the whole; cppcheck knows no vectors */
	/* cppcheck-suppress shiftTooManyBitsSigned */
	return ((masked & (int32_t)STAMP_MAX) > (int32_t)limit) | masked >> 31;
}

/* The first of [i, end) that is among them, or is not; end if none. */
static unsigned int
find(const uint32_t *stamps, unsigned int i, unsigned int end, uint32_t limit,
     uint32_t mask, bool above)
{
	while (i + 2 * LANES <= end) {
		lanes a = among(stamps + i, limit, mask);
		lanes b = among(stamps + i + LANES, limit, mask);
		lanes c = above ? a | b : ~(a & b);

		if ((c[0] | c[1] | c[2] | c[3]) != 0)
			break;
		i += 2 * LANES;
	}
	while (i < end && ((stamps[i] & mask) > limit) != above)
		i++;
	return i;
}

static uint64_t
bytes_to(const struct dirty_map *map, uint64_t region)
{
	return region >= map->regions ? map->size : region << map->shift;
}

/* The first region at or after `region` that is among them, or is not; of its
 * page, else the next page's first.  Stamps behind the disk's end are 0. */
static uint64_t
find_in_page(const struct dirty_map *map, const struct quest *quest,
	     uint64_t region, bool above)
{
	uint64_t number = region / DIRTY_MAP_STAMPS;
	uint64_t first = number * DIRTY_MAP_STAMPS;
	uint32_t limit = limit_of(&map->page[number], quest);

	if (limit == NONE)
		return above ? first + DIRTY_MAP_STAMPS : region;
	return first + find(stamps_of(map, number),
			    (unsigned int)(region - first), DIRTY_MAP_STAMPS,
			    limit, quest->mask, above);
}

/* On from `region` to one that is among them, or is not, or till `budget`. */
static uint64_t
search(const struct dirty_map *map, const struct quest *quest, uint64_t region,
       bool above, uint64_t *budget, bool *ret_found)
{
	uint64_t page, next;

	*ret_found = false;
	while (region<map->regions && * budget> 0) {
		uint64_t cost;

		page = region / DIRTY_MAP_STAMPS;
		cost = above && limit_of(&map->page[page], quest) == NONE ? 1
									  : 0;
		next = find_in_page(map, quest, region, above);
		cost += cost > 0 ? 0 : next - region + 1;
		*budget -= cost < *budget ? cost : *budget;
		region = next;
		if (region < map->regions &&
		    region / DIRTY_MAP_STAMPS == page) {
			*ret_found = true;
			break;
		}
	}
	return region;
}

static void
next_run(const struct dirty_map *map, const struct quest *quest, uint64_t from,
	 uint64_t budget, struct dirty_map_run *ret_run)
{
	uint64_t region = from >> map->shift, end;
	bool found;

	ret_run->offset = ret_run->length = 0;
	region = search(map, quest, region, true, &budget, &found);
	ret_run->next = bytes_to(map, region);
	if (!found)
		return;
	budget = budget > DIRTY_MAP_STAMPS ? budget : DIRTY_MAP_STAMPS;
	end = search(map, quest, region, false, &budget, &found);
	ret_run->offset = bytes_to(map, region);
	ret_run->next = bytes_to(map, end);
	ret_run->length = ret_run->next - ret_run->offset;
}

void
dirty_map_next(const struct dirty_map *map, uint64_t since, uint64_t from,
	       uint64_t budget, struct dirty_map_run *ret_run)
{
	const struct quest quest = { since, STAMP_MAX };

	next_run(map, &quest, from, budget, ret_run);
}

void
dirty_map_next_doubtful(const struct dirty_map *map, uint64_t since,
			uint64_t from, uint64_t budget,
			struct dirty_map_run *ret_run)
{
	const struct quest quest = { since, STAMP_MAX | SUSPECT };

	next_run(map, &quest, from, budget, ret_run);
}

/* --- pages --- */

uint64_t
dirty_map_page_of(const struct dirty_map *map, uint64_t offset)
{
	return (offset >> map->shift) / DIRTY_MAP_STAMPS;
}

uint64_t
dirty_map_next_dirty(const struct dirty_map *map, uint64_t from)
{
	if (map->dirty_pages == 0)
		return map->pages;
	while (from < map->pages && !map->page[from].dirty)
		from++;
	return from;
}

static uint32_t
checksum(const struct dirty_map *map, uint64_t page, const unsigned char *bytes)
{
	unsigned char place[DIRTY_MAP_PAGE_BYTES + 16 - 4];

	put64(place, map->id);
	put64(place + 8, page);
	memcpy(place + 16, bytes + AT_GENERATION,
	       DIRTY_MAP_PAGE_BYTES - AT_GENERATION);
	return wire_crc(place, sizeof(place));
}

void
dirty_map_encode(struct dirty_map *map, uint64_t number,
		 unsigned char *ret_bytes)
{
	struct dirty_map_page *page = &map->page[number];
	const uint32_t *stamps = stamps_of(map, number);

	assert(number < map->pages);
	if (page->dirty)
		map->dirty_pages--;
	page->dirty = false;
	page->generation++;
	put32(ret_bytes + AT_GENERATION, page->generation);
	put64(ret_bytes + AT_BASE, page->base);
	for (size_t i = 0; i < DIRTY_MAP_STAMPS; i++)
		put32(ret_bytes + AT_STAMPS + 4 * i, stamps[i]);
	put32(ret_bytes + AT_CRC, checksum(map, number, ret_bytes));
}

enum dirty_map_bytes
dirty_map_check(const struct dirty_map *map, uint64_t page,
		const unsigned char *bytes, uint32_t *ret_generation)
{
	uint64_t base = get64(bytes + AT_BASE), first;

	if (bytes[0] == 0 &&
	    memcmp(bytes, bytes + 1, DIRTY_MAP_PAGE_BYTES - 1) == 0)
		return DIRTY_MAP_BLANK;
	if (checksum(map, page, bytes) != get32(bytes + AT_CRC) ||
	    base > UINT64_MAX - UINT32_MAX)
		return DIRTY_MAP_DAMAGED;
	first = page * DIRTY_MAP_STAMPS;
	for (size_t i = 0; i < DIRTY_MAP_STAMPS; i++) {
		uint32_t stamp = get32(bytes + AT_STAMPS + 4 * i);

		if (((stamp & STAMP_MAX) != 0 && base == 0) ||
		    (stamp != 0 && first + i >= map->regions))
			return DIRTY_MAP_DAMAGED;
	}
	*ret_generation = get32(bytes + AT_GENERATION);
	return DIRTY_MAP_WHOLE;
}

void
dirty_map_decode(struct dirty_map *map, uint64_t number,
		 const unsigned char *bytes)
{
	struct dirty_map_page *page = &map->page[number];
	uint32_t *stamps = stamps_of(map, number);

	assert(number < map->pages);
	if (page->dirty)
		map->dirty_pages--;
	page->dirty = false;
	page->generation = get32(bytes + AT_GENERATION);
	page->base = get64(bytes + AT_BASE);
	for (size_t i = 0; i < DIRTY_MAP_STAMPS; i++)
		stamps[i] = get32(bytes + AT_STAMPS + 4 * i);
	look_over(map, number);
}

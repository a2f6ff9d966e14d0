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

#define ROOM_BELOW (1ull << 31) /* epochs below the first one stamped */
#define LANES	   4		/* stamps compared at once */

typedef uint32_t lanes __attribute__((vector_size(4 * LANES), aligned(4)));

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

/* S1: what lies below the new base is raised to it. */
static void
rebase(struct dirty_map *map, uint64_t number, uint64_t base)
{
	struct dirty_map_page *page = &map->page[number];
	uint32_t *stamps = stamps_of(map, number);
	uint64_t up = base - page->base;

	for (int i = 0; i < DIRTY_MAP_STAMPS; i++) {
		if (stamps[i] != 0)
			stamps[i] =
				stamps[i] > up ? stamps[i] - (uint32_t)up : 1;
	}
	if (page->max != 0)
		page->max = page->max > up ? page->max - (uint32_t)up : 1;
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
	if (epoch - page->base >= UINT32_MAX)
		rebase(map, number, epoch - ROOM_BELOW);
	return (uint32_t)(epoch - page->base + 1);
}

static uint32_t
max_of(const uint32_t *stamps)
{
	uint32_t max = 0;

	for (int i = 0; i < DIRTY_MAP_STAMPS; i++)
		max = stamps[i] > max ? stamps[i] : max;
	return max;
}

/* Stamps [from, to) of one page. */
static void
change(struct dirty_map *map, uint64_t number, unsigned int from,
       unsigned int to, uint64_t epoch, bool lower)
{
	struct dirty_map_page *page = &map->page[number];
	uint32_t stamp = to_stamp(map, number, epoch);
	uint32_t *stamps = stamps_of(map, number);
	bool changed = false, lowered = false;

	for (unsigned int i = from; i < to; i++) {
		if (stamps[i] == stamp || (stamps[i] > stamp && !lower))
			continue;
		lowered = lowered || stamps[i] > stamp;
		stamps[i] = stamp;
		changed = true;
	}
	if (!changed)
		return;
	dirty(map, page);
	if (lowered)
		page->max = max_of(stamps);
	else if (stamp > page->max)
		page->max = stamp;
}

static void
change_range(struct dirty_map *map, uint64_t offset, uint64_t length,
	     uint64_t epoch, bool lower)
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
		       (unsigned int)(last - first), epoch, lower);
		region = last;
	}
}

void
dirty_map_stamp(struct dirty_map *map, uint64_t offset, uint64_t length,
		uint64_t epoch)
{
	assert(epoch != 0);
	change_range(map, offset, length, epoch, false);
}

void
dirty_map_set(struct dirty_map *map, uint64_t offset, uint64_t length,
	      uint64_t epoch)
{
	change_range(map, offset, length, epoch, true);
}

uint64_t
dirty_map_stamp_of(const struct dirty_map *map, uint64_t offset)
{
	uint64_t region = offset >> map->shift;
	uint32_t stamp;

	assert(region < map->regions);
	stamp = map->stamps[region];
	return stamp == 0
		       ? 0
		       : map->page[region / DIRTY_MAP_STAMPS].base + stamp - 1;
}

/* --- searching --- */

/* Stamps above this are changed; UINT32_MAX: none of the page is. */
static uint32_t
limit_of(const struct dirty_map_page *page, uint64_t since)
{
	uint32_t limit = 0;

	if (since >= page->base)
		limit = since - page->base + 1 >= UINT32_MAX
				? UINT32_MAX
				: (uint32_t)(since - page->base + 1);
	return page->max <= limit ? UINT32_MAX : limit;
}

/* The first of [i, end) that is above the limit, or is not; end if none. */
static unsigned int
find(const uint32_t *stamps, unsigned int i, unsigned int end, uint32_t limit,
     bool above)
{
	while (i + 2 * LANES <= end) {
		lanes a = *(const lanes *)(stamps + i) > limit;
		lanes b = *(const lanes *)(stamps + i + LANES) > limit;
		lanes c = above ? a | b : ~(a & b);

		if ((c[0] | c[1] | c[2] | c[3]) != 0)
			break;
		i += 2 * LANES;
	}
	while (i < end && (stamps[i] > limit) != above)
		i++;
	return i;
}

static uint64_t
bytes_to(const struct dirty_map *map, uint64_t region)
{
	return region >= map->regions ? map->size : region << map->shift;
}

/* The first region at or after `region` that is changed, or is not; of its
 * page, else the next page's first.  Stamps behind the disk's end are 0. */
static uint64_t
find_in_page(const struct dirty_map *map, uint64_t since, uint64_t region,
	     bool above)
{
	uint64_t number = region / DIRTY_MAP_STAMPS;
	uint64_t first = number * DIRTY_MAP_STAMPS;
	uint32_t limit = limit_of(&map->page[number], since);

	if (limit == UINT32_MAX) /* none of the page is */
		return above ? first + DIRTY_MAP_STAMPS : region;
	return first + find(stamps_of(map, number),
			    (unsigned int)(region - first), DIRTY_MAP_STAMPS,
			    limit, above);
}

/* On from `region` to one that is changed, or is not, or till `limit`. */
static uint64_t
search(const struct dirty_map *map, uint64_t since, uint64_t region, bool above,
       uint64_t *budget, bool *ret_found)
{
	uint64_t page, next;

	*ret_found = false;
	while (region<map->regions && * budget> 0) {
		uint64_t cost;

		page = region / DIRTY_MAP_STAMPS;
		cost = above && limit_of(&map->page[page], since) == UINT32_MAX
			       ? 1
			       : 0;
		next = find_in_page(map, since, region, above);
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

void
dirty_map_next(const struct dirty_map *map, uint64_t since, uint64_t from,
	       uint64_t budget, struct dirty_map_run *ret_run)
{
	uint64_t region = from >> map->shift, end;
	bool found;

	ret_run->offset = ret_run->length = 0;
	region = search(map, since, region, true, &budget, &found);
	ret_run->next = bytes_to(map, region);
	if (!found)
		return;
	budget = budget > DIRTY_MAP_STAMPS ? budget : DIRTY_MAP_STAMPS;
	end = search(map, since, region, false, &budget, &found);
	ret_run->offset = bytes_to(map, region);
	ret_run->next = bytes_to(map, end);
	ret_run->length = ret_run->next - ret_run->offset;
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

		if (stamp != 0 && (base == 0 || first + i >= map->regions))
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
	page->max = max_of(stamps);
}

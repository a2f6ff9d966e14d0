/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * copy_map - see copy_map.h.
 */
#include "replication/copy_map.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t
region_of(const struct copy_map *map, uint64_t offset)
{
	return offset >> map->shift;
}

static uint64_t
region_bytes(const struct copy_map *map)
{
	return 1ull << map->shift;
}

static bool
test(const struct copy_map *map, uint64_t region)
{
	return map->words[region / 64] >> (region % 64) & 1;
}

int
copy_map_open(struct copy_map *map, uint64_t size, uint32_t region)
{
	assert(size > 0 && region > 0 && (region & (region - 1)) == 0);
	if (region > COPY_REGION)
		region = COPY_REGION;
	map->size = size;
	map->shift = (unsigned int)__builtin_ctz(region);
	map->count = ((size - 1) >> map->shift) + 1;
	map->marked = 0;
	map->words = calloc((map->count - 1) / 64 + 1, sizeof(*map->words));
	return map->words == NULL ? -ENOMEM : 0;
}

void
copy_map_close(struct copy_map *map)
{
	free(map->words);
	map->words = NULL;
	map->count = 0;
	map->marked = 0;
}

void
copy_map_mark_all(struct copy_map *map)
{
	copy_map_mark(map, 0, map->size);
}

void
copy_map_clear_all(struct copy_map *map)
{
	memset(map->words, 0, ((map->count - 1) / 64 + 1) * 8);
	map->marked = 0;
}

static void
set_range(struct copy_map *map, uint64_t first, uint64_t last, bool mark)
{
	for (uint64_t region = first; region <= last; region++) {
		uint64_t *word = &map->words[region / 64];
		uint64_t bit = (uint64_t)1 << (region % 64);

		if (mark && !(*word & bit))
			map->marked++;
		if (!mark && (*word & bit))
			map->marked--;
		*word = mark ? *word | bit : *word & ~bit;
	}
}

static void
check_range(const struct copy_map *map, uint64_t offset, uint64_t length)
{
	assert(length > 0 && offset < map->size &&
	       length <= map->size - offset);
}

void
copy_map_mark(struct copy_map *map, uint64_t offset, uint64_t length)
{
	check_range(map, offset, length);
	set_range(map, region_of(map, offset),
		  region_of(map, offset + length - 1), true);
}

void
copy_map_clear(struct copy_map *map, uint64_t offset, uint64_t length)
{
	check_range(map, offset, length);
	assert(offset % region_bytes(map) == 0 &&
	       ((offset + length) % region_bytes(map) == 0 ||
		offset + length == map->size));
	set_range(map, region_of(map, offset),
		  region_of(map, offset + length - 1), false);
}

bool
copy_map_is_marked(const struct copy_map *map, uint64_t offset)
{
	assert(offset < map->size);
	return test(map, region_of(map, offset));
}

bool
copy_map_covers(const struct copy_map *map, uint64_t offset, uint64_t length)
{
	check_range(map, offset, length);
	for (uint64_t region = region_of(map, offset);
	     region <= region_of(map, offset + length - 1); region++) {
		if (!test(map, region))
			return false;
	}
	return true;
}

uint64_t
copy_map_next(const struct copy_map *map, uint64_t from)
{
	uint64_t region = region_of(map, from);

	if (map->marked == 0 || from >= map->size)
		return map->size;
	while (region < map->count) {
		uint64_t word = map->words[region / 64] >> (region % 64);

		if (word != 0) {
			region += (uint64_t)__builtin_ctzll(word);
			return region << map->shift;
		}
		region = (region / 64 + 1) * 64;
	}
	return map->size;
}

uint64_t
copy_map_run(const struct copy_map *map, uint64_t offset, uint64_t max)
{
	uint64_t end = offset;

	while (end < map->size && end - offset < max &&
	       test(map, region_of(map, end)))
		end = (region_of(map, end) + 1) << map->shift;
	if (end > map->size)
		end = map->size;
	return end - offset < max ? end - offset : max;
}

uint64_t
copy_map_bytes(const struct copy_map *map)
{
	uint64_t bytes = map->marked << map->shift;
	uint64_t last = map->size % region_bytes(map);

	if (last != 0 && test(map, map->count - 1))
		bytes -= region_bytes(map) - last;
	return bytes;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * intent - see intent.h.
 *
 * Members are found by a table of 2 bytes for each extent of the disk (512 KiB
 * for 1 TiB): a hit costs a look at it and a move in the list.
 */
#include "replication/intent.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/bytes.h"
#include "replication/wire.h"

#define SLOT_ALIGN 4096

enum {
	AT_MAGIC = 0,
	AT_CRC = 8, /* of all behind it, to the last member */
	AT_COUNT = 12,
	AT_GENERATION = 16,
	AT_ID = 24,
	AT_EXTENT = 32, /* bytes of one */
	AT_MEMBERS = 64,
	MEMBER_BYTES = 4,
};

static_assert(INTENT_CAPACITY_MAX < UINT16_MAX, "an index fits");

static const unsigned char magic[8] = {
	't', 'd', 'i', 'n', 't', 'e', 'n', 't'
};

int
intent_open(struct intent *intent, uint64_t size, uint32_t extent,
	    unsigned int capacity, uint64_t id)
{
	memset(intent, 0, sizeof(*intent));
	if (!intent_is_extent(extent) || capacity < INTENT_CAPACITY_MIN ||
	    capacity > INTENT_CAPACITY_MAX || size / extent >= UINT32_MAX)
		return -EINVAL;
	intent->size = size;
	intent->id = id;
	intent->shift = (unsigned int)__builtin_ctz(extent);
	intent->extents = (size + extent - 1) >> intent->shift;
	intent->capacity = capacity;
	intent->index = calloc(intent->extents ? intent->extents : 1,
			       sizeof(*intent->index));
	intent->extent = calloc(capacity, sizeof(*intent->extent));
	if (intent->index == NULL || intent->extent == NULL) {
		intent_close(intent);
		return -ENOMEM;
	}
	INIT_LIST_HEAD(&intent->lru);
	INIT_LIST_HEAD(&intent->free);
	for (unsigned int i = 0; i < capacity; i++)
		list_add_tail(&intent->extent[i].entry, &intent->free);
	return 0;
}

void
intent_close(struct intent *intent)
{
	free(intent->index);
	free(intent->extent);
	memset(intent, 0, sizeof(*intent));
}

uint64_t
intent_offset(const struct intent *intent, uint32_t number)
{
	return (uint64_t)number << intent->shift;
}

uint64_t
intent_length(const struct intent *intent, uint32_t number)
{
	uint64_t offset = intent_offset(intent, number);
	uint64_t left = intent->size - offset;

	return left < 1ull << intent->shift ? left : 1ull << intent->shift;
}

/* --- members --- */

static struct intent_extent *
member(const struct intent *intent, uint64_t number)
{
	unsigned int place = intent->index[number];

	return place == 0 ? NULL : &intent->extent[place - 1];
}

/* The extents [*ret_first, *ret_end) that a range touches. */
static void
extents_of(const struct intent *intent, uint64_t offset, uint64_t length,
	   uint64_t *ret_first, uint64_t *ret_end)
{
	assert(length > 0 && length <= intent->size &&
	       offset <= intent->size - length);
	*ret_first = offset >> intent->shift;
	*ret_end = ((offset + length - 1) >> intent->shift) + 1;
}

static struct intent_extent *
add(struct intent *intent, uint64_t number)
{
	struct intent_extent *extent =
		list_first_entry(&intent->free, struct intent_extent, entry);

	assert(!list_empty(&intent->free));
	*extent = (struct intent_extent){ .entry = extent->entry,
					  .number = (uint32_t)number };
	list_del(&extent->entry);
	list_add_tail(&extent->entry, &intent->lru);
	intent->index[number] = (uint16_t)(extent - intent->extent + 1);
	intent->count++;
	intent->wanted++;
	return extent;
}

bool
intent_has_room(const struct intent *intent, uint64_t offset, uint64_t length)
{
	unsigned int missing = 0;
	uint64_t number, end;

	extents_of(intent, offset, length, &number, &end);
	if (end - number > intent->capacity)
		return false;
	for (; number < end; number++)
		missing += member(intent, number) == NULL;
	return missing <= intent->capacity - intent->count;
}

void
intent_take(struct intent *intent, uint64_t offset, uint64_t length)
{
	uint64_t number, end;

	extents_of(intent, offset, length, &number, &end);
	for (; number < end; number++) {
		struct intent_extent *extent = member(intent, number);

		if (extent == NULL)
			extent = add(intent, number);
		extent->holders++;
		extent->used = intent->tick;
		extent->leaving = false;
		list_del(&extent->entry);
		list_add_tail(&extent->entry, &intent->lru);
	}
}

void
intent_put(struct intent *intent, uint64_t offset, uint64_t length)
{
	uint64_t number, end;

	extents_of(intent, offset, length, &number, &end);
	for (; number < end; number++) {
		struct intent_extent *extent = member(intent, number);

		assert(extent != NULL && extent->holders > 0);
		extent->holders--;
	}
}

bool
intent_is_durable(const struct intent *intent, uint64_t offset, uint64_t length)
{
	uint64_t number, end;

	extents_of(intent, offset, length, &number, &end);
	for (; number < end; number++) {
		const struct intent_extent *extent = member(intent, number);

		if (extent == NULL || extent->state != INTENT_DURABLE)
			return false;
	}
	return true;
}

/* --- leaving --- */

unsigned int
intent_leave_begin(struct intent *intent, unsigned int max, uint32_t idle)
{
	struct intent_extent *extent;
	unsigned int marked = 0;

	list_for_each_entry (extent, &intent->lru, entry) {
		if (marked == max || intent->tick - extent->used < idle)
			break;
		if (extent->holders > 0 || extent->state != INTENT_DURABLE)
			continue;
		extent->leaving = true;
		marked++;
	}
	return marked;
}

const struct intent_extent *
intent_next_leaving(const struct intent *intent,
		    const struct intent_extent *after)
{
	unsigned int i =
		after == NULL ? 0 : (unsigned int)(after - intent->extent + 1);

	for (; i < intent->capacity; i++) {
		if (intent->extent[i].leaving)
			return &intent->extent[i];
	}
	return NULL;
}

void
intent_stay(struct intent *intent)
{
	for (unsigned int i = 0; i < intent->capacity; i++)
		intent->extent[i].leaving = false;
}

unsigned int
intent_leave_end(struct intent *intent)
{
	unsigned int left = 0;

	for (unsigned int i = 0; i < intent->capacity; i++) {
		struct intent_extent *extent = &intent->extent[i];

		if (!extent->leaving)
			continue;
		assert(extent->holders == 0);
		extent->leaving = false;
		intent->index[extent->number] = 0;
		list_del(&extent->entry);
		list_add_tail(&extent->entry, &intent->free);
		intent->count--;
		left++;
	}
	return left;
}

/* --- slots --- */

static size_t
used_bytes(unsigned int count)
{
	return AT_MEMBERS + (size_t)count * MEMBER_BYTES;
}

size_t
intent_slot_bytes(unsigned int capacity)
{
	return (used_bytes(capacity) + SLOT_ALIGN - 1) / SLOT_ALIGN *
	       SLOT_ALIGN;
}

size_t
intent_encode(struct intent *intent, unsigned char *ret_bytes)
{
	size_t length = intent_slot_bytes(intent->count), at = AT_MEMBERS;
	struct intent_extent *extent;

	memset(ret_bytes, 0, length);
	memcpy(ret_bytes + AT_MAGIC, magic, sizeof(magic));
	put32(ret_bytes + AT_COUNT, intent->count);
	put64(ret_bytes + AT_GENERATION, ++intent->generation);
	put64(ret_bytes + AT_ID, intent->id);
	put32(ret_bytes + AT_EXTENT, 1u << intent->shift);
	list_for_each_entry (extent, &intent->lru, entry) {
		put32(ret_bytes + at, extent->number);
		at += MEMBER_BYTES;
		if (extent->state == INTENT_WANTED)
			extent->state = INTENT_WRITING;
	}
	intent->wanted = 0;
	put32(ret_bytes + AT_CRC,
	      wire_crc(ret_bytes + AT_COUNT,
		       used_bytes(intent->count) - AT_COUNT));
	return length;
}

void
intent_written(struct intent *intent)
{
	struct intent_extent *extent;

	list_for_each_entry (extent, &intent->lru, entry) {
		if (extent->state == INTENT_WRITING)
			extent->state = INTENT_DURABLE;
	}
}

/* Members are extents of the disk, each once. */
static bool
are_members(const struct intent *intent, const unsigned char *bytes,
	    unsigned int count)
{
	bool fine = true;
	unsigned int i;

	assert(intent->count == 0);
	for (i = 0; fine && i < count; i++) {
		uint32_t number = get32(bytes + AT_MEMBERS + 4 * (size_t)i);

		fine = number < intent->extents && intent->index[number] == 0;
		if (fine)
			intent->index[number] = 1;
	}
	while (i-- > 0) {
		uint32_t number = get32(bytes + AT_MEMBERS + 4 * (size_t)i);

		if (number < intent->extents)
			intent->index[number] = 0;
	}
	return fine;
}

enum intent_bytes
intent_check(const struct intent *intent, const unsigned char *bytes,
	     size_t length, uint64_t *ret_generation)
{
	unsigned int count;

	if (length < AT_MEMBERS)
		return length == 0 ? INTENT_BLANK : INTENT_DAMAGED;
	if (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0)
		return INTENT_BLANK;
	count = get32(bytes + AT_COUNT);
	if (memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) != 0 ||
	    count > intent->capacity || used_bytes(count) > length ||
	    wire_crc(bytes + AT_COUNT, used_bytes(count) - AT_COUNT) !=
		    get32(bytes + AT_CRC) ||
	    get64(bytes + AT_ID) != intent->id ||
	    get32(bytes + AT_EXTENT) != 1u << intent->shift ||
	    !are_members(intent, bytes, count))
		return INTENT_DAMAGED;
	*ret_generation = get64(bytes + AT_GENERATION);
	return INTENT_WHOLE;
}

void
intent_decode(struct intent *intent, const unsigned char *bytes)
{
	unsigned int count = get32(bytes + AT_COUNT);

	assert(intent->count == 0);
	intent->generation = get64(bytes + AT_GENERATION);
	for (unsigned int i = 0; i < count; i++) {
		struct intent_extent *extent =
			add(intent, get32(bytes + AT_MEMBERS + 4 * (size_t)i));

		extent->state = INTENT_DURABLE;
	}
	intent->wanted = 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * medium - see medium.h.
 */
#include "tests/medium.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/random.h"

struct medium_write {
	size_t offset, length;
	unsigned char *data; /* owned */
};

static void *
must(void *memory)
{
	if (memory == NULL)
		abort();
	return memory;
}

void
medium_init(struct medium *medium, size_t length, size_t room)
{
	assert(length <= room && room % MEDIUM_SECTOR == 0);
	*medium = (struct medium){
		.durable = must(calloc(1, room)),
		.current = must(calloc(1, room)),
		.length = length,
		.durable_length = length,
		.room = room,
	};
}

/* The oldest `count` are as they are to be. */
static void
forget(struct medium *medium, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(medium->writes[i].data);
	medium->count -= count;
	medium->first += count;
	if (medium->count > 0)
		memmove(medium->writes, medium->writes + count,
			medium->count * sizeof(*medium->writes));
}

void
medium_done(struct medium *medium)
{
	forget(medium, medium->count);
	free(medium->writes);
	free(medium->durable);
	free(medium->current);
	*medium = (struct medium){ .length = 0 };
}

size_t
medium_read(const struct medium *medium, void *buf, size_t length,
	    uint64_t offset)
{
	if (offset >= medium->length)
		return 0;
	if (length > medium->length - offset)
		length = medium->length - offset;
	memcpy(buf, medium->current + offset, length);
	return length;
}

static void
put(unsigned char *bytes, size_t *length, const struct medium_write *write,
    size_t from, size_t to)
{
	memcpy(bytes + write->offset + from, write->data + from, to - from);
	if (*length < write->offset + to)
		*length = write->offset + to;
}

bool
medium_write(struct medium *medium, const void *data, size_t length,
	     uint64_t offset)
{
	struct medium_write *write;

	assert(length % MEDIUM_SECTOR == 0 && offset % MEDIUM_SECTOR == 0);
	if (offset > medium->room || length > medium->room - offset)
		return false;
	if (medium->count == medium->capacity) {
		medium->capacity = medium->capacity * 2 + 16;
		medium->writes = must(
			realloc(medium->writes,
				medium->capacity * sizeof(*medium->writes)));
	}
	write = &medium->writes[medium->count++];
	*write = (struct medium_write){
		.offset = (size_t)offset,
		.length = length,
		.data = must(calloc(1, length > 0 ? length : 1)),
	};
	if (data != NULL)
		memcpy(write->data, data, length);
	put(medium->current, &medium->length, write, 0, length);
	return true;
}

uint64_t
medium_mark(const struct medium *medium)
{
	return medium->first + medium->count;
}

void
medium_flush(struct medium *medium, uint64_t mark)
{
	size_t count = 0;

	while (count < medium->count && medium->first + count < mark) {
		const struct medium_write *write = &medium->writes[count++];

		put(medium->durable, &medium->durable_length, write, 0,
		    write->length);
	}
	forget(medium, count);
}

void
medium_crash(struct medium *medium, medium_survives *survives, void *arg)
{
	size_t number = 0;

	for (size_t i = 0; i < medium->count; i++) {
		const struct medium_write *write = &medium->writes[i];

		for (size_t at = 0; at < write->length; at += MEDIUM_SECTOR) {
			if (survives(arg, number++))
				put(medium->durable, &medium->durable_length,
				    write, at, at + MEDIUM_SECTOR);
		}
		/* what is not durable is as it was before */
		memcpy(medium->current + write->offset,
		       medium->durable + write->offset, write->length);
	}
	forget(medium, medium->count);
	/* the length of what survived; what lies below it reads as zeros */
	medium->length = medium->durable_length;
}

struct dice {
	uint64_t *random;
	double chance;
};

static bool
throw_dice(void *arg, size_t number)
{
	struct dice *dice = arg;

	(void)number;
	return random_next(dice->random) < dice->chance;
}

void
medium_crash_random(struct medium *medium, uint64_t *random)
{
	double kind = random_next(random);
	struct dice dice = {
		.random = random,
		.chance = kind < 0.125	? 0
			  : kind < 0.25 ? 1
					: 0.5,
	};

	medium_crash(medium, throw_dice, &dice);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * medium - what a disk keeps: bytes of which a power failure may lose or tear
 * those that no flush covered.
 *
 * Reads see every write.  A crash goes through the writes that are not durable
 * in their order and asks, sector by sector, which of them the disk had
 * written; so any subset may survive, and of two writes to a sector the older
 * may.  It outlives the store or driver that writes to it.
 */
#ifndef TESTS_MEDIUM_H
#define TESTS_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEDIUM_SECTOR 512

struct medium_write; /* one that is not durable */

struct medium {
	unsigned char *durable, *current; /* owned: `room` bytes each */
	size_t length;			  /* as read; grows up to room */
	size_t durable_length;
	size_t room;
	struct medium_write *writes; /* owned: an array, oldest first */
	size_t count, capacity;
	uint64_t first; /* number of writes[0] of all that ever were */
};

/* Zeros; `length` 0 is an empty file, which grows up to `room`. */
void medium_init(struct medium *medium, size_t length, size_t room);
void medium_done(struct medium *medium);

/* Bytes read: fewer at the end. */
size_t medium_read(const struct medium *medium, void *buf, size_t length,
		   uint64_t offset);
/* Whole sectors; data NULL: zeros.  False if it does not fit. */
bool medium_write(struct medium *medium, const void *data, size_t length,
		  uint64_t offset);

/* A flush that begins now will cover what was written so far. */
uint64_t medium_mark(const struct medium *medium);
/* It has ended. */
void medium_flush(struct medium *medium, uint64_t mark);

/* Whether a sector of a write survives; `number` counts the sectors asked
 * about from 0. */
typedef bool medium_survives(void *arg, size_t number);

void medium_crash(struct medium *medium, medium_survives *survives, void *arg);
/* Each with probability 1/2 from a seed, or, every fourth time, all or none. */
void medium_crash_random(struct medium *medium, uint64_t *random);

#endif

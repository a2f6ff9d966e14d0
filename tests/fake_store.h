/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_store - metadata's store in memory, on a medium that loses and tears
 * what was not flushed.
 *
 * The file outlives its stores: a node that crashes and starts again opens it
 * anew.  An operation ends from the loop, after `delay_ns` and a random part
 * of `spread_ns`, or never (`silent_after`).  Closing a store forgets what is
 * under way, as a killed process does.
 */
#ifndef TESTS_FAKE_STORE_H
#define TESTS_FAKE_STORE_H

#include "core/loop.h"
#include "replication/metadata.h"
#include "tests/medium.h"

struct fake_file {
	struct medium medium;
	struct store *store; /* that has it open; borrowed; NULL: nobody */

	uint64_t random;	    /* seed and state of the choices below */
	uint64_t delay_ns;	    /* an operation takes so long, */
	uint64_t spread_ns;	    /* and up to so much longer */
	unsigned int silent_after;  /* so many operations end; then none */
	unsigned int fail_write_at; /* the n-th from 1; 0: none */
	unsigned int fail_flush_at;
	int read_error;
	int error; /* what fails ends with; 0: -EIO */
	/* What it holds durably has changed.  May be NULL. */
	void (*on_flushed)(struct fake_file *file);
	bool abandoned; /* nothing that its last store does is done */

	/* so far */
	unsigned int operations, writes, flushes;
};

#define FAKE_FILE_ROOM (256u << 10)

void fake_file_init(struct fake_file *file, uint64_t seed);
void fake_file_done(struct fake_file *file); /* closed before */

/* NULL if somebody has it open: metadata are locked. */
struct store *fake_store_open(struct fake_file *file, struct loop *loop);

/* Its owner is dead, and did not close it: nothing it began ends, and nothing
 * begins, until the file is opened again. */
void fake_file_abandon(struct fake_file *file);

/* The power fails: what was not flushed may be gone. */
void fake_file_crash(struct fake_file *file);

#endif

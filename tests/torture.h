/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * torture - what a driver may do to requests, all of it, and a witness.
 *
 * "torture:[WORD=VALUE,...]" is a filter that treats each request as badly as
 * the contract allows: cuts it into parts, passes them down in any order, some
 * inside td_queue_*(), some late, some as requests of its own; answers some
 * late, some with an error, some with -EBUSY.  Words: seed (1), and the
 * probabilities late (0.5), own (0.3), error (0) and busy (0).
 *
 * "witness:" is a filter that looks at what the image below it gives back: it
 * lets through what is right, and keeps the rest away and names it.
 *
 * W1  Every sector that goes down comes back exactly once.
 * W2  Nothing comes back that did not go down.
 * W3  Nobody is called back inside his own td_queue_*().
 *
 * "broken:HOW" is a leaf of BROKEN_SECTORS that breaks the contract when it is
 * written to at sector BROKEN_SECTOR, and keeps a write at BROKEN_NEIGHBOUR for
 * ever; else it takes and forgets everything.
 */
#ifndef TESTS_TORTURE_H
#define TESTS_TORTURE_H

#include "core/image.h"

#define TORTURE_PARTS_MAX   8
#define TORTURE_LATE_MAX    512 /* parts that wait; others are not late */
#define TORTURE_OWN_MAX	    512 /* requests of its own under way */
#define WITNESS_REQUEST_MAX 256
#define WITNESS_SECTORS_MAX 2048 /* of one request; it is cut there */
#define BROKEN_SECTORS	    2048
#define BROKEN_SECTOR	    64
#define BROKEN_NEIGHBOUR    1024

extern struct tap_disk tapdisk_torture;
extern struct tap_disk tapdisk_witness;
extern struct tap_disk tapdisk_broken;

/* What has been done to requests, so that a test can see that it was. */
struct torture_counts {
	unsigned int requests, parts;
	unsigned int split;	   /* requests in more than one part */
	unsigned int disordered;   /* a part after one that lies behind it */
	unsigned int inside, late; /* parts, on their way down */
	unsigned int own;	   /* passed down as requests of its own */
	unsigned int late_answers; /* of those */
	unsigned int errors, busy;
};

struct torture_counts torture_counts(struct image_stack *stack);

/* The first breach of the first witness in the stack, "" if there is none. */
const char *witness_breach(struct image_stack *stack);

/* Sectors that have gone down and are not back; the text says whose. */
unsigned int witness_missing(struct image_stack *stack, char *ret_text,
			     size_t size);

#endif

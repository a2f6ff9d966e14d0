/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_driver - a disk in memory whose test decides what comes back when.
 *
 * Name: "fake:SECTORS" or "fake:SECTORS,PARENT" with PARENT another name of a
 * fake; "able:SECTORS" the same with every operation there is; "pass:" is a
 * filter that forwards everything, "own:" one that queues a request with its
 * own callback for each, "old:" one that forwards such a copy, as blktap2's
 * filters did.  By default a request is completed inside
 * td_queue_*().
 */
#ifndef TESTS_FAKE_DRIVER_H
#define TESTS_FAKE_DRIVER_H

#include "core/image.h"

#define FAKE_HELD_MAX 512

struct fake {
	char *bytes; /* owned; info.size sectors */
	char *parent;
	bool hold; /* keep requests until fake_release() */
	int error; /* complete with it */
	int busy;  /* so many requests get -EBUSY first */
	int lose;  /* complete so many sectors too few */
	int resize_error;
	unsigned int queued[TD_OP_COUNT];
	td_request_t last;		 /* of what was queued */
	const struct td_extent *extents; /* borrowed; a block status' answer */
	int extent_count;
	td_request_t held[FAKE_HELD_MAX];
	unsigned int held_count;
};

struct own {
	td_request_t original; /* of the one request it can hold */
	bool inside;	       /* within its td_queue_*() */
	unsigned int reentered;
	unsigned int called_back;
};

extern const struct driver_type fake_types[];

/* Of the image at `index` of the stack. */
struct fake *fake_of(struct image_stack *stack, int index);

/* Complete the held request at `index` with `res`. */
void fake_release(struct fake *fake, unsigned int index, int res);

#endif

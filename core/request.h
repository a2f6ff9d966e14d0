/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * request - what a frontend asks of a disk.
 *
 * The frontend owns the request and its buffer; the vbd borrows both from
 * vbd_submit() until on_release.  Life of a request:
 *
 *   submit -> [waits: paused, depth, overlap] -> in flight -> on_done
 *                                                          -> on_release
 *
 * R1  on_done runs exactly once, with 0 or a negative errno, from the loop and
 *     never from inside vbd_submit().
 * R2  on_release runs exactly once, after on_done: only then may buffer and
 *     request be used again.  A request that timed out is done at once and
 *     released when the kernel has given its buffer back.
 */
#ifndef CORE_REQUEST_H
#define CORE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "tapdisk-interface.h"

struct vbd;

#define REQUEST_LAST	 0x8 /* the vbd's own: see TD_REQUEST_LAST */
#define REQUEST_FUA	 0x1 /* durable when done */
#define REQUEST_NO_UNMAP 0x2 /* write zeroes: keep the space allocated */
#define REQUEST_FAST	 0x4 /* write zeroes: -EOPNOTSUPP unless fast */

enum request_state {
	REQUEST_IDLE,	  /* the frontend's */
	REQUEST_WAITING,  /* for its turn: paused, depth, overlap */
	REQUEST_ACTIVE,	  /* parts are with the image stack */
	REQUEST_RETRYING, /* all parts back, one was -EBUSY: goes again */
	REQUEST_ENDED,	  /* result stands, on_done and on_release are due */
};

struct request {
	/* the frontend fills */
	int op;		 /* TD_OP_* */
	uint64_t offset; /* bytes; multiples of the disk's sector size */
	uint64_t length; /* bytes; 0 for a flush */
	uint32_t flags;	 /* REQUEST_* */
	char *buffer;	 /* length bytes; aligned to POOL_MIN where it can be */
	struct td_extents *extents; /* block status: filled, sorted, merged */
	void (*on_done)(struct request *request, int result);
	void (*on_release)(struct request *request);

	/* the vbd's own */
	struct vbd *vbd;
	enum request_state state;
	struct list_head entry;
	uint64_t id; /* of the present attempt; parts carry it */
	uint64_t begun_ns;
	uint64_t deadline_ns;
	uint64_t moved;	      /* bytes dealt with by earlier attempts */
	uint64_t piece;	      /* an attempt asks for no more bytes */
	uint64_t outstanding; /* references with the stack */
	int result;	      /* the first error of a part */
	bool busy;	      /* a part came back with -EBUSY */
	bool advanced;	      /* a part came back with 0 */
	bool timed_out;	      /* on_done has run; only release is left */
	bool emulating;	      /* write zeroes, as writes of zeros */
	bool flushing;	      /* the flush that makes FUA true */
};

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_io - the replica's own reads and writes of the image below it.
 *
 * What it adds to td_queue_request(): an operation ends once, when all its
 * parts are back; one that met a shortage (-EBUSY) goes again, in smaller
 * pieces if the image had room for a part of it; zeros are written out where
 * the image takes no write-zeroes.  It orders nothing and
 * has no time limit: what the image never gives back never ends.
 *
 * on_done comes from the loop, never from inside image_io_start().
 */
#ifndef REPLICATION_IMAGE_IO_H
#define REPLICATION_IMAGE_IO_H

#include "core/loop.h"
#include "core/tapdisk-interface.h"

struct image_io {
	td_image_t *image;	/* borrowed: the one below */
	struct list_head again; /* operations that met a shortage */
	struct timer retry;
	unsigned int pending; /* operations that have not ended */
	/* The last of them ends, and tells its owner after this; NULL after
	 * image_io_init(). */
	void (*on_idle)(struct image_io *io);
};

/* An operation; lives in its owner until on_done. */
struct image_op {
	/* the owner fills */
	int op;		 /* TD_OP_READ, _WRITE, _FLUSH, _WRITE_ZEROES or
			  * _BLOCK_STATUS */
	uint64_t offset; /* bytes; multiples of the image's sector size */
	uint64_t length;
	void *buffer;	/* borrowed; a struct td_extents for block status */
	uint32_t flags; /* TD_REQUEST_* */
	void (*on_done)(struct image_op *op, int error);

	/* image_io's own */
	struct image_io *io;
	struct list_head entry;
	uint64_t left;	   /* references below */
	uint64_t attempts; /* the present one; parts carry it */
	uint64_t moved;	   /* bytes done so far */
	uint64_t piece;	   /* an attempt asks for no more bytes */
	bool writing_out;  /* zeros, as writes */
	bool busy, advanced;
	int error;
};

void image_io_init(struct image_io *io, struct loop *loop, td_image_t *image);
/* Nothing may be pending. */
void image_io_done(struct image_io *io);

void image_io_start(struct image_io *io, struct image_op *op);

#endif

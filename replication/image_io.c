/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image_io - see image_io.h.
 */
#include "replication/image_io.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>

#define RETRY_NS   (1 * NS_PER_MS)
#define ZEROES_MAX (1u << 20) /* bytes of one write of zeros */

static char zeroes[ZEROES_MAX] __attribute__((aligned(4096)));

static void attempt(struct image_op *op);

/* The bytes of the attempt at op->moved. */
static uint64_t
attempted(const struct image_op *op)
{
	uint64_t length = op->length - op->moved;

	if (length > op->piece)
		length = op->piece;
	if (op->writing_out && length > ZEROES_MAX)
		length = ZEROES_MAX;
	return length;
}

static void
try_again_later(struct image_op *op)
{
	struct image_io *io = op->io;
	uint64_t unit = io->image->info.sector_size, half;

	if (op->advanced && op->op != TD_OP_BLOCK_STATUS) {
		half = attempted(op) / 2;
		half -= half % unit;
		op->piece = half > 0 ? half : unit;
	}
	list_add_tail(&op->entry, &io->again);
	if (!timer_is_set(&io->retry))
		timer_set(&io->retry, RETRY_NS);
}

/* All references of an attempt are back. */
static void
attempt_ended(struct image_op *op)
{
	struct image_io *io = op->io;
	uint64_t bytes;

	if (op->error == -EOPNOTSUPP && op->op == TD_OP_WRITE_ZEROES &&
	    !op->writing_out) {
		op->writing_out = true;
		op->error = 0;
		op->busy = false;
		attempt(op);
		return;
	}
	if (op->error == 0 && op->busy) {
		try_again_later(op);
		return;
	}
	if (op->error == 0 && op->op != TD_OP_FLUSH) {
		bytes = attempted(op);
		op->moved += bytes;
		if (op->moved < op->length) {
			if (op->piece == bytes) /* it may take more */
				op->piece *= 2;
			attempt(op);
			return;
		}
	}
	io->pending--;
	if (io->pending == 0 && io->on_idle != NULL)
		io->on_idle(io);
	op->on_done(op, op->error);
}

static void
on_part(td_request_t treq, int error)
{
	struct image_op *op = treq.cb_data;

	assert(treq.id == op->attempts && op->left >= (uint64_t)treq.secs);
	op->left -= (uint64_t)treq.secs;
	if (error == -EBUSY || error == -EAGAIN || error == -EINTR)
		op->busy = true;
	else if (error == 0)
		op->advanced = true;
	else if (op->error == 0)
		op->error = error;
	if (op->left == 0)
		attempt_ended(op);
}

static void
attempt(struct image_op *op)
{
	td_request_t treq = {
		.op = op->op,
		.buf = op->buffer,
		.secs = 1,
		.cb = on_part,
		.cb_data = op,
		.id = ++op->attempts,
		.flags = op->flags,
	};

	op->busy = false;
	op->advanced = false;
	if (op->op == TD_OP_READ || op->op == TD_OP_WRITE)
		treq.buf = (char *)op->buffer + op->moved;
	if (op->writing_out) {
		treq.op = TD_OP_WRITE;
		treq.buf = zeroes;
		treq.flags = 0;
	}
	if (op->op == TD_OP_BLOCK_STATUS)
		((struct td_extents *)op->buffer)->count = 0;
	if (op->op != TD_OP_FLUSH) {
		treq.sec = (op->offset + op->moved) >> SECTOR_SHIFT;
		treq.secs = (int)(attempted(op) >> SECTOR_SHIFT);
	}
	op->left = (uint64_t)treq.secs;
	td_queue_request(op->io->image, treq);
}

void
image_io_start(struct image_io *io, struct image_op *op)
{
	assert(op->op == TD_OP_FLUSH ||
	       (op->length > 0 && op->length >> SECTOR_SHIFT <= INT_MAX));
	op->io = io;
	op->attempts = 0;
	op->moved = 0;
	op->piece = UINT64_MAX;
	op->writing_out = false;
	op->error = 0;
	io->pending++;
	attempt(op);
}

static void
on_retry(struct timer *timer)
{
	struct image_io *io = container_of(timer, struct image_io, retry);
	LIST_HEAD(due);

	list_splice_tail_init(&io->again, &due);
	while (!list_empty(&due)) {
		struct image_op *op =
			list_first_entry(&due, struct image_op, entry);

		list_del(&op->entry);
		attempt(op);
	}
}

void
image_io_init(struct image_io *io, struct loop *loop, td_image_t *image)
{
	io->image = image;
	io->pending = 0;
	io->on_idle = NULL;
	INIT_LIST_HEAD(&io->again);
	timer_init(&io->retry, loop, on_retry);
}

void
image_io_done(struct image_io *io)
{
	assert(io->pending == 0);
	timer_clear(&io->retry);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_uring - the back-end over io_uring(7), by liburing.
 *
 * The ring is set up with the flags that suit one thread that comes back to the
 * kernel by itself (SINGLE_ISSUER, COOP_TASKRUN), and without them on kernels
 * that do not know them.  Many systems forbid io_uring, some only its use, so
 * the probe carries a NOP through the ring.
 *
 * Transfers of files in memory would go to a worker thread of the kernel, which
 * costs two changes of context for a copy that waits for nothing (linux:
 * io_uring/rw.c, without FMODE_NOWAIT): io.c makes them by calls of its own.
 *
 * No more than IO_DEPTH tiocbs are with the back-end (I3), so the submission
 * queue has a place for each and the completion queue, twice its size, cannot
 * overflow.
 */
#include "core/io_backend.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

struct uring {
	struct io *io; /* borrowed */
	struct io_uring ring;
};

static int
uring_probe(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int error;

	io_uring_prep_nop(io_uring_get_sqe(ring));
	error = io_uring_submit_and_wait(ring, 1);
	if (error >= 0)
		error = io_uring_peek_cqe(ring, &cqe);
	if (error < 0)
		return error;
	error = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return error;
}

static int
uring_open(struct io *io, void **ret_state)
{
	unsigned int flags =
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN;
	struct uring *uring = calloc(1, sizeof(*uring));
	int error;

	if (!uring)
		return -ENOMEM;
	uring->io = io;
	error = io_uring_queue_init(IO_DEPTH, &uring->ring, flags);
	if (error == -EINVAL)
		error = io_uring_queue_init(IO_DEPTH, &uring->ring, 0);
	if (error < 0) {
		free(uring);
		return error;
	}
	error = uring_probe(&uring->ring);
	if (error < 0) {
		io_uring_queue_exit(&uring->ring);
		free(uring);
		return error;
	}
	*ret_state = uring;
	return 0;
}

static void
uring_close(void *state)
{
	struct uring *uring = state;

	io_uring_queue_exit(&uring->ring);
	free(uring);
}

static int
uring_fd(const void *state)
{
	const struct uring *uring = state;

	return uring->ring.ring_fd;
}

static void
uring_put(void *state, struct tiocb *tiocb)
{
	struct uring *uring = state;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
	char *buf = tiocb->buf + tiocb->done;
	size_t bytes = tiocb->bytes - tiocb->done;
	uint64_t offset = (uint64_t)tiocb->offset + tiocb->done;

	assert(sqe);
	if (bytes > INT32_MAX) /* the rest is carried on */
		bytes = 1u << 30;
	if (tiocb->op == TIOCB_FLUSH)
		io_uring_prep_fsync(sqe, tiocb->fd, IORING_FSYNC_DATASYNC);
	else if (tiocb->op == TIOCB_READ)
		io_uring_prep_read(sqe, tiocb->fd, buf, (unsigned int)bytes,
				   offset);
	else
		io_uring_prep_write(sqe, tiocb->fd, buf, (unsigned int)bytes,
				    offset);
	io_uring_sqe_set_data(sqe, tiocb);
}

static int
uring_kick(void *state)
{
	struct uring *uring = state;
	int n;

	do
		n = io_uring_submit(&uring->ring);
	while (n == -EINTR);
	return io_uring_sq_ready(&uring->ring) ? -EAGAIN : 0;
}

static void
uring_reap(void *state, bool woken)
{
	struct uring *uring = state;
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	(void)woken; /* the ring is readable until it is empty */
	io_uring_for_each_cqe(&uring->ring, head, cqe)
	{
		io_completed(uring->io, io_uring_cqe_get_data(cqe), cqe->res);
		count++;
	}
	io_uring_cq_advance(&uring->ring, count);
}

const struct io_backend io_backend_uring = {
	.name = "io_uring",
	.flushes = true,
	.buffered = true,
	.batches = false,
	.open = uring_open,
	.close = uring_close,
	.fd = uring_fd,
	.put = uring_put,
	.kick = uring_kick,
	.reap = uring_reap,
};

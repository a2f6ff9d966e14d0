/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io - disk I/O: the tiocbs of drivers on their way to the kernel and back.
 *
 * Reads, writes and flushes go through a back-end from one table: libaio or
 * io_uring, probed at start, or forced by name.  What has no asynchronous form
 * (TIOCB_CALL; under libaio flushes and TD_FILE_BUFFERED) goes to a pool of
 * IO_HELPERS threads, one system call a job, and so does a long transfer of a
 * TD_FILE_MEMORY.  tiocbs are gathered and submitted once a turn; callbacks
 * come from the loop, never from inside io_queue().
 *
 * I1  A tiocb's callback runs exactly once, with 0 or a negative errno.
 * I2  Short transfers are carried on here; a transfer that makes no progress
 *     before the end of the file is -EIO.
 * I3  At most IO_DEPTH tiocbs are with the kernel; the others wait in order.
 */
#ifndef CORE_IO_H
#define CORE_IO_H

#include "list.h"
#include "tapdisk-driver.h"

#define IO_DEPTH   512
#define IO_HELPERS 4

struct io;
struct loop;
struct reason;

/* `backend`: "libaio", "io_uring", or NULL for the first that works.  NULL and
 * a reason on failure. */
struct io *io_new(struct loop *loop, const char *backend,
		  struct reason *reason);

/* Every tiocb must have come back. */
struct io *io_free(struct io *io);

/* The name of the back-end in use. */
const char *io_backend_name(const struct io *io);

void io_queue(struct io *io, struct tiocb *tiocb);

/* tiocbs that have not come back. */
unsigned int io_pending(const struct io *io);

/* Run outstanding tiocbs to their end, blocking: only while an image is opened
 * or closed, which may block. */
void io_drain(struct io *io);

/*
 * One call on a helper thread outside any driver, for example a name look-up.
 * Owned by the caller until on_done ran; not cancellable.
 */
struct io_call {
	struct tiocb tiocb;
	int (*call)(void *arg); /* on the helper thread */
	void *arg;
	void (*on_done)(struct io_call *call, int result);
};

void io_call(struct io *io, struct io_call *call);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_backend - what core/io.c asks of the ways to the kernel.  Private to
 * core/io*.c.
 *
 * A back-end moves at most IO_DEPTH tiocbs at a time and reports each by
 * io_completed(), from within kick() or reap(), never from within put().  It
 * carries nothing on and calls no driver back.
 */
#ifndef CORE_IO_BACKEND_H
#define CORE_IO_BACKEND_H

#include "io.h"

struct io_backend {
	const char *name;
	bool flushes;  /* has an asynchronous TIOCB_FLUSH */
	bool buffered; /* TD_FILE_BUFFERED does not block us */
	bool batches;  /* many of TD_FILE_MEMORY cost less than a call each */

	/* Set up and try out; *ret_state is the back-end's own. */
	int (*open)(struct io *io, void **ret_state);
	void (*close)(void *state);

	/* Becomes readable when there is something to reap. */
	int (*fd)(const void *state);

	/* Take a tiocb along with the next kick. */
	void (*put)(void *state, struct tiocb *tiocb);

	/* Hand over what was put.  -EAGAIN: not all, kick again later. */
	int (*kick)(void *state);

	/* Report what has completed.  `woken`: because fd was readable;
	 * without it no system call is made. */
	void (*reap)(void *state, bool woken);
};

extern const struct io_backend io_backend_libaio;
extern const struct io_backend io_backend_uring;

/* `result`: bytes moved (0 for a flush) or a negative errno. */
void io_completed(struct io *io, struct tiocb *tiocb, int result);

/* The same by one system call on the spot, on any thread. */
int io_perform(const struct tiocb *tiocb);

/*
 * The helper pool: IO_HELPERS threads that run one system call a job.  Jobs
 * wait in a list linked through the tiocbs, so their number is bounded by those
 * who own the tiocbs.
 */
struct io_helper;

/* `on_done` comes on the caller's thread, from io_helper_reap(), with
 * tiocb->result filled. */
struct io_helper *io_helper_new(struct io *io,
				void (*on_done)(struct io *, struct tiocb *),
				struct reason *reason);
struct io_helper *io_helper_free(struct io_helper *helper); /* idle */
int io_helper_fd(const struct io_helper *helper);
void io_helper_queue(struct io_helper *helper, struct tiocb *tiocb);
void io_helper_reap(struct io_helper *helper);

#endif

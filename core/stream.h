/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream - a connected socket, plain or under TLS: receive into a given
 * buffer, send vectors, hear of completions.
 *
 * T1  One receive is outstanding at a time; it ends when at least `min` bytes
 *     came, with 0 at the end of the stream, or with an error (-ECONNRESET if
 *     the stream ends after fewer than `min` bytes).
 * T2  Sends leave in the order given.  What is sent in one turn leaves in as
 *     few system calls as possible.  Every send's on_done runs exactly once.
 * T3  No callback runs from inside stream_receive() or stream_send(): they come
 *     from the loop.  stream_close() alone calls the on_done of sends that are
 *     outstanding, from inside.  A callback may close the stream and free it.
 * T4  After the first error every outstanding and later operation ends with
 *     it; the owner closes.
 *
 * The stream borrows all buffers until their completion, and never blocks.
 */
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "list.h"
#include "loop.h"

struct reason;
struct stream;
struct tls_context;
struct tls_session;

#define STREAM_IOV_MAX 4 /* vectors of one send */

/* A send in progress; lives in its owner until on_done ran. */
struct stream_send {
	struct list_head entry;
	struct iovec iov[STREAM_IOV_MAX];
	unsigned int iov_count;
	size_t length; /* of all vectors */
	void (*on_done)(struct stream_send *send, int error);
};

struct stream_ops {
	/* The receive ended: `received` bytes, 0 at the end, or a negative
	 * errno. */
	void (*on_receive)(struct stream *stream, ssize_t received);
	/* The TLS handshake ended: 0 or a negative errno and a reason. */
	void (*on_tls)(struct stream *stream, int error,
		       const struct reason *reason);
};

struct stream {
	const struct stream_ops *ops; /* borrowed */
	struct loop *loop;	      /* borrowed */
	struct watch watch;
	int fd;	   /* owned */
	int error; /* the first, negative; 0 while well */

	char *receive_buf; /* borrowed; NULL without a receive */
	size_t receive_min, receive_max, received;
	bool readable; /* worth trying without waiting for the loop */

	struct list_head sends; /* in order; the first may be partly out */
	struct list_head ended; /* whose on_done is due */
	size_t send_done;	/* bytes of the first that are out */
	size_t send_bytes;	/* queued in all */

	struct task task;	 /* tries, and delivers */
	struct tls_session *tls; /* owned; NULL when plain */
	bool handshaking;

	uint64_t bytes_in, bytes_out; /* so far: who watches sees progress */
	bool blocked;  /* the socket took no more; waits for WATCH_WRITE */
	bool ended_in; /* the peer sends no more */
	bool hung;     /* both ways are shut: the loop has no more to tell */
	bool *gone;    /* told by stream_close() to a handler on the stack */
};

/* Takes `fd`, on failure too (made non-blocking, TCP_NODELAY set where it
 * applies). */
int stream_open(struct stream *stream, struct loop *loop, int fd,
		const struct stream_ops *ops);

/* Drops the receive without a callback, closes fd, and last calls on_done of
 * outstanding sends with -ECANCELED (those may free the stream).  A second
 * call does nothing. */
void stream_close(struct stream *stream);

/* min <= max; both above 0. */
void stream_receive(struct stream *stream, void *buf, size_t min, size_t max);
void stream_send(struct stream *stream, struct stream_send *send);

/* No send outstanding, on_done of all has run. */
bool stream_is_flushed(const struct stream *stream);

/* Turn to TLS as the server or client, with nothing outstanding.  The end of
 * the handshake comes by ops->on_tls.  `host` (client, x509) is borrowed. */
int stream_start_tls(struct stream *stream, const struct tls_context *context,
		     const char *host, struct reason *reason);

/* After the handshake: as tls_session_export(). */
int stream_export(struct stream *stream, const char *label, void *ret_bytes,
		  size_t length);

/*
 * --- listening and addresses ---
 *
 * An address is "unix:PATH", "tcp:HOST:PORT", "tcp:[::1]:PORT" or
 * "tcp:*:PORT" (IPv6 and IPv4).  Port 0 picks a free one.  A name with several
 * addresses is bound to the first that can be.
 */
struct listener {
	struct watch watch;
	int fd;	    /* owned */
	char *path; /* owned: a Unix socket to remove; NULL otherwise */
	char *name; /* owned: the address as bound, with the port's number */
	void (*on_accept)(struct listener *listener, int fd); /* takes fd */
	dev_t device; /* of path, as bound: another's file is left alone */
	ino_t inode;
	struct timer pause; /* out of descriptors: accepts again later */
};

/* `mode` and `group` (-1: leave) are for Unix sockets.  A socket file that no
 * process listens on is removed first; one in use is refused.  Names are
 * looked up here and now, blocking: call it at start. */
int listener_open(struct listener *listener, struct loop *loop,
		  const char *address, unsigned int mode, int group,
		  void (*on_accept)(struct listener *, int fd),
		  struct reason *reason);
void listener_close(struct listener *listener); /* closed ones too */

#endif

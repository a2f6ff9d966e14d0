/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stream - see stream.h.
 *
 * System calls are what a busy disk pays for, so there are few:
 *
 * S1  A receive is tried at once only if the one before filled its buffer or
 *     the loop has told of bytes; a receive that came short has emptied the
 *     socket, the loop will tell when there is more.
 * S2  Sends wait for the task, which runs once a turn and hands the socket all
 *     that the turn has gathered.
 * S3  The watch keeps asking for bytes while no receive is outstanding; only
 *     when some came that nobody wants it stops, until somebody does.
 *
 * A handler may be closed by its own callback: after each callback the local
 * flag behind stream->gone is looked at before anything else is.
 */
#include "core/stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/reason.h"
#include "core/tls.h"

#define IOV_BATCH  256 /* vectors of one system call */
#define SEND_CALLS 16  /* system calls of one turn */

static void stream_on_event(struct watch *watch, unsigned int events);
static void stream_on_task(struct task *task);

/* Non-blocking; no delay where the protocol has one to offer. */
static int
prepare(int fd)
{
	int domain = AF_UNSPEC, one = 1;
	socklen_t length = sizeof(domain);
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	(void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
	if (domain == AF_INET || domain == AF_INET6)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one,
				 sizeof(one));
	return 0;
}

int
stream_open(struct stream *stream, struct loop *loop, int fd,
	    const struct stream_ops *ops)
{
	int r;

	*stream = (struct stream){ .ops = ops, .loop = loop, .fd = fd };
	INIT_LIST_HEAD(&stream->sends);
	INIT_LIST_HEAD(&stream->ended);
	task_init(&stream->task, loop, stream_on_task);
	r = prepare(fd);
	if (r == 0)
		r = watch_open(&stream->watch, loop, fd, WATCH_READ,
			       stream_on_event);
	if (r < 0) {
		(void)close(fd);
		stream->fd = -1;
	}
	return r;
}

void
stream_close(struct stream *stream)
{
	LIST_HEAD(ended);

	if (stream->fd < 0)
		return;
	if (stream->gone != NULL)
		*stream->gone = true;
	stream->gone = NULL;
	watch_close(&stream->watch);
	task_cancel(&stream->task);
	stream->tls = tls_session_free(stream->tls);
	(void)close(stream->fd);
	stream->fd = -1;
	stream->error = -ECANCELED;
	stream->receive_buf = NULL;
	stream->send_bytes = 0;
	list_splice_tail_init(&stream->ended, &ended);
	list_splice_tail_init(&stream->sends, &ended);
	while (!list_empty(&ended)) {
		struct stream_send *send =
			list_first_entry(&ended, struct stream_send, entry);

		list_del_init(&send->entry);
		send->on_done(send, -ECANCELED);
	}
}

bool
stream_is_flushed(const struct stream *stream)
{
	return list_empty(&stream->sends) && list_empty(&stream->ended);
}

/* The loop is to tell of `event`, or no longer. */
static void
ask(struct stream *stream, unsigned int event, bool wanted)
{
	unsigned int events = stream->watch.events;

	if (stream->hung)
		return;
	watch_set(&stream->watch, wanted ? events | event : events & ~event);
}

void
stream_receive(struct stream *stream, void *buf, size_t min, size_t max)
{
	assert(stream->receive_buf == NULL && !stream->handshaking);
	assert(min > 0 && min <= max);
	if (stream->fd < 0)
		return;
	stream->receive_buf = buf;
	stream->receive_min = min;
	stream->receive_max = max;
	stream->received = 0;
	if (stream->readable || stream->error != 0 || stream->ended_in)
		task_post(&stream->task);
	else
		ask(stream, WATCH_READ, true);
}

void
stream_send(struct stream *stream, struct stream_send *send)
{
	assert(stream->fd >= 0 && !stream->handshaking);
	assert(send->iov_count > 0 && send->iov_count <= STREAM_IOV_MAX);
	send->length = 0;
	for (unsigned int i = 0; i < send->iov_count; i++)
		send->length += send->iov[i].iov_len;
	assert(send->length > 0);
	stream->send_bytes += send->length;
	list_add_tail(&send->entry, &stream->sends);
	if (!stream->blocked)
		task_post(&stream->task);
}

static void
fail(struct stream *stream, int error)
{
	if (stream->error == 0)
		stream->error = error;
	stream->blocked = false;
}

/* --- moving bytes --- */

static ssize_t
receive_some(struct stream *stream, char *buf, size_t length)
{
	ssize_t n;

	if (stream->tls != NULL)
		return tls_session_receive(stream->tls, buf, length);
	do
		n = recv(stream->fd, buf, length, 0);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* Whether, after a receive of `n` of `asked` bytes, another is worth trying
 * before the loop speaks. */
static bool
may_have_more(const struct stream *stream, ssize_t n, size_t asked)
{
	if (stream->hung)
		return true;
	if (stream->tls != NULL) /* a record at a time, however many came */
		return stream->received < stream->receive_min ||
		       tls_session_has_more(stream->tls);
	return (size_t)n == asked;
}

static void
try_receive(struct stream *stream)
{
	while (stream->readable && stream->error == 0 &&
	       stream->received < stream->receive_min) {
		size_t asked = stream->receive_max - stream->received;
		ssize_t n = receive_some(
			stream, stream->receive_buf + stream->received, asked);

		if (n == -EAGAIN && !stream->hung) {
			stream->readable = false;
		} else if (n < 0) {
			fail(stream, n == -EAGAIN ? -ECONNRESET : (int)n);
		} else if (n == 0) {
			stream->ended_in = true;
			stream->readable = false;
		} else {
			stream->received += (size_t)n;
			stream->bytes_in += (uint64_t)n;
			stream->readable = may_have_more(stream, n, asked);
		}
	}
	if (!stream->readable && !stream->ended_in && stream->error == 0)
		ask(stream, WATCH_READ, true);
}

static unsigned int
gather(const struct stream *stream, struct iovec *iov)
{
	unsigned int count = 0;
	size_t skip = stream->send_done;
	struct stream_send *send;

	list_for_each_entry (send, &stream->sends, entry) {
		for (unsigned int i = 0; i < send->iov_count; i++) {
			struct iovec part = send->iov[i];
			size_t cut = skip < part.iov_len ? skip : part.iov_len;

			skip -= cut;
			part.iov_base = (char *)part.iov_base + cut;
			part.iov_len -= cut;
			if (part.iov_len > 0)
				iov[count++] = part;
			if (count == IOV_BATCH)
				return count;
		}
	}
	return count;
}

static ssize_t
send_some(struct stream *stream, struct iovec *iov, unsigned int count)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t n;

	if (stream->tls != NULL)
		return tls_session_send(stream->tls, iov, count);
	do
		n = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* `n` bytes have left: the sends that are through are due. */
static void
advance(struct stream *stream, size_t n)
{
	stream->bytes_out += n;
	stream->send_bytes -= n;
	stream->send_done += n;
	while (!list_empty(&stream->sends)) {
		struct stream_send *send = list_first_entry(
			&stream->sends, struct stream_send, entry);

		if (stream->send_done < send->length)
			return;
		stream->send_done -= send->length;
		list_move_tail(&send->entry, &stream->ended);
	}
	assert(stream->send_done == 0);
}

static void
try_send(struct stream *stream)
{
	struct iovec iov[IOV_BATCH];

	for (int calls = 0; !list_empty(&stream->sends); calls++) {
		ssize_t n;

		if (stream->error != 0 || stream->blocked)
			return;
		if (calls == SEND_CALLS) {
			task_post(&stream->task);
			return;
		}
		n = send_some(stream, iov, gather(stream, iov));
		if (n == -EAGAIN && !stream->hung) {
			stream->blocked = true;
			ask(stream, WATCH_WRITE, true);
		} else if (n < 0) {
			fail(stream, n == -EAGAIN ? -ECONNRESET : (int)n);
		} else {
			advance(stream, (size_t)n);
		}
	}
}

/* --- delivering --- */

/* Both return false when the stream is gone. */

static bool
deliver_sends(struct stream *stream, const bool *gone)
{
	struct list_head *lists[] = { &stream->ended, &stream->sends };

	for (int i = 0; i < 2; i++) {
		int error = i == 0 ? 0 : stream->error;

		while ((i == 0 || error != 0) && !list_empty(lists[i])) {
			struct stream_send *send = list_first_entry(
				lists[i], struct stream_send, entry);

			list_del_init(&send->entry);
			send->on_done(send, error);
			if (*gone)
				return false;
		}
	}
	if (stream->error != 0)
		stream->send_bytes = stream->send_done = 0;
	return true;
}

static bool
deliver_receive(struct stream *stream, const bool *gone)
{
	ssize_t result;

	if (stream->receive_buf == NULL)
		return true;
	if (stream->received >= stream->receive_min)
		result = (ssize_t)stream->received;
	else if (stream->error != 0)
		result = stream->error;
	else if (stream->ended_in)
		result = stream->received == 0 ? 0 : -ECONNRESET;
	else
		return true;
	stream->receive_buf = NULL;
	stream->ops->on_receive(stream, result);
	return !*gone;
}

static bool
deliver_tls(struct stream *stream, const bool *gone)
{
	struct reason reason = { "" };
	int r = tls_session_handshake(stream->tls, &reason);

	if (r == -EAGAIN && !stream->hung) {
		ask(stream, WATCH_WRITE, tls_session_wants_write(stream->tls));
		return true;
	}
	stream->handshaking = false;
	if (r == -EAGAIN)
		r = reason_set(&reason, -ECONNRESET,
			       "the peer hung up in the TLS handshake");
	if (r < 0)
		fail(stream, r);
	ask(stream, WATCH_WRITE, false);
	stream->readable = true; /* records may have come with the last one */
	stream->ops->on_tls(stream, r, &reason);
	return !*gone;
}

static void
stream_run(struct stream *stream, bool sending)
{
	bool gone = false;

	/* unset again unless the stream is gone */
	/* cppcheck-suppress autoVariables */
	stream->gone = &gone;
	if (stream->handshaking) {
		if (!deliver_tls(stream, &gone))
			return;
	} else {
		if (sending)
			try_send(stream);
		if (stream->receive_buf != NULL)
			try_receive(stream);
		if (!deliver_sends(stream, &gone) ||
		    !deliver_receive(stream, &gone))
			return;
	}
	stream->gone = NULL;
}

static void
stream_on_task(struct task *task)
{
	stream_run(container_of(task, struct stream, task), true);
}

static void
stream_on_event(struct watch *watch, unsigned int events)
{
	struct stream *stream = container_of(watch, struct stream, watch);

	if (events & WATCH_WRITE) {
		stream->blocked = false;
		ask(stream, WATCH_WRITE, false);
	}
	if (events & WATCH_READ) {
		stream->readable = true;
		if (stream->receive_buf == NULL && !stream->handshaking)
			ask(stream, WATCH_READ, false);
	}
	if (events & WATCH_HUP) {
		/* told again and again unless the watch is closed */
		watch_close(watch);
		stream->hung = true;
		stream->blocked = false;
		stream->readable = !stream->ended_in;
	}
	stream_run(stream, (events & (WATCH_WRITE | WATCH_HUP)) != 0); /* S2 */
}

int
stream_start_tls(struct stream *stream, const struct tls_context *context,
		 const char *host, struct reason *reason)
{
	assert(stream->receive_buf == NULL && stream_is_flushed(stream));
	assert(stream->tls == NULL && stream->fd >= 0);
	stream->tls = tls_session_new(context, stream->fd, host, reason);
	if (stream->tls == NULL)
		return -ENOMEM;
	stream->handshaking = true;
	ask(stream, WATCH_READ, true);
	task_post(&stream->task);
	return 0;
}

int
stream_export(struct stream *stream, const char *label, void *ret_bytes,
	      size_t length)
{
	if (stream->tls == NULL || stream->handshaking)
		return -ENOTCONN;
	return tls_session_export(stream->tls, label, ret_bytes, length);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_libaio - the back-end over Linux's native AIO (io_submit(2)).
 *
 * The kernel maps its ring of completions into the process, and the context's
 * handle is its address (linux: fs/aio.c, struct aio_ring).  Reading it there
 * costs no system call.  A kernel that offers no ring of the known shape is
 * asked by io_getevents(2).
 *
 * io_submit() blocks while a transfer through the page cache waits for its
 * device, and knows flushes only on some file systems: io.c sends both to the
 * helpers.
 *
 * Transfers of files in memory end inside io_submit().  They are `silent`: the
 * event descriptor is not written for them, since whoever was woken by it would
 * find nothing left.  Were the file not what the driver said, the wait is made
 * here rather than lost.
 */
#include "core/io_backend.h"

#include <assert.h>
#include <errno.h>
#include <libaio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define AIO_RING_MAGIC 0xa10a10a1u
#define REAP_BATCH     64

struct aio_ring {
	unsigned int id;
	unsigned int nr;   /* slots */
	unsigned int head; /* ours */
	unsigned int tail; /* the kernel's */
	unsigned int magic;
	unsigned int compat_features;
	unsigned int incompat_features;
	unsigned int header_length;
	struct io_event events[];
};

static_assert(sizeof(struct aio_ring) == 32, "the kernel's layout");
static_assert(sizeof(struct iocb) <= sizeof(((struct tiocb *)0)->kernel),
	      "an iocb fits into the tiocb");

struct libaio {
	struct io *io; /* borrowed */
	io_context_t context;
	int eventfd;
	bool mapped;
	unsigned int silent; /* with the kernel, without the eventfd */
	unsigned int count;  /* of put */
	struct iocb *put[IO_DEPTH];
};

static void
libaio_close(void *state)
{
	struct libaio *aio = state;

	if (aio->context)
		io_destroy(aio->context);
	if (aio->eventfd >= 0)
		close(aio->eventfd);
	free(aio);
}

static int
libaio_open(struct io *io, void **ret_state)
{
	struct libaio *aio = calloc(1, sizeof(*aio));
	struct aio_ring *ring;
	int error;

	if (!aio)
		return -ENOMEM;
	aio->io = io;
	aio->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	error = aio->eventfd < 0 ? -errno : io_setup(IO_DEPTH, &aio->context);
	if (error < 0) {
		libaio_close(aio);
		return error;
	}
	assert(aio->context != NULL);
	ring = (struct aio_ring *)(void *)aio->context;
	aio->mapped =
		ring->magic == AIO_RING_MAGIC && ring->incompat_features == 0;
	*ret_state = aio;
	return 0;
}

static int
libaio_fd(const void *state)
{
	const struct libaio *aio = state;

	return aio->eventfd;
}

static bool
libaio_is_silent(const struct libaio *aio, const struct tiocb *tiocb)
{
	return tiocb->file == TD_FILE_MEMORY && aio->mapped;
}

static void
libaio_put(void *state, struct tiocb *tiocb)
{
	struct libaio *aio = state;
	struct iocb *iocb = (struct iocb *)(void *)tiocb->kernel;
	char *buf = tiocb->buf + tiocb->done;
	size_t bytes = tiocb->bytes - tiocb->done;
	long long offset = tiocb->offset + (long long)tiocb->done;

	assert(tiocb->op == TIOCB_READ || tiocb->op == TIOCB_WRITE);
	assert(aio->count < IO_DEPTH);
	if (tiocb->op == TIOCB_READ)
		io_prep_pread(iocb, tiocb->fd, buf, bytes, offset);
	else
		io_prep_pwrite(iocb, tiocb->fd, buf, bytes, offset);
	if (!libaio_is_silent(aio, tiocb))
		io_set_eventfd(iocb, aio->eventfd);
	iocb->data = tiocb;
	aio->put[aio->count++] = iocb;
}

static unsigned int
libaio_count_silent(const struct libaio *aio, struct iocb *const *iocb,
		    int count)
{
	unsigned int silent = 0;

	while (count-- > 0)
		silent += libaio_is_silent(aio, iocb[count]->data);
	return silent;
}

static int
libaio_kick(void *state)
{
	struct libaio *aio = state;
	unsigned int sent = 0;
	int n = 0;

	while (sent < aio->count) {
		n = io_submit(aio->context, (long)(aio->count - sent),
			      aio->put + sent);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN || n == 0)
			break;
		if (n < 0) { /* the first of them is at fault */
			io_completed(aio->io, aio->put[sent]->data, n);
			n = 1;
		} else {
			aio->silent +=
				libaio_count_silent(aio, aio->put + sent, n);
		}
		sent += (unsigned int)n;
	}
	aio->count -= sent;
	memmove(aio->put, aio->put + sent, aio->count * sizeof(aio->put[0]));
	return aio->count ? -EAGAIN : 0;
}

static void
libaio_event(struct libaio *aio, const struct io_event *event)
{
	aio->silent -= libaio_is_silent(aio, event->data);
	io_completed(aio->io, event->data, (int)(long)event->res);
}

static void
libaio_reap_mapped(struct libaio *aio)
{
	struct aio_ring *ring = (struct aio_ring *)(void *)aio->context;
	unsigned int head = ring->head;
	unsigned int tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);

	while (head != tail) {
		libaio_event(aio, &ring->events[head]);
		head = (head + 1) % ring->nr;
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

static void
libaio_reap_called(struct libaio *aio, long wait_for)
{
	struct timespec at_once = { 0 };
	struct io_event event[REAP_BATCH];
	int i, n;

	do {
		n = io_getevents(aio->context, wait_for, REAP_BATCH, event,
				 wait_for ? NULL : &at_once);
		for (i = 0; i < n; i++)
			libaio_event(aio, &event[i]);
	} while (n == REAP_BATCH || n == -EINTR);
}

static void
libaio_reap(void *state, bool woken)
{
	struct libaio *aio = state;
	uint64_t count;
	ssize_t n;

	if (woken) {
		do
			n = read(aio->eventfd, &count, sizeof(count));
		while (n < 0 && errno == EINTR);
	}
	if (aio->mapped)
		libaio_reap_mapped(aio);
	else if (woken)
		libaio_reap_called(aio, 0);
	while (aio->silent)
		libaio_reap_called(aio, 1);
}

const struct io_backend io_backend_libaio = {
	.name = "libaio",
	.flushes = false,
	.buffered = false,
	.batches = true,
	.open = libaio_open,
	.close = libaio_close,
	.fd = libaio_fd,
	.put = libaio_put,
	.kick = libaio_kick,
	.reap = libaio_reap,
};

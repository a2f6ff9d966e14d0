/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io - the queue between drivers and the back-ends of disk I/O.
 *
 *   io_queue -> queue --(once a turn)--> back-end --> done -> callback
 *          \--> helper threads ---------------------/
 *
 * What the back-end cannot do without blocking goes straight to the helpers,
 * as does a long copy from or to a file in memory, which the loop would else
 * make itself; neither counts against IO_DEPTH, so calls that hang hold up no
 * transfer of the back-end.  All else waits in `queue` for the task that runs
 * once a turn.  After it has submitted, it looks at the back-end's completions
 * in memory: for a file in memory they are there already, and a turn of the
 * loop is saved.  A single transfer of such a file does without the back-end,
 * as do all if that is not good at them.
 *
 * I4  A tiocb is in one place: queue, the back-end, the helpers, or done.
 *     `pending` counts all four, `kernel` those with the back-end.
 */
#include "core/io.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "core/io_backend.h"
#include "core/loop.h"
#include "core/reason.h"
#include "core/tapdisk-interface.h"

/* How long to wait after the kernel was short of memory for requests. */
#define KICK_AGAIN_NS NS_PER_MS

/* Bytes from which on copying takes longer than waking a helper for it; the
 * loop meanwhile receives the next request, or sends the last answer. */
#define IO_COPY_LARGE (256u << 10)

struct io {
	struct loop *loop; /* borrowed */
	const struct io_backend *backend;
	void *state;		  /* owned: the back-end's */
	struct io_helper *helper; /* owned */
	struct list_head queue;
	struct list_head done; /* results stand, callbacks are due */
	unsigned int kernel;
	unsigned int pending;
	struct task submit;
	struct timer again;
	struct watch backend_watch;
	struct watch helper_watch;
};

/* In order of preference. */
static const struct io_backend *const io_backends[] = {
	&io_backend_libaio,
	&io_backend_uring,
};

#define IO_BACKENDS (sizeof(io_backends) / sizeof(io_backends[0]))

/* --- completion --- */

static void
io_finish(struct io *io, struct tiocb *tiocb, int result)
{
	tiocb->result = result;
	list_add_tail(&tiocb->entry, &io->done);
}

/* What is left of a transfer goes first: it has waited already. */
static void
io_carry_on(struct io *io, struct tiocb *tiocb)
{
	list_add(&tiocb->entry, &io->queue);
	task_post(&io->submit);
}

static void
io_moved(struct io *io, struct tiocb *tiocb, int result)
{
	if (result == -EINTR) {
		io_carry_on(io, tiocb);
		return;
	}
	if (result < 0) {
		io_finish(io, tiocb, result);
		return;
	}
	tiocb->done += (size_t)result;
	if (tiocb->done >= tiocb->bytes)
		io_finish(io, tiocb, 0);
	else if (result == 0)
		io_finish(io, tiocb, -EIO);
	else
		io_carry_on(io, tiocb);
}

void
io_completed(struct io *io, struct tiocb *tiocb, int result)
{
	assert(io->kernel > 0);
	io->kernel--;
	io_moved(io, tiocb, result);
}

enum io_way {
	IO_BACKEND,
	IO_HELPER,
	IO_ON_THE_SPOT, /* but many by a back-end that does them in one call */
};

static enum io_way
io_way(const struct io *io, const struct tiocb *tiocb)
{
	bool asynchronous =
		tiocb->op == TIOCB_FLUSH ? io->backend->flushes : true;

	if (tiocb->op == TIOCB_CALL)
		return IO_HELPER;
	switch (tiocb->file) {
	case TD_FILE_DIRECT:
		break;
	case TD_FILE_BUFFERED:
		asynchronous = asynchronous && io->backend->buffered;
		break;
	case TD_FILE_MEMORY:
		return tiocb->op != TIOCB_FLUSH && tiocb->bytes >= IO_COPY_LARGE
			       ? IO_HELPER
			       : IO_ON_THE_SPOT;
	}
	return asynchronous ? IO_BACKEND : IO_HELPER;
}

static void
io_on_helped(struct io *io, struct tiocb *tiocb)
{
	if (tiocb->op == TIOCB_CALL)
		io_finish(io, tiocb, tiocb->result);
	else
		io_moved(io, tiocb, tiocb->result);
}

/* Only what is done now: callbacks may queue more. */
static void
io_deliver(struct io *io)
{
	LIST_HEAD(due);
	struct tiocb *tiocb;

	list_splice_tail_init(&io->done, &due);
	while (!list_empty(&due)) {
		tiocb = list_first_entry(&due, struct tiocb, entry);
		list_del(&tiocb->entry);
		assert(io->pending > 0);
		io->pending--;
		tiocb->cb(tiocb->arg, tiocb, tiocb->result);
	}
	if (!list_empty(&io->queue) && io->kernel < IO_DEPTH)
		task_post(&io->submit);
}

/* --- submission --- */

/* What is queued now: a transfer that is carried on waits for its turn. */
static void
io_submit_queue(struct io *io)
{
	LIST_HEAD(queue);
	struct tiocb *tiocb;
	enum io_way way;
	bool alone;

	list_splice_tail_init(&io->queue, &queue);
	alone = queue.next == queue.prev;
	while (!list_empty(&queue) && io->kernel < IO_DEPTH) {
		tiocb = list_first_entry(&queue, struct tiocb, entry);
		list_del(&tiocb->entry);
		way = io_way(io, tiocb);
		if (way == IO_ON_THE_SPOT && (alone || !io->backend->batches ||
					      tiocb->op == TIOCB_FLUSH)) {
			io_moved(io, tiocb, io_perform(tiocb));
		} else if (way == IO_HELPER) {
			io_helper_queue(io->helper, tiocb);
		} else {
			io->kernel++;
			io->backend->put(io->state, tiocb);
		}
	}
	list_splice_tail_init(&io->queue, &queue);
	list_splice_tail_init(&queue, &io->queue);
	if (io->kernel && io->backend->kick(io->state) < 0)
		timer_set(&io->again, KICK_AGAIN_NS);
}

static void
io_on_submit(struct task *task)
{
	struct io *io = container_of(task, struct io, submit);

	io_submit_queue(io);
	io->backend->reap(io->state, false);
	io_deliver(io);
}

static void
io_on_again(struct timer *timer)
{
	io_on_submit(&container_of(timer, struct io, again)->submit);
}

static void
io_on_backend(struct watch *watch, unsigned int events)
{
	struct io *io = container_of(watch, struct io, backend_watch);

	(void)events;
	io->backend->reap(io->state, true);
	io_deliver(io);
}

static void
io_on_helper(struct watch *watch, unsigned int events)
{
	struct io *io = container_of(watch, struct io, helper_watch);

	(void)events;
	io_helper_reap(io->helper);
	io_deliver(io);
}

void
io_queue(struct io *io, struct tiocb *tiocb)
{
	assert(tiocb->cb);
	io->pending++;
	if (io_way(io, tiocb) == IO_HELPER) {
		io_helper_queue(io->helper, tiocb);
		return;
	}
	list_add_tail(&tiocb->entry, &io->queue);
	task_post(&io->submit);
}

unsigned int
io_pending(const struct io *io)
{
	return io->pending;
}

void
io_drain(struct io *io)
{
	struct pollfd fds[2] = {
		{ .fd = io->backend->fd(io->state), .events = POLLIN },
		{ .fd = io_helper_fd(io->helper), .events = POLLIN },
	};
	int wait_ms;

	while (io->pending) {
		io_on_submit(&io->submit);
		/* The queue may have grown, or wait for memory. */
		wait_ms = !list_empty(&io->done)     ? 0
			  : !list_empty(&io->queue)  ? 1
			  : timer_is_set(&io->again) ? 1
						     : -1;
		if (!io->pending || poll(fds, 2, wait_ms) <= 0)
			continue;
		if (fds[0].revents)
			io->backend->reap(io->state, true);
		if (fds[1].revents)
			io_helper_reap(io->helper);
		io_deliver(io);
	}
}

/* --- life --- */

/* The name of a back-end that was asked for, or all of them in turn. */
static int
io_probe(struct io *io, const char *name, struct reason *reason)
{
	int error = -EINVAL;
	size_t i;

	for (i = 0; i < IO_BACKENDS; i++) {
		if (name && strcmp(name, io_backends[i]->name) != 0)
			continue;
		error = io_backends[i]->open(io, &io->state);
		if (error == 0) {
			io->backend = io_backends[i];
			return 0;
		}
		reason_set(reason, error,
			   "the disk back-end %s does not work here: %s%s",
			   io_backends[i]->name, reason_text(NULL, error),
			   name ? "; choose another" : "");
		if (name)
			return error;
	}
	if (name)
		reason_set(reason, error,
			   "there is no disk back-end \"%s\": choose libaio or "
			   "io_uring",
			   name);
	return error;
}

static int
io_watch(struct io *io)
{
	int error = watch_open(&io->backend_watch, io->loop,
			       io->backend->fd(io->state), WATCH_READ,
			       io_on_backend);

	if (error == 0)
		error = watch_open(&io->helper_watch, io->loop,
				   io_helper_fd(io->helper), WATCH_READ,
				   io_on_helper);
	return error;
}

struct io *
io_new(struct loop *loop, const char *backend, struct reason *reason)
{
	struct io *io = calloc(1, sizeof(*io));
	int error;

	if (!io) {
		reason_set(reason, -ENOMEM, "no memory for disk I/O");
		return NULL;
	}
	io->loop = loop;
	INIT_LIST_HEAD(&io->queue);
	INIT_LIST_HEAD(&io->done);
	task_init(&io->submit, loop, io_on_submit);
	timer_init(&io->again, loop, io_on_again);
	if (io_probe(io, backend, reason) < 0)
		return io_free(io);
	io->helper = io_helper_new(io, io_on_helped, reason);
	if (!io->helper)
		return io_free(io);
	error = io_watch(io);
	if (error < 0) {
		reason_set(reason, error, "cannot watch for disk I/O: %s",
			   reason_text(NULL, error));
		return io_free(io);
	}
	return io;
}

struct io *
io_free(struct io *io)
{
	if (!io)
		return NULL;
	assert(io->pending == 0);
	watch_close(&io->backend_watch);
	watch_close(&io->helper_watch);
	task_cancel(&io->submit);
	timer_clear(&io->again);
	io_helper_free(io->helper);
	if (io->backend)
		io->backend->close(io->state);
	free(io);
	return NULL;
}

const char *
io_backend_name(const struct io *io)
{
	return io->backend->name;
}

/* --- calls outside any driver --- */

static void
io_on_called(void *arg, struct tiocb *tiocb, int err)
{
	struct io_call *call = arg;

	(void)tiocb;
	call->on_done(call, err);
}

void
io_call(struct io *io, struct io_call *call)
{
	td_prep_call(&call->tiocb, call->call, call->arg, io_on_called, call);
	io_queue(io, &call->tiocb);
}

/* --- what drivers call --- */

void
td_prep_read(struct tiocb *tiocb, int fd, char *buf, size_t bytes,
	     long long offset, td_queue_callback_t cb, void *arg)
{
	*tiocb = (struct tiocb){
		.op = TIOCB_READ,
		.fd = fd,
		.buf = buf,
		.bytes = bytes,
		.offset = offset,
		.cb = cb,
		.arg = arg,
	};
}

void
td_prep_write(struct tiocb *tiocb, int fd, char *buf, size_t bytes,
	      long long offset, td_queue_callback_t cb, void *arg)
{
	td_prep_read(tiocb, fd, buf, bytes, offset, cb, arg);
	tiocb->op = TIOCB_WRITE;
}

void
td_prep_file(struct tiocb *tiocb, enum td_file file)
{
	tiocb->file = file;
}

void
td_prep_flush(struct tiocb *tiocb, int fd, td_queue_callback_t cb, void *arg)
{
	*tiocb = (struct tiocb){
		.op = TIOCB_FLUSH,
		.fd = fd,
		.cb = cb,
		.arg = arg,
	};
}

void
td_prep_call(struct tiocb *tiocb, int (*call)(void *), void *call_arg,
	     td_queue_callback_t cb, void *arg)
{
	*tiocb = (struct tiocb){
		.op = TIOCB_CALL,
		.fd = -1,
		.cb = cb,
		.arg = arg,
		.call = call,
		.call_arg = call_arg,
	};
}

void
td_queue_tiocb(td_driver_t *driver, struct tiocb *tiocb)
{
	io_queue(driver->io, tiocb);
}

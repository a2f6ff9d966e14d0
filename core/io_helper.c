/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * io_helper - the threads for calls that have no asynchronous form.
 *
 * H1  A thread touches the tiocb it was given and nothing else of the project:
 *     it reads op, fd, buf, bytes, offset, done, call, call_arg and writes
 *     result.
 * H2  Both lists and `quit` are guarded by the mutex.  The event descriptor
 *     is written when the list of finished jobs was empty before, so a burst
 *     of completions costs one wake-up.
 *
 * Signals are blocked in the threads: they are the main thread's.
 */
#include "core/io_backend.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/reason.h"

struct io_helper {
	struct io *io; /* borrowed */
	void (*on_done)(struct io *, struct tiocb *);
	int eventfd;
	int threads; /* running */
	pthread_t thread[IO_HELPERS];
	pthread_mutex_t mutex;
	pthread_cond_t work;
	struct list_head jobs;
	struct list_head finished;
	bool quit;
};

int
io_perform(const struct tiocb *tiocb)
{
	char *buf = tiocb->buf + tiocb->done;
	size_t bytes = tiocb->bytes - tiocb->done;
	off_t offset = tiocb->offset + (off_t)tiocb->done;
	ssize_t n = -1;

	switch (tiocb->op) {
	case TIOCB_READ:
		n = pread(tiocb->fd, buf, bytes, offset);
		break;
	case TIOCB_WRITE:
		n = pwrite(tiocb->fd, buf, bytes, offset);
		break;
	case TIOCB_FLUSH:
		n = fdatasync(tiocb->fd);
		break;
	case TIOCB_CALL:
		return tiocb->call(tiocb->call_arg);
	}
	return n < 0 ? -errno : (int)n;
}

static void
helper_finish(struct io_helper *helper, struct tiocb *tiocb)
{
	const uint64_t one = 1;

	if (list_empty(&helper->finished)) {
		ssize_t n = write(helper->eventfd, &one, sizeof(one));
		assert(n == (ssize_t)sizeof(one));
	}
	list_add_tail(&tiocb->entry, &helper->finished);
}

static void *
helper_main(void *arg)
{
	struct io_helper *helper = arg;
	struct tiocb *tiocb;

	pthread_mutex_lock(&helper->mutex);
	for (;;) {
		while (list_empty(&helper->jobs) && !helper->quit)
			pthread_cond_wait(&helper->work, &helper->mutex);
		if (helper->quit)
			break;
		tiocb = list_first_entry(&helper->jobs, struct tiocb, entry);
		list_del(&tiocb->entry);
		pthread_mutex_unlock(&helper->mutex);
		tiocb->result = io_perform(tiocb);
		pthread_mutex_lock(&helper->mutex);
		helper_finish(helper, tiocb);
	}
	pthread_mutex_unlock(&helper->mutex);
	return NULL;
}

static int
helper_start(struct io_helper *helper)
{
	sigset_t all, before;
	int error = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (helper->threads < IO_HELPERS && !error) {
		error = pthread_create(&helper->thread[helper->threads], NULL,
				       helper_main, helper);
		if (!error)
			helper->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -error;
}

struct io_helper *
io_helper_new(struct io *io, void (*on_done)(struct io *, struct tiocb *),
	      struct reason *reason)
{
	struct io_helper *helper = calloc(1, sizeof(*helper));
	int error;

	if (!helper) {
		reason_set(reason, -ENOMEM, "no memory for the helper threads");
		return NULL;
	}
	helper->io = io;
	helper->on_done = on_done;
	pthread_mutex_init(&helper->mutex, NULL);
	pthread_cond_init(&helper->work, NULL);
	INIT_LIST_HEAD(&helper->jobs);
	INIT_LIST_HEAD(&helper->finished);
	helper->eventfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	error = helper->eventfd < 0 ? -errno : helper_start(helper);
	if (error < 0) {
		reason_set(reason, error,
			   "cannot start the helper threads of disk I/O: %s",
			   reason_text(NULL, error));
		return io_helper_free(helper);
	}
	return helper;
}

struct io_helper *
io_helper_free(struct io_helper *helper)
{
	int i;

	if (!helper)
		return NULL;
	assert(list_empty(&helper->jobs) && list_empty(&helper->finished));
	pthread_mutex_lock(&helper->mutex);
	helper->quit = true;
	pthread_cond_broadcast(&helper->work);
	pthread_mutex_unlock(&helper->mutex);
	for (i = 0; i < helper->threads; i++)
		pthread_join(helper->thread[i], NULL);
	pthread_cond_destroy(&helper->work);
	pthread_mutex_destroy(&helper->mutex);
	if (helper->eventfd >= 0)
		close(helper->eventfd);
	free(helper);
	return NULL;
}

int
io_helper_fd(const struct io_helper *helper)
{
	return helper->eventfd;
}

void
io_helper_queue(struct io_helper *helper, struct tiocb *tiocb)
{
	pthread_mutex_lock(&helper->mutex);
	list_add_tail(&tiocb->entry, &helper->jobs);
	pthread_cond_signal(&helper->work);
	pthread_mutex_unlock(&helper->mutex);
}

void
io_helper_reap(struct io_helper *helper)
{
	LIST_HEAD(finished);
	struct tiocb *tiocb;
	uint64_t count;
	ssize_t n;

	/* The descriptor first: a job that finishes after it writes anew. */
	do
		n = read(helper->eventfd, &count, sizeof(count));
	while (n < 0 && errno == EINTR);
	pthread_mutex_lock(&helper->mutex);
	list_splice_tail_init(&helper->finished, &finished);
	pthread_mutex_unlock(&helper->mutex);
	while (!list_empty(&finished)) {
		tiocb = list_first_entry(&finished, struct tiocb, entry);
		list_del(&tiocb->entry);
		helper->on_done(helper->io, tiocb);
	}
}

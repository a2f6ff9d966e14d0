/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * store_file - metadata in a file: read when it is opened, written and flushed
 * through core/io, locked as an image is.
 *
 * What a daemon that was killed has written may still lie in the page cache,
 * and would be believed here and lost by a power failure: the file is flushed
 * before it is read.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/io.h"
#include "core/lock.h"
#include "core/reason.h"
#include "core/tapdisk-interface.h"
#include "replication/metadata.h"

struct store_file {
	struct store store;
	struct io *io; /* borrowed */
	int fd;	       /* owned */
	char *path;    /* owned */
};

static_assert(sizeof(struct tiocb) <= sizeof(((struct store_op *)0)->private),
	      "a tiocb fits into an operation");

static struct store_file *
file_of(struct store *store)
{
	return container_of(store, struct store_file, store);
}

static struct tiocb *
tiocb_of(struct store_op *op)
{
	return (struct tiocb *)(void *)op->private;
}

static long
file_read(struct store *store, void *buf, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(file_of(store)->fd, (char *)buf + done,
				  length - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (long)done;
}

static void
on_done(void *arg, struct tiocb *tiocb, int error)
{
	struct store_op *op = arg;

	(void)tiocb;
	op->on_done(op, error);
}

static void
file_write(struct store *store, struct store_op *op, const void *buf,
	   size_t length, uint64_t offset)
{
	struct store_file *file = file_of(store);

	td_prep_write(tiocb_of(op), file->fd, (char *)(uintptr_t)buf, length,
		      (long long)offset, on_done, op);
	td_prep_file(tiocb_of(op), TD_FILE_BUFFERED);
	io_queue(file->io, tiocb_of(op));
}

static void
file_flush(struct store *store, struct store_op *op)
{
	struct store_file *file = file_of(store);

	td_prep_flush(tiocb_of(op), file->fd, on_done, op);
	io_queue(file->io, tiocb_of(op));
}

static int
file_reserve(struct store *store, uint64_t length)
{
	if (fallocate(file_of(store)->fd, FALLOC_FL_KEEP_SIZE, 0,
		      (off_t)length) == 0 ||
	    errno == EOPNOTSUPP || errno == ENOSYS)
		return 0;
	return -errno;
}

static void
file_close(struct store *store)
{
	struct store_file *file = file_of(store);

	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

static const struct store_ops ops = {
	.read = file_read,
	.write = file_write,
	.flush = file_flush,
	.reserve = file_reserve,
	.close = file_close,
};

/* A new file is there after a crash only if its directory was flushed. */
static int
flush_directory(const char *path)
{
	char *copy = strdup(path);
	int fd, r = 0;

	if (copy == NULL)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(copy);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int
open_file(struct store_file *file, bool create, struct reason *reason)
{
	int flags = O_RDWR | O_CLOEXEC;
	bool created = false;
	int r;

	file->fd = open(file->path, flags);
	if (file->fd < 0 && errno == ENOENT && create) {
		file->fd = open(file->path, flags | O_CREAT | O_EXCL, 0600);
		created = file->fd >= 0;
	}
	if (file->fd < 0)
		return reason_set(reason, -errno,
				  "the metadata %s cannot be opened: %s",
				  file->path, strerror(errno));
	r = lock_image(file->fd, file->path, true, reason);
	if (r < 0)
		return r;
	if (fdatasync(file->fd) < 0)
		return reason_set(reason, -errno,
				  "the metadata %s cannot be made durable: %s",
				  file->path, strerror(errno));
	r = created ? flush_directory(file->path) : 0;
	if (r < 0)
		return reason_set(reason, r,
				  "the directory of %s cannot be made durable: "
				  "%s",
				  file->path, strerror(-r));
	return 0;
}

struct store *
store_open_file(struct io *io, const char *path, bool create,
		struct reason *reason)
{
	struct store_file *file = calloc(1, sizeof(*file));

	if (file == NULL)
		return NULL;
	file->store.ops = &ops;
	file->io = io;
	file->fd = -1;
	file->path = strdup(path);
	file->store.name = file->path;
	if (file->path == NULL || open_file(file, create, reason) < 0) {
		file_close(&file->store);
		return NULL;
	}
	return &file->store;
}

int
store_open_to_read(struct store **ret_store, const char *path,
		   struct reason *reason)
{
	static const struct store_ops only_read = { .read = file_read,
						    .close = file_close };
	struct store_file *file = calloc(1, sizeof(*file));
	int r = 0;

	if (file == NULL)
		return -ENOMEM;
	file->store.ops = &only_read;
	file->path = strdup(path);
	file->store.name = file->path;
	file->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (file->fd < 0)
		r = reason_set(reason, -errno, "%s cannot be opened: %s", path,
			       strerror(errno));
	else
		r = lock_image(file->fd, path, false, reason);
	if (r == 0 && file->path == NULL)
		r = -ENOMEM;
	if (r < 0)
		file_close(&file->store);
	else
		*ret_store = &file->store;
	return r;
}

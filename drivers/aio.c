/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * aio - a raw image: a file or a block device, sector by sector.
 *
 * How it is read and written is decided once, at open, and told by td_stats:
 *
 *   direct      O_DIRECT, past the page cache: files and devices that can
 *   page cache  without, where O_DIRECT cannot be had or is not wanted; slower,
 *               and helper threads may do the waiting
 *   memory      tmpfs, which is a page cache and nothing else; devices that are
 *               memory, past the page cache
 *
 * B1  sector_size is what O_DIRECT demands of offsets, so that every request
 *     the core lets through can be made.  A file whose size does not fit 4096
 *     is served in sectors of 512 through the page cache.
 * B2  Buffers need not be aligned.  One that is not goes through the bounce
 *     buffer, piece by piece; a second such request is -EBUSY meanwhile.
 *     (Never through a second descriptor with a page cache: what that holds of
 *     neighbouring sectors would overwrite what O_DIRECT wrote.)
 * B3  A request has one slot from td_queue_*() to its completion; without a
 *     free slot it is -EBUSY.
 * B4  What waits but has no asynchronous form (fallocate, lseek, ioctl) runs on
 *     a helper, which touches the slot and nothing else.
 *
 * The lock on the image goes with the descriptor.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/major.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/blk.h"
#include "core/io.h"
#include "core/lock.h"
#include "core/reason.h"
#include "core/tapdisk-interface.h"
#include "drivers/drivers.h"

#define BOUNCE_BYTES (1u << 20)
#define BOUNCE_ALIGN 4096
#define MAP_EDGES    16 /* changes between data and hole found by one call */

struct aio_request {
	struct tiocb tiocb;
	struct list_head entry; /* free list */
	td_request_t treq;
	struct aio *aio; /* borrowed */

	size_t moved; /* bytes, through the bounce buffer */
	size_t piece; /* the present one */

	/* for the helper: it reads these and writes edge */
	int fd;
	bool device;
	off_t offset, length;
	bool starts_with_data;
	int edges;
	off_t edge[MAP_EDGES]; /* ends of runs, data and hole in turn */
};

struct aio {
	td_driver_t *driver; /* borrowed */
	int fd;
	bool device;
	bool memory_device; /* its transfers end as they are submitted */
	enum td_file file;
	size_t memory_align; /* of buffers, for O_DIRECT */
	char *bounce;	     /* owned; NULL where any buffer will do */
	bool bouncing;
	struct list_head free;
	struct aio_request request[TAPDISK_DATA_REQUESTS];
};

/* How its transfers wait. */
static enum td_file
aio_kind(const struct aio *aio)
{
	return aio->memory_device && aio->file == TD_FILE_DIRECT
		       ? TD_FILE_MEMORY
		       : aio->file;
}

static const char *
aio_way(const struct aio *aio)
{
	switch (aio_kind(aio)) {
	case TD_FILE_DIRECT:
		return "direct";
	case TD_FILE_BUFFERED:
		return "page cache";
	case TD_FILE_MEMORY:
		return "memory";
	}
	abort();
}

/* --- slots --- */

static struct aio_request *
aio_get(td_driver_t *driver, td_request_t treq)
{
	struct aio *aio = driver->data;
	struct aio_request *request;

	if (list_empty(&aio->free)) {
		td_complete_request(treq, -EBUSY);
		return NULL;
	}
	request = list_first_entry(&aio->free, struct aio_request, entry);
	list_del(&request->entry);
	request->treq = treq;
	request->fd = aio->fd;
	request->device = aio->device;
	request->offset = (off_t)(treq.sec << SECTOR_SHIFT);
	request->length = (off_t)treq.secs << SECTOR_SHIFT;
	return request;
}

static void
aio_end(struct aio_request *request, int error)
{
	td_request_t treq = request->treq;

	list_add(&request->entry, &request->aio->free);
	td_complete_request(treq, error);
}

static void
aio_on_end(void *arg, struct tiocb *tiocb, int error)
{
	(void)tiocb;
	aio_end(arg, error);
}

/* --- read and write --- */

static void
aio_transfer(struct aio_request *request, char *buf, size_t bytes, off_t offset,
	     td_queue_callback_t cb)
{
	struct aio *aio = request->aio;

	if (request->treq.op == TD_OP_READ)
		td_prep_read(&request->tiocb, aio->fd, buf, bytes, offset, cb,
			     request);
	else
		td_prep_write(&request->tiocb, aio->fd, buf, bytes, offset, cb,
			      request);
	td_prep_file(&request->tiocb, aio_kind(aio));
	td_queue_tiocb(aio->driver, &request->tiocb);
}

static void aio_on_bounced(void *arg, struct tiocb *tiocb, int error);

static void
aio_bounce(struct aio_request *request)
{
	struct aio *aio = request->aio;
	size_t left = (size_t)request->length - request->moved;

	request->piece = left < BOUNCE_BYTES ? left : BOUNCE_BYTES;
	if (request->treq.op == TD_OP_WRITE)
		memcpy(aio->bounce, request->treq.buf + request->moved,
		       request->piece);
	aio_transfer(request, aio->bounce, request->piece,
		     request->offset + (off_t)request->moved, aio_on_bounced);
}

static void
aio_on_bounced(void *arg, struct tiocb *tiocb, int error)
{
	struct aio_request *request = arg;
	struct aio *aio = request->aio;

	(void)tiocb;
	if (!error && request->treq.op == TD_OP_READ)
		memcpy(request->treq.buf + request->moved, aio->bounce,
		       request->piece);
	request->moved += request->piece;
	if (!error && request->moved < (size_t)request->length) {
		aio_bounce(request);
		return;
	}
	aio->bouncing = false;
	aio_end(request, error);
}

static void
aio_queue_transfer(td_driver_t *driver, td_request_t treq)
{
	struct aio *aio = driver->data;
	bool bounce = aio->bounce && (uintptr_t)treq.buf % aio->memory_align;
	struct aio_request *request;

	if (bounce && aio->bouncing) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	request = aio_get(driver, treq);
	if (!request)
		return;
	if (!bounce) {
		aio_transfer(request, treq.buf, (size_t)request->length,
			     request->offset, aio_on_end);
		return;
	}
	aio->bouncing = true;
	request->moved = 0;
	aio_bounce(request);
}

static void
aio_queue_flush(td_driver_t *driver, td_request_t treq)
{
	struct aio_request *request = aio_get(driver, treq);

	if (!request)
		return;
	td_prep_flush(&request->tiocb, request->fd, aio_on_end, request);
	td_prep_file(&request->tiocb, aio_kind(request->aio));
	td_queue_tiocb(driver, &request->tiocb);
}

/* --- discard and write zeroes --- */

static int
aio_fallocate(const struct aio_request *request, int mode)
{
	if (fallocate(request->fd, mode | FALLOC_FL_KEEP_SIZE, request->offset,
		      request->length) == 0)
		return 0;
	/* old kernels and drivers are of several minds */
	return errno == ENOTTY || errno == ENODEV ? -EOPNOTSUPP : -errno;
}

static int
aio_range_ioctl(const struct aio_request *request, unsigned long number)
{
	uint64_t range[2] = {
		(uint64_t)request->offset,
		(uint64_t)request->length,
	};

	return ioctl(request->fd, number, range) < 0 ? -errno : 0;
}

/* A hint: where the ground below cannot, nothing is lost by doing nothing. */
static int
aio_call_discard(void *arg)
{
	const struct aio_request *request = arg;
	int error = request->device
			    ? aio_range_ioctl(request, BLKDISCARD)
			    : aio_fallocate(request, FALLOC_FL_PUNCH_HOLE);

	return error == -EOPNOTSUPP || error == -ENOTTY ? 0 : error;
}

/*
 * Punching a hole never writes zeros out, on devices neither: it says
 * -EOPNOTSUPP instead.  For a file that holds of FALLOC_FL_ZERO_RANGE too; for
 * a device that and BLKZEROOUT may write every sector.
 */
static int
aio_call_zero(void *arg)
{
	const struct aio_request *request = arg;
	bool keep = td_flag_test(request->treq.flags, TD_REQUEST_NO_UNMAP);
	bool fast = td_flag_test(request->treq.flags, TD_REQUEST_FAST);
	int error = -EOPNOTSUPP;

	if (!keep)
		error = aio_fallocate(request, FALLOC_FL_PUNCH_HOLE);
	if (error != -EOPNOTSUPP)
		return error;
	if (!request->device)
		return aio_fallocate(request, FALLOC_FL_ZERO_RANGE);
	return fast ? -EOPNOTSUPP : aio_range_ioctl(request, BLKZEROOUT);
}

static void
aio_queue_call(td_driver_t *driver, td_request_t treq, int (*call)(void *),
	       td_queue_callback_t cb)
{
	struct aio_request *request = aio_get(driver, treq);

	if (!request)
		return;
	td_prep_call(&request->tiocb, call, request, cb, request);
	td_queue_tiocb(driver, &request->tiocb);
}

static void
aio_queue_discard(td_driver_t *driver, td_request_t treq)
{
	aio_queue_call(driver, treq, aio_call_discard, aio_on_end);
}

static void
aio_queue_write_zeroes(td_driver_t *driver, td_request_t treq)
{
	aio_queue_call(driver, treq, aio_call_zero, aio_on_end);
}

/* --- block status --- */

/* Where the run at `offset` ends: the next hole or, in a hole, data. */
static off_t
aio_run_end(const struct aio_request *request, off_t offset, bool data)
{
	off_t limit = request->offset + request->length;
	off_t end = lseek(request->fd, offset, data ? SEEK_HOLE : SEEK_DATA);

	/* ENXIO: no data up to the end.  A file system that does not know
	 * says that all is data. */
	return end < 0 || end > limit ? limit : end;
}

static int
aio_call_map(void *arg)
{
	struct aio_request *request = arg;
	off_t limit = request->offset + request->length;
	off_t at = request->offset;
	off_t first = lseek(request->fd, at, SEEK_DATA);
	bool data = first == at || (first < 0 && errno != ENXIO);

	request->starts_with_data = data;
	request->edges = 0;
	while (at < limit && request->edges < MAP_EDGES) {
		at = aio_run_end(request, at, data);
		request->edge[request->edges++] = at;
		data = !data;
	}
	return 0;
}

/* Runs end at sectors: a byte of data makes its sector data. */
static void
aio_on_mapped(void *arg, struct tiocb *tiocb, int error)
{
	struct aio_request *request = arg;
	td_request_t *treq = &request->treq;
	bool data = request->starts_with_data;
	off_t at = request->offset, end;
	int i;

	for (i = 0; !error && i < request->edges; i++) {
		end = request->edge[i];
		if (data)
			end = (end + DEFAULT_SECTOR_SIZE - 1) & ~511ll;
		else
			end &= ~511ll;
		if (end > at) {
			td_add_extent(*treq, (td_sector_t)at >> SECTOR_SHIFT,
				      (td_sector_t)(end - at) >> SECTOR_SHIFT,
				      data ? 0
					   : TD_EXTENT_HOLE | TD_EXTENT_ZERO);
			at = end;
		}
		data = !data;
	}
	if (error || at == request->offset) { /* no progress: say no more */
		aio_end(request, error);
		return;
	}
	request->length -= at - request->offset;
	request->offset = at;
	if (request->length > 0)
		td_queue_tiocb(request->aio->driver, tiocb);
	else
		aio_end(request, 0);
}

static void
aio_queue_block_status(td_driver_t *driver, td_request_t treq)
{
	struct aio *aio = driver->data;

	if (!aio->device) {
		aio_queue_call(driver, treq, aio_call_map, aio_on_mapped);
		return;
	}
	td_add_extent(treq, treq.sec, (td_sector_t)treq.secs, 0);
	td_complete_request(treq, 0);
}

/* --- open --- */

static int
aio_refuse_open(td_driver_t *driver, bool write, int error)
{
	switch (error) {
	case -ENOENT:
		return td_reason(driver, error, "there is no such file");
	case -EACCES:
	case -EPERM:
	case -EROFS:
		return td_reason(driver, error,
				 write ? "it cannot be opened for writing (%s):"
					 " serve it read-only, or make it "
					 "writable"
				       : "it cannot be opened for reading: %s",
				 strerror(-error));
	case -EBUSY:
		return td_reason(driver, error,
				 "the device is mounted or otherwise in use by "
				 "this host");
	default:
		return td_reason(driver, error, "it cannot be opened: %s",
				 strerror(-error));
	}
}

static int
aio_check_kind(td_driver_t *driver, const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return td_reason(driver, -EISDIR,
				 "it is a directory: name a file in it");
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return td_reason(driver, -EINVAL,
				 "it is neither a file nor a block device");
	return 0;
}

/* A RAM disk, or persistent memory (Documentation/ABI/stable/sysfs-block of
 * Linux: queue/dax). */
static bool
is_memory_device(dev_t device)
{
	char path[64];
	FILE *file;
	int dax;

	if (major(device) == RAMDISK_MAJOR)
		return true;
	(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/queue/dax",
		       major(device), minor(device));
	file = fopen(path, "re");
	if (!file)
		return false;
	dax = fgetc(file);
	(void)fclose(file);
	return dax == '1';
}

/* O_DIRECT where it can be had.  Kinds are looked at before the open, since
 * opening a pipe would wait. */
static int
aio_open_fd(td_driver_t *driver, const char *path, td_flag_t flags)
{
	struct aio *aio = driver->data;
	bool write = !td_flag_test(flags, TD_OPEN_RDONLY);
	int how = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
	struct statfs fs;
	struct stat st;
	int error;

	if (stat(path, &st) < 0)
		return aio_refuse_open(driver, write, -errno);
	error = aio_check_kind(driver, &st);
	if (error < 0)
		return error;
	aio->device = S_ISBLK(st.st_mode);
	aio->memory_device = aio->device && is_memory_device(st.st_rdev);
	if (aio->device && write && !td_flag_test(flags, TD_OPEN_QUERY))
		how |= O_EXCL;
	if (!aio->device && statfs(path, &fs) == 0 &&
	    fs.f_type == TMPFS_MAGIC) {
		aio->file = TD_FILE_MEMORY;
		aio->fd = open(path, how);
	} else if (td_flag_test(flags, TD_OPEN_NO_O_DIRECT)) {
		aio->file = TD_FILE_BUFFERED;
		aio->fd = open(path, how);
	} else {
		aio->file = TD_FILE_DIRECT;
		aio->fd = open(path, how | O_DIRECT);
	}
	if (aio->fd < 0 && errno == EINVAL) {
		aio->file = TD_FILE_BUFFERED;
		aio->fd = open(path, how);
	}
	return aio->fd < 0 ? aio_refuse_open(driver, write, -errno) : 0;
}

/* The size in bytes; refuses what is no whole number of sectors. */
static int
aio_get_size(td_driver_t *driver, uint64_t *ret_bytes)
{
	struct aio *aio = driver->data;
	uint64_t bytes, sectors;
	struct stat st;

	if (aio->device) {
		int error = blk_getimagesize(aio->fd, &sectors);

		if (error < 0)
			return td_reason(driver, error,
					 "its size cannot be told: %s",
					 strerror(-error));
		bytes = sectors << SECTOR_SHIFT;
	} else {
		if (fstat(aio->fd, &st) < 0)
			return -errno;
		bytes = (uint64_t)st.st_size;
	}
	if (bytes == 0)
		return td_reason(driver, -EINVAL,
				 "it is empty: give it the size of the disk, "
				 "for example with truncate -s 10G");
	if (bytes < DEFAULT_SECTOR_SIZE)
		return td_reason(driver, -EINVAL,
				 "it is shorter than one sector of 512 bytes");
	if (bytes % DEFAULT_SECTOR_SIZE)
		return td_reason(driver, -EINVAL,
				 "its size of %llu bytes does not end with a "
				 "sector of 512 bytes: if nothing is missing, "
				 "truncate -s %%512 fills it up",
				 (unsigned long long)bytes);
	*ret_bytes = bytes;
	return 0;
}

/* What O_DIRECT demands of offsets; 0 if it does not work at all. */
static unsigned int
aio_direct_alignment(struct aio *aio)
{
	struct statx stx;
	uint64_t sector_size = DEFAULT_SECTOR_SIZE;
	unsigned int align;
	char *page;

	aio->memory_align = BOUNCE_ALIGN;
	if (aio->device) {
		if (blk_getsectorsize(aio->fd, &sector_size) < 0)
			return 0;
		aio->memory_align = sector_size;
		return (unsigned int)sector_size;
	}
#ifdef STATX_DIOALIGN
	if (statx(aio->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN)) {
		if (stx.stx_dio_mem_align)
			aio->memory_align = stx.stx_dio_mem_align;
		return stx.stx_dio_offset_align;
	}
#else
	(void)stx;
#endif
	/* An old kernel: try it. */
	page = aligned_alloc(BOUNCE_ALIGN, BOUNCE_ALIGN);
	for (align = DEFAULT_SECTOR_SIZE; page && align <= 4096; align *= 8)
		if (pread(aio->fd, page, align, 0) >= 0)
			break;
	free(page);
	return page && align <= 4096 ? align : 0;
}

static int
aio_use_page_cache(struct aio *aio)
{
	int flags = fcntl(aio->fd, F_GETFL);

	aio->file = TD_FILE_BUFFERED;
	return fcntl(aio->fd, F_SETFL, flags & ~O_DIRECT) < 0 ? -errno : 0;
}

/* B1 and B2 */
static int
aio_settle(td_driver_t *driver, uint64_t bytes, td_flag_t flags)
{
	struct aio *aio = driver->data;
	unsigned int align = DEFAULT_SECTOR_SIZE;
	int error;

	if (aio->file == TD_FILE_DIRECT || aio->device)
		align = aio_direct_alignment(aio);
	if (align < DEFAULT_SECTOR_SIZE && align > 0)
		align = DEFAULT_SECTOR_SIZE;
	if (aio->file == TD_FILE_DIRECT && (align == 0 || bytes % align)) {
		error = aio_use_page_cache(aio);
		if (error < 0)
			return error;
		align = DEFAULT_SECTOR_SIZE;
	}
	if (aio->file == TD_FILE_BUFFERED &&
	    !td_flag_test(flags, TD_OPEN_QUIET | TD_OPEN_NO_O_DIRECT))
		log_info("aio", "%s: no O_DIRECT here: using the page cache",
			 driver->name);
	if (aio->file == TD_FILE_DIRECT && aio->memory_align > 1) {
		aio->bounce = aligned_alloc(BOUNCE_ALIGN, BOUNCE_BYTES);
		if (!aio->bounce)
			return -ENOMEM;
	}
	driver->info.size = bytes >> SECTOR_SHIFT;
	driver->info.sector_size = align;
	return 0;
}

static int
aio_close(td_driver_t *driver)
{
	struct aio *aio = driver->data;
	int error = 0;

	free(aio->bounce);
	aio->bounce = NULL;
	if (aio->fd >= 0 && close(aio->fd) < 0)
		error = -errno;
	aio->fd = -1;
	return error;
}

static int
aio_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct aio *aio = driver->data;
	uint64_t bytes = 0;
	int error, i;

	aio->driver = driver;
	aio->fd = -1;
	INIT_LIST_HEAD(&aio->free);
	for (i = TAPDISK_DATA_REQUESTS - 1; i >= 0; i--) {
		aio->request[i].aio = aio;
		list_add(&aio->request[i].entry, &aio->free);
	}
	if (!*name)
		return td_reason(driver, -EINVAL,
				 "write the path of a file or block device "
				 "after the colon");
	error = aio_open_fd(driver, name, flags);
	if (!error && !td_flag_test(flags, TD_OPEN_QUERY))
		error = lock_image(aio->fd, name,
				   !td_flag_test(flags, TD_OPEN_RDONLY),
				   driver->reason);
	if (!error)
		error = aio_get_size(driver, &bytes);
	if (!error)
		error = aio_settle(driver, bytes, flags);
	if (error < 0)
		(void)aio_close(driver);
	return error;
}

static int
aio_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
aio_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL; /* a raw image has no parent */
}

/* --- the rest --- */

static int
aio_grow(td_driver_t *driver, uint64_t bytes, td_sector_t sectors)
{
	struct aio *aio = driver->data;

	if (sectors <= bytes >> SECTOR_SHIFT)
		return 0;
	if (aio->device)
		return td_reason(driver, -EOPNOTSUPP,
				 "a block device is grown with its own tools; "
				 "then resize to the size it has");
	if (td_flag_test(driver->image->flags, TD_OPEN_RDONLY))
		return td_reason(driver, -EROFS, "it is open read-only");
	if (ftruncate(aio->fd, (off_t)(sectors << SECTOR_SHIFT)) < 0)
		return td_reason(driver, -errno, "it cannot be made larger: %s",
				 strerror(errno));
	return 0;
}

static int
aio_resize(td_driver_t *driver, td_sector_t sectors)
{
	td_sector_t unit = driver->info.sector_size >> SECTOR_SHIFT;
	uint64_t bytes = 0;
	int error = aio_get_size(driver, &bytes);

	if (error < 0)
		return error;
	if (sectors == 0)
		sectors = bytes >> SECTOR_SHIFT;
	sectors -= sectors % unit; /* a file that grew by less than a sector */
	if (sectors < driver->info.size)
		return td_reason(driver, -EINVAL,
				 "%llu bytes is less than it had when it was "
				 "opened, and a disk does not shrink",
				 (unsigned long long)sectors << SECTOR_SHIFT);
	error = aio_grow(driver, bytes, sectors);
	if (!error)
		driver->info.size = sectors;
	return error;
}

static void
aio_stats(td_driver_t *driver, struct json_t *object)
{
	struct aio *aio = driver->data;

	json_object_set_new(object, "direct",
			    json_boolean(aio->file == TD_FILE_DIRECT));
	json_object_set_new(object, "way", json_string(aio_way(aio)));
	json_object_set_new(object, "backend",
			    json_string(io_backend_name(driver->io)));
}

static void
aio_debug(td_driver_t *driver)
{
	struct aio *aio = driver->data;
	const struct list_head *entry;
	int used = TAPDISK_DATA_REQUESTS;

	list_for_each (entry, &aio->free)
		used--;
	DPRINTF("aio:%s: %llu sectors, %s, %d requests in flight", driver->name,
		(unsigned long long)driver->info.size, aio_way(aio), used);
}

struct tap_disk tapdisk_aio = {
	.disk_type = "tapdisk_aio",
	.private_data_size = sizeof(struct aio),
	.td_open = aio_open,
	.td_close = aio_close,
	.td_get_parent_id = aio_get_parent_id,
	.td_validate_parent = aio_validate_parent,
	.td_queue_read = aio_queue_transfer,
	.td_queue_write = aio_queue_transfer,
	.td_debug = aio_debug,
	.td_queue_flush = aio_queue_flush,
	.td_queue_discard = aio_queue_discard,
	.td_queue_write_zeroes = aio_queue_write_zeroes,
	.td_queue_block_status = aio_queue_block_status,
	.td_resize = aio_resize,
	.td_stats = aio_stats,
};

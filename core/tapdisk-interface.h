/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk-interface.h - what a driver may call.
 *
 * Names and shapes as in blktap2; what it lacked follows at the end.
 * All calls are made on the loop's thread.
 */
#ifndef CORE_TAPDISK_INTERFACE_H
#define CORE_TAPDISK_INTERFACE_H

#include <stddef.h>

#include "tapdisk-driver.h"
#include "tapdisk.h"

struct pool;

/* Give back treq.secs references of a request: 0 or a negative errno. */
void td_complete_request(td_request_t treq, int res);

/*
 * Hand a part of a request to the image below treq.image.  A read below the
 * last image, or past the end of a shorter parent, gives zeros.  With cb or
 * cb_data replaced it is a request of the driver's own: the part that it was
 * copied from stays with the driver, to be completed (or forwarded) later.
 */
void td_forward_request(td_request_t treq);

/*
 * Queue a request of the driver's own to `image` (td_image_below()), with its
 * own cb and cb_data.  Range, alignment and read-only are checked; a refused
 * request comes back through cb with a negative errno.
 */
void td_queue_read(td_image_t *image, td_request_t treq);
void td_queue_write(td_image_t *image, td_request_t treq);

/*
 * Fill a tiocb to read or write `bytes` at `offset` of `fd`.  `buf` is
 * borrowed until `cb` ran.  A result short of `bytes` reaches cb as -EIO.
 */
void td_prep_read(struct tiocb *tiocb, int fd, char *buf, size_t bytes,
		  long long offset, td_queue_callback_t cb, void *arg);
void td_prep_write(struct tiocb *tiocb, int fd, char *buf, size_t bytes,
		   long long offset, td_queue_callback_t cb, void *arg);
void td_queue_tiocb(td_driver_t *driver, struct tiocb *tiocb);

/* --- appended --- */

/* As td_queue_read, for any op: flush, discard, ... */
void td_queue_request(td_image_t *image, td_request_t treq);

/* The image under the driver's own; NULL if there is none (yet). */
td_image_t *td_image_below(td_driver_t *driver);

/*
 * After td_prep_read, td_prep_write or td_prep_flush: say what kind of file
 * `fd` is if it is not opened with O_DIRECT.  A transfer through a page cache
 * may wait while it is submitted; where the back-end would, a helper thread
 * does.  Files in memory are read and written on the spot, but for long
 * transfers, which a helper thread makes.  A tiocb of which nothing is said
 * goes to the back-end, whatever it waits for.
 */
void td_prep_file(struct tiocb *tiocb, enum td_file file);

/* Fill a tiocb that makes completed writes to `fd` durable (fdatasync). */
void td_prep_flush(struct tiocb *tiocb, int fd, td_queue_callback_t cb,
		   void *arg);

/*
 * Run `call(arg)` on a helper thread; its result (0 or a negative errno) comes
 * to `cb` as the tiocb's error.  For calls that have no asynchronous form; one
 * system call each, no project state touched.
 */
void td_prep_call(struct tiocb *tiocb, int (*call)(void *), void *call_arg,
		  td_queue_callback_t cb, void *arg);

/*
 * In td_queue_block_status: say that `secs` sectors from `sec` have the state
 * `flags` (TD_EXTENT_*).  Parts may be added in any order; an answer that does
 * not cover the whole request is cut at the first gap.  At most
 * TD_EXTENTS_MAX are kept.
 */
#define TD_EXTENTS_MAX 1024

struct td_extent {
	td_sector_t sec;
	td_sector_t secs;
	uint32_t flags;
};

struct td_extents {
	int count;
	struct td_extent extent[TD_EXTENTS_MAX];
};

void td_add_extent(td_request_t treq, td_sector_t sec, td_sector_t secs,
		   uint32_t flags);

/*
 * Whether guests may have the disk.  A driver that may not serve (a secondary)
 * or not now (a primary that has lost its peer) says so, and why.
 */
enum td_service {
	TD_SERVICE_OPEN,    /* the default */
	TD_SERVICE_HELD,    /* requests wait, without a time limit */
	TD_SERVICE_REFUSED, /* frontends let nobody in and send clients away */
};

/* `why` is copied; unused for TD_SERVICE_OPEN.  May be called from td_open. */
void td_set_service(td_driver_t *driver, enum td_service service,
		    const char *why);

/* The disk's size has changed: for the images above and the guests. */
void td_set_size(td_driver_t *driver, td_sector_t size);

/* The process's data buffers; NULL where there are none. */
struct pool *td_pool(td_driver_t *driver);

/*
 * Leave the sentence that td_open, td_resize or td_command failed with, for
 * the person who asked.  Returns `error`.
 */
int td_reason(td_driver_t *driver, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif

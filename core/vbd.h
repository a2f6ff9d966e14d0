/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vbd - one virtual disk: takes the requests of frontends, sees them through
 * the image stack, and ends each exactly once.
 *
 *          open            pause              unpause
 *   CLOSED ----> RUNNING --------> PAUSING -> PAUSED ----> RUNNING
 *      ^            | close           all requests back, images closed
 *      +--CLOSING <-+
 *
 * V1  Overlapping writes (discards and write-zeroes count) are never in flight
 *     together; those that wait go in order of arrival.
 * V2  At most VBD_DEPTH requests are in flight, VBD_WAITING_MAX wait; more is
 *     a frontend's error, frontends bound their own.
 * V3  Only -EBUSY, -EAGAIN and -EINTR are tried again, until the time limit.
 * V4  A request past the time limit ends with -ETIMEDOUT; its buffer and its
 *     range stay held until the last part has come back.
 * V5  A flush is sent when every write that ended before it was submitted is
 *     with the driver as completed: it covers all frontends' connections.
 */
#ifndef CORE_VBD_H
#define CORE_VBD_H

#include <stdbool.h>

#include "image.h"
#include "loop.h"
#include "request.h"
#include "stats.h"

#define VBD_DEPTH	256
#define VBD_WAITING_MAX 4096
#define VBD_TIMEOUT_S	120 /* a request's time limit unless set */

struct pool;
struct reason;

enum vbd_state {
	VBD_CLOSED,
	VBD_RUNNING,
	VBD_PAUSING,
	VBD_PAUSED,
	VBD_CLOSING,
};

struct vbd_options {
	const char *image;	/* the stack's name; copied */
	td_flag_t flags;	/* TD_OPEN_* */
	unsigned int timeout_s; /* 0: VBD_TIMEOUT_S */
};

/* Waits for a state change asked for; lives in its owner until on_done. */
struct vbd_waiter {
	struct list_head entry;
	void (*on_done)(struct vbd_waiter *waiter, int error,
			const struct reason *reason);
};

/* Hears of changes that a frontend must know: opened, closed, paused, size;
 * and, unless on_failure is NULL, of requests that the disk failed: -EIO,
 * -ENOSPC, -ETIMEDOUT. */
struct vbd_listener {
	struct list_head entry;
	void (*on_change)(struct vbd_listener *listener);
	void (*on_failure)(struct vbd_listener *listener,
			   const struct request *request, int error);
};

struct vbd *vbd_new(struct loop *loop, struct io *io,
		    const struct driver_type *types);
struct vbd *vbd_free(struct vbd *vbd); /* must be closed */

int vbd_open(struct vbd *vbd, const struct vbd_options *options,
	     struct reason *reason);

/* Let what is in flight end, flush, and close the images.  Requests waiting
 * fail with -ESHUTDOWN.  on_done from the loop. */
void vbd_close(struct vbd *vbd, struct vbd_waiter *waiter);

/* Let what is in flight end, flush, and close the images; requests wait. */
void vbd_pause(struct vbd *vbd, struct vbd_waiter *waiter);

/* Open the images again, by `image` unless NULL, and let the waiting go. A
 * smaller disk or another sector size is refused and the vbd stays paused. */
int vbd_unpause(struct vbd *vbd, const char *image, struct reason *reason);

/* on_done when no request is in flight or waiting; new ones are let in. */
void vbd_drain(struct vbd *vbd, struct vbd_waiter *waiter);

/* See struct request.  The request is checked: range, alignment, read-only. */
void vbd_submit(struct vbd *vbd, struct request *request);

/* Requests in flight or waiting, timed-out ones included. */
unsigned int vbd_pending(const struct vbd *vbd);

/* 0 bytes: look at the size of what lies underneath again. */
int vbd_resize(struct vbd *vbd, uint64_t bytes, struct reason *reason);

enum vbd_state vbd_state(const struct vbd *vbd);
const char *vbd_state_name(enum vbd_state state);
uint64_t vbd_size(const struct vbd *vbd);	     /* bytes */
unsigned int vbd_sector_size(const struct vbd *vbd); /* bytes */
bool vbd_is_read_only(const struct vbd *vbd);
bool vbd_can(const struct vbd *vbd, int op); /* TD_OP_*, emulated counts */
const char *vbd_image_name(const struct vbd *vbd); /* "" while closed */
struct image_stack *vbd_images(struct vbd *vbd);

/* Where drivers get buffers for data of their own; before vbd_open. */
void vbd_set_pool(struct vbd *vbd, struct pool *pool);

/* Whether a guest may have the disk now.  -ESHUTDOWN and the reason why not:
 * it is closed, or a driver refuses (TD_SERVICE_REFUSED). */
int vbd_admits(const struct vbd *vbd, struct reason *reason);

void vbd_listen(struct vbd *vbd, struct vbd_listener *listener);
void vbd_unlisten(struct vbd_listener *listener);

/* {"state", "image", "size", ..., "stats": of whole requests, "images"} */
struct json_t *vbd_json(const struct vbd *vbd);

#endif

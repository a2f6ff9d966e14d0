/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vbd_private.h - what vbd.c (states) and vbd_request.c (requests) share.
 * Nobody else includes it.
 */
#ifndef CORE_VBD_PRIVATE_H
#define CORE_VBD_PRIVATE_H

#include "core/vbd.h"

/* Steps of a pause or close. */
enum vbd_change {
	VBD_CHANGE_NONE,
	VBD_CHANGE_DRAINING, /* until no request is in flight */
	VBD_CHANGE_FLUSHING, /* the vbd's own flush is in flight */
	VBD_CHANGE_FLUSHED,  /* the images can be closed */
};

struct vbd {
	struct loop *loop; /* borrowed */
	struct image_stack images;
	char *name; /* owned; of the images that are or were open */
	td_flag_t flags;
	enum vbd_state state;
	td_sector_t size;
	unsigned int sector_size; /* bytes */
	uint64_t limit_ns;	  /* of a request */

	/* a request is on exactly one of these */
	struct list_head waiting;  /* WAITING, in order of arrival */
	struct list_head active;   /* ACTIVE: parts are with the stack */
	struct list_head back;	   /* ACTIVE: all parts have come back */
	struct list_head retrying; /* RETRYING */
	struct list_head ended;	   /* ENDED */
	unsigned int waiting_count;
	unsigned int active_count; /* active, back and retrying */
	unsigned int ended_count;
	unsigned int timed_out_count; /* done for the guest, still held */
	uint64_t next_id;

	struct task run; /* deals with back, ended, waiting, and change */
	struct timer retry_timer;
	struct timer limit_timer;

	enum vbd_change change;
	int change_error;
	struct request flush;	  /* the change's own */
	struct list_head changes; /* vbd_waiter of pause and close */
	struct list_head drains;  /* vbd_waiter of drain */
	struct list_head listeners;
	struct stats stats;
};

/* vbd_request.c */
void vbd_on_part(td_request_t treq, int res);
void vbd_on_run(struct task *task);
void vbd_on_retry(struct timer *timer);
void vbd_on_limit(struct timer *timer);
void vbd_start_own(struct vbd *vbd, struct request *request);
void vbd_refuse_waiting(struct vbd *vbd, int error);
void vbd_renew_deadlines(struct vbd *vbd);

/* vbd.c: take the next step of a change, if the last is over. */
void vbd_advance(struct vbd *vbd);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image - a stack of open images: filters, the leaf, and its parents.
 *
 * A name is "type:path", or several joined by "|", top first; all but the last
 * are filters over the next.  The parents of the last are found by
 * td_get_parent_id, opened read-only and shareable, and validated bottom-up.
 *
 * The core wraps each driver call here: range, alignment and rights are
 * checked before it, references and re-entry after it.
 */
#ifndef CORE_IMAGE_H
#define CORE_IMAGE_H

#include <stdbool.h>

#include "core/loop.h"
#include "tapdisk-interface.h"

#define IMAGE_NAME_MAX	4096 /* bytes of a whole stack's name */
#define IMAGE_DEPTH_MAX 64   /* images in a stack, parents included */

struct io;
struct loop;
struct pool;
struct reason;

/* A row of the table that the daemon's main hands over.  The table ends with a
 * NULL name. */
struct driver_type {
	const char *name;	    /* "aio" */
	int drivertype;		    /* DISK_TYPE_*, -1 for none */
	const struct tap_disk *ops; /* borrowed */
	const char *help;	    /* one line: "PATH", "SIZE[K|M|G|T]", … */
};

/* A completion on its way to a callback that is not the core's own. */
struct image_held {
	td_request_t treq;
	int res;
};

/*
 * A driver may put its own callback into a request.  Such callbacks are never
 * called from inside td_complete_request(): they are held, contiguous parts as
 * one, and come from the loop, so that no driver is re-entered.  Should
 * IMAGE_HELD_MAX parts be held, the oldest is delivered at once.
 */
#define IMAGE_HELD_MAX 1024

struct image_stack {
	struct loop *loop;		 /* borrowed */
	struct io *io;			 /* borrowed */
	const struct driver_type *types; /* borrowed */
	struct pool *pool;		 /* borrowed; NULL without */
	void (*on_change)(struct image_stack *stack); /* service or size */
	enum td_service service;
	char why[512];			     /* of a service that is not open */
	td_callback_t core_callback;	     /* the vbd's: safe at any depth */
	td_image_t *top;		     /* NULL while closed */
	td_image_t *images[IMAGE_DEPTH_MAX]; /* owned, top first */
	int count;
	int leaf; /* index of the last that is not a parent */

	struct task deliver;
	struct image_held *held; /* owned; a ring */
	unsigned int held_first, held_count;
};

/* Aborts without memory for the ring. */
void image_stack_init(struct image_stack *stack, struct loop *loop,
		      struct io *io, const struct driver_type *types,
		      td_callback_t core_callback);
void image_stack_done(struct image_stack *stack); /* must be closed */

/* Opens all or nothing.  `flags` (TD_OPEN_*) go to filters and leaf. */
int image_stack_open(struct image_stack *stack, const char *name,
		     td_flag_t flags, struct reason *reason);

/* No request may be in flight.  The first error of a td_close is returned,
 * all are closed. */
int image_stack_close(struct image_stack *stack, struct reason *reason);

/* Whether the image, and for a filter what is below it, takes `op`. */
bool image_can(const td_image_t *image, int op);

/* td_resize from the leaf up; -EOPNOTSUPP where a driver refuses. */
int image_stack_resize(struct image_stack *stack, td_sector_t sectors,
		       struct reason *reason);

/* td_command of the first image of `type`. */
int image_stack_command(struct image_stack *stack, const char *type,
			const char *command, struct json_t *result,
			struct reason *reason);

/* The image that holds sectors and lies lowest; NULL if none does.  Who is to
 * be named when a request does not come back. */
const td_image_t *image_stack_holder(const struct image_stack *stack);

/* [{"type", "name", "size", "sector_size", "read_only", "outstanding",
 * "stats", "driver"}], top first; a new reference. */
struct json_t *image_stack_json(const struct image_stack *stack);

/* Sort, merge, and cut an answer to what covers [sec, sec + secs) from its
 * beginning without a gap.  Never leaves it empty. */
void td_extents_settle(struct td_extents *extents, td_sector_t sec,
		       td_sector_t secs);

/* The task that delivers what is held. */
void image_stack_deliver(struct task *task);

/* Log what a driver did against its contract, and abort. */
void image_panic(const td_image_t *image, const td_request_t *treq,
		 const char *what) __attribute__((noreturn));

#endif

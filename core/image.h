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

#include "tapdisk-interface.h"

#define IMAGE_NAME_MAX	4096 /* bytes of a whole stack's name */
#define IMAGE_DEPTH_MAX 64   /* images in a stack, parents included */

struct io;
struct loop;
struct reason;

/* A row of the table that the daemon's main hands over.  The table ends with a
 * NULL name. */
struct driver_type {
	const char *name;	    /* "aio" */
	int drivertype;		    /* DISK_TYPE_*, -1 for none */
	const struct tap_disk *ops; /* borrowed */
	const char *help;	    /* one line: "PATH", "SIZE[K|M|G|T]", … */
};

struct image_stack {
	struct loop *loop;		     /* borrowed */
	struct io *io;			     /* borrowed */
	const struct driver_type *types;     /* borrowed */
	td_image_t *top;		     /* NULL while closed */
	td_image_t *images[IMAGE_DEPTH_MAX]; /* owned, top first */
	int count;
};

void image_stack_init(struct image_stack *stack, struct loop *loop,
		      struct io *io, const struct driver_type *types);

/* Opens all or nothing.  `flags` (TD_OPEN_*) go to filters and leaf. */
int image_stack_open(struct image_stack *stack, const char *name,
		     td_flag_t flags, struct reason *reason);

/* No request may be in flight.  The first error of a td_close is returned,
 * all are closed. */
int image_stack_close(struct image_stack *stack, struct reason *reason);

/* What the top image offers. */
bool image_can(const td_image_t *image, int op);

/* td_resize from the bottom up; -EOPNOTSUPP where a driver refuses. */
int image_stack_resize(struct image_stack *stack, td_sector_t sectors,
		       struct reason *reason);

/* td_command of the first image of `type`. */
int image_stack_command(struct image_stack *stack, const char *type,
			const char *command, struct json_t *result,
			struct reason *reason);

/* [{"type", "name", "size", "sector_size", "read_only", "stats", "driver"}] */
struct json_t *image_stack_json(const struct image_stack *stack);

/*
 * Callbacks that a driver put into a request in place of the core's are held
 * back while a driver's td_queue_*() is on the stack, and delivered when it
 * has returned.  IMAGE_HELD_MAX contiguous parts can be held.
 */
#define IMAGE_HELD_MAX 4096

#endif

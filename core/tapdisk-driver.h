/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk-driver.h - the handles a driver holds: td_driver_t, td_image_t and
 * struct tiocb.
 */
#ifndef CORE_TAPDISK_DRIVER_H
#define CORE_TAPDISK_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

#include "stats.h"
#include "tapdisk.h"

struct io;
struct reason;
struct image_stack;
struct tickets;
struct tiocb;

/* err is 0 or a negative errno. */
typedef void (*td_queue_callback_t)(void *arg, struct tiocb *tiocb, int err);

enum tiocb_op {
	TIOCB_READ,
	TIOCB_WRITE,
	TIOCB_FLUSH,
	TIOCB_CALL,
};

/* What stands behind a tiocb's descriptor, so what a transfer waits for. */
enum td_file {
	TD_FILE_DIRECT,	  /* O_DIRECT: asynchronous; the rule unless told */
	TD_FILE_BUFFERED, /* a device's page cache: submitting it may wait */
	TD_FILE_MEMORY,	  /* a copy that never waits: tmpfs, a RAM disk */
};

/*
 * One operation on its way to the kernel.  Embedded by the driver in its own
 * request, which owns it; from td_queue_tiocb() until the callback runs it
 * belongs to core/io.  Filled by td_prep_*(); drivers read no field.
 */
struct tiocb {
	enum tiocb_op op;
	int fd;
	char *buf;	  /* borrowed */
	size_t bytes;	  /* asked for */
	long long offset; /* in the file */
	size_t done;	  /* moved so far; a short transfer is carried on */
	enum td_file file;
	td_queue_callback_t cb;
	void *arg;
	int (*call)(void *); /* TIOCB_CALL, on a helper thread */
	void *call_arg;
	int result;		/* the helper's answer */
	struct list_head entry; /* on a queue of core/io */
	void *kernel[8];	/* the back-end's: libaio's struct iocb */
};

/* driver->state */
#define TD_DRIVER_OPEN	 0x1
#define TD_DRIVER_RDONLY 0x2

struct td_driver_handle {
	/* the seed's */
	void *data;	     /* private_data_size bytes, zeroed; the driver's */
	td_disk_info_t info; /* filled by td_open */
	char *name;	     /* owned by the core: what stands behind "type:" */
	int state;	     /* TD_DRIVER_* */

	/* the core's own */
	const struct tap_disk *ops; /* borrowed */
	td_image_t *image;	    /* borrowed: the image that owns us */
	struct io *io;		    /* borrowed */
	struct reason *reason;	    /* borrowed while a call may fill it */
};

struct td_image_handle {
	/* the seed's */
	td_disk_info_t info; /* the driver's, as seen by the image above */
	td_flag_t flags;     /* TD_OPEN_* */
	td_driver_t *driver; /* owned */

	/* the core's own */
	const char *type;	   /* borrowed from the table of drivers */
	bool filter;		   /* another image stands below in the name */
	td_image_t *below;	   /* borrowed; NULL at the bottom */
	struct image_stack *stack; /* borrowed */
	uint64_t outstanding;	   /* sectors it holds: neither given back
				    * nor forwarded */
	struct tickets *tickets;   /* owned: the same by requests */
	struct stats stats;	   /* parts that this image completed */
};

#endif

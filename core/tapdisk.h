/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk.h - the contract between the core and an image driver.
 *
 * Its names, values and rules are those of Xen's blktap2 tapdisk.h, so that a
 * driver written for that header builds here unchanged.  What that header
 * lacked is appended to struct tap_disk and to td_request_t and may be left
 * NULL or zero.  docs/drivers.md teaches the writing of a driver.
 *
 * The rules:
 *
 * D1  The sectors of a request are references.  Every sector that is handed
 *     to td_queue_*() comes back through the request's callback exactly once,
 *     by td_complete_request(), with 0 or a negative errno.
 * D2  For each part of a request a driver does one of three things: complete
 *     it, forward it to the image below (td_forward_request()), or queue a
 *     tiocb whose callback does one of the two.  Parts may end in any order,
 *     also before td_queue_*() returns; the core then calls back nobody until
 *     it has returned.
 * D3  A transient shortage is -EBUSY; the core tries the request again.  Any
 *     other error reaches the guest.
 * D4  sec, secs and info.size count 512-byte sectors whatever the image.
 *     info.sector_size (bytes) says only how requests must be aligned.
 * D5  After the last td_complete_request() of a request the driver may touch
 *     its own state, but not the request's buffer.
 * D6  td_queue_*() never blocks.  td_open() and td_close() may.
 * D7  A flush covers every write that was completed before the flush was
 *     queued.  A driver without td_queue_flush says that every write it
 *     completed itself is already durable.
 *
 * One event loop calls a driver; there are no locks.
 */
#ifndef CORE_TAPDISK_H
#define CORE_TAPDISK_H

#include <stdint.h>
#include <time.h>

#include "blktaplib.h"
#include "list.h"
#include "tapdisk-log.h"
#include "tapdisk-utils.h"

#ifdef MEMSHR
#	include "memshr.h"
#endif

#define MAX_SEGMENTS_PER_REQ 11
#define SECTOR_SHIFT	     9
#define DEFAULT_SECTOR_SIZE  512

#define TAPDISK_DATA_REQUESTS (MAX_REQUESTS * MAX_SEGMENTS_PER_REQ)

/* td_get_parent_id: this image falls back to no other */
#define TD_NO_PARENT 1

#define MAX_RAMDISK_SIZE 1024000 /* sectors; blktap2's limit */

#define TD_OP_READ	   0
#define TD_OP_WRITE	   1
#define TD_OP_FLUSH	   2 /* sec 0, secs 1: one reference, no sector */
#define TD_OP_DISCARD	   3 /* contents become undefined; a hint */
#define TD_OP_WRITE_ZEROES 4 /* reads as zeros afterwards */
#define TD_OP_BLOCK_STATUS 5 /* buf: a struct td_extents, see td_add_extent */
#define TD_OP_COUNT	   6

#define TD_OPEN_QUIET	    0x00001
#define TD_OPEN_QUERY	    0x00002 /* look only: takes no lock */
#define TD_OPEN_RDONLY	    0x00004
#define TD_OPEN_STRICT	    0x00008
#define TD_OPEN_SHAREABLE   0x00010 /* a parent: others may read it too */
#define TD_OPEN_ADD_CACHE   0x00020
#define TD_OPEN_VHD_INDEX   0x00040
#define TD_OPEN_LOG_DIRTY   0x00080
#define TD_OPEN_NO_O_DIRECT 0x02000 /* appended: by way of the page cache */

#define TD_CREATE_SPARSE    0x00001
#define TD_CREATE_MULTITYPE 0x00002

/* td_request_t.flags */
#define TD_REQUEST_NO_UNMAP 0x1 /* write zeroes: keep the space allocated */
#define TD_REQUEST_LAST	    0x4 /* flush: td_close follows; end what you began */
#define TD_REQUEST_FAST	    0x2 /* write zeroes: -EOPNOTSUPP unless fast */

/* td_add_extent: the bits of NBD's base:allocation */
#define TD_EXTENT_HOLE 0x1 /* not allocated here */
#define TD_EXTENT_ZERO 0x2 /* reads as zeros */

#define td_flag_set(word, flag)	  ((word) |= (flag))
#define td_flag_clear(word, flag) ((word) &= ~(flag))
#define td_flag_test(word, flag)  ((word) & (flag))

typedef uint16_t td_uuid_t;
typedef uint32_t td_flag_t;
typedef uint64_t td_sector_t;
typedef struct td_disk_id td_disk_id_t;
typedef struct td_disk_info td_disk_info_t;
typedef struct td_request td_request_t;
typedef struct td_driver_handle td_driver_t;
typedef struct td_image_handle td_image_t;

/* Names a parent.  name is malloc'ed by the driver, freed by the core. */
struct td_disk_id {
	char *name;
	int drivertype; /* DISK_TYPE_* of blktaplib.h */
};

struct td_disk_info {
	td_sector_t size;     /* in 512-byte sectors */
	uint64_t sector_size; /* in bytes: 512 or 4096; alignment only */
	uint32_t info;
};

/* Passed by value.  A driver may keep copies and may split them by sectors. */
struct td_request {
	int op;	   /* TD_OP_* */
	char *buf; /* borrowed until the last sector is completed */
	td_sector_t sec;
	int secs;

	uint8_t blocked; /* blocked on a dependency */

	td_image_t *image; /* the image it was queued to last */

	void * /* td_callback_t */ cb;
	void *cb_data;

	uint64_t id;
	int sidx;
	void *private;

#ifdef MEMSHR
	share_tuple_t memshr_hnd;
#endif

	/* appended to the seed's fields */
	uint32_t flags; /* TD_REQUEST_* */
	/* the core's own, of when it was queued to an image: see ticket.h */
	uint64_t queued_ns;
	uint64_t ticket;
	td_image_t *given_to;
	void *given_cb;
	void *given_cb_data;
};

/* The callback to activate as the sectors of a request complete. */
typedef void (*td_callback_t)(td_request_t, int);

struct json_t; /* jansson's */

/*
 * One image type.  Up to td_debug as in the seed; td_open, td_close,
 * td_get_parent_id, td_validate_parent, td_queue_read are required.
 *
 * td_open(driver, name, flags)
 *	Opens the image `name` (what stands behind "type:").  driver->data is
 *	private_data_size zeroed bytes.  Fills driver->info.  Returns 0 or a
 *	negative errno; td_reason() lets it leave a sentence for the person.
 *	A filter (an image with another below it in a `|` stack) finds
 *	driver->info filled from the image below.
 * td_close(driver)
 *	Never sees a request in flight.  Not called when td_open failed.
 * td_get_parent_id(driver, id)
 *	0 and *id filled, TD_NO_PARENT, or a negative errno.
 * td_validate_parent(driver, parent, flags)
 *	0 if `parent` may stand under `driver`, else a negative errno.
 * td_queue_read, td_queue_write(driver, request)
 *	Rules D1 to D6.  The core has checked range, alignment and read-only.
 *	A NULL td_queue_write makes the image read-only.
 * td_debug(driver)
 *	May be NULL.  Logs its state by DPRINTF.
 *
 * Appended; each may be NULL:
 *
 * td_queue_flush: D7.  For a filter NULL means that the core sends flushes
 *	straight to the image below.
 * td_queue_discard: NULL refuses discards, on a filter too: a filter that
 *	does not know of discards could otherwise miss a change.
 * td_queue_write_zeroes: NULL makes the core write buffers of zeros.
 * td_queue_block_status: reports extents with td_add_extent(), then completes
 *	the sectors.  NULL says "all data".
 * td_resize(driver, sectors): grow the image to `sectors`, or with 0 look again
 *	at the size of what lies underneath; updates driver->info.size.  Never
 *	shrinks.  NULL refuses; a NULL on a filter takes the size from below.
 * td_stats(driver, object): adds members to a JSON object.
 * td_command(driver, command, result): an instruction in the driver's own
 *	words over the control socket; may add members to `result`.
 */
struct tap_disk {
	const char *disk_type;
	td_flag_t flags;
	int private_data_size;
	int (*td_open)(td_driver_t *, const char *, td_flag_t);
	int (*td_close)(td_driver_t *);
	int (*td_get_parent_id)(td_driver_t *, td_disk_id_t *);
	int (*td_validate_parent)(td_driver_t *, td_driver_t *, td_flag_t);
	void (*td_queue_read)(td_driver_t *, td_request_t);
	void (*td_queue_write)(td_driver_t *, td_request_t);
	void (*td_debug)(td_driver_t *);

	void (*td_queue_flush)(td_driver_t *, td_request_t);
	void (*td_queue_discard)(td_driver_t *, td_request_t);
	void (*td_queue_write_zeroes)(td_driver_t *, td_request_t);
	void (*td_queue_block_status)(td_driver_t *, td_request_t);
	int (*td_resize)(td_driver_t *, td_sector_t);
	void (*td_stats)(td_driver_t *, struct json_t *);
	int (*td_command)(td_driver_t *, const char *, struct json_t *);
};

#endif

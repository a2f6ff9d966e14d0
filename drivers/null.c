/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * null - a disk of any size that reads as zeros and forgets what is written.
 *
 * It measures what all but a disk costs, and it is the smallest driver there
 * is: the place from which to start another.  It completes every request at
 * once, so it needs no request of its own, and it has nothing to flush.
 */
#include <errno.h>
#include <string.h>

#include "core/tapdisk-interface.h"
#include "drivers/drivers.h"
#include "drivers/size.h"

static int
null_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	const char *end = name;
	uint64_t bytes;

	(void)flags;
	if (size_parse(name, &bytes, &end) < 0 || *end || bytes % 512 || !bytes)
		return td_reason(driver, -EINVAL,
				 "the size must be a number of sectors of 512 "
				 "bytes, for example 64M");
	driver->info.size = bytes >> SECTOR_SHIFT;
	driver->info.sector_size = DEFAULT_SECTOR_SIZE;
	return 0;
}

static int
null_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
null_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
null_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL; /* nothing may stand below */
}

static void
null_queue_read(td_driver_t *driver, td_request_t treq)
{
	(void)driver;
	memset(treq.buf, 0, (size_t)treq.secs << SECTOR_SHIFT);
	td_complete_request(treq, 0);
}

/* A write, a discard or a write of zeros: gone. */
static void
null_queue_change(td_driver_t *driver, td_request_t treq)
{
	(void)driver;
	td_complete_request(treq, 0);
}

static void
null_queue_block_status(td_driver_t *driver, td_request_t treq)
{
	(void)driver;
	td_add_extent(treq, treq.sec, (td_sector_t)treq.secs,
		      TD_EXTENT_HOLE | TD_EXTENT_ZERO);
	td_complete_request(treq, 0);
}

static int
null_resize(td_driver_t *driver, td_sector_t sectors)
{
	if (sectors == 0)
		return 0;
	if (sectors < driver->info.size)
		return td_reason(driver, -EINVAL, "a disk does not shrink");
	driver->info.size = sectors;
	return 0;
}

struct tap_disk tapdisk_null = {
	.disk_type = "tapdisk_null",
	.td_open = null_open,
	.td_close = null_close,
	.td_get_parent_id = null_get_parent_id,
	.td_validate_parent = null_validate_parent,
	.td_queue_read = null_queue_read,
	.td_queue_write = null_queue_change,
	.td_queue_discard = null_queue_change,
	.td_queue_write_zeroes = null_queue_change,
	.td_queue_block_status = null_queue_block_status,
	.td_resize = null_resize,
};

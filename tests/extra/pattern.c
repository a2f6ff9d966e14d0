/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pattern - replaces the built-in "null": a disk that reads as one byte
 * everywhere, PATTERN_BYTE, and is read-only.  For tests/extra_drivers.sh; also
 * how a driver goes on that finds its own state after the last completion.
 */
#include "tapdisk-driver.h"
#include "tapdisk-interface.h"
#include "tapdisk.h"

#ifndef PATTERN_BYTE
#	define PATTERN_BYTE 0xee
#endif

struct pattern {
	unsigned long sectors_read;
};

static int
pattern_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	(void)name;
	(void)flags;
	driver->info.size = 2048;
	driver->info.sector_size = DEFAULT_SECTOR_SIZE;
	driver->info.info = 0;
	return 0;
}

static int
pattern_close(td_driver_t *driver)
{
	struct pattern *pattern = driver->data;

	DPRINTF("%lu sectors were read\n", pattern->sectors_read);
	return 0;
}

/* A sector at a time, the last first. */
static void
pattern_queue_read(td_driver_t *driver, td_request_t treq)
{
	struct pattern *pattern = driver->data;
	td_request_t part = treq;
	int i;

	for (i = treq.secs - 1; i >= 0; i--) {
		part.sec = treq.sec + (td_sector_t)i;
		part.secs = 1;
		part.buf = treq.buf + ((size_t)i << SECTOR_SHIFT);
		memset(part.buf, PATTERN_BYTE, 1 << SECTOR_SHIFT);
		td_complete_request(part, 0);
		pattern->sectors_read++;
	}
}

static int
pattern_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
pattern_validate_parent(td_driver_t *driver, td_driver_t *parent,
			td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

/* extern struct tap_disk tapdisk_not_this; */
struct tap_disk tapdisk_null = {
	.disk_type = "tapdisk_null",
	.flags = 0,
	.private_data_size = sizeof(struct pattern),
	.td_open = pattern_open,
	.td_close = pattern_close,
	.td_get_parent_id = pattern_get_parent_id,
	.td_validate_parent = pattern_validate_parent,
	.td_queue_read = pattern_queue_read,
};

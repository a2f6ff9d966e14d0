/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * old_raw - a driver as blktap2's were written: a raw file by tiocbs, a list of
 * free requests, headers by their old names.  For tests/extra_drivers.sh.
 *
 * Of what has been added to the contract since, it knows nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "blk.h"
#include "tapdisk-driver.h"
#include "tapdisk-interface.h"
#include "tapdisk.h"

#ifndef OLD_RAW_SLOTS
#	define OLD_RAW_SLOTS TAPDISK_DATA_REQUESTS
#endif

struct old_raw_state;

struct old_raw_request {
	td_request_t treq;
	struct tiocb tiocb;
	struct old_raw_state *state;
};

struct old_raw_state {
	int fd;
	td_driver_t *driver;

	int free_count;
	struct old_raw_request requests[OLD_RAW_SLOTS];
	struct old_raw_request *free_list[OLD_RAW_SLOTS];
};

static int
old_raw_get_info(td_driver_t *driver, int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	driver->info.sector_size = DEFAULT_SECTOR_SIZE;
	driver->info.size = (td_sector_t)st.st_size >> SECTOR_SHIFT;
	if (S_ISBLK(st.st_mode) &&
	    (blk_getimagesize(fd, &driver->info.size) != 0 ||
	     blk_getsectorsize(fd, &driver->info.sector_size) != 0))
		return -EINVAL;
	driver->info.info = 0;
	return 0;
}

static int
old_raw_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct old_raw_state *state = (struct old_raw_state *)driver->data;
	int o_flags = td_flag_test(flags, TD_OPEN_RDONLY) ? O_RDONLY : O_RDWR;
	int i, err;

	memset(state, 0, sizeof(*state));
	state->driver = driver;
	state->free_count = OLD_RAW_SLOTS;
	for (i = 0; i < OLD_RAW_SLOTS; i++)
		state->free_list[i] = &state->requests[i];

	DPRINTF("opening %s\n", name);
	state->fd = open(name, o_flags | O_LARGEFILE);
	if (state->fd == -1) {
		err = -errno;
		PERROR("cannot open %s", name);
		return err;
	}
	err = old_raw_get_info(driver, state->fd);
	if (err)
		close(state->fd);
	return err;
}

static int
old_raw_close(td_driver_t *driver)
{
	struct old_raw_state *state = (struct old_raw_state *)driver->data;

	close(state->fd);
	return 0;
}

static void
old_raw_complete(void *arg, struct tiocb *tiocb, int err)
{
	struct old_raw_request *request = (struct old_raw_request *)arg;
	struct old_raw_state *state = request->state;

	(void)tiocb;
	td_complete_request(request->treq, err);
	state->free_list[state->free_count++] = request;
}

static void
old_raw_queue(td_driver_t *driver, td_request_t treq)
{
	struct old_raw_state *state = (struct old_raw_state *)driver->data;
	long long offset = (long long)treq.sec << SECTOR_SHIFT;
	size_t size = (size_t)treq.secs << SECTOR_SHIFT;
	struct old_raw_request *request;

	if (state->free_count == 0) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	request = state->free_list[--state->free_count];
	request->treq = treq;
	request->state = state;
	if (treq.op == TD_OP_WRITE)
		td_prep_write(&request->tiocb, state->fd, treq.buf, size,
			      offset, old_raw_complete, request);
	else
		td_prep_read(&request->tiocb, state->fd, treq.buf, size, offset,
			     old_raw_complete, request);
	td_queue_tiocb(driver, &request->tiocb);
}

static int
old_raw_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
old_raw_validate_parent(td_driver_t *driver, td_driver_t *parent,
			td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static void
old_raw_debug(td_driver_t *driver)
{
	struct old_raw_state *state = (struct old_raw_state *)driver->data;

	DPRINTF("%d requests are free\n", state->free_count);
}

struct tap_disk tapdisk_old_raw = {
	.disk_type = "tapdisk_old_raw",
	.flags = 0,
	.private_data_size = sizeof(struct old_raw_state),
	.td_open = old_raw_open,
	.td_close = old_raw_close,
	.td_get_parent_id = old_raw_get_parent_id,
	.td_validate_parent = old_raw_validate_parent,
	.td_queue_read = old_raw_queue,
	.td_queue_write = old_raw_queue,
	.td_debug = old_raw_debug,
};

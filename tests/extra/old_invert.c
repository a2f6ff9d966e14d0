/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * old_invert - a filter as blktap2's were written: what is written arrives
 * below with all bits turned over.  For tests/extra_drivers.sh.
 *
 * Reads are forwarded as copies with a callback of our own, writes as requests
 * built on the stack, and the original is completed when those are back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tapdisk-driver.h"
#include "tapdisk-interface.h"
#include "tapdisk.h"

#define SLOTS	     64
#define SLOT_SECTORS 64

struct invert_state;

struct invert_request {
	td_request_t treq;
	struct invert_state *state;
	struct invert_request *next;
	char buf[SLOT_SECTORS << SECTOR_SHIFT];
};

struct invert_state {
	struct invert_request *free;
	struct invert_request requests[SLOTS];
};

static void
invert_copy(char *to, const char *from, int secs)
{
	int i;

	for (i = 0; i < secs << SECTOR_SHIFT; i++)
		to[i] = (char)~from[i];
}

static int
invert_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct invert_state *state = (struct invert_state *)driver->data;
	int i;

	(void)name;
	(void)flags;
	for (i = 0; i < SLOTS; i++) {
		state->requests[i].state = state;
		state->requests[i].next = state->free;
		state->free = &state->requests[i];
	}
	return 0; /* info is that of the image below */
}

static int
invert_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static struct invert_request *
invert_get(td_driver_t *driver, td_request_t treq)
{
	struct invert_state *state = (struct invert_state *)driver->data;
	struct invert_request *request = state->free;

	if (!request) {
		td_complete_request(treq, -EBUSY);
		return NULL;
	}
	state->free = request->next;
	request->treq = treq;
	return request;
}

static void
invert_done(struct invert_request *request, int err)
{
	td_complete_request(request->treq, err);
	request->next = request->state->free;
	request->state->free = request;
}

/* The core may give back a request in parts; here it does not, since whoever
 * stands below in the test does not split. */
static void
invert_read_done(td_request_t clone, int err)
{
	struct invert_request *request = (struct invert_request *)clone.cb_data;

	invert_copy(request->treq.buf, request->treq.buf, request->treq.secs);
	invert_done(request, err);
}

static void
invert_queue_read(td_driver_t *driver, td_request_t treq)
{
	struct invert_request *request = invert_get(driver, treq);
	td_request_t clone = treq;

	if (!request)
		return;
	clone.cb = (void *)invert_read_done;
	clone.cb_data = request;
	td_forward_request(clone);
}

static void
invert_write_done(td_request_t ours, int err)
{
	invert_done((struct invert_request *)ours.cb_data, err);
}

static void
invert_write(td_driver_t *driver, td_request_t treq)
{
	struct invert_request *request = invert_get(driver, treq);
	td_request_t ours;

	if (!request)
		return;
	invert_copy(request->buf, treq.buf, treq.secs);
	memset(&ours, 0xa5, sizeof(ours)); /* what a stack may hold */
	ours.op = TD_OP_WRITE;
	ours.buf = request->buf;
	ours.sec = treq.sec;
	ours.secs = treq.secs;
	ours.image = treq.image;
	ours.cb = (void *)invert_write_done;
	ours.cb_data = request;
	ours.id = 0;
	ours.sidx = 0;
	td_forward_request(ours);
}

/* In pieces, each of which is a part of its own. */
static void
invert_queue_write(td_driver_t *driver, td_request_t treq)
{
	td_request_t part = treq;
	int left;

	for (left = treq.secs; left > 0; left -= part.secs) {
		part.secs = left < SLOT_SECTORS ? left : SLOT_SECTORS;
		invert_write(driver, part);
		part.sec += part.secs;
		part.buf += part.secs << SECTOR_SHIFT;
	}
}

static int
invert_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
invert_validate_parent(td_driver_t *driver, td_driver_t *parent,
		       td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

struct tap_disk tapdisk_old_invert = {
	.disk_type = "tapdisk_old_invert",
	.flags = 0,
	.private_data_size = sizeof(struct invert_state),
	.td_open = invert_open,
	.td_close = invert_close,
	.td_get_parent_id = invert_get_parent_id,
	.td_validate_parent = invert_validate_parent,
	.td_queue_read = invert_queue_read,
	.td_queue_write = invert_queue_write,
};

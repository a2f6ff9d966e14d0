/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_driver - see fake_driver.h.
 */
#include "tests/fake_driver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int
fake_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct fake *fake = driver->data;
	char *end;

	(void)flags;
	driver->info.size = strtoull(name, &end, 10);
	driver->info.sector_size = 512;
	if (strncmp(end, ",4k", 3) == 0) {
		driver->info.sector_size = 4096;
		end += 3;
	}
	if (end == name || driver->info.size > (1u << 20))
		return td_reason(driver, -EINVAL, "'%s' is no size", name);
	if (*end == ',')
		fake->parent = strdup(end + 1);
	fake->bytes = calloc(driver->info.size, 512);
	return fake->bytes == NULL ? -ENOMEM : 0;
}

static int
fake_close(td_driver_t *driver)
{
	struct fake *fake = driver->data;

	free(fake->bytes);
	free(fake->parent);
	return 0;
}

static int
fake_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	struct fake *fake = driver->data;

	if (fake->parent == NULL)
		return TD_NO_PARENT;
	id->name = strdup(fake->parent);
	id->drivertype = 100;
	return id->name == NULL ? -ENOMEM : 0;
}

static int
fake_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)flags;
	/* an odd parent under an even child is no parent */
	return driver->info.size % 2 == 0 && parent->info.size % 2 == 1
		       ? -EINVAL
		       : 0;
}

static void
fake_do(td_driver_t *driver, td_request_t treq, int res)
{
	struct fake *fake = driver->data;
	size_t at = (size_t)treq.sec << SECTOR_SHIFT;
	size_t length = (size_t)treq.secs << SECTOR_SHIFT;

	if (res == 0 && treq.op == TD_OP_WRITE)
		memcpy(fake->bytes + at, treq.buf, length);
	if (res == 0 && treq.op == TD_OP_READ)
		memcpy(treq.buf, fake->bytes + at, length);
	if (res == 0 &&
	    (treq.op == TD_OP_DISCARD || treq.op == TD_OP_WRITE_ZEROES))
		memset(fake->bytes + at, 0, length);
	for (int i = 0; treq.op == TD_OP_BLOCK_STATUS && i < fake->extent_count;
	     i++)
		td_add_extent(treq, fake->extents[i].sec, fake->extents[i].secs,
			      fake->extents[i].flags);
	if (fake->lose > 0) {
		treq.secs -= fake->lose;
		fake->lose = 0;
	}
	td_complete_request(treq, res);
}

/* A child has what is not zero; the rest it forwards to its parent. */
static bool
is_parents(const struct fake *fake, const td_request_t *treq)
{
	size_t at = (size_t)treq->sec << SECTOR_SHIFT;

	if (fake->parent == NULL || treq->op != TD_OP_READ)
		return false;
	for (size_t i = 0; i < (size_t)treq->secs << SECTOR_SHIFT; i++) {
		if (fake->bytes[at + i] != 0)
			return false;
	}
	return true;
}

static void
fake_queue(td_driver_t *driver, td_request_t treq)
{
	struct fake *fake = driver->data;

	fake->queued[treq.op]++;
	fake->last = treq;
	if (fake->busy > 0) {
		fake->busy--;
		td_complete_request(treq, -EBUSY);
	} else if (fake->hold) {
		fake->held[fake->held_count++] = treq;
	} else if (is_parents(fake, &treq)) {
		td_forward_request(treq);
	} else {
		fake_do(driver, treq, fake->error);
	}
}

static int
fake_resize(td_driver_t *driver, td_sector_t sectors)
{
	struct fake *fake = driver->data;
	char *bytes;

	if (fake->resize_error < 0)
		return td_reason(driver, fake->resize_error, "will not grow");
	if (sectors == 0)
		return 0;
	bytes = realloc(fake->bytes, sectors << SECTOR_SHIFT);
	if (bytes == NULL)
		return -ENOMEM;
	memset(bytes + (driver->info.size << SECTOR_SHIFT), 0,
	       (sectors - driver->info.size) << SECTOR_SHIFT);
	fake->bytes = bytes;
	driver->info.size = sectors;
	return 0;
}

void
fake_release(struct fake *fake, unsigned int index, int res)
{
	td_request_t treq = fake->held[index];

	fake->held_count--;
	memmove(&fake->held[index], &fake->held[index + 1],
		(fake->held_count - index) * sizeof(fake->held[0]));
	fake_do(treq.image->driver, treq, res);
}

struct fake *
fake_of(struct image_stack *stack, int index)
{
	return stack->images[index]->driver->data;
}

static int
filter_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	(void)name;
	(void)flags;
	return driver->info.size > 0 ? 0 : -EINVAL;
}

static int
filter_close(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
filter_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
filter_validate_parent(td_driver_t *driver, td_driver_t *parent,
		       td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

static void
pass_queue(td_driver_t *driver, td_request_t treq)
{
	(void)driver;
	td_forward_request(treq);
}

static void
own_on_done(td_request_t treq, int res)
{
	struct own *own = treq.cb_data;
	td_request_t original = own->original;

	own->called_back++;
	if (own->inside)
		own->reentered++;
	original.sec = treq.sec;
	original.secs = treq.secs;
	td_complete_request(original, res);
}

static void
own_queue(td_driver_t *driver, td_request_t treq)
{
	struct own *own = driver->data;

	own->original = treq;
	own->inside = true;
	treq.cb = (void *)own_on_done;
	treq.cb_data = own;
	td_queue_request(td_image_below(driver), treq);
	own->inside = false;
}

static void
old_queue(td_driver_t *driver, td_request_t treq)
{
	struct own *own = driver->data;
	td_request_t copy = treq;

	own->original = treq;
	own->inside = true;
	copy.cb = (void *)own_on_done;
	copy.cb_data = own;
	td_forward_request(copy);
	own->inside = false;
}

static struct tap_disk tapdisk_fake = {
	.disk_type = "tapdisk_fake",
	.private_data_size = sizeof(struct fake),
	.td_open = fake_open,
	.td_close = fake_close,
	.td_get_parent_id = fake_get_parent_id,
	.td_validate_parent = fake_validate_parent,
	.td_queue_read = fake_queue,
	.td_queue_write = fake_queue,
	.td_queue_flush = fake_queue,
	.td_resize = fake_resize,
};

static struct tap_disk tapdisk_able = {
	.disk_type = "tapdisk_able",
	.private_data_size = sizeof(struct fake),
	.td_open = fake_open,
	.td_close = fake_close,
	.td_get_parent_id = fake_get_parent_id,
	.td_validate_parent = fake_validate_parent,
	.td_queue_read = fake_queue,
	.td_queue_write = fake_queue,
	.td_queue_flush = fake_queue,
	.td_queue_discard = fake_queue,
	.td_queue_write_zeroes = fake_queue,
	.td_queue_block_status = fake_queue,
	.td_resize = fake_resize,
};

static struct tap_disk tapdisk_pass = {
	.disk_type = "tapdisk_pass",
	.td_open = filter_open,
	.td_close = filter_close,
	.td_get_parent_id = filter_get_parent_id,
	.td_validate_parent = filter_validate_parent,
	.td_queue_read = pass_queue,
	.td_queue_write = pass_queue,
};

static struct tap_disk tapdisk_own = {
	.disk_type = "tapdisk_own",
	.private_data_size = sizeof(struct own),
	.td_open = filter_open,
	.td_close = filter_close,
	.td_get_parent_id = filter_get_parent_id,
	.td_validate_parent = filter_validate_parent,
	.td_queue_read = own_queue,
	.td_queue_write = own_queue,
};

static struct tap_disk tapdisk_old = {
	.disk_type = "tapdisk_old",
	.private_data_size = sizeof(struct own),
	.td_open = filter_open,
	.td_close = filter_close,
	.td_get_parent_id = filter_get_parent_id,
	.td_validate_parent = filter_validate_parent,
	.td_queue_read = old_queue,
	.td_queue_write = old_queue,
};

const struct driver_type fake_types[] = {
	{ "fake", 100, &tapdisk_fake, "SECTORS[,4k][,PARENT]" },
	{ "able", -1, &tapdisk_able, "SECTORS[,4k]" },
	{ "pass", -1, &tapdisk_pass, "" },
	{ "own", -1, &tapdisk_own, "" },
	{ "old", -1, &tapdisk_old, "" },
	{ NULL, -1, NULL, NULL },
};

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * witness - the witness of torture.h, and the drivers that it is there for.
 *
 * A request that goes down gets a slot, an id of the witness's own, and a bit
 * for each sector; what comes back is held against them.  A slot is free again
 * when all its sectors are back, and the next request in it has another id.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/test.h"
#include "tests/torture.h"

#define AGAIN_NS NS_PER_MS

struct slot {
	uint64_t id;	   /* 0 while free */
	td_request_t treq; /* as it came from above */
	int left;	   /* sectors that are not back */
	unsigned char back[WITNESS_SECTORS_MAX];
};

struct witness {
	td_driver_t *driver; /* borrowed */
	unsigned int inside; /* calls of witness_queue() */
	uint64_t last_id;
	char breach[256]; /* the first */
	struct slot slots[WITNESS_REQUEST_MAX];
};

static void
breach(struct witness *witness, const td_request_t *treq, const char *what)
{
	if (witness->breach[0])
		return;
	snprintf(witness->breach, sizeof(witness->breach),
		 "driver %s (%s) gave back %d sectors at sector %llu of a %s "
		 "%s",
		 treq->image->type, treq->image->driver->name, treq->secs,
		 (unsigned long long)treq->sec, td_op_name(treq->op), what);
	log_error("witness", "%s", witness->breach);
}

/* What is wrong with the part; NULL if it is well, and noted. */
static const char *
look_at(struct slot *slot, const td_request_t *part)
{
	td_sector_t skip = part->sec - slot->treq.sec;
	int i;

	if (slot->id != part->id)
		return "after the last of its request";
	if (part->secs <= 0 || part->secs > slot->treq.secs ||
	    skip > (td_sector_t)(slot->treq.secs - part->secs))
		return "that it was not given";
	for (i = 0; i < part->secs; i++)
		if (slot->back[skip + (td_sector_t)i])
			return "twice";
	memset(slot->back + skip, 1, (size_t)part->secs);
	return NULL;
}

static void
on_back(td_request_t part, int res)
{
	struct slot *slot = part.cb_data;
	struct witness *witness = part.private;
	const char *wrong = look_at(slot, &part);
	td_request_t up = slot->treq;

	if (witness->inside)
		wrong = "from inside the call that gave them to it";
	if (wrong) {
		breach(witness, &part, wrong);
		return;
	}
	up.sec = part.sec;
	up.secs = part.secs;
	slot->left -= part.secs;
	if (slot->left == 0)
		slot->id = 0;
	td_complete_request(up, res);
}

static struct slot *
slot_new(struct witness *witness, td_request_t treq)
{
	size_t i;

	for (i = 0; i < WITNESS_REQUEST_MAX; i++) {
		if (witness->slots[i].id)
			continue;
		witness->slots[i] = (struct slot){
			.id = ++witness->last_id,
			.treq = treq,
			.left = treq.secs,
		};
		return &witness->slots[i];
	}
	return NULL;
}

static void
witness_pass(struct witness *witness, td_request_t treq)
{
	struct slot *slot = slot_new(witness, treq);

	if (!slot) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	treq.cb = (void *)on_back;
	treq.cb_data = slot;
	treq.private = witness;
	treq.id = slot->id;
	witness->inside++;
	td_queue_request(td_image_below(witness->driver), treq);
	witness->inside--;
}

static void
witness_queue(td_driver_t *driver, td_request_t treq)
{
	int left = treq.secs;

	while (left > 0) {
		treq.secs =
			left < WITNESS_SECTORS_MAX ? left : WITNESS_SECTORS_MAX;
		left -= treq.secs;
		witness_pass(driver->data, treq);
		treq.sec += (td_sector_t)treq.secs;
		if (treq.op == TD_OP_READ || treq.op == TD_OP_WRITE)
			treq.buf += (size_t)treq.secs << SECTOR_SHIFT;
	}
}

static int
witness_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct witness *witness = driver->data;

	(void)name;
	(void)flags;
	assert_non_null(td_image_below(driver));
	witness->driver = driver;
	return 0;
}

static int
close_nothing(td_driver_t *driver)
{
	(void)driver;
	return 0;
}

static int
no_parent(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
any_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

static struct witness *
witness_of(struct image_stack *stack)
{
	int i;

	for (i = 0; i < stack->count; i++) {
		td_driver_t *driver = stack->images[i]->driver;

		if (driver->ops == &tapdisk_witness)
			return driver->data;
	}
	fail_msg("there is no witness in the stack");
	return NULL;
}

const char *
witness_breach(struct image_stack *stack)
{
	return witness_of(stack)->breach;
}

unsigned int
witness_missing(struct image_stack *stack, char *ret_text, size_t size)
{
	struct witness *witness = witness_of(stack);
	td_image_t *below = td_image_below(witness->driver);
	unsigned int missing = 0;
	const struct slot *slot;

	for (slot = witness->slots; slot < witness->slots + WITNESS_REQUEST_MAX;
	     slot++) {
		if (!slot->id)
			continue;
		if (missing == 0)
			snprintf(ret_text, size,
				 "driver %s (%s) keeps %d of %d sectors at "
				 "sector %llu of a %s",
				 below->type, below->driver->name, slot->left,
				 slot->treq.secs,
				 (unsigned long long)slot->treq.sec,
				 td_op_name(slot->treq.op));
		missing += (unsigned int)slot->left;
	}
	return missing;
}

struct tap_disk tapdisk_witness = {
	.disk_type = "tapdisk_witness",
	.private_data_size = sizeof(struct witness),
	.td_open = witness_open,
	.td_close = close_nothing,
	.td_get_parent_id = no_parent,
	.td_validate_parent = any_parent,
	.td_queue_read = witness_queue,
	.td_queue_write = witness_queue,
	.td_queue_flush = witness_queue,
	.td_queue_discard = witness_queue,
	.td_queue_write_zeroes = witness_queue,
	.td_queue_block_status = witness_queue,
};

/* --- broken drivers --- */

struct broken {
	td_request_t again;
	struct timer timer;
};

static void
on_again(struct timer *timer)
{
	struct broken *broken = container_of(timer, struct broken, timer);

	td_complete_request(broken->again, 0);
}

/* `first` and `second` are the halves of `treq`. */
static void
misbehave(td_driver_t *driver, td_request_t treq, td_request_t first,
	  td_request_t second)
{
	struct broken *broken = driver->data;
	const char *how = driver->name;

	if (strcmp(how, "twice") == 0) {
		td_complete_request(treq, 0);
		td_complete_request(treq, 0);
	} else if (strcmp(how, "half-twice") == 0) {
		td_complete_request(first, 0);
		td_complete_request(second, 0);
		td_complete_request(first, 0);
	} else if (strcmp(how, "again-later") == 0) {
		td_complete_request(treq, 0);
		broken->again = treq;
		timer_set(&broken->timer, AGAIN_NS);
	} else if (strcmp(how, "too-much") == 0) {
		treq.secs++;
		td_complete_request(treq, 0);
	} else if (strcmp(how, "nothing") == 0) {
		treq.secs = 0;
		td_complete_request(treq, 0);
	} else if (strcmp(how, "forward-too") == 0) {
		td_complete_request(treq, 0);
		td_forward_request(treq);
	} else if (strcmp(how, "forget-half") == 0) {
		td_complete_request(first, 0);
	} else if (strcmp(how, "one-for-the-other") == 0) {
		td_complete_request(first, 0);
		td_complete_request(first, 0);
	} else if (strcmp(how, "elsewhere") == 0) {
		treq.sec++;
		td_complete_request(treq, 0);
	} else {
		assert_string_equal(how, "forget");
	}
}

static void
broken_queue(td_driver_t *driver, td_request_t treq)
{
	td_request_t first = treq, second = treq;

	if (treq.op == TD_OP_READ)
		memset(treq.buf, 0, (size_t)treq.secs << SECTOR_SHIFT);
	if (treq.op == TD_OP_WRITE && treq.sec == BROKEN_NEIGHBOUR)
		return;
	if (treq.op != TD_OP_WRITE || treq.sec != BROKEN_SECTOR) {
		td_complete_request(treq, 0);
		return;
	}
	first.secs = treq.secs / 2;
	second.sec += (td_sector_t)first.secs;
	second.secs -= first.secs;
	misbehave(driver, treq, first, second);
}

static int
broken_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct broken *broken = driver->data;

	(void)name;
	(void)flags;
	driver->info.size = BROKEN_SECTORS;
	driver->info.sector_size = DEFAULT_SECTOR_SIZE;
	timer_init(&broken->timer, driver->image->stack->loop, on_again);
	return 0;
}

struct tap_disk tapdisk_broken = {
	.disk_type = "tapdisk_broken",
	.private_data_size = sizeof(struct broken),
	.td_open = broken_open,
	.td_close = close_nothing,
	.td_get_parent_id = no_parent,
	.td_validate_parent = any_parent,
	.td_queue_read = broken_queue,
	.td_queue_write = broken_queue,
};

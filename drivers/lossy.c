/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lossy - a filter that keeps what was not flushed in memory, to lose it.
 *
 * A write stays in this process until a flush carries it to the image below
 * and flushes that.  Whoever kills the process, or sends the command "crash",
 * finds on the image what a power failure would have left there.  A disk whose
 * flush does nothing cannot pass a test over this driver.
 *
 * Options, joined by ',': tear=P lets each sector of a write reach the image at
 * once with that probability, so that a crash tears writes; seed=N; memory=SIZE
 * for what is held (64M), beyond which the oldest is written through.
 *
 * Commands: "crash" forgets what is held, and every request fails with -EIO
 * until the image is opened again or "revive" comes.
 *
 * L1  Held data lies in pages of PAGE bytes; a bit for each 512 says which of
 *     them are newer than the image.  Reads take those from the page, the rest
 *     from below.
 * L2  What goes to the image goes in runs, one at a time: held discards, then
 *     pages, then, if somebody waits for it, a flush.
 * L3  A page on its way down is not changed: writes to it are -EBUSY.  During a
 *     run discards are -EBUSY, so that a held discard is older than any page,
 *     and sent first it harms none.
 * L4  The run of a flush carries all that was held when it began.
 *
 * There is no td_queue_write_zeroes (the core writes zeros, which are held) and
 * no block status (below nobody knows what is held).
 */
#include "drivers/lossy_private.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "drivers/drivers.h"
#include "drivers/random.h"
#include "drivers/size.h"

/* --- requests --- */

/* What is held of a sector; NULL if nothing is. */
static const char *
find_held(const struct lossy *lossy, td_sector_t sec)
{
	const struct lossy_page *page =
		lossy_page_find(lossy, sec / PAGE_SECTORS);

	if (!page || !(page->dirty & (1u << sec % PAGE_SECTORS)))
		return NULL;
	return page->data + (sec % PAGE_SECTORS << SECTOR_SHIFT);
}

/* Cut into runs of sectors that are held and that are not. */
static void
lossy_queue_read(td_driver_t *driver, td_request_t treq)
{
	struct lossy *lossy = driver->data;
	td_sector_t sec = treq.sec, end = sec + (td_sector_t)treq.secs;
	const char *held = find_held(lossy, sec);
	td_request_t run = treq;
	bool run_is_held = held;

	if (lossy->crashed) {
		td_complete_request(treq, -EIO);
		return;
	}
	while (sec < end) {
		if (held)
			memcpy(treq.buf + ((sec - treq.sec) << SECTOR_SHIFT),
			       held, 1u << SECTOR_SHIFT);
		sec++;
		held = sec < end ? find_held(lossy, sec) : NULL;
		if (sec < end && run_is_held == !!held)
			continue;
		run.secs = (int)(sec - run.sec);
		if (run_is_held)
			td_complete_request(run, 0);
		else
			td_forward_request(run);
		run.sec = sec;
		run.buf = treq.buf + ((sec - treq.sec) << SECTOR_SHIFT);
		run_is_held = held;
	}
}

/* Whether [sec, end) can be taken now; counts the pages it would cost. */
static bool
is_writable(const struct lossy *lossy, td_sector_t sec, td_sector_t end,
	    size_t *ret_cost)
{
	uint64_t number = sec / PAGE_SECTORS;
	const struct lossy_page *page;

	*ret_cost = 0;
	for (; number * PAGE_SECTORS < end; number++) {
		page = lossy_page_find(lossy, number);
		if (page && page->writing)
			return false;
		*ret_cost += !page;
	}
	return true;
}

/* Which of the sectors that `bits` names reach the image at once. */
static uint8_t
tear(struct lossy *lossy, uint8_t bits)
{
	unsigned int unit =
		(unsigned int)lossy->driver->info.sector_size >> SECTOR_SHIFT;
	uint8_t early = 0;
	unsigned int i;

	for (i = 0; lossy->tear > 0 && i < PAGE_SECTORS; i += unit) {
		if (!(bits & (1u << i)))
			continue;
		if (random_next(&lossy->random) < lossy->tear)
			early |= (uint8_t)(((1u << unit) - 1) << i);
	}
	return early;
}

static void
hold(struct lossy *lossy, const td_request_t *treq)
{
	td_sector_t sec = treq->sec, end = sec + (td_sector_t)treq->secs, stop;
	const char *from = treq->buf;
	struct lossy_page *page;
	uint8_t bits;

	for (; sec < end; sec = stop) {
		stop = (sec / PAGE_SECTORS + 1) * PAGE_SECTORS;
		if (stop > end)
			stop = end;
		page = lossy_page_get(lossy, sec / PAGE_SECTORS);
		memcpy(page->data + (sec % PAGE_SECTORS << SECTOR_SHIFT), from,
		       (stop - sec) << SECTOR_SHIFT);
		from += (stop - sec) << SECTOR_SHIFT;
		bits = lossy_page_bits(page->number, sec, stop);
		page->dirty |= bits;
		page->early &= (uint8_t)~bits;
		page->early |= tear(lossy, bits);
		lossy->torn = lossy->torn || page->early;
	}
}

/* Make room; in a while there will be some. */
static void
write_through(struct lossy *lossy)
{
	if (lossy->run == LOSSY_IDLE)
		lossy_run_start(lossy, lossy->pages / 16);
}

static void
lossy_queue_write(td_driver_t *driver, td_request_t treq)
{
	struct lossy *lossy = driver->data;
	int error = lossy->crashed ? -EIO : 0;
	size_t cost;

	if (!error && !is_writable(lossy, treq.sec,
				   treq.sec + (td_sector_t)treq.secs, &cost))
		error = -EBUSY;
	if (!error && cost > lossy->pages)
		error = -EINVAL; /* larger than all there is */
	if (!error && cost > lossy->free_count) {
		error = lossy->through_error ? lossy->through_error : -EBUSY;
		lossy->through_error = 0;
		write_through(lossy);
	}
	if (!error)
		hold(lossy, &treq);
	td_complete_request(treq, error);
	if (!error && lossy->torn && lossy->run == LOSSY_IDLE)
		lossy_run_start(lossy, 0);
}

static void
lossy_queue_flush(td_driver_t *driver, td_request_t treq)
{
	struct lossy *lossy = driver->data;

	if (lossy->crashed && lossy->run == LOSSY_IDLE) {
		td_complete_request(treq, -EIO);
		return;
	}
	if (lossy->waiting == FLUSHES_MAX) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	lossy->flush[lossy->waiting++] = treq;
	if (lossy->run == LOSSY_IDLE)
		lossy_run_start(lossy, 0);
}

/* What is held of [sec, end) need not be kept. */
static void
drop(struct lossy *lossy, td_sector_t sec, td_sector_t end)
{
	struct lossy_page *page, *spare;
	uint8_t bits;

	list_for_each_entry_safe (page, spare, &lossy->dirty, entry) {
		if ((page->number + 1) * PAGE_SECTORS <= sec ||
		    page->number * PAGE_SECTORS >= end)
			continue;
		bits = lossy_page_bits(page->number, sec, end);
		page->dirty &= (uint8_t)~bits;
		page->early &= (uint8_t)~bits;
		if (!page->dirty)
			lossy_page_put(page);
	}
}

static void
lossy_queue_discard(td_driver_t *driver, td_request_t treq)
{
	struct lossy *lossy = driver->data;

	if (lossy->crashed) {
		td_complete_request(treq, -EIO);
		return;
	}
	if (lossy->run != LOSSY_IDLE || lossy->discards == DISCARDS_MAX) {
		td_complete_request(treq, -EBUSY);
		write_through(lossy);
		return;
	}
	drop(lossy, treq.sec, treq.sec + (td_sector_t)treq.secs);
	lossy->discard[lossy->discards++] = (struct lossy_discard){
		.sec = treq.sec,
		.secs = treq.secs,
	};
	td_complete_request(treq, 0);
}

/* --- life --- */

static int
parse_option(struct lossy *lossy, char *word, uint64_t *ret_memory)
{
	char *value = strchr(word, '=');
	const char *end;
	char *number_end;

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (*value < '0' || *value > '9') /* strto*() take blanks and signs */
		return -EINVAL;
	end = number_end = value;
	if (strcmp(word, "seed") == 0) {
		lossy->random = strtoull(value, &number_end, 10);
		end = number_end;
	} else if (strcmp(word, "tear") == 0) {
		lossy->tear = strtod(value, &number_end);
		end = lossy->tear >= 0 && lossy->tear <= 1 ? number_end : value;
	} else if (strcmp(word, "memory") == 0) {
		if (size_parse(value, ret_memory, &end) < 0 ||
		    *ret_memory < MEMORY_MIN || *ret_memory > MEMORY_MAX)
			return -EINVAL;
	}
	return end != value && !*end ? 0 : -EINVAL;
}

static int
parse_options(struct lossy *lossy, const char *name, uint64_t *ret_memory)
{
	char *copy = strdup(name), *rest = copy, *word;
	int error = copy ? 0 : -ENOMEM;

	while (!error && (word = strsep(&rest, ",")))
		if (*word)
			error = parse_option(lossy, word, ret_memory);
	free(copy);
	return error;
}

static int
lossy_close(td_driver_t *driver)
{
	struct lossy *lossy = driver->data;

	timer_clear(&lossy->again);
	if (lossy->memory)
		munmap(lossy->memory, lossy->pages * PAGE);
	free(lossy->page);
	free(lossy->bucket);
	return 0;
}

static int
lossy_allocate(struct lossy *lossy, uint64_t memory)
{
	void *mapped;
	size_t i;

	lossy->pages = memory / PAGE;
	lossy->page = calloc(lossy->pages, sizeof(*lossy->page));
	lossy->bucket = calloc(BUCKETS, sizeof(*lossy->bucket));
	mapped = mmap(NULL, lossy->pages * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mapped != MAP_FAILED)
		lossy->memory = mapped;
	if (!lossy->page || !lossy->bucket || !lossy->memory)
		return -ENOMEM;
	for (i = 0; i < lossy->pages; i++) {
		lossy->page[i].lossy = lossy;
		lossy->page[i].data = lossy->memory + i * PAGE;
		list_add_tail(&lossy->page[i].entry, &lossy->free);
	}
	lossy->free_count = lossy->pages;
	return 0;
}

static int
lossy_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct lossy *lossy = driver->data;
	uint64_t memory = MEMORY;
	int error;

	(void)flags;
	if (!td_image_below(driver))
		return td_reason(driver, -EINVAL,
				 "a filter needs an image below it: "
				 "lossy:|aio:PATH");
	lossy->driver = driver;
	lossy->random = 1;
	INIT_LIST_HEAD(&lossy->free);
	INIT_LIST_HEAD(&lossy->dirty);
	INIT_LIST_HEAD(&lossy->writing);
	timer_init(&lossy->again, driver->image->stack->loop,
		   lossy_run_on_again);
	error = parse_options(lossy, name, &memory);
	if (error == -EINVAL)
		return td_reason(driver, error,
				 "the options are seed=N, tear=P with P from 0 "
				 "to 1, and memory=SIZE from 1M to 16G");
	if (!error)
		error = lossy_allocate(lossy, memory);
	if (error)
		(void)lossy_close(driver);
	return error;
}

static int
lossy_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
lossy_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return 0;
}

/* --- control --- */

static void
lossy_stats(td_driver_t *driver, struct json_t *object)
{
	struct lossy *lossy = driver->data;
	size_t held = (lossy->pages - lossy->free_count) * PAGE;

	json_object_set_new(object, "held_bytes",
			    json_integer((json_int_t)held));
	json_object_set_new(object, "held_discards",
			    json_integer(lossy->discards));
	json_object_set_new(object, "crashed", json_boolean(lossy->crashed));
}

/* Pages on their way down are forgotten when they come back. */
static void
lossy_crash(struct lossy *lossy)
{
	struct lossy_page *page, *spare;

	lossy->crashed = true;
	list_for_each_entry_safe (page, spare, &lossy->dirty, entry)
		lossy_page_put(page);
	lossy->torn = false;
	lossy->todo = 0;
	timer_clear(&lossy->again);
	if (lossy->run != LOSSY_DISCARDING)
		lossy->discards = 0;
	lossy_run_step(lossy);
}

static int
lossy_command(td_driver_t *driver, const char *command, struct json_t *result)
{
	struct lossy *lossy = driver->data;

	(void)result;
	if (strcmp(command, "crash") == 0) {
		lossy_crash(lossy);
		return 0;
	}
	if (strcmp(command, "revive") == 0) {
		if (lossy->run != LOSSY_IDLE)
			return td_reason(driver, -EBUSY,
					 "requests of before the crash are "
					 "still on their way: try again");
		lossy->crashed = false;
		return 0;
	}
	return td_reason(driver, -EINVAL,
			 "\"%s\" is no command: crash and revive are", command);
}

struct tap_disk tapdisk_lossy = {
	.disk_type = "tapdisk_lossy",
	.private_data_size = sizeof(struct lossy),
	.td_open = lossy_open,
	.td_close = lossy_close,
	.td_get_parent_id = lossy_get_parent_id,
	.td_validate_parent = lossy_validate_parent,
	.td_queue_read = lossy_queue_read,
	.td_queue_write = lossy_queue_write,
	.td_queue_flush = lossy_queue_flush,
	.td_queue_discard = lossy_queue_discard,
	.td_stats = lossy_stats,
	.td_command = lossy_command,
};

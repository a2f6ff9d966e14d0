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
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/image.h"
#include "core/loop.h"
#include "drivers/drivers.h"
#include "drivers/random.h"
#include "drivers/size.h"

#define PAGE	      4096u
#define PAGE_SECTORS  (PAGE >> SECTOR_SHIFT)
#define MEMORY	      (64ull << 20)
#define MEMORY_MIN    (1ull << 20)
#define MEMORY_MAX    (16ull << 30)
#define BUCKETS	      16384u /* a power of two */
#define IN_FLIGHT_MAX 32     /* pages of a run */
#define DISCARDS_MAX  64
#define FLUSHES_MAX   64
#define AGAIN_NS      NS_PER_MS

struct lossy_page {
	struct list_head entry;	  /* free, dirty or writing */
	struct lossy_page *chain; /* of its bucket */
	struct lossy *lossy;	  /* borrowed */
	uint64_t number;	  /* offset / PAGE */
	char *data;		  /* borrowed from lossy->memory */
	uint8_t dirty;		  /* bits by sector */
	uint8_t early;		  /* of these, torn off: to go at once */
	uint8_t writing;	  /* on their way */
	int left;		  /* of these, sectors not back */
	int error;
};

static_assert(PAGE_SECTORS == 8, "a page's bits fill a byte");

struct lossy_discard {
	td_sector_t sec;
	int secs;
};

enum lossy_run {
	LOSSY_IDLE,
	LOSSY_DISCARDING,
	LOSSY_WRITING,
	LOSSY_FLUSHING,
};

struct lossy {
	td_driver_t *driver; /* borrowed */
	double tear;
	uint64_t random;
	bool crashed;

	char *memory; /* owned, mapped */
	size_t pages;
	struct lossy_page *page;    /* owned: an array */
	struct lossy_page **bucket; /* owned: an array */
	struct list_head free;
	struct list_head dirty; /* oldest first */
	struct list_head writing;
	size_t free_count, dirty_count;
	bool torn; /* pages with early bits are among the dirty */

	enum lossy_run run;
	bool run_early;	    /* it carries early bits only */
	bool run_flushes;   /* it ends with a flush below */
	size_t todo;	    /* pages from the oldest */
	unsigned int below; /* requests of ours that are not back */
	int error;	    /* the run's first */
	int through_error;  /* of writing through: the next write tells it */
	struct timer again; /* set: the image below was busy */

	int discards;
	struct lossy_discard discard[DISCARDS_MAX];
	int waiting, serving; /* the first `serving` ride on the run */
	td_request_t flush[FLUSHES_MAX];
};

/* --- pages --- */

static struct lossy_page *
page_find(const struct lossy *lossy, uint64_t number)
{
	struct lossy_page *page = lossy->bucket[number % BUCKETS];

	while (page && page->number != number)
		page = page->chain;
	return page;
}

static struct lossy_page *
page_get(struct lossy *lossy, uint64_t number)
{
	struct lossy_page *page = page_find(lossy, number);

	if (page)
		return page;
	page = list_first_entry(&lossy->free, struct lossy_page, entry);
	list_move_tail(&page->entry, &lossy->dirty);
	lossy->free_count--;
	lossy->dirty_count++;
	page->number = number;
	page->dirty = page->early = page->writing = 0;
	page->chain = lossy->bucket[number % BUCKETS];
	lossy->bucket[number % BUCKETS] = page;
	return page;
}

/* It is on the dirty list, and has nothing to tell. */
static void
page_put(struct lossy_page *page)
{
	struct lossy *lossy = page->lossy;
	struct lossy_page **link = &lossy->bucket[page->number % BUCKETS];

	while (*link != page)
		link = &(*link)->chain;
	*link = page->chain;
	list_del(&page->entry);
	list_add(&page->entry, &lossy->free);
	lossy->free_count++;
	lossy->dirty_count--;
}

/* The bits of [sec, end) in page `number`. */
static uint8_t
page_bits(uint64_t number, td_sector_t sec, td_sector_t end)
{
	td_sector_t first = number * PAGE_SECTORS;
	unsigned int from = sec > first ? (unsigned int)(sec - first) : 0;
	unsigned int to = end < first + PAGE_SECTORS
				  ? (unsigned int)(end - first)
				  : PAGE_SECTORS;

	return (uint8_t)((0xffu << from) & (0xffu >> (PAGE_SECTORS - to)));
}

/* --- runs --- */

static void run_step(struct lossy *lossy);

static bool
is_transient(int res)
{
	return res == -EBUSY || res == -EAGAIN || res == -EINTR;
}

static void
page_written(struct lossy_page *page)
{
	struct lossy *lossy = page->lossy;

	list_del(&page->entry);
	list_add(&page->entry, &lossy->dirty);
	lossy->dirty_count++;
	lossy->below--;
	if (is_transient(page->error)) {
		lossy->todo++;
		page->early |= lossy->run_early ? page->writing : 0;
		if (!timer_is_set(&lossy->again))
			timer_set(&lossy->again, AGAIN_NS);
	} else if (page->error) {
		lossy->error = lossy->error ? lossy->error : page->error;
		/* behind those that have not been tried */
		list_move_tail(&page->entry, &lossy->dirty);
	} else {
		page->dirty &= (uint8_t)~page->writing;
	}
	page->writing = 0;
	if (!page->dirty || lossy->crashed)
		page_put(page);
	else if (!page->error) /* an early run leaves the rest where it was */
		list_move_tail(&page->entry, &lossy->dirty);
	run_step(lossy);
}

static void
on_written(td_request_t part, int res)
{
	struct lossy_page *page = part.cb_data;

	if (res < 0 && (!page->error || is_transient(page->error)))
		page->error = res;
	page->left -= part.secs;
	assert(page->left >= 0);
	if (page->left == 0)
		page_written(page);
}

static void
page_write(struct lossy_page *page, uint8_t bits)
{
	struct lossy *lossy = page->lossy;
	unsigned int from, to;

	list_move_tail(&page->entry, &lossy->writing);
	lossy->dirty_count--;
	lossy->below++;
	page->writing = bits;
	page->early &= (uint8_t)~bits;
	page->left = __builtin_popcount(bits);
	page->error = 0;
	for (from = 0; from < PAGE_SECTORS; from = to + 1) {
		for (to = from; to < PAGE_SECTORS && (bits & (1u << to)); to++)
			;
		if (from == to)
			continue;
		td_queue_request(
			td_image_below(lossy->driver),
			(td_request_t){
				.op = TD_OP_WRITE,
				.buf = page->data + (from << SECTOR_SHIFT),
				.sec = page->number * PAGE_SECTORS + from,
				.secs = (int)(to - from),
				.cb = (void *)on_written,
				.cb_data = page,
			});
	}
}

/* As many pages as may be in flight. */
static void
run_write(struct lossy *lossy)
{
	struct lossy_page *page;
	uint8_t bits;

	while (lossy->todo > 0 && lossy->below < IN_FLIGHT_MAX &&
	       !lossy->crashed && !timer_is_set(&lossy->again)) {
		page = list_first_entry(&lossy->dirty, struct lossy_page,
					entry);
		lossy->todo--;
		bits = lossy->run_early ? page->early : page->dirty;
		if (bits)
			page_write(page, bits);
		else
			list_move_tail(&page->entry, &lossy->dirty);
	}
}

static void
on_discarded(td_request_t part, int res)
{
	struct lossy *lossy = part.cb_data;

	(void)res; /* a hint */
	lossy->discard[part.sidx].secs -= part.secs;
	if (lossy->discard[part.sidx].secs > 0)
		return;
	lossy->below--;
	run_step(lossy);
}

static void
run_discard(struct lossy *lossy)
{
	int i;

	for (i = 0; i < lossy->discards; i++) {
		lossy->below++;
		td_queue_request(td_image_below(lossy->driver),
				 (td_request_t){
					 .op = TD_OP_DISCARD,
					 .sec = lossy->discard[i].sec,
					 .secs = lossy->discard[i].secs,
					 .cb = (void *)on_discarded,
					 .cb_data = lossy,
					 .id = (uint64_t)i,
					 .sidx = i,
				 });
	}
}

static void
on_flushed(td_request_t part, int res)
{
	struct lossy *lossy = part.cb_data;

	lossy->below--;
	lossy->error = res;
	run_step(lossy);
}

static void
run_flush(struct lossy *lossy)
{
	lossy->below++;
	td_queue_request(td_image_below(lossy->driver),
			 (td_request_t){
				 .op = TD_OP_FLUSH,
				 .secs = 1,
				 .cb = (void *)on_flushed,
				 .cb_data = lossy,
			 });
}

/* Answer the first `count` that wait. */
static void
answer_flushes(struct lossy *lossy, int count, int res)
{
	td_request_t due[FLUSHES_MAX];
	int i;

	memcpy(due, lossy->flush, (size_t)count * sizeof(due[0]));
	lossy->waiting -= count;
	memmove(lossy->flush, lossy->flush + count,
		(size_t)lossy->waiting * sizeof(due[0]));
	for (i = 0; i < count; i++)
		td_complete_request(due[i], res);
}

static void
run_start(struct lossy *lossy, size_t todo)
{
	assert(lossy->run == LOSSY_IDLE && lossy->below == 0);
	lossy->run = LOSSY_DISCARDING;
	lossy->serving = lossy->waiting;
	lossy->run_flushes = lossy->serving > 0;
	lossy->run_early = !lossy->run_flushes && todo == 0;
	lossy->todo =
		todo > 0 && !lossy->run_flushes ? todo : lossy->dirty_count;
	if (lossy->todo > lossy->dirty_count)
		lossy->todo = lossy->dirty_count;
	lossy->torn = false;
	lossy->error = 0;
	run_discard(lossy);
	run_step(lossy);
}

static void
run_end(struct lossy *lossy)
{
	int serving = lossy->serving;

	lossy->run = LOSSY_IDLE;
	lossy->serving = 0;
	if (lossy->crashed) {
		answer_flushes(lossy, lossy->waiting, -EIO);
		return;
	}
	if (lossy->run_flushes)
		answer_flushes(lossy, serving, lossy->error);
	else
		lossy->through_error = lossy->error;
	/* answering may have begun another */
	if (lossy->run == LOSSY_IDLE && (lossy->waiting || lossy->torn))
		run_start(lossy, 0);
}

/* Take the next step, if everything of the last is back. */
static void
run_step(struct lossy *lossy)
{
	if (lossy->run == LOSSY_WRITING)
		run_write(lossy);
	if (lossy->below > 0 || (timer_is_set(&lossy->again) && lossy->todo))
		return;
	switch (lossy->run) {
	case LOSSY_IDLE:
		return;
	case LOSSY_DISCARDING:
		lossy->discards = 0;
		lossy->run = LOSSY_WRITING;
		break;
	case LOSSY_WRITING:
		if (lossy->run_flushes && !lossy->error && !lossy->crashed) {
			lossy->run = LOSSY_FLUSHING;
			run_flush(lossy);
			return;
		}
		run_end(lossy);
		return;
	case LOSSY_FLUSHING:
		run_end(lossy);
		return;
	}
	run_step(lossy);
}

static void
on_again(struct timer *timer)
{
	run_step(container_of(timer, struct lossy, again));
}

/* --- requests --- */

static void
lossy_queue_read(td_driver_t *driver, td_request_t treq)
{
	struct lossy *lossy = driver->data;
	td_sector_t sec = treq.sec, end = sec + (td_sector_t)treq.secs;
	td_request_t below = treq; /* the run of sectors not held */
	const struct lossy_page *page;
	uint8_t bit;

	if (lossy->crashed) {
		td_complete_request(treq, -EIO);
		return;
	}
	below.secs = 0;
	treq.secs = 0; /* held ones, completed together at the end */
	for (; sec < end; sec++) {
		page = page_find(lossy, sec / PAGE_SECTORS);
		bit = (uint8_t)(1u << sec % PAGE_SECTORS);
		if (!page || !(page->dirty & bit)) {
			below.secs++;
			continue;
		}
		memcpy(treq.buf + ((sec - treq.sec) << SECTOR_SHIFT),
		       page->data + (sec % PAGE_SECTORS << SECTOR_SHIFT), 512);
		treq.secs++;
		if (below.secs > 0)
			td_forward_request(below);
		below.sec = sec + 1;
		below.buf = treq.buf + ((sec + 1 - treq.sec) << SECTOR_SHIFT);
		below.secs = 0;
	}
	if (below.secs > 0)
		td_forward_request(below);
	if (treq.secs > 0)
		td_complete_request(treq, 0);
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
		page = page_find(lossy, number);
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
		page = page_get(lossy, sec / PAGE_SECTORS);
		memcpy(page->data + (sec % PAGE_SECTORS << SECTOR_SHIFT), from,
		       (stop - sec) << SECTOR_SHIFT);
		from += (stop - sec) << SECTOR_SHIFT;
		bits = page_bits(page->number, sec, stop);
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
		run_start(lossy, lossy->pages / 16);
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
		run_start(lossy, 0);
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
		run_start(lossy, 0);
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
		bits = page_bits(page->number, sec, end);
		page->dirty &= (uint8_t)~bits;
		page->early &= (uint8_t)~bits;
		if (!page->dirty)
			page_put(page);
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
	timer_init(&lossy->again, driver->image->stack->loop, on_again);
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
		page_put(page);
	lossy->torn = false;
	lossy->todo = 0;
	timer_clear(&lossy->again);
	if (lossy->run != LOSSY_DISCARDING)
		lossy->discards = 0;
	run_step(lossy);
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

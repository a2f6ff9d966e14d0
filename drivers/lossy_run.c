/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lossy_run - what lossy holds, and how it gets to the image below; see
 * lossy.c for the rules.
 *
 *          run_start              all back             all back, a flush waits
 *   IDLE ------------> DISCARDING --------> WRITING -----------------> FLUSHING
 *    ^                                         |                          |
 *    +------------- run_end: flushes get their answer --------------------+
 */
#include "drivers/lossy_private.h"

#include <errno.h>
#include <string.h>

/* --- pages --- */

struct lossy_page *
lossy_page_find(const struct lossy *lossy, uint64_t number)
{
	struct lossy_page *page = lossy->bucket[number % BUCKETS];

	while (page && page->number != number)
		page = page->chain;
	return page;
}

struct lossy_page *
lossy_page_get(struct lossy *lossy, uint64_t number)
{
	struct lossy_page *page = lossy_page_find(lossy, number);

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

void
lossy_page_put(struct lossy_page *page)
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

uint8_t
lossy_page_bits(uint64_t number, td_sector_t sec, td_sector_t end)
{
	td_sector_t first = number * PAGE_SECTORS;
	unsigned int from = sec > first ? (unsigned int)(sec - first) : 0;
	unsigned int to = end < first + PAGE_SECTORS
				  ? (unsigned int)(end - first)
				  : PAGE_SECTORS;

	return (uint8_t)((0xffu << from) & (0xffu >> (PAGE_SECTORS - to)));
}

/* --- runs --- */

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
		lossy_page_put(page);
	else if (!page->error) /* an early run leaves the rest where it was */
		list_move_tail(&page->entry, &lossy->dirty);
	lossy_run_step(lossy);
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
	lossy_run_step(lossy);
}

static void
run_discard(struct lossy *lossy)
{
	int i;

	lossy->below++; /* this loop: nothing ends before it */
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
	lossy->below--;
}

static void
on_flushed(td_request_t part, int res)
{
	struct lossy *lossy = part.cb_data;

	lossy->below--;
	lossy->error = res;
	lossy_run_step(lossy);
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

void
lossy_run_start(struct lossy *lossy, size_t todo)
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
	lossy_run_step(lossy);
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
		lossy_run_start(lossy, 0);
}

void
lossy_run_step(struct lossy *lossy)
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
	lossy_run_step(lossy);
}

void
lossy_run_on_again(struct timer *timer)
{
	lossy_run_step(container_of(timer, struct lossy, again));
}

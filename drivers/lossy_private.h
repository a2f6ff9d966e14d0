/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * lossy_private.h - what lossy.c (the driver) and lossy_run.c (how what is held
 * reaches the image) share.  Nobody else includes it.  L1 to L4 stand in
 * lossy.c.
 */
#ifndef DRIVERS_LOSSY_PRIVATE_H
#define DRIVERS_LOSSY_PRIVATE_H

#include <assert.h>

#include "core/image.h"
#include "core/loop.h"

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

/* The page of that number; NULL if nothing of it is held. */
struct lossy_page *lossy_page_find(const struct lossy *lossy, uint64_t number);

/* The same; a new one, with nothing in it, if there is none.  One must be
 * free. */
struct lossy_page *lossy_page_get(struct lossy *lossy, uint64_t number);

/* It is on the dirty list, and has nothing to tell. */
void lossy_page_put(struct lossy_page *page);

/* The bits of [sec, end) in page `number`. */
uint8_t lossy_page_bits(uint64_t number, td_sector_t sec, td_sector_t end);

/* Begin to carry to the image: all that is held, and flush it, if flushes wait;
 * else the oldest `todo` pages, or with 0 what was torn off.  No run may be
 * under way. */
void lossy_run_start(struct lossy *lossy, size_t todo);

/* Take the next step, if everything of the last is back. */
void lossy_run_step(struct lossy *lossy);

/* The image below was busy; go on. */
void lossy_run_on_again(struct timer *timer);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ticket - what an image was given and has not given back, request by request.
 *
 * The core stamps each request that it hands to a driver with a ticket.  Copies
 * and parts of the request carry it, so that sectors that come back a second
 * time are known for that at once, whatever else the driver holds.
 *
 * The stamp may be missing or nonsense: drivers of blktap2 build requests of
 * their own on the stack and know nothing of it.  Such a one is TICKET_NONE, as
 * are those beyond TICKETS_MAX at a time; they are only counted.
 */
#ifndef CORE_TICKET_H
#define CORE_TICKET_H

#include <stdint.h>

#include "tapdisk.h"

#define TICKETS_MAX 1024 /* of an image, at once; a power of two */

enum ticket_state {
	TICKET_NONE,
	TICKET_LIVE,
	TICKET_SPENT, /* all its sectors have been given back */
};

struct tickets {
	struct {
		uint64_t serial; /* of its present or last issue */
		int left;	 /* sectors not given back; 0: it is free */
	} ticket[TICKETS_MAX];
	uint16_t free[TICKETS_MAX]; /* a ring: the longest free is next */
	unsigned int free_first, free_count;
};

void tickets_init(struct tickets *tickets);

/* Requests that have tickets now. */
static inline unsigned int
tickets_live(const struct tickets *tickets)
{
	return TICKETS_MAX - tickets->free_count;
}

/* Stamp a request of `image`. */
void ticket_issue(struct tickets *tickets, td_image_t *image,
		  td_request_t *treq);

/* What is known of a request that `image` handles; *ret_left only of a live
 * one. */
enum ticket_state ticket_look_up(const struct tickets *tickets,
				 const td_image_t *image,
				 const td_request_t *treq, int *ret_left);

/* treq->secs sectors have been given back: no more than are left of a live
 * ticket; without one nothing happens. */
void ticket_use(struct tickets *tickets, const td_image_t *image,
		const td_request_t *treq);

#endif

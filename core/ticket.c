/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ticket - see ticket.h.  A serial number tells the place in the table (modulo
 * TICKETS_MAX) and how often it has been issued; those of one place only grow.
 */
#include "core/ticket.h"

#include <assert.h>

#define SERIAL_FIRST (1ull << 62) /* far from what lies about on a stack */

static unsigned int
place_of(uint64_t serial)
{
	return (unsigned int)(serial % TICKETS_MAX);
}

void
tickets_init(struct tickets *tickets)
{
	unsigned int i;

	for (i = 0; i < TICKETS_MAX; i++) {
		tickets->ticket[i].serial = SERIAL_FIRST + i;
		tickets->ticket[i].left = 0;
		tickets->free[i] = (uint16_t)i;
	}
	tickets->free_first = 0;
	tickets->free_count = TICKETS_MAX;
}

void
ticket_issue(struct tickets *tickets, td_image_t *image, td_request_t *treq)
{
	unsigned int place;

	treq->given_to = image;
	treq->given_cb = treq->cb;
	treq->given_cb_data = treq->cb_data;
	treq->ticket = 0;
	if (tickets->free_count == 0)
		return;
	place = tickets->free[tickets->free_first];
	tickets->free_first = (tickets->free_first + 1) % TICKETS_MAX;
	tickets->free_count--;
	tickets->ticket[place].serial += TICKETS_MAX;
	tickets->ticket[place].left = treq->secs;
	treq->ticket = tickets->ticket[place].serial;
}

enum ticket_state
ticket_look_up(const struct tickets *tickets, const td_image_t *image,
	       const td_request_t *treq, int *ret_left)
{
	unsigned int place = place_of(treq->ticket);

	if (treq->given_to != image ||
	    treq->ticket < SERIAL_FIRST + TICKETS_MAX ||
	    treq->ticket > tickets->ticket[place].serial)
		return TICKET_NONE;
	if (treq->ticket < tickets->ticket[place].serial ||
	    tickets->ticket[place].left == 0)
		return TICKET_SPENT;
	*ret_left = tickets->ticket[place].left;
	return TICKET_LIVE;
}

void
ticket_use(struct tickets *tickets, const td_image_t *image,
	   const td_request_t *treq)
{
	unsigned int place = place_of(treq->ticket);
	int left;

	if (ticket_look_up(tickets, image, treq, &left) != TICKET_LIVE)
		return;
	assert(treq->secs <= left);
	tickets->ticket[place].left -= treq->secs;
	if (tickets->ticket[place].left > 0)
		return;
	tickets->free[(tickets->free_first + tickets->free_count) %
		      TICKETS_MAX] = (uint16_t)place;
	tickets->free_count++;
}

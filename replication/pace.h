/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pace - how fast a resync or a verification may go beside a guest: as fast as
 * lets nine of ten of the guest's requests end within a budget of time.
 *
 * What it controls is a share, the number of pieces that may be under way.
 * Below one it is the part of the time that one piece is: after a piece that
 * took t there is a pause of t * (1 / share - 1).  So nothing here is a rate in
 * bytes, and it is the same on a fast host and on a slow one.
 *
 *   a window in which the tenth request took longer     the share is halved
 *   a window in which it took less                      it grows a little
 *   a window without requests                           it doubles
 *
 * It begins with one piece, and doubles until it first was too much.
 *
 * PC1 The share never falls below PACE_SHARE_MIN and a pause never lasts longer
 *     than PACE_PAUSE_NS: what is copied comes to an end, however slow the
 *     guest's disk is.
 * PC2 Without a budget all that may be under way always may.
 *
 * Pure: it has no clock but the times it is given.
 */
#ifndef REPLICATION_PACE_H
#define REPLICATION_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/stats.h"

#define PACE_WINDOW_NS 100000000ull /* of requests that are judged together */
#define PACE_FEW       8	    /* fewer are judged with the next window */
#define PACE_WINDOWS   3	    /* but after so many, however few */
#define PACE_SHARE_MIN (1.0 / 32)
#define PACE_PAUSE_NS  250000000ull

struct pace {
	uint64_t budget_ns; /* 0: none */
	double most;	    /* pieces under way at most */
	double share;
	bool feeling;	     /* its way up: it was never too much yet */
	uint64_t window_ns;  /* when it began; 0: none yet */
	uint64_t pause_ns;   /* until then none begins */
	uint64_t latency_ns; /* nine of ten, in the last window; 0: no guest */
	struct stats window;
};

void pace_init(struct pace *pace, uint64_t budget_ns, unsigned int most);

/* It begins to matter: a resync starts. */
void pace_begin(struct pace *pace, uint64_t now_ns);

/* A request of the guest has ended. */
void pace_note(struct pace *pace, uint64_t took_ns, uint64_t now_ns);

/* Whether a piece may begin beside `under_way` others. */
bool pace_admits(struct pace *pace, unsigned int under_way, uint64_t now_ns);

/* A piece has ended. */
void pace_piece(struct pace *pace, uint64_t took_ns, uint64_t now_ns);

/* When to ask again, if nothing ends before. */
uint64_t pace_next(const struct pace *pace, uint64_t now_ns);

/* Less than all is under way for the guest's sake. */
bool pace_holds_back(const struct pace *pace);

#endif

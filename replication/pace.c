/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pace - see pace.h.
 */
#include "replication/pace.h"

#include <string.h>

#define GROWTH	    1.05 /* of the share, in a window within the budget */
#define NINE_OF_TEN 900	 /* permille */

void
pace_init(struct pace *pace, uint64_t budget_ns, unsigned int most)
{
	*pace = (struct pace){
		.budget_ns = budget_ns,
		.most = most,
		.share = most,
	};
}

void
pace_begin(struct pace *pace, uint64_t now_ns)
{
	pace->share = pace->budget_ns > 0 ? 1 : pace->most;
	pace->feeling = true;
	pace->window_ns = now_ns;
	pace->pause_ns = 0;
	pace->latency_ns = 0;
	memset(&pace->window, 0, sizeof(pace->window));
}

static void
set_share(struct pace *pace, double share)
{
	if (share > pace->most)
		share = pace->most;
	if (share < PACE_SHARE_MIN)
		share = PACE_SHARE_MIN;
	pace->share = share;
}

/* A window is over, or several. */
static void
judge(struct pace *pace, uint64_t now_ns)
{
	const struct stats_op *op = &pace->window.op[TD_OP_WRITE];
	uint64_t age = now_ns - pace->window_ns;

	if (age < PACE_WINDOW_NS || (op->count > 0 && op->count < PACE_FEW &&
				     age < PACE_WINDOWS * PACE_WINDOW_NS))
		return;
	pace->latency_ns = stats_percentile(op, NINE_OF_TEN);
	if (op->count == 0)
		set_share(pace, pace->share * 2);
	else if (pace->latency_ns > pace->budget_ns)
		set_share(pace, pace->share / 2);
	else
		set_share(pace, pace->share * (pace->feeling ? 2 : GROWTH));
	if (pace->latency_ns > pace->budget_ns)
		pace->feeling = false;
	pace->window_ns = now_ns;
	memset(&pace->window, 0, sizeof(pace->window));
}

void
pace_note(struct pace *pace, uint64_t took_ns, uint64_t now_ns)
{
	if (pace->budget_ns == 0)
		return;
	/* what the operation was is all the same here */
	stats_count(&pace->window, TD_OP_WRITE, 0, took_ns, 0);
	judge(pace, now_ns);
}

bool
pace_admits(struct pace *pace, unsigned int under_way, uint64_t now_ns)
{
	if (pace->budget_ns == 0)
		return under_way < (unsigned int)pace->most;
	judge(pace, now_ns);
	if (now_ns < pace->pause_ns)
		return false;
	return under_way == 0 || under_way + 1 <= (unsigned int)pace->share;
}

void
pace_piece(struct pace *pace, uint64_t took_ns, uint64_t now_ns)
{
	double pause;

	if (pace->budget_ns == 0 || pace->share >= 1)
		return;
	pause = (double)took_ns * (1 / pace->share - 1);
	if (pause > (double)PACE_PAUSE_NS)
		pause = (double)PACE_PAUSE_NS;
	pace->pause_ns = now_ns + (uint64_t)pause;
}

uint64_t
pace_next(const struct pace *pace, uint64_t now_ns)
{
	return now_ns < pace->pause_ns ? pace->pause_ns
				       : now_ns + PACE_WINDOW_NS;
}

bool
pace_holds_back(const struct pace *pace)
{
	return pace->budget_ns > 0 && pace->share < pace->most;
}

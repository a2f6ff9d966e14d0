/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats - counts, bytes, errors and latencies by operation.
 *
 * Latencies fall into buckets of a logarithmic scale with STATS_SUB buckets
 * for each power of two of nanoseconds, so that a percentile read back is at
 * most 1/STATS_SUB too high.  Fixed size; nothing allocates.
 */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include <stdint.h>

#include "tapdisk.h"

#define STATS_SUB     8
#define STATS_BUCKETS (40 * STATS_SUB) /* up to 2^42 ns, over an hour */

struct stats_op {
	uint64_t count; /* ended, with or without error */
	uint64_t bytes;
	uint64_t errors;
	uint64_t total_ns;
	uint32_t bucket[STATS_BUCKETS];
};

struct stats {
	struct stats_op op[TD_OP_COUNT];
	uint32_t depth;	    /* requests that have begun and not ended */
	uint32_t depth_max; /* the highest so far */
};

void stats_begin(struct stats *stats);

/* For who counts himself what has begun and not ended; with stats_count. */
static inline void
stats_set_depth(struct stats *stats, uint32_t depth)
{
	stats->depth = depth;
	if (depth > stats->depth_max)
		stats->depth_max = depth;
}

void stats_end(struct stats *stats, int op, uint64_t bytes, uint64_t ns,
	       int error);

/* As stats_end for one that was never begun: parts of a request. */
void stats_count(struct stats *stats, int op, uint64_t bytes, uint64_t ns,
		 int error);

/* The latency that `permille` of 1,000 operations did not exceed; 0 without
 * operations. */
uint64_t stats_percentile(const struct stats_op *op, unsigned int permille);

/* {"read": {"count", "bytes", "errors", "latency_us": {"mean", "p50", "p99",
 * "p99.9"}}, "write": ..., "depth", "depth_max"}; a new reference. */
struct json_t *stats_json(const struct stats *stats);

/* "read" for TD_OP_READ, ... */
const char *td_op_name(int op);

#endif

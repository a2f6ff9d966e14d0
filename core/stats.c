/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * stats - see stats.h.
 *
 * Bucket i of the scale holds the latencies whose power of two is i / SUB and
 * whose next bits are i % SUB; a percentile reads as the bucket's upper end.
 */
#include "core/stats.h"

#include <jansson.h>

static const char *const op_names[TD_OP_COUNT] = {
	[TD_OP_READ] = "read",
	[TD_OP_WRITE] = "write",
	[TD_OP_FLUSH] = "flush",
	[TD_OP_DISCARD] = "discard",
	[TD_OP_WRITE_ZEROES] = "write-zeroes",
	[TD_OP_BLOCK_STATUS] = "block-status",
};

const char *
td_op_name(int op)
{
	return op >= 0 && op < TD_OP_COUNT ? op_names[op] : "unknown";
}

static unsigned int
bucket_of(uint64_t ns)
{
	unsigned int power, index;

	if (ns < STATS_SUB)
		return (unsigned int)ns;
	power = 63u - (unsigned int)__builtin_clzll(ns);
	index = (power - 2) * STATS_SUB +
		(unsigned int)((ns >> (power - 3)) & (STATS_SUB - 1));
	return index < STATS_BUCKETS ? index : STATS_BUCKETS - 1;
}

/* The largest latency that bucket_of() puts into `index`. */
static uint64_t
bucket_end(unsigned int index)
{
	unsigned int power = index / STATS_SUB + 2;
	uint64_t sub = index % STATS_SUB;

	if (index < STATS_SUB)
		return index;
	return ((STATS_SUB + sub + 1) << (power - 3)) - 1;
}

_Static_assert(STATS_SUB == 8, "bucket_of() takes three bits below the top");

void
stats_begin(struct stats *stats)
{
	stats_set_depth(stats, stats->depth + 1);
}

void
stats_count(struct stats *stats, int op, uint64_t bytes, uint64_t ns, int error)
{
	struct stats_op *entry = &stats->op[op];

	entry->count++;
	if (error < 0)
		entry->errors++;
	else
		entry->bytes += bytes;
	entry->total_ns += ns;
	entry->bucket[bucket_of(ns)]++;
}

void
stats_end(struct stats *stats, int op, uint64_t bytes, uint64_t ns, int error)
{
	stats->depth--;
	stats_count(stats, op, bytes, ns, error);
}

uint64_t
stats_percentile(const struct stats_op *op, unsigned int permille)
{
	uint64_t seen = 0, total = 0, wanted;

	for (unsigned int i = 0; i < STATS_BUCKETS; i++)
		total += op->bucket[i];
	if (total == 0)
		return 0;
	wanted = (total * permille + 999) / 1000;
	for (unsigned int i = 0; i < STATS_BUCKETS; i++) {
		seen += op->bucket[i];
		if (seen >= wanted)
			return bucket_end(i);
	}
	return bucket_end(STATS_BUCKETS - 1);
}

static double
to_us(uint64_t ns)
{
	return (double)ns / 1000.0;
}

static json_t *
op_json(const struct stats_op *op)
{
	double mean =
		op->count > 0 ? to_us(op->total_ns) / (double)op->count : 0.0;

	return json_pack("{s:I, s:I, s:I, s:{s:f, s:f, s:f, s:f}}", "count",
			 (json_int_t)op->count, "bytes", (json_int_t)op->bytes,
			 "errors", (json_int_t)op->errors, "latency_us", "mean",
			 mean, "p50", to_us(stats_percentile(op, 500)), "p99",
			 to_us(stats_percentile(op, 990)), "p99.9",
			 to_us(stats_percentile(op, 999)));
}

struct json_t *
stats_json(const struct stats *stats)
{
	json_t *object = json_object();

	for (int op = 0; op < TD_OP_COUNT; op++) {
		if (stats->op[op].count > 0)
			(void)json_object_set_new(object, op_names[op],
						  op_json(&stats->op[op]));
	}
	(void)json_object_set_new(object, "depth", json_integer(stats->depth));
	(void)json_object_set_new(object, "depth_max",
				  json_integer(stats->depth_max));
	return object;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_tracking - the replica's side of the tracker: its start and stop, and
 * the regions that may be otherwise on the peer although no stamp says so (M0,
 * M4).
 *
 * To doubt is to mark suspects in memory; to settle is to make them durable,
 * which counts as a step (P1): no hello from before it holds, no timeline
 * begins and nobody is met until it is done (H0).
 */
#include <assert.h>

#include "core/log.h"
#include "replication/replica_private.h"

static void
on_failed(void *owner, int error)
{
	replica_fail(owner, error);
}

static void
on_flush_failed(void *owner, int error)
{
	struct replica *replica = owner;

	(void)error;
	replica->spoil = true;
	replica_poke(replica);
}

static const struct tracker_events events = {
	.on_failed = on_failed,
	.on_flush_failed = on_flush_failed,
};

static bool
look_at_image(const struct replica *replica, uint64_t *ret_size,
	      uint64_t *ret_time_ns)
{
	const struct replica_options *options = &replica->options;

	return options->look_at_image != NULL && options->image_path != NULL &&
	       options->look_at_image(options->image_path, ret_size,
				      ret_time_ns);
}

int
replica_tracking_open(struct replica *replica, bool is_new,
		      struct reason *reason)
{
	struct tracker_options options = replica->options.tracking;
	uint64_t size, time_ns;
	int r;

	options.is_new = is_new;
	r = tracker_open(&replica->tracker, replica->loop, replica->metadata,
			 &replica->io, &options, &events, reason);
	replica->tracker.owner = replica;
	if (r < 0 || !look_at_image(replica, &size, &time_ns) ||
	    !tracker_check_image(&replica->tracker, size, time_ns))
		return r;
	replica->image_changed = true;
	log_warn("replica",
		 "%s was changed while no replica had it open: every region "
		 "counts as changed, and the two are compared as a whole when "
		 "they meet",
		 replica->options.image_path);
	return 0;
}

static void
on_started(void *owner)
{
	struct replica *replica = owner;
	void (*then)(struct replica *) = replica->after_step;

	replica->stepping = false;
	replica->after_step = NULL;
	replica->epoch = replica_durable(replica)->epoch;
	then(replica);
	replica_poke(replica);
}

void
replica_tracking_start(struct replica *replica, void (*then)(struct replica *))
{
	assert(!replica->stepping);
	replica->stepping = true;
	replica->changes++;
	replica->after_step = then;
	tracker_start(&replica->tracker, on_started);
}

void
replica_tracking_stop(struct replica *replica, void (*then)(void *))
{
	uint64_t size = 0, time_ns = 0;

	replica_doubt(replica);
	if (!look_at_image(replica, &size, &time_ns))
		size = time_ns = 0;
	tracker_stop(&replica->tracker, size, time_ns, then);
}

void
replica_doubt(struct replica *replica)
{
	mirror_doubt(replica);
	apply_doubt(replica);
	replica->settle = true;
	replica_poke(replica);
}

static void
on_settled(struct tracker_sync *sync)
{
	struct replica *replica = container_of(sync, struct replica, settling);

	replica->stepping = false;
	replica_poke(replica);
}

void
replica_settle(struct replica *replica)
{
	assert(!replica->stepping);
	replica->settle = false;
	replica->stepping = true;
	replica->changes++;
	replica->settling = (struct tracker_sync){ .on_done = on_settled };
	tracker_sync(&replica->tracker, &replica->settling);
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_fork - two replicas that diverged (H4): where they parted, and what
 * each would lose if the operator gave it up.
 *
 * Each side counts in its own map, in slices, once a meeting has found the
 * fork, and says the sum in its next hello.  Nothing is copied and nothing
 * changed.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "core/log.h"
#include "replication/replica_private.h"

static void
on_count(struct task *task)
{
	struct replica *replica =
		container_of(task, struct replica, fork.count);
	struct replica_fork *fork = &replica->fork;
	uint64_t size = replica_durable(replica)->size, from = fork->at;
	unsigned int shift = replica->tracker.map.shift;
	struct dirty_map_run run;

	while (fork->at < size &&
	       (fork->at - from) >> shift < TRACKER_REGIONS / 4) {
		tracker_next_doubtful(&replica->tracker, fork->we.epoch,
				      fork->at, TRACKER_REGIONS / 4, &run);
		fork->at = run.next;
		if (run.offset >= size)
			continue;
		if (run.length > size - run.offset)
			run.length = size - run.offset;
		fork->we.bytes += run.length;
		fork->we.regions += (run.length + (1ull << shift) - 1) >> shift;
	}
	if (fork->at < size) {
		task_post(task);
		return;
	}
	fork->counted = true;
	log_warn("replica",
		 "diverged after epoch %" PRIu64 ": %" PRIu64
		 " regions with %" PRIu64 " bytes were changed here since",
		 fork->we.epoch, fork->we.regions, fork->we.bytes);
}

void
fork_found(struct replica *replica, uint64_t timeline, uint64_t epoch)
{
	struct replica_fork *fork = &replica->fork;

	if (fork->we.timeline == timeline && fork->we.epoch == epoch)
		return;
	fork_forget(replica);
	fork->we = (struct wire_fork){ .timeline = timeline, .epoch = epoch };
	task_post(&fork->count);
}

void
fork_hear(struct replica *replica, const struct wire_fork *peer)
{
	struct replica_fork *fork = &replica->fork;

	if (peer->timeline != 0 && peer->timeline == fork->we.timeline &&
	    peer->epoch == fork->we.epoch)
		fork->peer = *peer;
}

void
fork_say(const struct replica *replica, struct wire_fork *ret_fork)
{
	if (replica->fork.counted)
		*ret_fork = replica->fork.we;
}

void
fork_forget(struct replica *replica)
{
	struct replica_fork *fork = &replica->fork;

	task_cancel(&fork->count);
	fork->we = fork->peer = (struct wire_fork){ .timeline = 0 };
	fork->counted = false;
	fork->at = 0;
}

static json_t *
loss_json(const struct wire_fork *side, bool known)
{
	if (!known)
		return json_null();
	return json_pack("{s:I, s:I}", "regions", (json_int_t)side->regions,
			 "bytes", (json_int_t)side->bytes);
}

struct json_t *
fork_json(const struct replica *replica)
{
	const struct replica_fork *fork = &replica->fork;
	char timeline[17];

	if (fork->we.timeline == 0)
		return json_null();
	(void)snprintf(timeline, sizeof(timeline), "%016" PRIx64,
		       fork->we.timeline);
	return json_pack("{s:s, s:I, s:o, s:o}", "timeline", timeline, "epoch",
			 (json_int_t)fork->we.epoch, "local",
			 loss_json(&fork->we, fork->counted), "peer",
			 loss_json(&fork->peer, fork->peer.timeline != 0));
}

void
fork_init(struct replica *replica)
{
	task_init(&replica->fork.count, replica->loop, on_count);
}

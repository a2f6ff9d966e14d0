/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_status - what people and tools are told: the state, why it is not
 * the best one, and what a failover now would lose.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "replication/replica_private.h"

static void
set(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

static json_t *
number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static const char *
ack_name(enum replica_ack ack)
{
	switch (ack) {
	case REPLICA_ACK_RECEIVED:
		return "received";
	case REPLICA_ACK_WRITTEN:
		return "written";
	case REPLICA_ACK_DURABLE:
		return "durable";
	}
	return "?";
}

static bool
is_in_sync(const struct replica *replica)
{
	if (!replica_durable(replica)->consistent)
		return false;
	if (replica->state == REPLICA_SYNCED)
		return true;
	return replica->state == REPLICA_PAIRED && replica->in_sync &&
	       replica->arbiter.listed && replica->resync.map.marked == 0 &&
	       resync_is_idle(replica);
}

static uint64_t
seconds_since(const struct replica *replica, uint64_t ns)
{
	return (loop_now(replica->loop) - ns) / NS_PER_S;
}

/* --- what a failover now would lose --- */

struct loss {
	bool possible; /* the other host, or on a secondary this one, could
			* take over */
	bool known;
	uint64_t bytes;
	uint64_t ms; /* of the guest's work */
	char text[REASON_MAX];
};

static void
loss_of_solo(const struct replica *replica, struct loss *loss)
{
	const struct mirror *mirror = &replica->mirror;

	loss->known = mirror->alone_ns > 0;
	loss->bytes = mirror->alone_bytes;
	if (loss->known)
		loss->ms = (loop_now(replica->loop) - mirror->alone_ns) /
			   NS_PER_MS;
	if (loss->known)
		(void)snprintf(loss->text, sizeof(loss->text),
			       "what was written in the %" PRIu64
			       " s since this host went on alone, %" PRIu64
			       " bytes so far",
			       seconds_since(replica, mirror->alone_ns),
			       mirror->alone_bytes);
	else
		(void)snprintf(loss->text, sizeof(loss->text),
			       "all that was written since the peer, if there "
			       "was one, was in sync");
}

static void
loss_of(const struct replica *replica, struct loss *loss)
{
	const struct metadata_state *durable = replica_durable(replica);

	*loss = (struct loss){ .possible = true, .known = true };
	switch (replica->state) {
	case REPLICA_PAIRED:
		if (!replica->in_sync) {
			loss->possible = false;
			(void)snprintf(loss->text, sizeof(loss->text),
				       "the peer cannot take over before its "
				       "copy is complete");
			return;
		}
		if (!replica->arbiter.listed) {
			loss->possible = false;
			(void)snprintf(loss->text, sizeof(loss->text),
				       "the peer cannot take over before the "
				       "arbiter lists it");
			return;
		}
		(void)snprintf(loss->text, sizeof(loss->text), "%s",
			       replica->options.ack == REPLICA_ACK_RECEIVED
				       ? "nothing, unless the peer loses power "
					 "too"
				       : "nothing");
		return;
	case REPLICA_SYNCED:
		(void)snprintf(loss->text, sizeof(loss->text), "nothing");
		return;
	case REPLICA_RESYNC:
		loss->possible = false;
		(void)snprintf(loss->text, sizeof(loss->text),
			       "the peer cannot take over before its copy is "
			       "complete");
		return;
	case REPLICA_SOLO:
		loss_of_solo(replica, loss);
		return;
	case REPLICA_LOST:
		(void)snprintf(loss->text, sizeof(loss->text),
			       "nothing: no write is completed until the peer "
			       "is back or given up");
		return;
	case REPLICA_WAITING:
		loss->known = false;
		(void)snprintf(loss->text, sizeof(loss->text),
			       "what this host wrote alone, if it did");
		return;
	case REPLICA_TARGET:
	case REPLICA_SECONDARY:
		loss->possible = durable->consistent && !durable->outdated;
		loss->known = false;
		(void)snprintf(
			loss->text, sizeof(loss->text), "%s",
			durable->history.count == 0
				? "this replica is empty and cannot take over"
			: !durable->consistent
				? "this replica cannot take over: its copy is "
				  "unfinished"
			: durable->outdated
				? "this replica left while the primary went "
				  "on, and cannot take over"
				: "what the primary wrote alone since it was "
				  "lost, if it did");
		return;
	case REPLICA_FAILED:
		loss->known = false;
		(void)snprintf(loss->text, sizeof(loss->text), "unknown");
		return;
	}
}

static json_t *
loss_json(const struct replica *replica)
{
	struct loss loss;
	bool told;

	loss_of(replica, &loss);
	told = loss.possible && loss.known;
	return json_pack("{s:b, s:o, s:o, s:s}", "possible", loss.possible,
			 "loses_bytes", told ? number(loss.bytes) : json_null(),
			 "loses_ms", told ? number(loss.ms) : json_null(),
			 "loses", loss.text);
}

/* --- the rest --- */

static json_t *
resync_json(const struct replica *replica)
{
	const struct resync *resync = &replica->resync;
	uint64_t left = 0, ns = loop_now(replica->loop) - resync->begun_ns;
	uint64_t rate, done = resync->done_bytes;

	if (!resync->running || (replica->state != REPLICA_RESYNC &&
				 replica->state != REPLICA_PAIRED))
		return json_null();
	left = copy_map_bytes(&resync->map);
	for (int i = 0; i < RESYNC_COPIES; i++) {
		if (resync->copy[i].state != COPY_FREE)
			left += resync->copy[i].length;
	}
	if (left == 0)
		return json_null();
	rate = ns > 0 ? (uint64_t)((double)done * 1e9 / (double)ns) : 0;
	return json_pack("{s:o, s:o, s:o, s:o, s:s}", "total_bytes",
			 number(done + left), "done_bytes", number(done),
			 "bytes_per_s", number(rate), "eta_s",
			 rate > 0 ? number(left / rate) : json_null(),
			 "trouble", resync->trouble.text);
}

/* Of the guest's latency beside a resync or verification. */
static json_t *
pace_json(const struct pace *pace)
{
	if (pace->budget_ns == 0)
		return json_null();
	return json_pack("{s:o, s:o, s:f, s:b}", "budget_ms",
			 number(pace->budget_ns / NS_PER_MS), "latency_us",
			 number(pace->latency_ns / NS_PER_US), "share",
			 pace->share / pace->most, "held_back",
			 pace_holds_back(pace));
}

static json_t *
history_json(const struct history *history)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entry[i];
		char timeline[17];

		(void)snprintf(timeline, sizeof(timeline), "%016" PRIx64,
			       entry->timeline);
		(void)json_array_append_new(
			list, json_pack("{s:s, s:o, s:b}", "timeline", timeline,
					"first_epoch",
					number(entry->first_epoch), "forced",
					(entry->flags & HISTORY_FORCED) != 0));
	}
	return list;
}

static json_t *
id_json(const unsigned char *id)
{
	char text[2 * METADATA_ID + 1];

	for (int i = 0; i < METADATA_ID; i++)
		(void)snprintf(text + 2 * (size_t)i, 3, "%02x", id[i]);
	return json_string(text);
}

static json_t *
arbiter_json(const struct replica *replica)
{
	return json_pack("{s:s, s:s}", "name", replica->options.arbiter->name,
			 "says", replica->arbiter.says.text);
}

static const char *
why_of(const struct replica *replica)
{
	if (replica->state == REPLICA_SYNCED ||
	    (replica->state == REPLICA_PAIRED && is_in_sync(replica)))
		return "";
	if (replica->state == REPLICA_RESYNC &&
	    replica->resync.trouble.text[0] != '\0')
		return replica->resync.trouble.text;
	if (!replica_in_session(replica) && replica->trouble.text[0] != '\0')
		return replica->trouble.text;
	return replica->why.text;
}

void
replica_status(const struct replica *replica, struct json_t *object)
{
	const struct metadata_state *durable = replica_durable(replica);
	const struct resync *resync = &replica->resync;
	const struct apply *apply = &replica->apply;

	set(object, "role",
	    json_string(replica_is_primary(replica) ? "primary" : "secondary"));
	set(object, "state", json_string(replica_state_name(replica->state)));
	set(object, "state_s",
	    number(seconds_since(replica, replica->since_ns)));
	set(object, "why", json_string_nocheck(why_of(replica)));
	set(object, "in_sync", json_boolean(is_in_sync(replica)));
	set(object, "diverged", json_boolean(replica->diverged));
	set(object, "consistent", json_boolean(durable->consistent));
	set(object, "outdated", json_boolean(durable->outdated));
	set(object, "failover", loss_json(replica));
	set(object, "resync", resync_json(replica));
	set(object, "resync_bytes",
	    number(resync->copied_bytes + apply->copied_bytes));
	set(object, "resync_zeroed_bytes",
	    number(resync->zeroed_bytes + apply->zeroed_bytes));
	set(object, "verify", verify_json(replica));
	set(object, "pace", pace_json(&replica->pace));
	set(object, "resync_equal_bytes", number(resync->equal_bytes));
	set(object, "change",
	    replica->opening
		    ? json_string("open")
		    : json_string(replica_change_name(replica->change)));
	set(object, "change_error",
	    json_string_nocheck(replica->change_error.text));
	set(object, "fork", fork_json(replica));
	set(object, "tracking", tracker_json(&replica->tracker));
	set(object, "image_changed", json_boolean(replica->image_changed));
	set(object, "ack", json_string(ack_name(replica->options.ack)));
	set(object, "on_peer_loss",
	    json_string(replica->options.on_loss == REPLICA_FREEZE
				? "freeze"
				: "continue"));
	set(object, "arbiter", arbiter_json(replica));
	set(object, "insecure_network",
	    json_boolean(replica->options.link.insecure_network));
	set(object, "epoch", number(durable->epoch));
	set(object, "history", history_json(&durable->history));
	set(object, "disk_id", id_json(durable->disk_id));
	set(object, "replica_id", id_json(durable->replica_id));
	set(object, "incarnation", number(durable->incarnation));
	set(object, "link", link_json(replica->link));
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_checkpoint - named checkpoints of a replica (E1).
 *
 *   order -> cut, durable here -> announced in the stream -> confirmed, durable
 *
 * CK1 No write carries the new epoch before it is durable here (W2), and the
 *     announcement enters the stream before any that does.
 * CK2 It is confirmed when no write of its epoch or an older one is under way,
 *     here or there, and the member's durable epoch is above.
 * CK3 One that was not confirmed when a timeline began is cut again on that.
 * CK4 One message of these is on its way at a time; a lost session forgets it,
 *     since SYNCED carries all of them.
 */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "core/log.h"
#include "replication/ask.h"
#include "replication/checkpoint.h"
#include "replication/replica_private.h"

/* --- the stream --- */

static void
on_told(struct link_send *send, int status)
{
	struct replica *replica =
		container_of(send, struct replica, checkpoint.send);

	replica->checkpoint.telling = false;
	if (status == 0 && send->epoch > replica->checkpoint.member_epoch)
		replica->checkpoint.member_epoch = send->epoch;
	else if (status < 0 && status != -ENOTCONN)
		replica_break(replica,
			      "the peer could not take over a checkpoint: %s",
			      strerror(-status));
	replica_poke(replica);
}

/* Before SYNCED nothing is announced: that carries it. */
static void
tell(struct replica *replica)
{
	struct replica_checkpoint *checkpoint = &replica->checkpoint;

	if (!replica_has_member(replica) || !replica->resync.offered ||
	    !replica_in_session(replica))
		return;
	wire_encode_checkpoint(&checkpoint->message, checkpoint->bytes);
	checkpoint->telling = true;
	checkpoint->send = (struct link_send){
		.type = WIRE_CHECKPOINT,
		.epoch = replica->epoch,
		.length = WIRE_CHECKPOINT_BYTES,
		.payload = checkpoint->bytes,
		.on_ended = on_told,
	};
	link_send(replica->link, &checkpoint->send);
}

static void
step(struct replica *replica, enum wire_checkpoint_order order,
     const struct metadata_checkpoint *row)
{
	replica->checkpoint.message =
		(struct wire_checkpoint){ .order = order, .row = *row };
	replica_step(replica, tell);
}

/* --- on the primary --- */

static struct metadata_checkpoint *
first_unconfirmed(struct metadata_state *state)
{
	for (unsigned int i = 0; i < state->checkpoints; i++) {
		if (!state->checkpoint[i].confirmed)
			return &state->checkpoint[i];
	}
	return NULL;
}

/* CK2 */
static bool
is_done(const struct replica *replica, const struct metadata_checkpoint *row)
{
	if (mirror_oldest_epoch(replica) <= row->epoch)
		return false;
	return !replica_has_member(replica) ||
	       (replica->in_sync &&
		replica->checkpoint.member_epoch > row->epoch);
}

static void
advance_unconfirmed(struct replica *replica)
{
	struct metadata_state *durable = replica_durable(replica);
	const struct history_entry *last = history_last(&durable->history);
	struct metadata_checkpoint *row = first_unconfirmed(durable);

	if (row == NULL || last == NULL)
		return;
	if (row->timeline != last->timeline) { /* CK3 */
		row->timeline = last->timeline;
		row->epoch = durable->epoch++;
		step(replica, WIRE_CUT, row);
	} else if (is_done(replica, row)) {
		row->confirmed = true;
		log_info("replica", "checkpoint %s is confirmed", row->name);
		step(replica, WIRE_CONFIRM, row);
	}
}

void
replica_advance_checkpoint(struct replica *replica)
{
	struct replica_checkpoint *checkpoint = &replica->checkpoint;
	struct metadata_state *durable = replica_durable(replica);
	struct metadata_checkpoint row;
	struct reason reason = { "" };

	if (!replica_serves(replica) || replica->handing_over ||
	    replica->change != CHANGE_NONE || checkpoint->telling)
		return;
	if (checkpoint->due[0] == '\0') {
		advance_unconfirmed(replica);
		return;
	}
	if (checkpoint->verb == ASK_CREATE &&
	    checkpoint_cut(durable, checkpoint->due, &reason) == 0) {
		step(replica, WIRE_CUT,
		     &durable->checkpoint[durable->checkpoints - 1]);
	} else if (checkpoint->verb == ASK_DELETE &&
		   checkpoint_find(durable, checkpoint->due, &reason) != NULL) {
		row = *checkpoint_find(durable, checkpoint->due, NULL);
		(void)checkpoint_delete(durable, checkpoint->due, NULL);
		step(replica, WIRE_DELETE, &row);
	}
	if (reason.text[0] != '\0')
		log_warn("replica", "%s", reason.text);
	checkpoint->due[0] = '\0';
}

static int
order(struct replica *replica, enum ask_verb verb, const char *name,
      struct reason *reason)
{
	struct metadata_state *durable = replica_durable(replica);
	int r;

	if (!replica_serves(replica))
		return reason_set(reason, -EPERM,
				  "this host does not serve the disk: make and "
				  "delete checkpoints on the primary");
	if (replica->checkpoint.due[0] != '\0')
		return reason_set(
			reason, -EBUSY,
			"another checkpoint is being made: try again");
	if (verb == ASK_CREATE)
		r = checkpoint_may_cut(durable, name, reason);
	else
		r = checkpoint_find(durable, name, reason) ? 0 : -ENOENT;
	if (r < 0)
		return r;
	replica->checkpoint.verb = verb;
	memcpy(replica->checkpoint.due, name, METADATA_CHECKPOINT_NAME);
	replica_poke(replica);
	return 0;
}

int
replica_command_checkpoint(struct replica *replica, const char *words,
			   struct json_t *result, struct reason *reason)
{
	char name[METADATA_CHECKPOINT_NAME] = { 0 };
	enum ask_verb verb;
	int r = ask_parse(words, &verb, name, reason);

	if (r < 0)
		return r;
	if (verb == ASK_LIST) {
		ask_list(replica_durable(replica), result);
		return 0;
	}
	r = order(replica, verb, name, reason);
	if (r == 0 && verb == ASK_CREATE)
		(void)json_object_set_new(
			result, "checkpoint",
			json_pack("{s:s, s:b}", "name", name, "confirmed", 0));
	return r;
}

int
replica_command_changed(struct replica *replica, const char *words,
			struct json_t *result, struct reason *reason)
{
	return ask_changed(&replica->tracker, replica_durable(replica), words,
			   result, reason);
}

/* --- on the secondary --- */

static int
take_cut(struct metadata_state *durable, const struct wire_checkpoint *message,
	 uint64_t epoch)
{
	const struct metadata_checkpoint *row = &message->row;
	struct metadata_checkpoint *place = NULL;

	if (epoch <= durable->epoch || row->epoch >= epoch)
		return -EPROTO;
	if (row->name[0] != '\0') {
		place = checkpoint_find(durable, row->name, NULL);
		if (place == NULL &&
		    durable->checkpoints == METADATA_CHECKPOINTS)
			return -ENOSPC;
		if (place == NULL)
			place = &durable->checkpoint[durable->checkpoints++];
		*place = *row;
		place->confirmed = false;
	}
	durable->epoch = epoch;
	return 0;
}

int
replica_accept_checkpoint(struct replica *replica,
			  const struct apply_slot *slot)
{
	struct metadata_state *durable = replica_durable(replica);
	struct wire_checkpoint message;
	struct metadata_checkpoint *row;

	if (replica->state != REPLICA_SYNCED ||
	    wire_decode_checkpoint(slot->payload, slot->header.length,
				   &message) < 0)
		return -EPROTO;
	switch (message.order) {
	case WIRE_CUT:
		return take_cut(durable, &message, slot->header.epoch);
	case WIRE_CONFIRM:
		row = checkpoint_find(durable, message.row.name, NULL);
		if (row != NULL)
			row->confirmed = true;
		return 0;
	case WIRE_DELETE:
		(void)checkpoint_delete(durable, message.row.name, NULL);
		return 0;
	}
	return -EPROTO;
}

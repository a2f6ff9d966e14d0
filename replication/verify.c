/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verify - see verify.h.
 */
#include "replication/verify.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "replication/replica_private.h"

static_assert(COMPARE_BYTES % VERIFY_REGION == 0, "ranges are of regions");

/* --- what was found --- */

static bool
continues(const struct verify_finding *a, const struct verify_finding *b)
{
	return a->kind == b->kind && a->error == b->error &&
	       a->offset + a->length == b->offset;
}

/* Ranges end in any order: findings stand in that of the disk, and one that
 * continues another is one with it. */
static void
keep(struct verify *verify, const struct verify_finding *finding)
{
	struct verify_finding *list = verify->finding;
	unsigned int at = verify->findings;

	while (at > 0 && list[at - 1].offset > finding->offset)
		at--;
	if (at > 0 && continues(&list[at - 1], finding)) {
		list[--at].length += finding->length;
	} else if (verify->findings == VERIFY_FINDINGS) {
		verify->more++;
		return;
	} else {
		memmove(&list[at + 1], &list[at],
			(verify->findings++ - at) * sizeof(*list));
		list[at] = *finding;
	}
	if (at + 1 < verify->findings && continues(&list[at], &list[at + 1])) {
		list[at].length += list[at + 1].length;
		verify->findings--;
		memmove(&list[at + 1], &list[at + 2],
			(verify->findings - at - 1) * sizeof(*list));
	}
}

static void
find(struct replica *replica, uint64_t offset, uint64_t length,
     enum verify_kind kind, int error)
{
	struct verify *verify = &replica->verify;
	struct verify_finding finding = {
		.offset = offset,
		.length = length,
		.kind = kind,
		.error = error,
	};

	if (kind == VERIFY_DIFFERENT)
		verify->different_bytes += length;
	else
		verify->unreadable_bytes += length;
	keep(verify, &finding);
}

static void
find_different(struct replica *replica, uint64_t offset, uint64_t length)
{
	struct verify *verify = &replica->verify;

	log_error("replica",
		  "verify: the %" PRIu64 " bytes at offset %" PRIu64
		  " differ from the peer's%s",
		  length, offset,
		  verify->repair ? ": copying this host's" : "");
	find(replica, offset, length, VERIFY_DIFFERENT, 0);
	if (!verify->repair)
		return;
	verify->repaired_bytes += length;
	resync_note_write(replica, offset, length, false); /* V3 */
}

/* --- a range --- */

static void ask(struct replica *replica, struct verify_slot *slot,
		uint64_t offset);

/* V1: it is begun again when that is possible. */
static void
put_back(struct replica *replica, struct verify_slot *slot, uint64_t offset)
{
	slot->busy = false;
	if (replica->verify.cursor > offset)
		replica->verify.cursor = offset;
}

static void
on_compared(struct compare *compare, enum compare_result result, int error)
{
	struct verify_slot *slot =
		container_of(compare, struct verify_slot, compare);
	struct replica *replica = compare->replica;
	uint64_t offset = compare->offset, length = compare->length;
	uint64_t now = loop_now(replica->loop);
	bool again = false;

	if (replica->verify.state != VERIFY_RUNNING) {
		slot->busy = false;
		return;
	}
	switch (result) {
	case COMPARE_EQUAL:
		break;
	case COMPARE_DIFFERENT:
		if (replica->resync.map.marked > 0 && !replica->verify.repair)
			result = COMPARE_LOST; /* it is being copied */
		else if (slot->fine)
			find_different(replica, offset, length);
		else
			again = true;
		break;
	case COMPARE_UNREADABLE:
	case COMPARE_REFUSED:
		if (!slot->fine && length > VERIFY_REGION)
			again = true;
		else
			find(replica, offset, length,
			     result == COMPARE_UNREADABLE
				     ? VERIFY_UNREADABLE_HERE
				     : VERIFY_UNREADABLE_THERE,
			     error);
		break;
	case COMPARE_LOST:
		break;
	}
	if (result == COMPARE_LOST || !replica_in_session(replica)) {
		put_back(replica, slot, offset);
		return;
	}
	if (again)
		slot->fine = true;
	else
		offset += length;
	if (offset < slot->end) {
		ask(replica, slot, offset);
		return;
	}
	slot->busy = false;
	pace_piece(&replica->pace, now - slot->begun_ns, now);
}

static void
ask(struct replica *replica, struct verify_slot *slot, uint64_t offset)
{
	uint64_t length = slot->end - offset;

	if (slot->fine && length > VERIFY_REGION)
		length = VERIFY_REGION;
	slot->compare.on_done = on_compared;
	compare_start(replica, &slot->compare, offset, length, slot->buffer);
}

static void
begin_range(struct replica *replica, struct verify_slot *slot)
{
	struct verify *verify = &replica->verify;
	uint64_t offset = verify->cursor;
	uint64_t left = replica_durable(replica)->size - offset;

	slot->busy = true;
	slot->begun_ns = loop_now(replica->loop);
	slot->fine = false;
	slot->end = offset + (left < COMPARE_BYTES ? left : COMPARE_BYTES);
	verify->cursor = slot->end;
	ask(replica, slot, offset);
}

/* --- the whole --- */

static unsigned int
under_way(const struct verify *verify)
{
	unsigned int count = 0;

	for (int i = 0; i < VERIFY_COMPARES; i++)
		count += verify->slots[i].busy;
	return count;
}

/* V1 */
static bool
is_in_sync(const struct replica *replica)
{
	return replica->state == REPLICA_PAIRED && replica->in_sync &&
	       link_state(replica->link) == LINK_UP &&
	       replica->change == CHANGE_NONE && resync_is_complete(replica);
}

static void
end(struct replica *replica, enum verify_state state)
{
	struct verify *verify = &replica->verify;

	verify->state = state;
	verify->ended_ns = loop_now(replica->loop);
	log_info("replica",
		 "verify: %s; %" PRIu64 " bytes differed, %" PRIu64
		 " could not be read, %" PRIu64 " were copied to the peer",
		 state == VERIFY_DONE ? "done" : verify->why.text,
		 verify->different_bytes, verify->unreadable_bytes,
		 verify->repaired_bytes);
}

void
verify_advance(struct replica *replica)
{
	struct verify *verify = &replica->verify;

	if (verify->state != VERIFY_RUNNING)
		return;
	if (!replica_is_primary(replica)) {
		(void)reason_set(&verify->why, -ECANCELED,
				 "this host is not the primary any more");
		end(replica, VERIFY_STOPPED);
		return;
	}
	if (!is_in_sync(replica))
		return;
	for (int i = 0; i < VERIFY_COMPARES; i++) {
		if (!verify->slots[i].busy &&
		    verify->cursor < replica_durable(replica)->size &&
		    replica_pace_admits(replica, under_way(verify)))
			begin_range(replica, &verify->slots[i]);
	}
	if (under_way(verify) == 0 &&
	    verify->cursor == replica_durable(replica)->size)
		end(replica, VERIFY_DONE);
}

static int
check_start(const struct replica *replica, struct reason *reason)
{
	if (!replica_is_primary(replica))
		return reason_set(reason, -EBUSY,
				  "the primary compares the two: ask it to");
	if (replica->verify.state == VERIFY_RUNNING ||
	    under_way(&replica->verify) > 0)
		return reason_set(reason, -EALREADY,
				  "a verification is under way already");
	if (!is_in_sync(replica))
		return reason_set(reason, -EAGAIN,
				  "the peer is not in sync: only then can the "
				  "two be compared");
	if (!compare_is_possible(replica))
		return reason_set(reason, -EOPNOTSUPP,
				  "the peer's tapdisk is older and cannot "
				  "compare: upgrade it");
	return 0;
}

int
verify_command(struct replica *replica, bool repair, bool stop,
	       struct reason *reason)
{
	struct verify *verify = &replica->verify;
	int r;

	if (stop) {
		if (verify->state != VERIFY_RUNNING)
			return reason_set(reason, -EALREADY,
					  "no verification is under way");
		(void)reason_set(&verify->why, -ECANCELED, "it was stopped");
		end(replica, VERIFY_STOPPED);
		return 0;
	}
	r = check_start(replica, reason);
	if (r < 0)
		return r;
	verify->state = VERIFY_RUNNING;
	verify->repair = repair;
	verify->cursor = 0;
	verify->different_bytes = verify->unreadable_bytes = 0;
	verify->repaired_bytes = verify->more = 0;
	verify->findings = 0;
	verify->why.text[0] = '\0';
	verify->begun_ns = loop_now(replica->loop);
	pace_begin(&replica->pace, verify->begun_ns);
	replica_poke(replica);
	return 0;
}

/* --- what is told --- */

static const char *
state_name(enum verify_state state)
{
	switch (state) {
	case VERIFY_NONE:
		break;
	case VERIFY_RUNNING:
		return "running";
	case VERIFY_DONE:
		return "done";
	case VERIFY_STOPPED:
		return "stopped";
	}
	return "none";
}

static const char *
kind_name(enum verify_kind kind)
{
	switch (kind) {
	case VERIFY_DIFFERENT:
		return "different";
	case VERIFY_UNREADABLE_HERE:
		return "unreadable here";
	case VERIFY_UNREADABLE_THERE:
		return "unreadable at the peer";
	}
	return "?";
}

static json_t *
number(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* All before it was compared. */
static uint64_t
done_bytes(const struct verify *verify)
{
	uint64_t done = verify->cursor;

	for (int i = 0; i < VERIFY_COMPARES; i++) {
		const struct verify_slot *slot = &verify->slots[i];

		if (slot->busy && slot->compare.offset < done)
			done = slot->compare.offset;
	}
	return done;
}

static json_t *
findings_json(const struct verify *verify)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < verify->findings; i++) {
		const struct verify_finding *finding = &verify->finding[i];

		(void)json_array_append_new(
			list, json_pack("{s:o, s:o, s:s, s:s}", "offset",
					number(finding->offset), "length",
					number(finding->length), "what",
					kind_name(finding->kind), "errno",
					finding->error < 0
						? errno_name(finding->error)
						: ""));
	}
	return list;
}

json_t *
verify_json(const struct replica *replica)
{
	const struct verify *verify = &replica->verify;
	bool running = verify->state == VERIFY_RUNNING;
	uint64_t size = replica_durable(replica)->size;
	uint64_t done = done_bytes(verify), ns, rate;

	if (verify->state == VERIFY_NONE)
		return json_null();
	ns = (running ? loop_now(replica->loop) : verify->ended_ns) -
	     verify->begun_ns;
	rate = ns > 0 ? (uint64_t)((double)done * 1e9 / (double)ns) : 0;
	return json_pack(
		"{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
		"state", state_name(verify->state), "why", verify->why.text,
		"waiting", running && !is_in_sync(replica), "total_bytes",
		number(size), "done_bytes", number(done), "bytes_per_s",
		number(rate), "eta_s",
		running && rate > 0 ? number((size - done) / rate)
				    : json_null(),
		"different_bytes", number(verify->different_bytes),
		"unreadable_bytes", number(verify->unreadable_bytes),
		"repaired_bytes", number(verify->repaired_bytes), "findings",
		findings_json(verify), "more", number(verify->more));
}

/* --- life --- */

int
verify_open(struct replica *replica)
{
	for (int i = 0; i < VERIFY_COMPARES; i++) {
		struct verify_slot *slot = &replica->verify.slots[i];

		slot->buffer = pool_get(replica->pool, COMPARE_BYTES);
		if (slot->buffer == NULL)
			return -ENOMEM;
	}
	return 0;
}

void
verify_close(struct replica *replica)
{
	for (int i = 0; i < VERIFY_COMPARES; i++)
		pool_put(replica->pool, replica->verify.slots[i].buffer);
}

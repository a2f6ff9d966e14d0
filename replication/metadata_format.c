/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata_format - the bytes of one copy of a superblock; docs/format.md
 * specifies them.  No I/O.
 *
 * Two checksums: that of the head is the same in every version, so that a
 * newer format is told from a damaged one; the body's belongs to the version.
 * What lies in no field is ignored: a compatible feature may use it, and loses
 * it with its bit when a program that does not know it writes.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/checkpoint.h"
#include "replication/dirty_map.h"
#include "replication/intent.h"
#include "replication/metadata.h"
#include "replication/wire.h"

#define VERSION	   1
#define SECTOR_MIN 512
#define SECTOR_MAX 4096

/* Offsets in a copy. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_COMPATIBLE = 12, /* feature bits: unknown ones do no harm */
	AT_READ_ONLY = 16,  /* unknown ones: not to be written */
	AT_INCOMPATIBLE = 20,
	AT_GENERATION = 24,
	AT_LENGTH = 32,
	AT_BODY_CRC = 56, /* of all behind the head */
	AT_HEAD_CRC = 60, /* of all before it */
	HEAD_BYTES = 64,
	AT_DISK_ID = 64,
	AT_REPLICA_ID = 80,
	AT_SIZE = 96,
	AT_SECTOR_SIZE = 104,
	AT_ROLE = 108,
	AT_EPOCH = 112,
	AT_INCARNATION = 120,
	AT_FLAGS = 128,
	AT_MAP = 136, /* with the feature MAP only */
	MAP_BYTES = 56,
	AT_PEERS = 256,
	PEER_BYTES = 32,
	AT_HISTORY = 512,
	AT_MEETINGS = 28672,
	MEETINGS_BYTES = 16,
	AT_CHECKPOINTS = 32768, /* with the feature MAP only */
	CHECKPOINTS_HEAD = 16,
};

static_assert(AT_PEERS + METADATA_PEERS * PEER_BYTES <= AT_HISTORY,
	      "the table of peers lies before the history");
static_assert(AT_HISTORY + HISTORY_HEAD_BYTES +
			      HISTORY_MAX * HISTORY_ENTRY_BYTES <=
		      AT_MEETINGS,
	      "the longest history fits");
static_assert(AT_MEETINGS + METADATA_PEERS * MEETINGS_BYTES <= AT_CHECKPOINTS,
	      "the table of meetings lies before the checkpoints");
static_assert(AT_MAP + MAP_BYTES <= AT_PEERS, "the map's row fits");
static_assert(AT_CHECKPOINTS + CHECKPOINTS_HEAD +
			      METADATA_CHECKPOINTS * CHECKPOINT_BYTES <=
		      METADATA_COPY_BYTES,
	      "all checkpoints fit");

/* A map, intents and checkpoints: who does not know them would change the disk
 * without a stamp. */
#define FEATURE_MAP 0x1u

#define FLAG_ACTIVE	  0x1u
#define FLAG_CONSISTENT	  0x2u
#define FLAG_OUTDATED	  0x4u
#define FLAG_PRIMARY_LAST 0x8u
#define FLAGS_KNOWN	  0xfu

#define PEER_MAY_BE_SYNCED 0x1u

#define MAP_SUSPECT_ALL 0x1u

static const unsigned char magic[8] = {
	't', 'd', 'r', 'e', 'p', 'l', 'i', 'c'
};

static bool
is_zero_id(const unsigned char *id)
{
	static const unsigned char zero[METADATA_ID];

	return memcmp(id, zero, METADATA_ID) == 0;
}

static bool
is_plausible_peer(const struct metadata_state *state, int row)
{
	const struct metadata_peer *peer = &state->peer[row];

	if (is_zero_id(peer->replica_id))
		return peer->incarnation == 0 && peer->met == 0 &&
		       peer->stood == 0 && !peer->may_be_synced;
	if (peer->stood > peer->met)
		return false;
	for (int i = 0; i < row; i++) {
		if (memcmp(state->peer[i].replica_id, peer->replica_id,
			   METADATA_ID) == 0)
			return false;
	}
	return memcmp(state->replica_id, peer->replica_id, METADATA_ID) != 0;
}

static bool
is_plausible_map(const struct metadata_state *state)
{
	const struct metadata_map *map = &state->map;

	if (map->id == 0)
		return map->region == 0 && map->extent == 0 &&
		       map->capacity == 0 && !map->suspect_all &&
		       map->unknown_epoch == 0 && map->wide_epoch == 0 &&
		       map->image_size == 0 && map->image_time_ns == 0 &&
		       state->checkpoints == 0;
	return dirty_map_is_region(map->region) &&
	       intent_is_extent(map->extent) && map->extent >= map->region &&
	       map->capacity >= INTENT_CAPACITY_MIN &&
	       map->capacity <= INTENT_CAPACITY_MAX &&
	       map->unknown_epoch <= state->epoch &&
	       map->wide_epoch <= state->epoch &&
	       checkpoints_check(state->checkpoint, state->checkpoints) == 0;
}

/* What holds of every state: asserted of our own, asked of a file's. */
static bool
is_plausible(const struct metadata_state *state)
{
	const struct history_entry *last = history_last(&state->history);

	if (state->role != METADATA_PRIMARY &&
	    state->role != METADATA_SECONDARY)
		return false;
	if (state->sector_size < SECTOR_MIN ||
	    state->sector_size > SECTOR_MAX ||
	    (state->sector_size & (state->sector_size - 1)) != 0)
		return false;
	if (state->size == 0 || state->size % SECTOR_MIN != 0 ||
	    state->size > INT64_MAX)
		return false;
	if (is_zero_id(state->replica_id) ||
	    is_zero_id(state->disk_id) != (last == NULL))
		return false;
	for (int i = 0; i < METADATA_PEERS; i++) {
		if (!is_plausible_peer(state, i))
			return false;
	}
	return history_check(&state->history) == 0 && is_plausible_map(state) &&
	       (last == NULL || state->epoch >= last->first_epoch);
}

static void
encode_peers(const struct metadata_state *state, unsigned char *bytes)
{
	for (int i = 0; i < METADATA_PEERS; i++) {
		const struct metadata_peer *peer = &state->peer[i];
		unsigned char *at = bytes + AT_PEERS + (size_t)i * PEER_BYTES;

		memcpy(at, peer->replica_id, METADATA_ID);
		put64(at + 16, peer->incarnation);
		put32(at + 24, peer->may_be_synced ? PEER_MAY_BE_SYNCED : 0);
		at = bytes + AT_MEETINGS + (size_t)i * MEETINGS_BYTES;
		put64(at, peer->met);
		put64(at + 8, peer->stood);
	}
}

static void
encode_map(const struct metadata_state *state, unsigned char *bytes)
{
	const struct metadata_map *map = &state->map;
	unsigned char *at = bytes + AT_MAP;

	put32(bytes + AT_INCOMPATIBLE, FEATURE_MAP);
	put64(at, map->id);
	put32(at + 8, map->region);
	put32(at + 12, map->extent);
	put32(at + 16, map->capacity);
	put32(at + 20, map->suspect_all ? MAP_SUSPECT_ALL : 0);
	put64(at + 24, map->unknown_epoch);
	put64(at + 32, map->wide_epoch);
	put64(at + 40, map->image_size);
	put64(at + 48, map->image_time_ns);
	at = bytes + AT_CHECKPOINTS;
	put32(at, state->checkpoints);
	at += CHECKPOINTS_HEAD;
	for (unsigned int i = 0; i < state->checkpoints; i++) {
		checkpoint_encode(&state->checkpoint[i], at);
		at += CHECKPOINT_BYTES;
	}
}

void
metadata_encode(const struct metadata_state *state, uint64_t generation,
		unsigned char *ret_bytes)
{
	size_t length = AT_HISTORY;

	assert(is_plausible(state));
	memset(ret_bytes, 0, METADATA_COPY_BYTES);
	memcpy(ret_bytes + AT_MAGIC, magic, sizeof(magic));
	put32(ret_bytes + AT_VERSION, VERSION);
	put64(ret_bytes + AT_GENERATION, generation);
	memcpy(ret_bytes + AT_DISK_ID, state->disk_id, METADATA_ID);
	memcpy(ret_bytes + AT_REPLICA_ID, state->replica_id, METADATA_ID);
	put64(ret_bytes + AT_SIZE, state->size);
	put32(ret_bytes + AT_SECTOR_SIZE, state->sector_size);
	put32(ret_bytes + AT_ROLE, (uint32_t)state->role);
	put64(ret_bytes + AT_EPOCH, state->epoch);
	put64(ret_bytes + AT_INCARNATION, state->incarnation);
	put32(ret_bytes + AT_FLAGS,
	      (state->active ? FLAG_ACTIVE : 0) |
		      (state->consistent ? FLAG_CONSISTENT : 0) |
		      (state->outdated ? FLAG_OUTDATED : 0) |
		      (state->primary_last ? FLAG_PRIMARY_LAST : 0));
	encode_peers(state, ret_bytes);
	if (state->map.id != 0)
		encode_map(state, ret_bytes);
	length += history_encode(&state->history, ret_bytes + AT_HISTORY);
	put32(ret_bytes + AT_LENGTH, (uint32_t)length);
	put32(ret_bytes + AT_BODY_CRC,
	      wire_crc(ret_bytes + HEAD_BYTES,
		       METADATA_COPY_BYTES - HEAD_BYTES));
	put32(ret_bytes + AT_HEAD_CRC, wire_crc(ret_bytes, AT_HEAD_CRC));
}

static int
truncated(size_t length, struct reason *reason)
{
	return reason_set(reason, -EBADMSG,
			  "they are truncated: a copy has %zu bytes of %u",
			  length, METADATA_COPY_BYTES);
}

int
metadata_decode_head(const unsigned char *bytes, size_t length,
		     uint64_t *ret_generation, struct reason *reason)
{
	if (length < HEAD_BYTES)
		return truncated(length, reason);
	if (memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) != 0)
		return reason_set(reason, -EMEDIUMTYPE,
				  "these are not a replica's metadata");
	if (wire_crc(bytes, AT_HEAD_CRC) != get32(bytes + AT_HEAD_CRC))
		return reason_set(reason, -EBADMSG,
				  "the checksum of their head is wrong: they "
				  "are torn or damaged");
	if (get32(bytes + AT_VERSION) != VERSION)
		return reason_set(reason, -EPROTONOSUPPORT,
				  "their format is version %u, this program "
				  "knows %u: use a newer tapdisk",
				  get32(bytes + AT_VERSION), VERSION);
	if ((get32(bytes + AT_INCOMPATIBLE) & ~FEATURE_MAP) != 0 ||
	    get32(bytes + AT_READ_ONLY) != 0)
		return reason_set(reason, -EPROTONOSUPPORT,
				  "they use features (0x%x, 0x%x) that this "
				  "program does not know: use a newer tapdisk",
				  get32(bytes + AT_INCOMPATIBLE),
				  get32(bytes + AT_READ_ONLY));
	*ret_generation = get64(bytes + AT_GENERATION);
	return 0;
}

static int
check_body(const unsigned char *bytes, size_t length, struct reason *reason)
{
	if (length < METADATA_COPY_BYTES)
		return truncated(length, reason);
	if (wire_crc(bytes + HEAD_BYTES, METADATA_COPY_BYTES - HEAD_BYTES) !=
	    get32(bytes + AT_BODY_CRC))
		return reason_set(reason, -EBADMSG,
				  "their checksum is wrong: they are torn or "
				  "damaged");
	return 0;
}

static int
decode_peers(const unsigned char *bytes, struct metadata_state *state)
{
	for (int i = 0; i < METADATA_PEERS; i++) {
		struct metadata_peer *peer = &state->peer[i];
		const unsigned char *at =
			bytes + AT_PEERS + (size_t)i * PEER_BYTES;

		memcpy(peer->replica_id, at, METADATA_ID);
		peer->incarnation = get64(at + 16);
		peer->may_be_synced = get32(at + 24) & PEER_MAY_BE_SYNCED;
		if (get32(at + 24) & ~PEER_MAY_BE_SYNCED)
			return -EBADMSG;
		at = bytes + AT_MEETINGS + (size_t)i * MEETINGS_BYTES;
		peer->met = get64(at);
		peer->stood = get64(at + 8);
	}
	return 0;
}

static int
decode_map(const unsigned char *bytes, struct metadata_state *state)
{
	struct metadata_map *map = &state->map;
	const unsigned char *at = bytes + AT_MAP;

	map->id = get64(at);
	map->region = get32(at + 8);
	map->extent = get32(at + 12);
	map->capacity = get32(at + 16);
	map->suspect_all = get32(at + 20) & MAP_SUSPECT_ALL;
	map->unknown_epoch = get64(at + 24);
	map->wide_epoch = get64(at + 32);
	map->image_size = get64(at + 40);
	map->image_time_ns = get64(at + 48);
	if (map->id == 0 || (get32(at + 20) & ~MAP_SUSPECT_ALL) ||
	    get32(bytes + AT_CHECKPOINTS) > METADATA_CHECKPOINTS)
		return -EBADMSG;
	at = bytes + AT_CHECKPOINTS;
	state->checkpoints = get32(at);
	at += CHECKPOINTS_HEAD;
	for (unsigned int i = 0; i < state->checkpoints; i++) {
		if (checkpoint_decode(at, &state->checkpoint[i]) < 0)
			return -EBADMSG;
		at += CHECKPOINT_BYTES;
	}
	return 0;
}

int
metadata_decode(const unsigned char *bytes, size_t length,
		struct metadata_state *ret_state, uint64_t *ret_generation,
		struct reason *reason)
{
	static struct metadata_state state;
	uint32_t flags, used;
	uint64_t generation = 0;
	int r = metadata_decode_head(bytes, length, &generation, reason);

	if (r == 0)
		r = check_body(bytes, length, reason);
	if (r < 0)
		return r;
	memset(&state, 0, sizeof(state));
	memcpy(state.disk_id, bytes + AT_DISK_ID, METADATA_ID);
	memcpy(state.replica_id, bytes + AT_REPLICA_ID, METADATA_ID);
	state.size = get64(bytes + AT_SIZE);
	state.sector_size = get32(bytes + AT_SECTOR_SIZE);
	state.role = (enum metadata_role)get32(bytes + AT_ROLE);
	state.epoch = get64(bytes + AT_EPOCH);
	state.incarnation = get64(bytes + AT_INCARNATION);
	flags = get32(bytes + AT_FLAGS);
	state.active = flags & FLAG_ACTIVE;
	state.consistent = flags & FLAG_CONSISTENT;
	state.outdated = flags & FLAG_OUTDATED;
	state.primary_last = flags & FLAG_PRIMARY_LAST;
	used = get32(bytes + AT_LENGTH);
	if (used < AT_HISTORY || used > METADATA_COPY_BYTES ||
	    (flags & ~FLAGS_KNOWN) || decode_peers(bytes, &state) < 0 ||
	    ((get32(bytes + AT_INCOMPATIBLE) & FEATURE_MAP) &&
	     decode_map(bytes, &state) < 0) ||
	    history_decode(bytes + AT_HISTORY, used - AT_HISTORY,
			   &state.history) < 0 ||
	    !is_plausible(&state))
		return reason_set(reason, -EBADMSG,
				  "their fields contradict each other: they "
				  "are damaged");
	*ret_state = state;
	*ret_generation = generation;
	return 0;
}

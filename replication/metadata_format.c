/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * metadata_format - the bytes of one copy of a superblock; docs/format.md
 * specifies them.  No I/O.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/metadata.h"
#include "replication/wire.h"

#define VERSION 1

/* Offsets in a copy. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_COMPATIBLE = 12, /* feature bits: unknown ones do no harm */
	AT_READ_ONLY = 16,  /* unknown ones: not to be written */
	AT_INCOMPATIBLE = 20,
	AT_GENERATION = 24,
	AT_LENGTH = 32,
	AT_CRC = 36, /* of the whole copy, with zero here */
	AT_DISK_ID = 40,
	AT_REPLICA_ID = 56,
	AT_SIZE = 72,
	AT_SECTOR_SIZE = 80,
	AT_ROLE = 84,
	AT_EPOCH = 88,
	AT_INCARNATION = 96,
	AT_FLAGS = 104,
	AT_PEERS = 112,
	PEER_BYTES = 32,
	AT_HISTORY = 512,
};

static_assert(AT_PEERS + METADATA_PEERS * PEER_BYTES <= AT_HISTORY,
	      "the table of peers lies before the history");
static_assert(AT_HISTORY + HISTORY_HEAD_BYTES +
			      HISTORY_MAX * HISTORY_ENTRY_BYTES <=
		      METADATA_COPY_BYTES,
	      "the longest history fits");

#define FLAG_ACTIVE	  0x1u
#define FLAG_CONSISTENT	  0x2u
#define FLAG_OUTDATED	  0x4u
#define FLAG_PRIMARY_LAST 0x8u
#define FLAGS_KNOWN	  0xfu

#define PEER_MAY_BE_SYNCED 0x1u

static const unsigned char magic[8] = {
	't', 'd', 'r', 'e', 'p', 'l', 'i', 'c'
};

static void
encode_peers(const struct metadata_state *state, unsigned char *bytes)
{
	for (int i = 0; i < METADATA_PEERS; i++) {
		const struct metadata_peer *peer = &state->peer[i];
		unsigned char *at = bytes + AT_PEERS + (size_t)i * PEER_BYTES;

		memcpy(at, peer->replica_id, METADATA_ID);
		put64(at + 16, peer->incarnation);
		put32(at + 24, peer->may_be_synced ? PEER_MAY_BE_SYNCED : 0);
	}
}

void
metadata_encode(const struct metadata_state *state, uint64_t generation,
		unsigned char *ret_bytes)
{
	size_t length = AT_HISTORY;

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
	length += history_encode(&state->history, ret_bytes + AT_HISTORY);
	put32(ret_bytes + AT_LENGTH, (uint32_t)length);
	put32(ret_bytes + AT_CRC, wire_crc(ret_bytes, METADATA_COPY_BYTES));
}

/* The checksum covers the copy with a zero in its own place. */
static bool
crc_is_right(const unsigned char *bytes)
{
	static unsigned char copy[METADATA_COPY_BYTES];

	memcpy(copy, bytes, METADATA_COPY_BYTES);
	put32(copy + AT_CRC, 0);
	return wire_crc(copy, METADATA_COPY_BYTES) == get32(bytes + AT_CRC);
}

static int
check_head(const unsigned char *bytes, size_t length, struct reason *reason)
{
	if (length < METADATA_COPY_BYTES)
		return reason_set(reason, -EBADMSG,
				  "it is truncated: a copy has %zu bytes of %u",
				  length, METADATA_COPY_BYTES);
	if (memcmp(bytes + AT_MAGIC, magic, sizeof(magic)) != 0)
		return reason_set(reason, -EMEDIUMTYPE,
				  "these are not a replica's metadata");
	/* A newer version may have another checksum, so it is told first. */
	if (get32(bytes + AT_VERSION) != VERSION)
		return reason_set(reason, -EPROTONOSUPPORT,
				  "its format is version %u, this program "
				  "knows %u: use a newer tapdisk",
				  get32(bytes + AT_VERSION), VERSION);
	if (!crc_is_right(bytes))
		return reason_set(reason, -EBADMSG,
				  "its checksum is wrong: it is torn or "
				  "damaged");
	if (get32(bytes + AT_INCOMPATIBLE) != 0 ||
	    get32(bytes + AT_READ_ONLY) != 0)
		return reason_set(reason, -EPROTONOSUPPORT,
				  "it uses features (0x%x, 0x%x) that this "
				  "program does not know: use a newer tapdisk",
				  get32(bytes + AT_INCOMPATIBLE),
				  get32(bytes + AT_READ_ONLY));
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
	}
	return 0;
}

static bool
is_plausible(const struct metadata_state *state)
{
	const struct history_entry *last = history_last(&state->history);

	if (state->role != METADATA_PRIMARY &&
	    state->role != METADATA_SECONDARY)
		return false;
	if (state->sector_size != 512 && state->sector_size != 4096)
		return false;
	if (state->size == 0 || state->size % state->sector_size != 0 ||
	    state->size > INT64_MAX)
		return false;
	return last == NULL || state->epoch >= last->first_epoch;
}

int
metadata_decode(const unsigned char *bytes, size_t length,
		struct metadata_state *ret_state, uint64_t *ret_generation,
		struct reason *reason)
{
	static struct metadata_state state;
	uint32_t flags, used;
	int r = check_head(bytes, length, reason);

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
	    history_decode(bytes + AT_HISTORY, used - AT_HISTORY,
			   &state.history) < 0 ||
	    !is_plausible(&state))
		return reason_set(reason, -EBADMSG,
				  "its fields contradict each other: it is "
				  "damaged");
	*ret_state = state;
	*ret_generation = get64(bytes + AT_GENERATION);
	return 0;
}

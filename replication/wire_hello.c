/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_hello - the structures of wire.h that travel as payloads: hello, begin
 * and synced.
 *
 * The first WIRE_HELLO_PREFIX bytes of a hello are the same in every version
 * of the protocol: what does not know the rest can still say which versions
 * and features it met.  What follows the history is for features to come; it
 * is ignored.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"
#include "replication/checkpoint.h"
#include "replication/wire.h"

#define HELLO_FIXED  216u /* bytes before the history */
#define NAME_AT	     152
#define SYNCED_FIXED 24u
#define SYNCED_TAIL  16u /* behind the history, before the checkpoints */
#define BEGIN_RESUME 0x1u
#define BEGIN_CLEAN  0x2u
#define SECTOR_MIN   512u
#define SECTOR_MAX   65536u
#define PAYLOAD_MIN  4096u
#define HELLO_FLAGS                                                            \
	(WIRE_ACTIVE | WIRE_CONSISTENT | WIRE_OUTDATED | WIRE_KEYED |          \
	 WIRE_COPYING | WIRE_PRIMARY_LAST | WIRE_DISCARD | WIRE_DISCARD_PEER)

static_assert(HELLO_FIXED + HISTORY_HEAD_BYTES +
			      HISTORY_MAX * HISTORY_ENTRY_BYTES +
			      WIRE_FORK_BYTES + WIRE_PARTNER_BYTES <=
		      WIRE_HELLO_MAX,
	      "every hello fits");
static_assert(SYNCED_FIXED + HISTORY_HEAD_BYTES +
			      HISTORY_MAX * HISTORY_ENTRY_BYTES + SYNCED_TAIL +
			      METADATA_CHECKPOINTS * CHECKPOINT_BYTES <=
		      WIRE_SYNCED_MAX,
	      "every synced fits");
/* the numbers are on the wire */
static_assert(MEETING_WE_SOURCE == 1 && MEETING_EQUAL_WE_SOURCE == 3,
	      "outcomes keep their numbers");
static_assert(sizeof(((struct wire_hello *)0)->name) == HELLO_FIXED - NAME_AT,
	      "the name ends where the history begins");

static bool
is_zero_id(const unsigned char *id)
{
	static const unsigned char zero[WIRE_ID];

	return memcmp(id, zero, WIRE_ID) == 0;
}

/* What nobody needs to be told is left out. */
static size_t
encode_hello_tail(const struct wire_hello *hello, unsigned char *to)
{
	if (hello->fork.timeline == 0 && is_zero_id(hello->partner))
		return 0;
	put64(to, hello->fork.timeline);
	put64(to + 8, hello->fork.epoch);
	put64(to + 16, hello->fork.regions);
	put64(to + 24, hello->fork.bytes);
	to += WIRE_FORK_BYTES;
	memcpy(to, hello->partner, WIRE_ID);
	put64(to + 16, hello->met);
	put64(to + 24, hello->stood);
	return WIRE_FORK_BYTES + WIRE_PARTNER_BYTES;
}

size_t
wire_encode_hello(const struct wire_hello *hello,
		  unsigned char ret_bytes[WIRE_HELLO_MAX])
{
	unsigned char *to = ret_bytes;

	put16(to, hello->version_min);
	put16(to + 2, hello->version_max);
	put32(to + 4, hello->features_incompatible);
	put32(to + 8, hello->features_compatible);
	put16(to + 12, hello->header_length);
	put16(to + 14, (uint16_t)hello->role);
	put32(to + 16, hello->flags);
	put32(to + 20, hello->sector_size);
	memcpy(to + 24, hello->disk_id, WIRE_ID);
	memcpy(to + 40, hello->replica_id, WIRE_ID);
	put64(to + 56, hello->size);
	put32(to + 64, hello->window);
	put32(to + 68, hello->payload_max);
	put64(to + 72, hello->incarnation);
	put64(to + 80, hello->peer_incarnation);
	put64(to + 88, hello->session);
	put64(to + 96, hello->received);
	put64(to + 104, hello->unacknowledged);
	put64(to + 112, hello->epoch);
	memcpy(to + 120, hello->nonce, WIRE_NONCE);
	memset(to + NAME_AT, 0, sizeof(hello->name));
	memcpy(to + NAME_AT, hello->name,
	       strnlen(hello->name, sizeof(hello->name) - 1));
	to += HELLO_FIXED;
	to += history_encode(&hello->history, to);
	to += encode_hello_tail(hello, to);
	return (size_t)(to - ret_bytes);
}

static int
refuse_versions(const struct wire_hello *hello, struct reason *reason)
{
	bool we_are_older = hello->version_min > WIRE_VERSION_MAX;

	return reason_set(
		reason, -EPROTONOSUPPORT,
		"the peer speaks protocol versions %u to %u, this side %u to "
		"%u: upgrade tapdisk on the host that speaks %u to %u",
		hello->version_min, hello->version_max, WIRE_VERSION_MIN,
		WIRE_VERSION_MAX,
		we_are_older ? WIRE_VERSION_MIN : hello->version_min,
		we_are_older ? WIRE_VERSION_MAX : hello->version_max);
}

/* What every version of the protocol can read. */
static int
check_prefix(const struct wire_hello *hello, struct reason *reason)
{
	uint32_t unknown = hello->features_incompatible & ~WIRE_FEATURES;

	if (hello->version_min == 0 || hello->version_min > hello->version_max)
		return reason_set(reason, -EPROTO,
				  "the peer's hello names the protocol "
				  "versions %u to %u, which is no range",
				  hello->version_min, hello->version_max);
	if (hello->version_min > WIRE_VERSION_MAX ||
	    hello->version_max < WIRE_VERSION_MIN)
		return refuse_versions(hello, reason);
	if (unknown != 0)
		return reason_set(
			reason, -EPROTONOSUPPORT,
			"the peer needs protocol features 0x%x, this "
			"side knows 0x%x: upgrade tapdisk on the host "
			"that does not know them",
			hello->features_incompatible, WIRE_FEATURES);
	return 0;
}

static void
decode_fixed(const unsigned char *from, struct wire_hello *hello)
{
	hello->header_length = get16(from + 12);
	hello->role = (enum wire_role)get16(from + 14);
	hello->flags = get32(from + 16);
	hello->sector_size = get32(from + 20);
	memcpy(hello->disk_id, from + 24, WIRE_ID);
	memcpy(hello->replica_id, from + 40, WIRE_ID);
	hello->size = get64(from + 56);
	hello->window = get32(from + 64);
	hello->payload_max = get32(from + 68);
	hello->incarnation = get64(from + 72);
	hello->peer_incarnation = get64(from + 80);
	hello->session = get64(from + 88);
	hello->received = get64(from + 96);
	hello->unacknowledged = get64(from + 104);
	hello->epoch = get64(from + 112);
	memcpy(hello->nonce, from + 120, WIRE_NONCE);
	memcpy(hello->name, from + NAME_AT, sizeof(hello->name));
}

/* NUL-terminated, the rest zero, nothing that upsets a terminal. */
static bool
name_is_well(const char *name, size_t size)
{
	size_t length = strnlen(name, size);

	if (length == size)
		return false;
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)name[i];

		if (i < length ? c < 0x20 || c == 0x7f : c != 0)
			return false;
	}
	return true;
}

/* A disk with a history has a name, and has reached its last epoch. */
static bool
is_history_of(const struct history *history, const unsigned char *disk_id,
	      uint64_t epoch)
{
	const struct history_entry *last = history_last(history);

	if (last == NULL)
		return is_zero_id(disk_id);
	return !is_zero_id(disk_id) && epoch >= last->first_epoch;
}

static const char *
wrong_field(const struct wire_hello *hello)
{
	uint32_t sector = hello->sector_size;

	if (hello->header_length != WIRE_HEADER)
		return "header length";
	if (hello->role != WIRE_PRIMARY && hello->role != WIRE_SECONDARY)
		return "role";
	if ((hello->flags & ~(uint32_t)HELLO_FLAGS) != 0)
		return "flags";
	if (sector < SECTOR_MIN || sector > SECTOR_MAX ||
	    (sector & (sector - 1)) != 0)
		return "sector size";
	if (hello->size == 0 || hello->size > INT64_MAX ||
	    hello->size % SECTOR_MIN != 0)
		return "size";
	if (is_zero_id(hello->replica_id))
		return "replica id";
	if (hello->window == 0)
		return "window";
	if (hello->payload_max < PAYLOAD_MIN)
		return "longest payload";
	if (hello->session == 0 &&
	    (hello->received != 0 || hello->unacknowledged != 0))
		return "session";
	if (!name_is_well(hello->name, sizeof(hello->name)))
		return "name";
	if (hello->stood > hello->met || hello->met >= UINT64_MAX / 2 ||
	    (hello->met != 0 && is_zero_id(hello->partner)))
		return "number of meetings";
	if (hello->fork.timeline == 0 &&
	    (hello->fork.epoch | hello->fork.regions | hello->fork.bytes) != 0)
		return "fork";
	return NULL;
}

/* What is not there stays zero. */
static void
decode_hello_tail(const unsigned char *bytes, size_t length,
		  struct wire_hello *hello)
{
	if (length < WIRE_FORK_BYTES)
		return;
	hello->fork.timeline = get64(bytes);
	hello->fork.epoch = get64(bytes + 8);
	hello->fork.regions = get64(bytes + 16);
	hello->fork.bytes = get64(bytes + 24);
	bytes += WIRE_FORK_BYTES;
	if (length < WIRE_FORK_BYTES + WIRE_PARTNER_BYTES)
		return;
	memcpy(hello->partner, bytes, WIRE_ID);
	hello->met = get64(bytes + 16);
	hello->stood = get64(bytes + 24);
}

int
wire_decode_hello(const unsigned char *bytes, size_t length,
		  struct wire_hello *ret_hello, struct reason *reason)
{
	struct wire_hello hello;
	const char *wrong;
	long taken;
	int r;

	if (length < WIRE_HELLO_PREFIX)
		return reason_set(reason, -EPROTO,
				  "the peer's hello is too short");
	memset(&hello, 0, sizeof(hello));
	hello.version_min = get16(bytes);
	hello.version_max = get16(bytes + 2);
	hello.features_incompatible = get32(bytes + 4);
	hello.features_compatible = get32(bytes + 8);
	r = check_prefix(&hello, reason);
	if (r < 0)
		return r;
	if (length < HELLO_FIXED || length > WIRE_HELLO_MAX)
		return reason_set(reason, -EPROTO,
				  "the peer's hello has %zu bytes, which is "
				  "impossible",
				  length);
	decode_fixed(bytes, &hello);
	taken = history_decode(bytes + HELLO_FIXED, length - HELLO_FIXED,
			       &hello.history);
	if (taken >= 0)
		decode_hello_tail(bytes + HELLO_FIXED + taken,
				  length - HELLO_FIXED - (size_t)taken, &hello);
	wrong = wrong_field(&hello);
	if (wrong == NULL && taken < 0)
		wrong = "history";
	if (wrong == NULL &&
	    !is_history_of(&hello.history, hello.disk_id, hello.epoch))
		wrong = "history for its disk and epoch";
	if (wrong != NULL)
		return reason_set(reason, -EPROTO,
				  "the peer's hello has an impossible %s",
				  wrong);
	*ret_hello = hello;
	return 0;
}

/* --- begin --- */

size_t
wire_encode_begin(const struct wire_begin *begin,
		  unsigned char ret_bytes[WIRE_BEGIN_BYTES])
{
	put64(ret_bytes, begin->session);
	put32(ret_bytes + 8, (uint32_t)begin->outcome);
	put32(ret_bytes + 12, (begin->resume_copy ? BEGIN_RESUME : 0) |
				      (begin->clean ? BEGIN_CLEAN : 0));
	put64(ret_bytes + 16, begin->timeline);
	put64(ret_bytes + 24, begin->epoch);
	put64(ret_bytes + 32, begin->incarnation);
	return WIRE_BEGIN_BYTES;
}

int
wire_decode_begin(const unsigned char *bytes, size_t length,
		  struct wire_begin *ret_begin)
{
	uint32_t outcome, flags;

	if (length != WIRE_BEGIN_BYTES)
		return -EPROTO;
	outcome = get32(bytes + 8);
	flags = get32(bytes + 12);
	if (get64(bytes) == 0 || get64(bytes + 32) >= UINT64_MAX / 2 ||
	    (flags & ~(BEGIN_RESUME | BEGIN_CLEAN)) != 0)
		return -EPROTO;
	/* who sends it is the source */
	if (outcome != MEETING_WE_SOURCE && outcome != MEETING_EQUAL_WE_SOURCE)
		return -EPROTO;
	*ret_begin = (struct wire_begin){
		.session = get64(bytes),
		.outcome = (enum meeting_outcome)outcome,
		.timeline = get64(bytes + 16),
		.epoch = get64(bytes + 24),
		.incarnation = get64(bytes + 32),
		.resume_copy = (flags & BEGIN_RESUME) != 0,
		.clean = (flags & BEGIN_CLEAN) != 0,
	};
	return 0;
}

/* --- synced --- */

size_t
wire_encode_synced(const struct wire_synced *synced,
		   unsigned char ret_bytes[WIRE_SYNCED_MAX])
{
	size_t at = SYNCED_FIXED;

	put64(ret_bytes, synced->epoch);
	memcpy(ret_bytes + 8, synced->disk_id, WIRE_ID);
	at += history_encode(&synced->history, ret_bytes + at);
	put64(ret_bytes + at, synced->wide_epoch);
	put32(ret_bytes + at + 8, synced->checkpoints);
	put32(ret_bytes + at + 12, 0);
	at += SYNCED_TAIL;
	for (unsigned int i = 0; i < synced->checkpoints; i++) {
		checkpoint_encode(&synced->checkpoint[i], ret_bytes + at);
		at += CHECKPOINT_BYTES;
	}
	return at;
}

/* What stands behind the history. */
static int
decode_tail(const unsigned char *bytes, size_t length,
	    struct wire_synced *synced)
{
	if (length < SYNCED_TAIL)
		return -EPROTO;
	synced->wide_epoch = get64(bytes);
	synced->checkpoints = get32(bytes + 8);
	if (get32(bytes + 12) != 0 ||
	    synced->checkpoints > METADATA_CHECKPOINTS ||
	    length != SYNCED_TAIL +
			      (size_t)synced->checkpoints * CHECKPOINT_BYTES ||
	    synced->wide_epoch > synced->epoch)
		return -EPROTO;
	for (unsigned int i = 0; i < synced->checkpoints; i++) {
		if (wire_decode_row(bytes + SYNCED_TAIL +
					    (size_t)i * CHECKPOINT_BYTES,
				    &synced->checkpoint[i]) < 0)
			return -EPROTO;
	}
	return checkpoints_check(synced->checkpoint, synced->checkpoints) < 0
		       ? -EPROTO
		       : 0;
}

int
wire_decode_synced(const unsigned char *bytes, size_t length,
		   struct wire_synced *ret_synced)
{
	static struct wire_synced synced;
	long taken;

	if (length < SYNCED_FIXED || length > WIRE_SYNCED_MAX)
		return -EPROTO;
	memset(&synced, 0, sizeof(synced));
	synced.epoch = get64(bytes);
	memcpy(synced.disk_id, bytes + 8, WIRE_ID);
	taken = history_decode(bytes + SYNCED_FIXED, length - SYNCED_FIXED,
			       &synced.history);
	if (taken < 0 ||
	    decode_tail(bytes + SYNCED_FIXED + taken,
			length - SYNCED_FIXED - (size_t)taken, &synced) < 0)
		return -EPROTO;
	if (synced.history.count == 0 ||
	    !is_history_of(&synced.history, synced.disk_id, synced.epoch))
		return -EPROTO;
	*ret_synced = synced;
	return 0;
}

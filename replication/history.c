/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * history - see history.h; what two of them mean for each other is decided in
 * meeting.c.
 *
 * Entries are counted by absolute index: entry[i] is number dropped + i of all
 * that ever were.  The dropped ones are told by a chain of digests,
 *
 *   digest(0) = 32 zero bytes
 *   digest(n + 1) = SHA-256(digest(n), timeline, first epoch of number n)
 *
 * so that a replica that still has an entry which the other has dropped can
 * follow the other's chain.  Flags are no part of it, as two entries are equal
 * when timeline and first epoch are.
 */
#include "replication/history.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <string.h>

#include "replication/bytes.h"
#include "replication/history_private.h"

static_assert(HISTORY_HEAD_BYTES == 16 + HISTORY_DIGEST, "the head's layout");
static_assert(HISTORY_ENTRY_BYTES == 24, "an entry's layout");

void
history_digest_add(unsigned char digest[HISTORY_DIGEST],
		   const struct history_entry *entry)
{
	unsigned char bytes[HISTORY_DIGEST + 16];
	int r;

	memcpy(bytes, digest, HISTORY_DIGEST);
	put64(bytes + HISTORY_DIGEST, entry->timeline);
	put64(bytes + HISTORY_DIGEST + 8, entry->first_epoch);
	r = gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, sizeof(bytes), digest);
	assert(r == 0);
	(void)r;
}

bool
history_same_entry(const struct history_entry *a, const struct history_entry *b)
{
	return a->timeline == b->timeline && a->first_epoch == b->first_epoch;
}

void
history_append(struct history *history, uint64_t timeline, uint64_t first_epoch,
	       uint32_t flags)
{
	const struct history_entry *last = history_last(history);

	assert(first_epoch > (last == NULL ? 0 : last->first_epoch));
	assert(history->count <= HISTORY_MAX);
	if (history->count == HISTORY_MAX) {
		history_digest_add(history->digest, &history->entry[0]);
		history->dropped++;
		history->count--;
		memmove(&history->entry[0], &history->entry[1],
			history->count * sizeof(history->entry[0]));
	}
	history->entry[history->count++] = (struct history_entry){
		.timeline = timeline,
		.first_epoch = first_epoch,
		.flags = flags,
	};
}

const struct history_entry *
history_last(const struct history *history)
{
	return history->count == 0 ? NULL : &history->entry[history->count - 1];
}

int
history_check(const struct history *history)
{
	static const unsigned char zeros[HISTORY_DIGEST];
	uint64_t last = 0;

	if (history->count > HISTORY_MAX)
		return -EBADMSG;
	/* One is dropped only when the list is full. */
	if (history->dropped > 0 && history->count != HISTORY_MAX)
		return -EBADMSG;
	if (history->dropped > UINT64_MAX - HISTORY_MAX)
		return -EBADMSG;
	if (history->dropped == 0 &&
	    memcmp(history->digest, zeros, HISTORY_DIGEST) != 0)
		return -EBADMSG;
	for (uint32_t i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entry[i];

		if (entry->first_epoch <= last)
			return -EBADMSG;
		if ((entry->flags & ~(uint32_t)HISTORY_FORCED) != 0)
			return -EBADMSG;
		last = entry->first_epoch;
	}
	return 0;
}

bool
history_equal(const struct history *a, const struct history *b)
{
	if (a->count != b->count || a->dropped != b->dropped ||
	    memcmp(a->digest, b->digest, HISTORY_DIGEST) != 0)
		return false;
	for (uint32_t i = 0; i < a->count; i++) {
		if (!history_same_entry(&a->entry[i], &b->entry[i]))
			return false;
	}
	return true;
}

bool
history_holds(const struct history *history, uint64_t timeline, uint64_t epoch)
{
	for (uint32_t i = 0; i < history->count; i++) {
		const struct history_entry *entry = &history->entry[i];

		if (entry->timeline != timeline || epoch < entry->first_epoch)
			continue;
		if (i + 1 == history->count || epoch < entry[1].first_epoch)
			return true;
	}
	return false;
}

size_t
history_encode(const struct history *history, unsigned char *ret_bytes)
{
	unsigned char *at = ret_bytes + HISTORY_HEAD_BYTES;

	put32(ret_bytes, history->count);
	put32(ret_bytes + 4, 0);
	put64(ret_bytes + 8, history->dropped);
	memcpy(ret_bytes + 16, history->digest, HISTORY_DIGEST);
	for (uint32_t i = 0; i < history->count; i++) {
		put64(at, history->entry[i].timeline);
		put64(at + 8, history->entry[i].first_epoch);
		put32(at + 16, history->entry[i].flags);
		put32(at + 20, 0);
		at += HISTORY_ENTRY_BYTES;
	}
	return (size_t)(at - ret_bytes);
}

long
history_decode(const unsigned char *bytes, size_t length,
	       struct history *ret_history)
{
	const unsigned char *at = bytes + HISTORY_HEAD_BYTES;
	struct history history;
	size_t taken;

	if (length < HISTORY_HEAD_BYTES)
		return -EBADMSG;
	memset(&history, 0, sizeof(history));
	history.count = get32(bytes);
	history.dropped = get64(bytes + 8);
	memcpy(history.digest, bytes + 16, HISTORY_DIGEST);
	if (history.count > HISTORY_MAX || get32(bytes + 4) != 0)
		return -EBADMSG;
	taken = HISTORY_HEAD_BYTES +
		(size_t)history.count * HISTORY_ENTRY_BYTES;
	if (length < taken)
		return -EBADMSG;
	for (uint32_t i = 0; i < history.count; i++) {
		history.entry[i].timeline = get64(at);
		history.entry[i].first_epoch = get64(at + 8);
		history.entry[i].flags = get32(at + 16);
		if (get32(at + 20) != 0)
			return -EBADMSG;
		at += HISTORY_ENTRY_BYTES;
	}
	if (history_check(&history) < 0)
		return -EBADMSG;
	*ret_history = history;
	return (long)taken;
}

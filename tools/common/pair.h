/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair - the words by which a disk becomes one of two replicas: --role,
 * --listen, --peer and so on, of tapdisk and of tap-ctl's create, spawn, open.
 *
 * They compose the name of a stack, "remus:role=primary,...|IMAGE", which may
 * as well be written out; --track alone one of a disk that notes its changes,
 * "log:|IMAGE".
 */
#ifndef TOOLS_COMMON_PAIR_H
#define TOOLS_COMMON_PAIR_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/common/daemon_options.h"

struct reason;

#define PAIR_TYPE	   "remus" /* of the image that the words make */
#define PAIR_TRACK_TYPE	   "log"   /* and that of --track alone */
#define PAIR_ADDRESSES_MAX 4	   /* of each kind; the link's own */

/* Strings are borrowed; NULL and 0: not said, the driver has its own. */
struct pair {
	const char *role;
	const char *listen[PAIR_ADDRESSES_MAX];
	const char *peer[PAIR_ADDRESSES_MAX];
	int listen_count, peer_count;
	const char *ack, *on_peer_loss;
	const char *key, *rdma_mac, *meta;
	unsigned int grace_ms, dead_ms, ping_ms, resync_latency_ms;
	bool track; /* changes, also without a peer */
	bool digest, insecure_network;
};

/* Takes an option with `pair` set in the table: 0, or -EINVAL and a sentence
 * that names the option. */
int pair_take(struct pair *pair, const struct daemon_option *option,
	      const char *text, struct reason *reason);

/* What no option alone can tell. */
int pair_check(const struct pair *pair, struct reason *reason);

bool pair_is_given(const struct pair *pair);

/* Whether the stack's name has a replica in it. */
bool pair_is_in(const char *image);

/* "remus:...|IMAGE" with the disk's name, or IMAGE if no word was given;
 * refused if IMAGE names a replica too. */
int pair_compose(const struct pair *pair, const char *disk, const char *image,
		 char *text, size_t size, struct reason *reason);

/* The name by which a disk that was open as `current` is opened again, so that
 * it remains what it was: over `image` (NULL: the same as before), in the role
 * (NULL: as the name says) that it had come to by then. */
int pair_keep(const char *current, const char *role, const char *image,
	      char *text, size_t size, struct reason *reason);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_rig - one replica for tests: its clock, its metadata and its image
 * are the test's to hold up, and its peer is a puppet.
 *
 * The image is a fake (fake_driver.h), the metadata a fake file, time passes by
 * rig_pass() only.
 */
#ifndef TESTS_REPLICA_RIG_H
#define TESTS_REPLICA_RIG_H

#include "core/image.h"
#include "replication/replica_private.h"
#include "tests/fake_driver.h"
#include "tests/fake_store.h"
#include "tests/puppet.h"

#define RIG_ADDRESS  "replica" /* of the fake network */
#define RIG_REGION   4096u
#define RIG_DEAD_MS  1000
#define RIG_GRACE_MS 1000
/* Until a connection that broke is given up, and a little longer. */
#define RIG_LOST_MS (RIG_GRACE_MS + 1000)

/* One request of the guest. */
struct guest_request {
	unsigned char data[RIG_REGION];
	bool done;
	int result;
};

struct rig {
	struct loop *loop;
	struct pool *pool;
	struct image_stack stack;
	struct fake_file file; /* of the metadata; outlives the replica */
	struct replica_options options;
	struct puppet *puppet;
	struct wire_begin begin_like; /* a puppet's BEGIN, in its two flags */
	struct guest_request guest[64];
	unsigned int asked;
};

int rig_setup(void **state); /* *state: a struct rig */
int rig_teardown(void **state);

/* It starts, and is ready.  A puppet is there, of the other role, and calls
 * nobody yet. */
void rig_open(struct rig *rig, enum metadata_role role);
/* It dies; what it had not made durable in its metadata stays undone. */
void rig_crash(struct rig *rig);
/* It leaves, and stops; true if it ended within a minute. */
bool rig_stop(struct rig *rig);

struct replica *rig_replica(struct rig *rig);
struct fake *rig_image(struct rig *rig);
void rig_pass(struct rig *rig, unsigned int ms);
/* An order of the operator: 0 or a negative errno. */
int rig_order(struct rig *rig, const char *command);

/* A guest's request for one region, TD_OP_*; it is borrowed until done. */
struct guest_request *rig_ask(struct rig *rig, int op, uint64_t offset);

/* The primary and a puppet that has been copied to: a pair in sync. */
void pair_as_primary(struct rig *rig);
/* The secondary and a puppet that has copied all of its disk: the same. */
void pair_as_secondary(struct rig *rig);
/* The secondary, and a puppet whose session stands; nothing is copied yet. */
void meet_as_secondary(struct rig *rig);
/* The puppet offers membership (M1): the message's sequence. */
uint64_t offer(struct rig *rig);
/* The connection breaks, and the session is given up. */
void lose_peer(struct rig *rig);
/* The puppet is back with what it became; a target has said BEGUN. */
void call_again(struct rig *rig);

#endif

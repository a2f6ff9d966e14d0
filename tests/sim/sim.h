/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - two replicas of one disk, made of the objects that run in the daemon,
 * on simulated time, disks, network and operators; all choices come from one
 * seed, so a seed is a story that can be told again.
 *
 *   world.c   nodes, their life and death, and the time they share
 *   net.c     a transport: connections that delay, break and go deaf
 *   disk.c    an image driver over a medium that forgets what was not flushed
 *   guest.c   requests, and what came back
 *   oracle.c  what may come back: A1, A4, A5, A8
 *   script.c  faults and operators; the peace at the end
 *   main.c    seeds, in processes of their own
 *
 * Each node has a loop of its own, so that a dead one simply never runs again;
 * what it had allocated goes with the process.  A node may also die in the
 * midst of a turn: from then on nothing that it does is seen by anybody.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"
#include "core/loop.h"
#include "core/pool.h"
#include "core/vbd.h"
#include "replication/metadata.h"
#include "replication/transport.h"
#include "tests/fake_store.h"
#include "tests/medium.h"

#define SIM_NODES	2
#define SIM_SECTOR	512u
#define SIM_DISK_BYTES	(1u << 20)
#define SIM_SECTORS	(SIM_DISK_BYTES / SIM_SECTOR)
#define SIM_OUTSTANDING 12		 /* requests of one guest */
#define SIM_PERIOD_NS	(15 * NS_PER_S)	 /* of faults */
#define SIM_PEACE_NS	(180 * NS_PER_S) /* to come in sync after them */

enum sim_fault {
	FAULT_RESET, /* a connection breaks */
	FAULT_CUT,   /* nothing gets through, shorter than the grace time */
	FAULT_LONG_CUT,
	FAULT_ONE_WAY, /* one host is not heard */
	FAULT_SLOW,    /* the network delays */
	FAULT_KILL,    /* a process dies */
	FAULT_POWER,   /* a host dies, and what it had not flushed */
	FAULT_STOP,    /* a clean stop */
	FAULT_HANG,    /* a disk is slow for seconds */
	FAULT_EIO,     /* a disk fails an operation */
	FAULT_PROMOTE,
	FAULT_DEMOTE,
	FAULT_RESYNC,
	FAULT_COUNT,
};

extern const char *const sim_fault_names[FAULT_COUNT];

struct guest_request;
struct sim_acceptor;

struct node {
	int index;
	const char *name, *address; /* "a"; of its peer's transport */

	/* of this life */
	bool alive;
	bool dying;	   /* within a turn: nothing it does is seen */
	unsigned int doom; /* dies at the n-th thing it does; 0: not yet */
	bool doom_power;
	struct loop *loop;
	struct vbd *vbd;
	struct pool *pool;
	struct sim_acceptor *acceptor;
	struct list_head operations; /* of its disk */
	bool stopping;		     /* cleanly */
	uint64_t stop_ns;	     /* since then */
	struct vbd_waiter stopped;
	bool admitted; /* guests, when looked at last */

	/* what outlives it */
	struct medium disk;
	struct fake_file file;
	struct metadata_state durable; /* as its file has it */
	bool has_durable;
	enum metadata_role role; /* its command line */
	bool fuzzy; /* lost what was not flushed, and was not copied to since */

	/* the disk's mood */
	uint64_t slow_until_ns;
	unsigned int errors; /* so many operations fail */

	/* the guest */
	struct list_head requests;
	unsigned int outstanding;
	uint64_t issue_ns;   /* the next request */
	uint64_t cursor;     /* of what goes in sequence */
	uint64_t restart_ns; /* 0: nobody starts it */
};

struct net {
	struct list_head parcels; /* by time */
	struct list_head held;	  /* of a direction that is cut */
	struct list_head connections;
	bool cut[SIM_NODES]; /* what this node sends goes nowhere */
	uint64_t latency_ns, jitter_ns;
};

struct view;

#define SIM_VIEWS 256

struct world {
	uint64_t seed, random;
	uint64_t now_ns;
	bool trace;
	bool failed;
	bool calm; /* faults are over */
	char why[512];
	struct node node[SIM_NODES];
	struct net net;
	const char *ack, *on_loss;

	struct view *view[SIM_VIEWS]; /* owned: one a timeline */
	int views;
	uint64_t events; /* the oracle's clock */
	uint64_t next_id;
	uint64_t writes, acked, reads, flushes, failures;
	uint64_t faults[FAULT_COUNT];
};

extern struct world *sim; /* the one of this process */

/* --- world.c --- */

struct world *world_new(uint64_t seed, bool trace);
struct world *world_free(struct world *world);
/* To the next thing that is due, at most until `until_ns`. */
void world_step(uint64_t until_ns);
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void world_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

double sim_random(void); /* 0 <= it < 1 */
uint64_t sim_below(uint64_t limit);
bool sim_chance(double probability);

bool node_start(struct node *node);
void node_die(struct node *node, bool power);
void node_stop(struct node *node); /* cleanly; it ends by itself */
struct node *node_peer(const struct node *node);
struct node *node_of(const struct loop *loop);
/* Whether anybody sees what it does. */
bool node_is_live(const struct node *node);
/* It does something that is seen outside.  False: it died before. */
bool node_acts(struct node *node);
bool node_admits(const struct node *node);
/* 0 or a negative errno. */
int node_command(struct node *node, const char *command);
/* A member of the replica's status; "" without. */
void node_status(struct node *node, const char *key, char *ret_text,
		 size_t length);
bool node_status_is(struct node *node, const char *key, const char *value);
uint64_t node_timeline(const struct node *node); /* 0: none yet */

/* --- net.c --- */

extern const struct transport transport_sim;

void net_init(struct net *net);
void net_done(struct net *net);
uint64_t net_next(const struct net *net);
void net_run(struct net *net); /* what is due */
void net_reset(struct net *net);
void net_cut(struct net *net, int from, bool cut);
void net_node_dies(struct net *net, struct node *node, bool power);
bool net_is_whole(const struct net *net);

/* --- disk.c --- */

extern struct tap_disk tapdisk_sim;

void disk_dies(struct node *node, bool power);

/* --- guest.c --- */

void guest_issue(struct node *node);
void guest_dies(struct node *node);
/* Whether a write that may still be done would put `value` there. */
bool guest_is_writing(uint64_t sector, uint64_t value);

/* --- oracle.c --- */

/* The value of a sector's bytes; fails the seed if it is none. */
uint64_t oracle_value(const struct node *node, const unsigned char *bytes,
		      uint64_t sector);
void oracle_durable(struct node *node); /* its metadata have changed */
void oracle_answers(struct node *node); /* it is about to */
void oracle_submitted(struct node *node, uint64_t sector, uint64_t value);
void oracle_acked(struct node *node, uint64_t sector, uint64_t value,
		  bool durable);
void oracle_failed(struct node *node, uint64_t sector);
/* It has told its guest that something is done which came at `event`. */
void oracle_author(struct node *node, uint64_t event);
/* All that was acknowledged before `event` is durable. */
void oracle_flushed(struct node *node, uint64_t event);
uint64_t oracle_version(const struct node *node, uint64_t sector);
void oracle_read(struct node *node, uint64_t sector, uint64_t value);
void oracle_equal(void); /* A5 */
void oracle_done(struct world *world);

/* --- script.c --- */

void script_run(void);
void script_restarts(struct node *node); /* it died: when, and as what */

#endif

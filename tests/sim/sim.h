/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sim - two replicas of one disk and their arbiter, made of the objects that
 * run in the daemon, on simulated time, disks, network and operators; all
 * choices come from one seed, so a seed is a story that can be told again.
 *
 *   world.c    nodes, their life and death, and the time they share
 *   net.c      two transports: connections that delay, break and go deaf
 *   disk.c     an image driver over a medium that forgets, fails and lies
 *   arbiter.c  a record far away: slow, gone, or not reached by one host
 *   guest.c    requests, and what came back
 *   oracle.c   what may come back: A1, A3, A4, A5, A8, I3
 *   laws.c     what must be true of the durable states and the queues: A3, A9,
 *		A11, I4, M8
 *   tracking.c what must be true of intents, stamps and suspects: A2, A6, I2
 *   shadow.c   what a checkpoint held, and what is said to have changed since:
 *		A10, I5
 *   cover.c    which states and transitions were reached
 *   faults.c   what befalls the two, planned ahead
 *   operator.c who starts, promotes, mends
 *   script.c   the story: faults, and the peace at the end
 *   explore.c  all short schedules, instead of a story
 *   main.c     seeds, in processes of their own; the shortest trace
 *
 * Each node has a loop of its own, so that a dead one simply never runs again;
 * what it had allocated goes with the process.  A node may also die in the
 * midst of a turn: from then on nothing that it does is seen by anybody.
 *
 * Each room draws from a stream of random numbers of its own, and each fault
 * from one of its own, so that a story without one of its faults is as much
 * like the whole one as can be.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"
#include "core/loop.h"
#include "core/pool.h"
#include "core/vbd.h"
#include "replication/arbiter.h"
#include "replication/link.h"
#include "replication/metadata.h"
#include "replication/transport.h"
#include "tests/fake_store.h"
#include "tests/medium.h"

#define SIM_NODES	2
#define SIM_FABRICS	2 /* networks, each with a transport */
#define SIM_SECTOR	512u
#define SIM_SMALL	(1u << 20) /* bytes of a disk: its log of intents is */
#define SIM_LARGE	(8u << 20) /* never full; and is, again and again */
#define SIM_REGION	4096u
#define SIM_OUTSTANDING 12	       /* requests of one guest */
#define SIM_READERS	4	       /* beside them, when all wait */
#define SIM_WAIT_NS	(3 * NS_PER_S) /* for a peer that is well, at most */
#define SIM_DRIFT	0.02 /* a clock is fast or slow by so much at most */
#define SIM_FAULTS	96   /* of one story, planned */
#define SIM_WRITES_MIN	200  /* of one story */
#define SIM_FAULTS_MIN	3
#define SIM_PERIOD_NS	(15 * NS_PER_S) /* of faults, at least */
#define SIM_PEACE_NS	(90 * NS_PER_S) /* to come in sync after them */

/* As nodes are started. */
#define SIM_DEAD_NS  (1 * NS_PER_S)
#define SIM_GRACE_NS (2 * NS_PER_S)

enum sim_fault {
	FAULT_RESET,	/* connections break */
	FAULT_CUT,	/* nothing gets through, shorter than the grace time */
	FAULT_LONG_CUT, /* longer */
	FAULT_ONE_WAY,	/* one host is not heard */
	FAULT_FABRIC,	/* one of the two networks is cut */
	FAULT_DROP,	/* what is on its way is lost, and nobody hears it */
	FAULT_FLAP,	/* it breaks again and again */
	FAULT_SLOW,	/* the network delays */
	FAULT_KILL,	/* a process dies */
	FAULT_POWER,	/* a host dies, and what it had not flushed */
	FAULT_BLACKOUT, /* both hosts do */
	FAULT_STOP,	/* a clean stop */
	FAULT_SLUGGISH, /* a disk is slow for seconds */
	FAULT_HANG,	/* a disk does nothing for seconds */
	FAULT_EIO,	/* a disk fails an operation */
	FAULT_FULL,	/* a disk has no room for a while */
	FAULT_FLIP,	/* a disk reads a bit wrongly */
	FAULT_META,	/* metadata cannot be written once */
	FAULT_PROMOTE,
	FAULT_ALONE,  /* promote --alone */
	FAULT_FORCE,  /* promote --force */
	FAULT_DEMOTE, /* or hand over */
	FAULT_RESYNC,
	FAULT_DISCARD, /* resync --discard */
	FAULT_VERIFY,
	FAULT_CHECKPOINT, /* created, or deleted */
	FAULT_ARBITER_SLOW,
	FAULT_ARBITER_GONE,
	FAULT_ARBITER_CUT, /* one host does not reach it */
	FAULT_COUNT,
};

extern const char *const sim_fault_names[FAULT_COUNT];

/* Planned ahead; in the order of their time. */
struct fault {
	uint64_t at_ns;
	enum sim_fault kind;
	uint64_t random; /* its own stream */
	bool left_out;	 /* to see whether the story fails without */
};

enum sim_stream {
	STREAM_NODE,
	STREAM_NET,
	STREAM_DISK,
	STREAM_GUEST,
	STREAM_ARBITER,
	STREAM_SCRIPT,
	STREAM_PLAN,
	STREAM_FAULT, /* of the one that befalls */
	STREAM_COUNT,
};

/* How a guest writes. */
enum sim_guest {
	GUEST_RANDOM,
	GUEST_ZIPF,
	GUEST_SEQUENTIAL,
	GUEST_OVERLAPPING,
	GUEST_FLUSHING,
	GUEST_DISCARDING,
	GUEST_COUNT,
};

extern const char *const sim_guest_names[GUEST_COUNT];

struct guest_request;
struct sim_acceptor;

struct node {
	int index;
	const char *name, *address; /* "a"; of its peer's transport */

	/* of this life */
	uint64_t life; /* the how manieth */
	bool alive;
	bool dying;	   /* within a turn: nothing it does is seen */
	unsigned int doom; /* dies at the n-th thing it does; 0: not yet */
	bool doom_power;
	struct loop *loop;
	double rate;	     /* of its clock */
	uint64_t started_ns; /* when its clock was right */
	struct vbd *vbd;
	struct pool *pool;
	size_t pool_idle; /* in use when nothing is under way */
	struct sim_acceptor *acceptor[SIM_FABRICS];
	struct list_head operations; /* of its disk */
	bool stopping;		     /* cleanly */
	uint64_t stop_ns;	     /* since then */
	struct vbd_waiter stopped;
	bool admitted; /* guests, when looked at last */
	bool forcing;  /* its last order was one by force */

	/* what outlives it */
	struct medium disk;
	struct fake_file file;
	struct metadata_state durable; /* as its file has it */
	bool has_durable;
	uint64_t generation;	 /* of it */
	uint64_t flushes;	 /* of its file, that ended */
	enum metadata_role role; /* its command line */
	bool fuzzy; /* lost what was not flushed, and was not copied to since */

	/* the disk's mood */
	uint64_t slow_until_ns;
	uint64_t hang_until_ns;
	uint64_t full_until_ns;
	unsigned int errors; /* so many operations fail */
	unsigned int flips;  /* so many reads lie */

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
	bool cut[SIM_FABRICS]
		[SIM_NODES]; /* what this node sends goes nowhere */
	uint64_t latency_ns, jitter_ns;
};

/* The far-away record, and what is on its way to it and back. */
struct sim_arbiter {
	struct arbiter_record record;
	struct list_head letters; /* by time */
	bool gone;
	bool cut[SIM_NODES];
	uint64_t latency_ns;
	uint64_t asked, agreed, refused; /* swaps */
};

struct view;
struct flip;
struct coverage;
struct shadow;

#define SIM_VIEWS 256

struct world {
	uint64_t seed;
	uint64_t random[STREAM_COUNT];
	uint64_t now_ns;
	bool trace;
	bool failed;
	bool calm;  /* faults are over */
	bool quiet; /* guests ask for nothing more */
	char why[512];
	struct node node[SIM_NODES];
	struct net net;
	struct sim_arbiter arbiter;

	/* what this seed is about */
	uint64_t disk_bytes;
	const char *ack, *on_loss;
	bool has_arbiter;
	enum sim_guest guest;
	struct fault fault[SIM_FAULTS];
	int faults;

	struct view *view[SIM_VIEWS]; /* owned: one a timeline */
	int views;
	struct flip *flips;	 /* owned: what reads made up */
	struct list_head graves; /* requests that ended, to see one rise */
	struct shadow *shadows;	 /* owned: of checkpoints */
	uint64_t checkpoints, answers, answers_refused;
	bool forced;	 /* somebody went on without the arbiter's word */
	uint64_t events; /* the oracle's clock */
	uint64_t next_id;
	uint64_t writes, acked, reads, flushes, failures;
	uint64_t writes_min; /* before it ends */
	uint64_t equal_checks, steps;
	uint64_t equal_marks[SIM_NODES]; /* of the disks, then */
	uint64_t calm_ns;		 /* since when */
	uint64_t trouble_ns; /* no network or disk keeps anybody since then */
	uint64_t peace_ns;   /* that it took to come in sync */
	uint64_t befell[FAULT_COUNT];
	unsigned int befallen;
	struct coverage *coverage; /* borrowed; NULL: nobody counts */
	bool *fault_befell;	   /* borrowed: outlives a crash of ours */
};

extern struct world *sim; /* the one of this process */

static inline uint64_t
sim_sectors(void)
{
	return sim->disk_bytes / SIM_SECTOR;
}

/* --- world.c --- */

struct world *world_new(uint64_t seed, bool large, bool trace);
struct world *world_free(struct world *world);
/* To the next thing that is due, at most until `until_ns`. */
void world_step(uint64_t until_ns);
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void world_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A network or a disk keeps somebody, at most until then. */
void world_ails(uint64_t until_ns);

double sim_random(enum sim_stream stream); /* 0 <= it < 1 */
uint64_t sim_below(enum sim_stream stream, uint64_t limit);
bool sim_chance(enum sim_stream stream, double probability);

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
bool node_is(const struct node *node, const char *state); /* "solo" */
bool node_is_primary(const struct node *node);
uint64_t node_timeline(const struct node *node);       /* 0: none yet */
struct replica *node_replica(const struct node *node); /* NULL without */

/* --- net.c --- */

extern const struct transport transport_sim, transport_alt;

void net_init(struct net *net);
void net_done(struct net *net);
uint64_t net_next(const struct net *net);
void net_run(struct net *net); /* what is due */
void net_reset(struct net *net);
void net_cut(struct net *net, int fabric, int from, bool cut);
void net_drop(struct net *net); /* connections carry nothing any more */
void net_node_dies(struct net *net, struct node *node, bool power);
bool net_is_whole(const struct net *net);
bool net_is_idle(const struct net *net); /* nothing but signs of life */

/* --- disk.c --- */

extern struct tap_disk tapdisk_sim;

void disk_dies(struct node *node, bool power);
/* Bytes that a read of this sector made up. */
bool disk_made_up(uint64_t sector, const unsigned char *bytes);
bool disk_ever_made_up(uint64_t sector);
void disk_done(struct world *world);

/* --- arbiter.c --- */

extern const struct arbiter_type arbiter_sim;

void sim_arbiter_init(struct sim_arbiter *arbiter);
void sim_arbiter_done(struct sim_arbiter *arbiter);
uint64_t sim_arbiter_next(const struct sim_arbiter *arbiter);
void sim_arbiter_run(struct sim_arbiter *arbiter);
/* It lists this node, and nobody else. */
bool sim_arbiter_lists_alone(const struct sim_arbiter *arbiter,
			     const struct node *node);
bool sim_arbiter_lists(const struct sim_arbiter *arbiter,
		       const struct node *node);

/* --- guest.c --- */

void guest_issue(struct node *node);
/* A write of one sector, or (`sectors` 0) a flush: for schedules. */
void guest_submit(struct node *node, int op, uint64_t first, uint64_t count);
void guest_dies(struct node *node);
/* Whether a write that may still be done would put `value` there. */
bool guest_is_writing(uint64_t sector, uint64_t value);
/* Whether any is under way that would change it. */
bool guest_writes_to(uint64_t sector);
void guest_done(struct world *world);

/* --- oracle.c --- */

/* What a read made up. */
#define SIM_MADE_UP UINT64_MAX

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
/* The same of a read that came at `event`, at `ns`. */
void oracle_reader(struct node *node, uint64_t event, uint64_t ns);
/* All that was acknowledged before `event` is durable. */
void oracle_flushed(struct node *node, uint64_t event);
uint64_t oracle_version(const struct node *node, uint64_t sector);
void oracle_read(struct node *node, uint64_t sector, uint64_t value);
void oracle_equal(void);    /* A5, I1 */
void oracle_readable(void); /* A1: each sector, as if somebody read it */
/* A copy of what is known now of the node's timeline; free() it. */
struct view *oracle_snapshot(const struct node *node);
/* Whether a sector may have held `value` then. */
bool oracle_was(const struct view *then, uint64_t sector, uint64_t value);
void oracle_done(struct world *world);

/* --- laws.c --- */

/* Its metadata have changed from `before` (NULL: there was none). */
void laws_of_state(const struct node *node,
		   const struct metadata_state *before);
void laws_of_queues(struct node *node); /* A11 */
/* I6: what a peer that is well was told, it does, and says so. */
void laws_of_waiting(const struct node *node);
/* Everything is in sync and idle: what was borrowed is back. */
void laws_of_rest(struct node *node);
bool laws_see_rest(const struct node *node);
/* What a verification found was made up by a read. */
void laws_of_verify(struct node *node);

/* --- tracking.c --- */

void tracking_of_write(struct node *node, uint64_t offset, uint64_t length);
/* Both would find what they may have differently, had they lost power. */
void tracking_of_pair(void);

/* --- shadow.c --- */

void shadow_look(struct node *node); /* whether one was cut */
void shadow_ask(struct node *node);  /* about each checkpoint it has */
bool shadow_command(struct node *node, bool create, uint64_t number);
void shadow_done(struct world *world);

/* --- cover.c --- */

struct coverage *coverage_new(void); /* shared with children */
void cover(const struct node *node); /* look at its states */
void cover_life(const struct node *node, bool begins);
/* Returns how many transitions were seen that the tables do not know. */
unsigned int coverage_print(const struct coverage *coverage);

/* --- faults.c --- */

void faults_plan(void);
/* What is due; true if something befell. */
void faults_run(void);
bool faults_are_over(void);
void faults_heal(bool all); /* what has lasted long enough, or all */

/* --- operator.c --- */

void operator_restarts(struct node *node); /* it died: when, and as what */
void operator_fail_over(void);
void operator_starts(bool at_once);
/* One round of one who follows the advice. */
void operator_mends(unsigned int round);
bool operator_promotes(struct node *node, const char *command);
bool operator_demotes(struct node *node);
bool pair_is_in_sync(void);
bool pair_is_idle(void);
void pair_say(void);

/* --- script.c --- */

bool script_run_until(uint64_t until_ns);
void script_run(void);
/* Peace: they come in sync and are equal. */
void script_end(void);

/* --- explore.c --- */

/* A schedule is a list of steps, "write,crash a,promote". */
bool explore_parse(const char *text);
void explore_run(const char *text, unsigned int variant);
/* The n-th of those with `length` steps; false: there are no more. */
uint64_t explore_count(unsigned int length); /* of schedules */
bool explore_name(unsigned int length, uint64_t number, char *ret_text,
		  size_t room);
#define EXPLORE_VARIANTS 2

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_private.h - what the files of the replica share; nobody else
 * includes it.
 *
 *   replica.c          opening, closing, states, durable steps
 *   replica_meeting.c  what the link tells: meetings, losses
 *   replica_checkpoint.c  E1
 *   replica_rollback.c H0: metadata that are an older copy
 *   replica_fork.c     H4: what each side would lose
 *   replica_accept.c   M2, M6: what a target becomes
 *   replica_change.c   what the operator orders: promote, demote, leave
 *   replica_arbiter.c  who may go on alone
 *   replica_tracking.c what may be otherwise on the peer (M0, M4, C1)
 *   replica_union.c    what is to be copied (H6)
 *   replica_status.c   what people and tools are told
 *   mirror.c           a primary's requests, here and on the peer
 *   mirror_durable.c   their durability here, at level durable
 *   mirror_state.c     the same as a whole: what is proven, what is under way
 *   resync.c           a source's copying, and the offer (M1)
 *   compare.c          a range compared with the peer's, by digest
 *   verify.c           all of the disk compared, by order
 *   apply.c            a target's messages
 *   apply_verify.c     its answers to digests
 */
#ifndef REPLICATION_REPLICA_PRIVATE_H
#define REPLICATION_REPLICA_PRIVATE_H

#include "core/loop.h"
#include "core/reason.h"
#include "replication/ask.h"
#include "replication/compare.h"
#include "replication/copy_map.h"
#include "replication/image_io.h"
#include "replication/link.h"
#include "replication/metadata.h"
#include "replication/pace.h"
#include "replication/replica.h"
#include "replication/tracker.h"
#include "replication/verify.h"

enum replica_state {
	/* primary */
	REPLICA_WAITING, /* may not serve: for the peer or the operator (C2) */
	REPLICA_SOLO,	 /* serves alone */
	REPLICA_RESYNC,	 /* serves; copies to the peer, no member yet */
	REPLICA_PAIRED,	 /* serves; the peer is a member (W4) */
	REPLICA_LOST,	 /* the member is lost; before M3 */
	/* secondary */
	REPLICA_SECONDARY, /* no session */
	REPLICA_TARGET,	   /* being copied to */
	REPLICA_SYNCED,	   /* has accepted SYNCED (M2) */
	/* either */
	REPLICA_FAILED, /* its metadata cannot be kept */
};

/* --- mirror: a primary's requests --- */

#define MIRROR_REQUESTS 320	     /* the vbd's depth, and room for parts */
#define MIRROR_PIECES	448	     /* messages of requests on their way */
#define MIRROR_ZERO_MAX (256u << 20) /* bytes of one message of zeros */

enum mirror_remote {
	MIRROR_NOT_NEEDED, /* the peer is no member, for this request */
	MIRROR_SENDING,	   /* a piece is unsent or unacknowledged */
	MIRROR_DONE,	   /* acknowledged at the level */
	MIRROR_UNPROVEN,   /* the session ended before (M0) */
};

struct mirror_request {
	struct list_head entry;	 /* free, held, marking, barred or active */
	struct list_head unsent; /* among those with pieces to send */
	struct list_head flush;	 /* among those that a flush here covers */
	struct replica *replica; /* borrowed */
	td_request_t treq;	 /* the guest's */
	uint64_t offset, length; /* bytes; 0, 0 for a flush */
	uint64_t begun_ns;	 /* the state let it go; 0: not yet */
	struct image_op local;
	bool local_done;
	bool flushing; /* done here, and not durable yet (level durable) */
	int local_error;
	enum mirror_remote remote;
	struct tracker_hold hold; /* of a change, until it is given back */
	bool marked;		  /* it is held (W1) */
	uint64_t epoch;		  /* that it carries (W2) */
	uint64_t sequence;     /* of its first piece in this session; 0: none */
	uint64_t next;	       /* from here on it is unsent */
	unsigned int out;      /* pieces without a final acknowledgement */
	unsigned int awaiting; /* pieces that the level still waits for */
};

struct mirror_piece {
	struct link_send send;
	struct list_head entry;		/* free, or in use */
	struct replica *replica;	/* borrowed */
	struct mirror_request *request; /* borrowed; NULL when it is ahead */
	void *copy;			/* owned, of the pool; may be NULL */
	uint64_t begun_ns;
	bool held;     /* in the log of intents, by itself (W3) */
	bool received; /* at level received: counted */
	bool alone;    /* sent while the peer was no member */
};

struct mirror {
	struct list_head free;	  /* requests */
	struct list_head held;	  /* wait for the state, in order */
	struct list_head marking; /* wait for their intents (W1) */
	struct list_head barred;  /* wait for a copy of their range (H7) */
	struct list_head active;  /* with the image or the peer */
	struct list_head unsent;  /* of them, with pieces to send */
	struct list_head free_pieces, pieces;
	struct list_head written;  /* want the next flush here */
	struct list_head flushing; /* under the present one */
	struct image_op flush;
	bool flush_running;
	unsigned int local_alone; /* active here, that no member answers for */
	unsigned int ahead;	  /* pieces whose request need not wait */
	unsigned int ahead_alone; /* of them, sent to no member */
	uint64_t alone_bytes;	  /* written since going solo */
	uint64_t alone_ns;	  /* when that was; 0: not in this life */
	struct mirror_request *requests;  /* owned: MIRROR_REQUESTS */
	struct mirror_piece *piece_array; /* owned: MIRROR_PIECES */
};

static inline bool
mirror_changes(const struct mirror_request *request)
{
	return request->treq.op == TD_OP_WRITE ||
	       request->treq.op == TD_OP_WRITE_ZEROES ||
	       request->treq.op == TD_OP_DISCARD;
}

/* --- resync: a source's copying --- */

#define RESYNC_COPIES	   8
#define RESYNC_COPY_BYTES  (256u << 10)
#define RESYNC_ZERO_BYTES  (16u << 20) /* of one message of zeros */
#define RESYNC_SCOUT_BYTES (64u << 20) /* asked for holes at once */

enum resync_copy_state {
	COPY_FREE,
	COPY_COMPARING, /* by digest: perhaps nothing is to be copied */
	COPY_BARRING, /* waits for writes of its range; new ones wait for it */
	COPY_READING,
	COPY_SENT,
};

struct resync_copy {
	enum resync_copy_state state;
	struct replica *replica; /* borrowed */
	uint64_t offset, length;
	struct compare compare;
	struct image_op read;
	struct link_send send;
	uint64_t meeting;    /* in which it was read */
	uint64_t claimed_ns; /* when it began */
	uint64_t begun_ns;   /* when it was sent */
	void *buffer;	     /* owned, of the pool: RESYNC_COPY_BYTES */
};

struct resync {
	struct copy_map map;
	bool map_valid;	  /* writes that no peer gets are marked */
	bool map_whole;	  /* what is not marked the peer below has (H8) */
	bool regions_due; /* the target has not named all of its part (H6) */
	unsigned char map_peer[METADATA_ID];
	uint64_t map_incarnation; /* the peer's */

	bool running;
	uint64_t cursor;
	struct resync_copy copy[RESYNC_COPIES];
	struct task pump;
	struct timer pause; /* after a failed read */
	struct reason trouble;

	/* the scout: regions known to read as zeros */
	struct image_op ask;
	bool asking;
	uint64_t scout_offset, scout_length;
	unsigned char zero[RESYNC_SCOUT_BYTES / COPY_REGION];
	struct td_extents *extents; /* owned */

	/* the offer (M1) */
	bool offered; /* SYNCED is sent or acknowledged */
	struct link_send synced_send;
	unsigned char *synced_bytes; /* owned: WIRE_SYNCED_MAX */

	/* progress */
	uint64_t total_bytes; /* of this resync */
	uint64_t done_bytes;  /* of them; what guests add may exceed it */
	uint64_t copied_bytes, zeroed_bytes; /* in this life, for the status */
	uint64_t equal_bytes;		     /* the same: by digest */
	uint64_t begun_ns;
};

/* --- the union (H6) --- */

/* What one side contributes to the union (H6). */
enum union_part {
	UNION_ALL,	/* the whole disk */
	UNION_SUSPECTS, /* what else was marked before still counts (H8) */
	UNION_SINCE,	/* stamped above `since`, or suspect */
	UNION_NOTHING,
};

struct replica_union {
	struct task scan;
	enum union_part what;
	uint64_t since, at;
	void (*then)(struct replica *replica);
	struct link_send send;
	bool sending, sent; /* target: a message is on its way; the last was */
	uint64_t send_at;
	struct wire_region *regions; /* owned: WIRE_REGIONS_MAX */
	unsigned char *bytes;	     /* owned: WIRE_REGIONS_BYTES */
};

/* --- diverged (H4) --- */

struct replica_fork {
	struct wire_fork we, peer; /* timeline 0: not known */
	bool counted;		   /* what is ours */
	struct task count;
	uint64_t at;
};

/* --- checkpoints (E1) --- */

struct replica_checkpoint {
	enum ask_verb verb;		    /* ordered, of the one below */
	char due[METADATA_CHECKPOINT_NAME]; /* "": none is */
	struct wire_checkpoint message;
	unsigned char bytes[WIRE_CHECKPOINT_BYTES];
	struct link_send send;
	bool telling;
	uint64_t member_epoch; /* that the peer has durably, in this session */
};

/* --- apply: a target's messages --- */

#define APPLY_SLOTS LINK_WINDOW_MAX

enum apply_state {
	APPLY_WAITING, /* for earlier ones that it overlaps, or for all */
	APPLY_MARKING, /* for its intents (W1) */
	APPLY_RUNNING,
	APPLY_FLUSHING, /* applied; a flush makes it durable */
	APPLY_FAILED,	/* answered when we are durably not consistent */
};

struct apply_slot {
	struct list_head entry;	 /* free, or unfinished in order */
	struct list_head flush;	 /* among those that a flush covers */
	struct replica *replica; /* borrowed */
	enum apply_state state;
	int error;	  /* APPLY_FAILED */
	uint64_t meeting; /* whose message it is */
	struct wire_header header;
	void *payload; /* owned, of the pool; may be NULL */
	uint64_t done; /* bytes of the range, of those held at once */
	struct tracker_hold hold;
	struct image_op op;
};

/* A digest being answered. */
struct apply_digest {
	struct apply_slot *slot; /* borrowed; NULL: free */
	struct digest digest;
	void *buffer; /* owned, of the pool: WIRE_VERIFY_MAX */
};

#define APPLY_DIGESTS 2

/* A write that is done here and not known to be done there (W3, M4). */
struct apply_unproven {
	uint64_t offset, length, sequence;
};

#define APPLY_UNPROVEN_MAX 2048

struct apply {
	struct list_head free, unfinished;
	unsigned int waiting;
	struct list_head written;  /* want the next flush */
	struct list_head flushing; /* under the present one */
	struct image_op flush;
	bool flush_running;
	bool deaf;		  /* we leave: what comes now is unproven */
	struct apply_slot *slots; /* owned: APPLY_SLOTS */
	struct apply_digest digests[APPLY_DIGESTS];
	uint64_t copied_bytes, zeroed_bytes; /* in this life */

	uint64_t proven; /* all up to this message is done on both */
	struct apply_unproven *unproven; /* owned: a ring of unproven_max */
	unsigned int unproven_max, unproven_first, unproven_count;
};

/* --- the arbiter (M8) --- */

enum arbiter_question {
	ARBITER_NOTHING,
	ARBITER_ALONE, /* may we go on alone? */
	ARBITER_OFFER, /* which revision stands before SYNCED? */
	ARBITER_BOTH,  /* both are up to date */
};

struct replica_arbiter {
	struct arbiter_call call;
	enum arbiter_question question; /* under way */
	struct timer pause;		/* after one in vain */
	bool failed;			/* no answer, or a no */
	bool word;	   /* to go on alone, and met nobody since */
	bool has_revision; /* of this session, before SYNCED */
	uint64_t revision;
	bool listed;	    /* both are, in this session */
	bool sole;	    /* C2: it waits to go on on its own timeline */
	struct reason says; /* what it said last; may be "" */
};

/* --- the replica --- */

enum replica_change {
	CHANGE_NONE,
	CHANGE_PROMOTE,
	CHANGE_DEMOTE,
	CHANGE_LEAVE,
};

struct replica {
	td_driver_t *driver; /* borrowed, as the next three */
	struct loop *loop;
	struct pool *pool;
	struct replica_options options;

	struct metadata *metadata; /* owned */
	struct tracker tracker;
	uint64_t epoch;	    /* that writes carry: durable (W2) */
	bool image_changed; /* behind our back, after a clean stop */
	struct link *link;  /* owned */
	struct image_io io;
	enum replica_state state;
	bool opening;	   /* its first step is not durable yet */
	bool in_sync;	   /* of PAIRED: SYNCED is acknowledged */
	uint64_t since_ns; /* when the state began */
	struct reason why; /* the state is not the best one; may be "" */

	/* one durable step (P1) */
	struct metadata_commit commit;
	bool stepping;
	struct tracker_sync settling;
	bool settle; /* suspects are to be durable before anything else */
	void (*after_step)(struct replica *replica);
	struct task advance;

	/* meetings */
	uint64_t meetings; /* grows at each meeting and at each end of one */
	uint64_t changes;  /* durable steps so far */
	bool meeting;	   /* decided, and not yet up */
	bool up_due;	   /* source: it is up, and that not yet durable */
	bool broken;	   /* we are ending the session */
	struct wire_hello peer_hello; /* of the last meeting */
	struct meeting decision;
	bool resume_copy;
	bool clean;	     /* target: the source knows of nothing to copy */
	uint64_t remembered; /* of our incarnation, by the source */
	bool copying; /* target: what was copied in this life is there (H8) */
	bool discard; /* the operator gave this side up (H4) */
	bool discard_peer; /* or the other */
	bool diverged;	   /* the last meeting ended so */
	bool goodbye;	   /* the peer left cleanly (M7) */
	uint64_t up_ns;	   /* since when there is a connection */
	unsigned char peer_id[METADATA_ID]; /* of the last meeting */
	uint64_t meeting_number;	    /* of it, see replica_rollback.c */
	struct reason loss;    /* why the last session ended; may be "" */
	struct reason trouble; /* why no meeting succeeds; may be "" */
	bool judged; /* in this meeting by us: tells more than the peer does */
	struct timer retry;
	struct timer watch; /* looks for a peer whose disk hangs */

	struct apply_slot *accepting; /* SYNCED or HANDOVER, for a step */
	struct replica_arbiter arbiter;

	/* what the operator asked for */
	enum replica_change change;
	int change_stage;
	bool force;
	bool alone;	   /* his word that the peer is dead (M3) */
	bool handing_over; /* no request is taken (M6) */
	bool handover;	   /* the demotion is one (M6) */
	bool remote_asked; /* leaving: the peer was asked to flush */
	struct link_send change_send;
	struct image_op change_flush;
	struct timer change_limit;
	struct reason change_error; /* of the last change; may be "" */
	td_request_t leave_treq;
	int leave_error;
	bool left;  /* the link has stopped for good */
	bool ended; /* leave_treq is completed */

	bool spoil; /* F2, F3: to be marked not consistent */

	struct digester digester;
	struct list_head compares; /* under way */
	struct replica_union part;
	struct replica_checkpoint checkpoint;
	struct replica_fork fork;
	struct mirror mirror;
	struct resync resync;
	struct apply apply;
	struct verify verify;

	/* how fast the last two may go beside the guest */
	struct pace pace;
	struct timer pace_timer;
};

/* --- replica.c --- */

struct metadata_state *replica_durable(const struct replica *replica);

/* Make the state durable, then call `after`; nothing may be stepping. */
void replica_step(struct replica *replica, void (*after)(struct replica *));

/* It cannot keep its state, so it may not go on. */
void replica_fail(struct replica *replica, int error);

/* Look again, from the loop, whether something is to be done. */
void replica_poke(struct replica *replica);

/* And why it is not the best one; "" if it is. */
void replica_set_state(struct replica *replica, enum replica_state state,
		       const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Only the reason is another. */
void replica_explain(struct replica *replica, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* No request is taken while the disk goes to the other host (M6). */
void replica_set_handing_over(struct replica *replica, bool handing_over);
bool replica_is_primary(const struct replica *replica);
/* SOLO, RESYNC, PAIRED. */
bool replica_serves(const struct replica *replica);
/* The peer must acknowledge what a guest writes from now on. */
bool replica_has_member(const struct replica *replica);
bool replica_may_be_synced(const struct replica *replica);
void replica_clear_may_be_synced(struct replica *replica);
/* A session with a connection, or within the grace time of one. */
bool replica_in_session(const struct replica *replica);
/* Whether it is still the session of a meeting: from its end on, also before
 * on_lost() has counted it, it is not. */
bool replica_in_session_of(const struct replica *replica, uint64_t meeting);
/* Append a new timeline in memory (M3, M5); the caller makes it durable. */
void replica_new_timeline(struct replica *replica, uint32_t flags);
/* The row of a peer in the table; NULL if it is unknown. */
struct metadata_peer *replica_find_peer(const struct replica *replica,
					const unsigned char *replica_id);
/* The same; one is made if it is unknown. */
struct metadata_peer *replica_peer(struct replica *replica,
				   const unsigned char *replica_id);
uint64_t replica_random(struct replica *replica);
const char *replica_state_name(enum replica_state state);

/* Whether a piece of a resync or verification may begin beside `under_way`
 * others; if not, both look again when it may. */
bool replica_pace_admits(struct replica *replica, unsigned int under_way);

/* --- replica_tracking.c --- */

int replica_tracking_open(struct replica *replica, bool is_new,
			  struct reason *reason);
/* `then` when the recovery and the state are durable. */
void replica_tracking_start(struct replica *replica,
			    void (*then)(struct replica *));
/* The last thing before the end; `then` is not called if it fails. */
void replica_tracking_stop(struct replica *replica, void (*then)(void *));
/* M0, M4: what was not proven is suspect from now on, and durably so before the
 * next step or meeting. */
void replica_doubt(struct replica *replica);
/* Make it durable; called by the advance. */
void replica_settle(struct replica *replica);

/* --- replica_union.c --- */

int union_open(struct replica *replica);
void union_close(struct replica *replica);
/* Mark our part in resync.map, in slices; a step (P1), `then` from the loop. */
void union_scan(struct replica *replica, enum union_part part, uint64_t since,
		void (*then)(struct replica *));
/* The map is kept for the peer of the meeting. */
void union_is_for(struct replica *replica);
/* Target: name what is marked. */
void union_send(struct replica *replica);
/* Source: what the target names.  Takes the payload. */
void union_message(struct replica *replica, const struct wire_header *header,
		   void *payload);

/* --- replica_meeting.c --- */

extern const struct link_events replica_link_events;

/* End the session, since the peer did what it may not. */
void replica_break(struct replica *replica, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Source: the session stands; it serves when that is durable. */
void replica_advance_up(struct replica *replica);
/* M3, when it is allowed; called by the advance. */
void replica_go_solo(struct replica *replica);
/* C2: on its own timeline, with the arbiter's word. */
void replica_serve_alone(struct replica *replica);

/* --- replica_rollback.c --- */

void rollback_greet(const struct replica *replica,
		    struct wire_hello *ret_hello);
/* Whether its metadata are older than what is known of it. */
bool rollback_of_peer(const struct replica *replica,
		      const struct wire_hello *peer);
int rollback_check(const struct replica *replica, const struct wire_hello *peer,
		   bool we_are_source, struct reason *reason);
/* The meeting with replica->peer_hello is on record, in memory; the caller
 * makes it durable.  Then: the peer has it on record, too. */
void rollback_note(struct replica *replica);
void rollback_stood(struct replica *replica);

/* --- replica_fork.c --- */

void fork_init(struct replica *replica);
/* A meeting found that the two parted there. */
void fork_found(struct replica *replica, uint64_t timeline, uint64_t epoch);
/* What the peer's hello says, and what ours is to. */
void fork_hear(struct replica *replica, const struct wire_fork *peer);
void fork_say(const struct replica *replica, struct wire_fork *ret_fork);
void fork_forget(struct replica *replica);
struct json_t *fork_json(const struct replica *replica);

/* --- replica_checkpoint.c --- */

void replica_advance_checkpoint(struct replica *replica);
int replica_command_checkpoint(struct replica *replica, const char *words,
			       struct json_t *result, struct reason *reason);
int replica_command_changed(struct replica *replica, const char *words,
			    struct json_t *result, struct reason *reason);
/* Target: take it over in memory; the caller makes it durable. */
int replica_accept_checkpoint(struct replica *replica,
			      const struct apply_slot *slot);

/* --- replica_accept.c --- */

/* M2, M6, E1: all before SYNCED or HANDOVER is durable here, all before a
 * checkpoint is done.  Ends with apply_accepted(), perhaps later. */
void replica_accept(struct apply_slot *slot);
void replica_advance_accept(struct replica *replica);

/* --- replica_change.c --- */

void replica_change_init(struct replica *replica);
void replica_change_done(struct replica *replica);
void replica_advance_change(struct replica *replica);
/* It has left: whether the last step failed. */
void replica_advance_end(struct replica *replica);
/* "promote", …; "" for none. */
const char *replica_change_name(enum replica_change change);

/* --- replica_arbiter.c --- */

void replica_arbiter_init(struct replica *replica);
void replica_arbiter_done(struct replica *replica);
void replica_arbiter_advance(struct replica *replica);
/* Whether the arbiter's word is there; asks for it if not, and pokes the
 * replica when it has come, or after it failed. */
bool replica_may_go_alone(struct replica *replica);
/* The same of the revision that is to stand before SYNCED. */
bool replica_may_offer(struct replica *replica);
/* The peer is met, or lost: what was asked and said before counts no more. */
void replica_arbiter_void(struct replica *replica);
/* Forget a failure, since somebody wants it now. */
void replica_arbiter_again(struct replica *replica);
bool replica_is_sole_author(const struct replica *replica);

/* --- mirror.c, mirror_state.c --- */

int mirror_open(struct replica *replica);
void mirror_close(struct replica *replica);
void mirror_queue(struct replica *replica, td_request_t treq);
/* The state lets held requests go. */
void mirror_release(struct replica *replica);
/* M3 is done: what waited for the peer need not. */
void mirror_excuse(struct replica *replica);
/* We are source with a new session: send what is unproven again (H7). */
void mirror_resend(struct replica *replica);
/* We are no primary any more: what is not answered fails. */
void mirror_fail_all(struct replica *replica, int error);
/* M0: what is not known to be done on both is suspect. */
void mirror_doubt(struct replica *replica);
/* Of the changes that are not done on both; UINT64_MAX without one. */
uint64_t mirror_oldest_epoch(const struct replica *replica);
/* Tell the peer up to where all is done on both. */
void mirror_tell_proven(struct replica *replica);
/* It is perhaps done on both. */
void mirror_try_end(struct mirror_request *request);
/* A flush of this host's image failed (F3). */
void mirror_flush_failed(struct replica *replica, int error);
/* Written here, at level durable: it ends when it is durable here, too. */
void mirror_make_durable(struct mirror_request *request);
/* No request of a guest is with the image or the peer, or held. */
bool mirror_is_idle(const struct replica *replica);
/* Whether a write of this range is with the image. */
bool mirror_is_writing(const struct replica *replica, uint64_t offset,
		       uint64_t length);
/* A copy has ended its bar. */
void mirror_unbar(struct replica *replica);
/* Each write whose image operation is under way. */
void mirror_each_writing(struct replica *replica,
			 void (*visit)(struct replica *replica, uint64_t offset,
				       uint64_t length));
/* When the piece began that waits longest; UINT64_MAX without one. */
uint64_t mirror_oldest(const struct replica *replica);

/* --- resync.c --- */

int resync_open(struct replica *replica);
/* The disk's size is another one.  0 or -ENOMEM. */
int resync_resize(struct replica *replica, uint64_t size);
void resync_close(struct replica *replica);
/* Whether what the peer of the meeting got before still counts (H8). */
bool resync_can_resume(const struct replica *replica);
/* The session stands and we are the source: copy what is marked, and what the
 * target is about to name. */
void resync_begin(struct replica *replica);
/* The same, and the peer is in sync (M6). */
void resync_begin_equal(struct replica *replica);
/* The session is over, or we are to stop. */
void resync_end(struct replica *replica);
/* Nothing may be resumed later. */
void resync_forget(struct replica *replica);
/* Nothing is marked or under way. */
bool resync_is_complete(const struct replica *replica);
/* When the copy was sent that waits longest; UINT64_MAX without one. */
uint64_t resync_oldest(const struct replica *replica);
/* A guest's write begins: false if it must wait for a copy (H7). */
bool resync_admits(const struct replica *replica, uint64_t offset,
		   uint64_t length);
/* A guest's change, which the peer gets with the stream or (`sent` false) can
 * get by a copy only. */
void resync_note_write(struct replica *replica, uint64_t offset,
		       uint64_t length, bool sent);
/* A write failed here (F1): its regions are copied again. */
void resync_repair(struct replica *replica, uint64_t offset, uint64_t length);
/* Whether what the peer lacks of this range will be copied anyway. */
bool resync_will_copy(const struct replica *replica, uint64_t offset,
		      uint64_t length);
/* Take the next step of the offer; called by the advance. */
void resync_advance(struct replica *replica);
/* No copy is under way, here or there. */
bool resync_is_idle(const struct replica *replica);
void resync_poke(struct replica *replica);

/* --- apply.c --- */

int apply_open(struct replica *replica);
void apply_close(struct replica *replica);
/* Takes the payload. */
void apply_message(struct replica *replica, const struct wire_header *header,
		   void *payload);
/* The peer says that all up to `sequence` is done on both. */
void apply_proven(struct replica *replica, uint64_t sequence);
/* M4: what is not known to be done on both is suspect. */
void apply_doubt(struct replica *replica);
/* Nothing more can be held: what waits for it is dropped. */
void apply_drop(struct replica *replica);
/* Nothing that was received is left to do. */
bool apply_is_idle(const struct replica *replica);
/* We are durably not consistent: what failed may be answered. */
void apply_spoiled(struct replica *replica);
/* What replica_accept() began has ended. */
void apply_accepted(struct apply_slot *slot, int status);
/* What apply_verify_start() began has ended: 0, -EILSEQ, or why not. */
void apply_verified(struct apply_slot *slot, int status);

/* --- apply_verify.c --- */

int apply_verify_open(struct replica *replica);
void apply_verify_close(struct replica *replica);
bool apply_verify_has_room(const struct replica *replica);
void apply_verify_start(struct apply_slot *slot);

#endif

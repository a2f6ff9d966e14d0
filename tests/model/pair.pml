/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pair.pml - two replicas of one region: writing, membership, promotion,
 * recovery and errors, as docs/replication.md has them.  What a meeting is made
 * of stands in meeting.pml and is one step here; what an arbiter is made of
 * stands in arbiter.pml and is a list here.
 *
 * A step is what becomes durable at once, or a message that is taken, or an
 * image operation that ends; it is one d_step.  In each state the invariants
 * are asserted, by the never claim.  A replica may die between any two.  Each direction of the link
 * breaks by itself; what is on the way is lost, and each side notices by
 * itself, at any time later.
 *
 * The content of the region is the number of the write that made it: writes of
 * one region are in order, so that an image holds a write if its number is not
 * smaller.  A history is told by its last timeline, since timelines are a tree:
 * `parent` and `first` (epoch) are written once.
 *
 *   I1  in sync and idle, the contents are equal
 *   I2  where contents differ, the region is in the union of H6, in whichever
 *       way the two may next meet: each just loses the link, or dies
 *   I3  who serves holds each write that its guest was told of or shown
 *   I4  no two serve on one timeline; unless he lies histories never fork
 *   A9  who is not consistent is no source
 *   I5  a changed-since answer misses nothing (with CUTS)
 *   I6  no state without a way on but in sync, or a question for the operator
 *
 * Bounds: WRITES, BREAKS (of a direction), CRASHES, TIMELINES (in all), ORDERS
 * (promotions), ERRORS (of an image), STOPS (clean), CUTS (checkpoints).
 * RECEIVED: level `received`.  HONEST: no arbiter but an operator who promotes
 * when the peer is dead; LYING: one who promotes at any time, so that histories
 * fork and he has to name the side to discard.  DISCARDS: a write may be one.
 * Without the rule, for the test of the test: NO_name, see tests/model.sh.
 */
#ifndef WRITES
#define WRITES 2
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TIMELINES
#define TIMELINES 2
#endif
#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef ERRORS
#define ERRORS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef CUTS
#define CUTS 0
#endif
#define QUEUE 7

mtype = {
	/* the source's */
	WRITE, DONE, COPY, SYNCED, CUT, HANDOVER,
	/* the target's */
	GOT, ACK, NAK, READY, COPIED, ACCEPTED, FOLLOWED, GOODBYE
};

#define IDLE 0 /* neither serves nor follows anybody */
#define PRI 1
#define TGT 2
#define SEC 3

/* How far the offer (M1) is. */
#define COPYING 0
#define WAITED 1 /* it waits for the peer in W4 */
#define NOTED 2 /* that the peer may be in sync is durable */
#define OFFERED 3 /* SYNCED is sent */
#define AGREED 4 /* and acknowledged */

typedef replica {
	/* durable */
	byte timeline, epoch, image, map;
	bit author, consistent, maybe, outdated, intent, suspect;
	/* gone with the process; `maybe` above is peer_may_be_synced */
	bit up, session, serves, member, ready, copying, todo, word, alone;
	unsigned role : 2;
	unsigned offer : 3;
	byte stamp, copied;
	byte write; /* in flight or unproven; 0: none */
	bit here, there, got, told, failed;
	/* for the proof only */
	byte must; /* the newest write that its guest was told of or shown */
	byte promised; /* the same when it sent SYNCED */
	bit amnesia; /* level received: its memory was lost */
}

replica n[2];
chan to[2] = [QUEUE] of { mtype, byte, byte };
bit broken[2]; /* the direction towards it */
byte parent[5], first[5];
byte timelines = 1;
byte writes, breaks, crashes, orders, faults, stops, cuts;
bit zero[WRITES + 3]; /* the write is a discard */
unsigned list : 2 = 3; /* the arbiter's: who is up to date */

#if CUTS
typedef checkpoint {
	byte timeline, epoch, content;
	bit confirmed, open, owner, waits, known;
}
checkpoint mark[CUTS];
#endif

hidden byte position, i, a, b;
hidden mtype m;

#define peer (1 - me)
#define ME (65 + me) /* in what a trail tells */
#define BIT(x) (1 << (x))
#define MIN(x, y) ((x) < (y) -> (x) : (y))
#define MAX(x, y) ((x) > (y) -> (x) : (y))

/* --- what is checked --- */

#define BELOW(old, new) (new != old && (parent[new] == old || \
	parent[parent[new]] == old || parent[parent[parent[new]]] == old))
/* The entry after `old` in the history that ends with `new`. */
#define NEXT(old, new) (parent[new] == old -> new : \
	(parent[parent[new]] == old -> parent[new] : parent[parent[new]]))
#define EQUAL (n[0].timeline == n[1].timeline)
#define LONGER(x) BELOW(n[1 - (x)].timeline, n[x].timeline)

#define FORKED (!EQUAL && !LONGER(0) && !LONGER(1))
/* The last entry that forked histories share. */
#define COMMON (BELOW(parent[n[0].timeline], n[1].timeline) \
	-> parent[n[0].timeline] : parent[parent[n[0].timeline]])

#ifdef NO_SMALLER_EPOCH
#define SMALLER MAX
#else
#define SMALLER MIN
#endif

/* H2 to H4's position; an arbiter lets no histories fork (I4). */
inline find_position()
{
	if
	:: EQUAL ->
		position = SMALLER(n[0].epoch, n[1].epoch)
	:: LONGER(0) -> position = SMALLER(n[1].epoch,
			first[NEXT(n[1].timeline, n[0].timeline)] - 1)
	:: LONGER(1) -> position = SMALLER(n[0].epoch,
			first[NEXT(n[0].timeline, n[1].timeline)] - 1)
	:: else ->
#ifdef LYING
		i = COMMON;
		position = MIN(first[NEXT(i, n[0].timeline)] - 1,
			first[NEXT(i, n[1].timeline)] - 1)
#else
		assert(false) /* I4: histories fork */
#endif
	fi
}

#define VALUE(x) (zero[n[x].image] -> 0 : n[x].image)
#define DIFFER (VALUE(0) != VALUE(1))

/* What each would bring to a meeting: after the loss of the link (M0, M4), or
 * after its death (C1). */
#ifdef NO_M4
#define UNPROVEN(x) (n[x].write && n[x].role == PRI && \
	(n[x].member || n[x].maybe))
#elif defined(NO_M0)
#define UNPROVEN(x) (n[x].write && n[x].role != PRI)
#else
#define UNPROVEN(x) (n[x].write && (n[x].role != PRI || n[x].member || \
	n[x].maybe))
#endif
#define C1STAMP(x) (n[x].intent -> MAX(n[x].map, n[x].epoch) : n[x].map)
#define STAMP(x, dies) (dies -> C1STAMP(x) : n[x].stamp)
#ifdef NO_C1
#define SUSPECT(x, dies) (n[x].suspect || (!dies && UNPROVEN(x)))
#else
#define SUSPECT(x, dies) (n[x].suspect || (dies -> n[x].intent : UNPROVEN(x)))
#endif
#define UNION(da, db) (STAMP(0, da) > position || STAMP(1, db) > position || \
	SUSPECT(0, da) || SUSPECT(1, db))

#define FROZEN(x) (n[x].role == PRI && !n[x].session && \
	(n[x].maybe || n[x].member))

inline check_serving(x)
{
	if
	:: n[x].role == PRI && n[x].serves ->
		assert(n[x].image >= n[x].must); /* I3 */
#if !ERRORS
		assert(n[x].consistent);
#endif
		assert(!(n[1 - x].role == PRI && n[1 - x].serves && EQUAL))
	:: else
	fi;
	if
	:: n[x].role == PRI && n[x].serves && n[x].session &&
	   n[x].offer == AGREED && n[1 - x].role == SEC && n[1 - x].session &&
	   !broken[0] && !broken[1] && !n[0].write && !n[1].write &&
	   !n[x].suspect ->
		assert(!DIFFER) /* I1 */
	:: else
	fi
}

#if CUTS
#define ON_HISTORY(x) (n[x].timeline == mark[i].timeline -> \
	mark[i].epoch < n[x].epoch : \
	(BELOW(mark[i].timeline, n[x].timeline) && mark[i].epoch < \
	 first[NEXT(mark[i].timeline, n[x].timeline)]))

inline check_answer(x)
{
	if
	:: n[x].consistent && n[x].role != TGT && ON_HISTORY(x) &&
	   n[x].image != mark[i].content ->
		assert(!n[x].up || n[x].stamp > mark[i].epoch);
		assert(C1STAMP(x) > mark[i].epoch)
	:: else
	fi
}
#endif

inline check()
{
	find_position();
	if
	:: DIFFER && (n[0].consistent || n[1].consistent) -> /* I2 */
		assert(!n[0].up || !n[1].up || UNION(0, 0));
		assert(!n[1].up || UNION(1, 0));
		assert(!n[0].up || UNION(0, 1));
		assert(UNION(1, 1))
	:: else
	fi;
	check_serving(0);
	check_serving(1);
#if CUTS
	i = 0;
	do
	:: i < CUTS ->
		if
		:: mark[i].confirmed -> check_answer(0); check_answer(1)
		:: else
		fi;
		i++
	:: else -> break
	od;
#endif
	position = 0; i = 0; a = 0; b = 0; m = 0
}

/* --- parts of steps --- */

inline send(x, type, p, q)
{
	if
	:: n[x].up && n[x].session && !broken[x] ->
		assert(nfull(to[x])); /* the bound bounds nothing */
		to[x]!type(p, q)
	:: else
	fi
}

inline drain(x)
{
	do
	:: len(to[x]) > 0 -> to[x]?m, a, b
	:: else -> break
	od
}

inline free_write(x)
{
	n[x].write = 0; n[x].here = 0; n[x].there = 0; n[x].got = 0;
	n[x].told = 0; n[x].failed = 0
}

inline forget(x) /* what is gone with a session or a process */
{
	n[x].role = IDLE; n[x].session = 0; n[x].serves = 0; n[x].member = 0;
	n[x].ready = 0; n[x].copying = 0; n[x].todo = 0; n[x].word = 0;
	n[x].alone = 0; n[x].offer = COPYING; n[x].copied = 0;
	n[x].promised = 0;
#if CUTS
	i = 0;
	do
	:: i < CUTS ->
		if
		:: mark[i].open && mark[i].owner == x ->
			mark[i].open = 0; mark[i].waits = 0; mark[i].known = 0
		:: else
		fi;
		i++
	:: else -> break
	od
#endif
}

inline dies(x)
{
	if
#ifdef RECEIVED
	:: n[x].write && !n[x].here && n[x].role != PRI ->
		n[x].must = MIN(n[x].must, n[x].image);
		n[x].amnesia = 1
#endif
	:: else
	fi;
	forget(x);
	free_write(x);
	drain(x);
	n[x].stamp = 0;
	n[x].up = 0
}

/* A write that is known to be done on both is let go of. */
inline prove(x)
{
	if
	:: n[x].write && n[x].here && n[x].told &&
	   (!n[x].session || n[x].there) ->
		if
		:: n[x].session -> send(1 - x, DONE, 0, 0)
		:: else
		fi;
		free_write(x);
#if CUTS
		i = 0;
		do
		:: i < CUTS -> mark[i].waits = mark[i].waits &&
				mark[i].owner != x; i++
		:: else -> break
		od
#endif
	:: else
	fi
}

inline begin_serving(x)
{
	n[x].serves = 1;
	n[x].must = MAX(n[x].must, n[x].image) /* its guest sees it */
}

inline new_timeline(x) /* the last step of M3 and M5 */
{
#ifdef NO_TIMELINE
	skip;
#else
	timelines++;
	parent[timelines] = n[x].timeline;
	n[x].timeline = timelines;
	n[x].epoch++;
	first[timelines] = n[x].epoch;
#endif
	n[x].maybe = 0; n[x].author = 1;
	n[x].member = 0; n[x].offer = COPYING; n[x].todo = 0;
	n[x].copying = 0; n[x].alone = 0;
#if CUTS
	i = 0;
	do
	:: i < CUTS ->
		if
		:: mark[i].open && mark[i].owner == x ->
#ifndef NO_E1_FORK
			mark[i].open = 0; mark[i].waits = 0; mark[i].known = 0
#else
			mark[i].known = 1
#endif
		:: else
		fi;
		i++
	:: else -> break
	od
#endif
}

/* The arbiter's word, one compare-and-swap (M8); what others have read of it
 * is void. */
#if defined(LYING)
#define WORD(x) (1)
#define PROMOTABLE(x) (1)
#elif defined(HONEST)
#define WORD(x) (1)
#define PROMOTABLE(x) (!n[1 - (x)].up)
/* He knows who is dead, not who was ahead; so only primaries die, and only
 * secondaries leave. */
#define IS_HONEST 1
#define MAY_DIE(x) (n[x].role == PRI)
#else
#define ARBITER
#define WORD(x) (list & BIT(x))
#define PROMOTABLE(x) WORD(x)
#endif
#ifndef IS_HONEST
#define IS_HONEST 0
#define MAY_DIE(x) (1)
#endif
inline take_word(x)
{
#ifdef ARBITER
	list = BIT(x);
#endif
#ifndef NO_REVISION
	n[0].word = 0; n[1].word = 0
#endif
}

/* --- meeting, decided and begun (H2 to H7, H10) --- */

/* H0: nothing that was received is still on its way to the image. */
#define MAY_MEET (n[0].up && n[1].up && !n[0].session && !n[1].session && \
	!(n[0].role == IDLE && n[0].write) && !(n[1].role == IDLE && n[1].write))
#define IS_SOURCE(x) (n[x].consistent && \
	(n[1 - (x)].consistent \
	 -> (EQUAL -> (n[0].author == n[1].author || n[x].author) \
	     : (LONGER(x) || FORKED)) \
	 : (EQUAL || LONGER(x) || FORKED)))

inline meet(s, t)
{
	find_position();
	drain(0); drain(1);
	broken[0] = 0; broken[1] = 0;
#if !ERRORS
	assert(n[t].must <= n[s].must || n[t].must <= n[s].image ||
		n[s].amnesia || FORKED); /* I3 */
	assert(!(n[t].role == PRI && n[t].serves && !FROZEN(t)) || FORKED);
#endif
	if
	:: n[s].amnesia && n[t].must > n[s].image -> n[t].must = n[s].image
	:: else
	fi;
#ifdef NO_TARGET_SUSPECT
	a = STAMP(0, 0) > position || STAMP(1, 0) > position || SUSPECT(s, 0);
#elif defined(NO_TARGET_STAMPS)
	a = STAMP(s, 0) > position || SUSPECT(0, 0) || SUSPECT(1, 0);
#else
	a = UNION(0, 0);
#endif
	forget(t);
	free_write(t);
	n[t].role = TGT; n[t].session = 1;
	n[s].role = PRI; n[s].session = 1; n[s].alone = 0; n[s].todo = a;
	n[s].copying = 0; n[s].offer = COPYING; n[s].member = 0;
	n[s].word = 0;
	n[s].author = 1;
	if
#ifndef NO_H2_MEMBER
	:: EQUAL -> n[s].member = 1; n[s].maybe = 1
#endif
	:: else
	fi;
	n[s].ready = EQUAL && !a;
	n[t].ready = EQUAL && !a;
#ifdef NO_EARLY_HISTORY
	n[t].timeline = n[s].timeline; n[t].epoch = n[s].epoch;
#endif
	if
#ifdef NO_H10
	:: !n[s].serves -> begin_serving(s)
#else
	:: !n[s].serves && n[s].ready -> begin_serving(s)
#endif
	:: else
	fi;
	if
	:: n[s].write -> /* H7 */
		n[s].there = 0; n[s].got = 0;
		send(t, WRITE, n[s].write, n[s].stamp)
	:: else
	fi
}

/* A9: who is not consistent copies and offers nothing. */
#ifdef NO_A9
#define FIT (1)
#else
#define FIT (n[me].consistent)
#endif

/* --- a replica --- */

proctype host(byte me)
{
end:	do
	/* W2: a write is accepted, stamped, and enters the stream. */
	:: d_step { n[me].role == PRI && n[me].serves && !n[me].write &&
		!n[me].copying && writes < WRITES &&
#ifdef NO_FREEZE
		1 ->
#else
		!FROZEN(me) ->
#endif
		writes++;
		n[me].write = writes; n[me].stamp = n[me].epoch;
		if
		:: n[me].session -> send(peer, WRITE, writes, n[me].stamp)
		:: else
		fi;
		printf("%c accepts write %d\n", ME, n[me].write) }
#ifdef DISCARDS
	:: d_step { n[me].role == PRI && n[me].serves && !n[me].write &&
		!n[me].copying && writes < WRITES && !FROZEN(me) ->
		writes++;
		n[me].write = writes; n[me].stamp = n[me].epoch;
		zero[writes] = 1;
		if
		:: n[me].session -> send(peer, WRITE, writes, n[me].stamp)
		:: else
		fi;
		printf("%c accepts write %d, a discard\n", ME, n[me].write) }
#endif
	/* W1 */
	:: d_step { n[me].write && !n[me].here && !n[me].intent ->
		n[me].intent = 1;
		printf("%c has the intent durable\n", ME) }
	/* its image operation ends */
	:: d_step { n[me].write && !n[me].here &&
#ifdef NO_W1
		1 ->
#else
		n[me].intent ->
#endif
		n[me].here = 1;
		n[me].image = n[me].write;
#ifdef NO_DISCARD_AS_ZERO
		if
		:: zero[n[me].write] -> /* it reads as it likes, on each host */
			n[me].image = WRITES + 1 + me
		:: else
		fi;
#endif
		if
		:: n[me].role == PRI -> prove(me)
		:: n[me].role == IDLE -> free_write(me)
		:: else -> send(peer, ACK, n[me].write, 0)
		fi;
		printf("%c has write %d in its image\n", ME, n[me].image) }
#if ERRORS
	/* F1, F2 */
	:: d_step { n[me].write && !n[me].here && n[me].intent &&
		faults < ERRORS ->
		faults++;
		n[me].here = 1;
		if
		:: n[me].role == PRI ->
			n[me].failed = 1;
#ifndef NO_F1
			n[me].suspect = 1;
			n[me].todo = n[me].session
#endif
		:: n[me].role == IDLE -> n[me].consistent = 0; free_write(me)
		:: else ->
#ifndef NO_F2
			n[me].consistent = 0;
#endif
			send(peer, NAK, n[me].write, 0)
		fi;
		printf("%c fails write %d\n", ME, n[me].write) }
	/* F3: a flush of its image fails */
	:: d_step { n[me].up && n[me].role != IDLE && n[me].consistent &&
		faults < ERRORS ->
		faults++;
		n[me].consistent = 0;
		if
		:: n[me].role != PRI -> send(peer, NAK, 0, 0)
		:: else
		fi;
		printf("%c fails a flush\n", ME) }
#endif
	/* W4: told to the guest */
	:: d_step { n[me].role == PRI && n[me].serves && n[me].write &&
		n[me].here && !n[me].told &&
#ifdef NO_W4
		!FROZEN(me) ->
#elif defined(RECEIVED)
		(n[me].member -> (n[me].got || n[me].there) : !FROZEN(me)) ->
#else
		(n[me].member -> n[me].there : !FROZEN(me)) ->
#endif
		n[me].told = 1;
		if
		:: !n[me].failed ->
			n[me].must = n[me].write;
			if
			:: n[me].member && !n[peer].amnesia ->
				n[peer].must = n[me].write
			:: else
			fi
		:: else
		fi;
		prove(me);
		printf("%c tells its guest of write %d\n", ME, n[me].write) }
	/* W3: the map is written back and the extent leaves */
	:: d_step { n[me].up && n[me].intent && (!n[me].write ||
#ifdef NO_W3
		n[me].here ||
#endif
		(n[me].here && n[me].role == PRI && !n[me].member &&
		 !n[me].maybe && n[me].told)) ->
		n[me].map = n[me].stamp;
		n[me].intent = 0;
		printf("%c has the map durable, and the extent leaves\n", ME) }

	/* --- messages --- */
	:: d_step { n[me].session && to[me]?[WRITE] && n[me].role >= TGT &&
		(n[me].role == SEC || n[me].ready) &&
		(!n[me].write || n[me].here) -> /* W5 */
		to[me]?WRITE(a, b);
		free_write(me);
		n[me].write = a; n[me].stamp = b;
		if
		:: n[me].role == TGT && n[me].copied -> n[me].copied = b + 1
		:: else
		fi;
#ifdef RECEIVED
		send(peer, GOT, a, 0);
#endif
		printf("%c receives a write\n", ME) }
	:: d_step { n[me].session && to[me]?[DONE] ->
		to[me]?DONE(a, b);
		free_write(me);
		printf("%c learns that a write is proven\n", ME) }
	:: d_step { n[me].session && to[me]?[COPY] && n[me].role >= TGT &&
		(n[me].role == SEC || n[me].ready) &&
		(!n[me].write || n[me].here) ->
		to[me]?COPY(a, b);
#ifdef NO_ZERO_SKIP
		if
		:: zero[a] -> skip
		:: else -> n[me].image = a
		fi;
#else
		n[me].image = a;
#endif
		if
		:: n[me].role == TGT -> n[me].copied = b + 1
		:: else -> n[me].stamp = MAX(b, n[me].stamp)
		fi;
		send(peer, COPIED, 0, 0);
		printf("%c stores a copy\n", ME) }
	:: d_step { n[me].session && to[me]?[SYNCED] && n[me].role == TGT &&
		n[me].ready ->
		to[me]?SYNCED(a, b); /* M2 */
		n[me].timeline = a; n[me].epoch = b;
		n[me].consistent = 1; n[me].suspect = 0;
#ifndef NO_M2_ACTIVE
		n[me].author = 0;
#endif
		n[me].outdated = 0; n[me].amnesia = 0; n[me].maybe = 0;
		n[me].must = MAX(n[me].must, n[peer].promised);
		if
#ifndef NO_M2_STAMPS
		:: n[me].copied ->
			n[me].stamp = n[me].copied - 1;
			n[me].map = n[me].copied - 1
#endif
		:: else
		fi;
		n[me].copied = 0;
		n[me].role = SEC; n[me].ready = 0;
#ifndef NO_M2_ACKNOWLEDGED
		send(peer, ACCEPTED, b, 0);
#endif
		printf("%c accepts SYNCED (M2)\n", ME) }
	:: d_step { n[me].session && to[me]?[GOT] ->
		to[me]?GOT(a, b);
		n[me].got = n[me].got || a == n[me].write;
		printf("%c hears: received\n", ME) }
	:: d_step { n[me].session && to[me]?[ACK] ->
		to[me]?ACK(a, b);
		if
		:: n[me].role == PRI && a == n[me].write ->
			n[me].there = 1; prove(me)
		:: else
		fi;
		printf("%c hears: written\n", ME) }
	:: d_step { n[me].session && to[me]?[NAK] ->
		to[me]?NAK(a, b); /* F2: the session is closed */
#ifdef NO_F2
		if
		:: n[me].role == PRI && a == n[me].write ->
			n[me].there = 1; prove(me)
		:: else
		fi;
#else
		drain(0); drain(1);
		broken[0] = 1; broken[1] = 1;
#endif
		printf("%c hears of a failure there\n", ME) }
	:: d_step { n[me].session && to[me]?[READY] ->
		to[me]?READY(a, b);
		n[me].ready = 1;
		if
		:: !n[me].serves -> begin_serving(me) /* H10 */
		:: else
		fi;
		printf("%c hears that the target is marked\n", ME) }
	:: d_step { n[me].session && to[me]?[COPIED] ->
		to[me]?COPIED(a, b);
		n[me].copying = 0; n[me].todo = 0;
		if
		:: n[me].offer == AGREED -> n[me].suspect = 0 /* F1's repair */
		:: else
		fi;
		printf("%c hears that the copy is there\n", ME) }
	:: d_step { n[me].session && to[me]?[ACCEPTED] ->
		to[me]?ACCEPTED(a, b);
		n[me].offer = AGREED; n[me].promised = 0;
		n[me].member = 1; /* it is, since M1 */
#ifndef NO_F1_KEPT
		/* F1 after the offer: not of what the target has accepted */
		if
		:: !n[me].todo && !n[me].copying -> n[me].suspect = 0
		:: else
		fi;
#else
		n[me].suspect = 0;
#endif
#if CUTS
		i = 0;
		do
		:: i < CUTS -> mark[i].known = mark[i].known ||
			(mark[i].open && mark[i].owner == me &&
			 a > mark[i].epoch); i++
		:: else -> break
		od;
#endif
		printf("%c hears that SYNCED is accepted\n", ME) }
#if STOPS
	:: d_step { n[me].session && to[me]?[GOODBYE] -> /* M7 */
		to[me]?GOODBYE(a, b);
		drain(0); drain(1);
		broken[0] = 1; broken[1] = 1;
		printf("%c hears goodbye\n", ME) }
	/* M6 */
	:: d_step { n[me].session && to[me]?[HANDOVER] && n[me].role == SEC ->
		to[me]?HANDOVER(a, b);
		n[me].role = PRI; n[me].author = 1;
#ifndef NO_M6_MAYBE
		n[me].maybe = 1;
#endif
		n[me].member = 1; n[me].offer = AGREED; n[me].ready = 1;
		begin_serving(me);
		printf("%c takes the disk over (M6)\n", ME) }
#endif
#if CUTS
	:: d_step { n[me].session && to[me]?[CUT] && n[me].role == SEC ->
		to[me]?CUT(a, b);
		n[me].epoch = a;
		send(peer, FOLLOWED, a, 0);
		printf("%c follows a cut\n", ME) }
	:: d_step { n[me].session && to[me]?[FOLLOWED] ->
		to[me]?FOLLOWED(a, b);
		i = 0;
		do
		:: i < CUTS -> mark[i].known = mark[i].known ||
			(mark[i].open && mark[i].owner == me &&
			 a > mark[i].epoch); i++
		:: else -> break
		od;
		printf("%c hears of the cut followed\n", ME) }
	/* E1 */
	:: d_step { n[me].role == PRI && n[me].serves && !FROZEN(me) &&
		cuts < CUTS ->
		mark[cuts].timeline = n[me].timeline;
		mark[cuts].epoch = n[me].epoch;
		mark[cuts].content = (n[me].write -> n[me].write : n[me].image);
		mark[cuts].open = 1; mark[cuts].owner = me;
		mark[cuts].waits = n[me].write > 0;
#ifdef NO_E1_MEMBER
		mark[cuts].known = !(n[me].session && n[me].offer >= OFFERED);
#else
		mark[cuts].known = !(n[me].member || n[me].maybe);
#endif
		cuts++;
		n[me].epoch++;
		if
		:: n[me].session && n[me].offer >= OFFERED ->
			send(peer, CUT, n[me].epoch, 0)
		:: else
		fi;
		printf("%c cuts, epoch %d begins\n", ME, n[me].epoch) }
	:: d_step { CUTS > 0 && n[me].role == PRI && mark[0].open &&
		mark[0].owner == me && !mark[0].waits && mark[0].known ->
		mark[0].open = 0; mark[0].owner = 0; mark[0].known = 0;
		mark[0].confirmed = 1;
		printf("%c confirms the first checkpoint\n", ME) }
	:: d_step { CUTS > 1 && n[me].role == PRI && mark[CUTS - 1].open &&
		mark[CUTS - 1].owner == me && !mark[CUTS - 1].waits &&
		mark[CUTS - 1].known ->
		mark[CUTS - 1].open = 0; mark[CUTS - 1].owner = 0;
		mark[CUTS - 1].known = 0;
		mark[CUTS - 1].confirmed = 1;
		printf("%c confirms the last checkpoint\n", ME) }
#endif

	/* --- resync and the offer --- */
	/* H6: marked before anything of the session touches its image */
	:: d_step { n[me].role == TGT && n[me].session && !n[me].ready ->
#ifndef NO_H6_MARK
		n[me].consistent = 0;
#endif
		if
		:: FORKED -> n[me].must = n[peer].must /* given up (H4) */
		:: else
		fi;
		n[me].ready = 1;
		send(peer, READY, 0, 0);
		printf("%c is marked not consistent (H6)\n", ME) }
	/* H7: a copy and a write exclude each other */
	:: d_step { n[me].role == PRI && n[me].session && n[me].ready &&
		n[me].todo && !n[me].copying && FIT &&
#ifdef NO_H7
		1 ->
		n[me].todo = 0;
#else
		!n[me].write ->
		n[me].copying = 1;
#endif
#ifdef NO_M2_SUSPECT
		n[me].suspect = 0;
#endif
		assert(n[me].consistent); /* A9 */
		send(peer, COPY, n[me].image, n[me].stamp);
		printf("%c sends a copy\n", ME) }
	/* M1 */
	:: d_step { n[me].role == PRI && n[me].session && n[me].ready &&
		!n[me].todo && !n[me].copying && n[me].offer == COPYING ->
		n[me].offer = WAITED;
#ifndef NO_M1_MEMBER
		n[me].member = 1;
#endif
		printf("%c waits for the peer (M1)\n", ME) }
	:: d_step { n[me].role == PRI && n[me].session &&
		n[me].offer == WAITED ->
		n[me].offer = NOTED;
#ifndef NO_M1_NOTE
		n[me].maybe = 1;
#endif
		n[me].word = 1; /* M8: the revision is read */
		printf("%c notes that the peer may be in sync (M1)\n", ME) }
	:: d_step { n[me].role == PRI && n[me].session &&
#ifndef NO_M1_DRAIN
		!(n[me].write && n[me].told && !n[me].there) &&
#endif
		!n[me].todo && !n[me].copying && n[me].offer == NOTED && FIT ->
		n[me].offer = OFFERED;
		assert(n[me].consistent); /* A9 */
		n[me].promised = n[me].must;
		send(peer, SYNCED, n[me].timeline, n[me].epoch);
		printf("%c sends SYNCED (M1)\n", ME) }
#ifdef NO_M1_NOTE
	:: d_step { n[me].role == PRI && n[me].session &&
		n[me].offer == AGREED && !n[me].maybe ->
		n[me].maybe = 1;
		printf("%c (late)\n", ME) }
#endif
	/* M8: both are listed again, or the two meet again */
	:: d_step { n[me].role == PRI && n[me].session &&
		n[me].offer == AGREED && list != 3 ->
		if
		:: n[me].word -> list = 3; n[me].word = 0
		:: else ->
			drain(0); drain(1);
			broken[0] = 1; broken[1] = 1
		fi;
		printf("%c lists both, or closes the session (M8)\n", ME) }

	/* --- loss --- */
	:: d_step { n[me].session && (broken[0] || broken[1] ||
		!n[peer].up || !n[peer].session) ->
		if
		:: n[me].role != PRI -> /* M4 */
			if
#ifndef NO_M4
			:: n[me].write -> n[me].suspect = 1
#endif
			:: else
			fi;
			forget(me);
			if
			:: n[me].here -> free_write(me)
			:: else /* AP3: it is still applied */
			fi
		:: else -> /* M0 */
			if
			:: n[me].member && !n[me].maybe -> n[me].member = 0
			:: else
			fi;
			if
#ifndef NO_M0
			:: n[me].write && (n[me].member || n[me].maybe) ->
				n[me].suspect = 1
#endif
			:: else
			fi;
			n[me].session = 0; n[me].copying = 0; n[me].todo = 0;
			n[me].offer = COPYING; n[me].ready = 0;
			if
			:: !n[me].serves -> forget(me); free_write(me)
			:: else -> prove(me)
			fi
		fi;
		drain(me);
		printf("%c notices the loss (M0, M4)\n", ME) }
	/* M3 */
	:: d_step { FROZEN(me) && n[me].serves && !n[me].alone && WORD(me) &&
		n[me].consistent && /* F3 */
		timelines < TIMELINES ->
		take_word(me);
		n[me].alone = 1;
		printf("%c has the word to go alone (M3)\n", ME) }
	:: d_step { FROZEN(me) && n[me].alone ->
		new_timeline(me);
		prove(me);
		printf("%c begins a timeline (M3), epoch %d\n", ME, n[me].epoch) }

	/* --- promotion, recovery --- */
	/* M5, and M3 of one that restarted (C2) */
	:: d_step { n[me].up && n[me].role == IDLE && !n[me].alone &&
		(n[me].author || orders < ORDERS) && PROMOTABLE(me) &&
#ifndef NO_M5_CONSISTENT
		n[me].consistent &&
#endif
#ifndef NO_M5_OUTDATED
		!n[me].outdated &&
#endif
		timelines < TIMELINES ->
		if
		:: !n[me].author -> orders++
		:: else
		fi;
		take_word(me);
		n[me].alone = 1;
		printf("%c may be promoted\n", ME) }
	:: d_step { n[me].up && n[me].role == IDLE && n[me].alone &&
#ifndef NO_M5_APPLIED
		!n[me].write &&
#endif
		1 ->
		free_write(me);
		new_timeline(me);
		if
		:: n[me].amnesia && n[peer].must > n[me].image ->
			n[peer].must = n[me].image; n[me].amnesia = 0
		:: else
		fi;
		n[me].role = PRI; n[me].consistent = 1; n[me].outdated = 0;
		begin_serving(me);
		printf("%c is promoted (M5), epoch %d\n", ME, n[me].epoch) }
	/* C2: a sole author goes on */
	:: d_step { n[me].up && n[me].role == IDLE && !n[me].alone &&
		n[me].author && n[me].consistent &&
#ifndef NO_C2
		!n[me].maybe &&
#endif
		WORD(me) ->
		take_word(me);
		n[me].role = PRI;
		n[me].maybe = 0; /* it is not, see above */
		begin_serving(me);
		printf("%c goes on alone (C2)\n", ME) }
	/* C1 */
	:: d_step { !n[me].up ->
		n[me].up = 1;
		n[me].stamp = C1STAMP(me);
#ifndef NO_C1
		n[me].suspect = n[me].suspect || n[me].intent;
#endif
		printf("%c restarts (C1)\n", ME) }
	:: d_step { n[me].up && crashes < CRASHES && MAY_DIE(me) ->
		crashes++; dies(me);
		printf("%c dies\n", ME) }
#if STOPS
	/* M7 */
	:: d_step { n[me].role == SEC && n[me].session && !n[me].write &&
		stops < STOPS ->
		stops++;
		send(peer, GOODBYE, 0, 0);
		n[me].outdated = 1;
		n[me].map = n[me].stamp; n[me].intent = 0;
		dies(me);
		printf("%c stops cleanly as secondary (M7)\n", ME) }
	:: d_step { n[me].role == PRI && n[me].serves && !FROZEN(me) &&
		!n[me].write && !n[me].todo && !n[me].copying &&
		stops < STOPS && !IS_HONEST ->
		stops++;
		n[me].author = n[me].author && !n[me].maybe;
		n[me].map = n[me].stamp; n[me].intent = 0;
		dies(me);
		printf("%c stops cleanly as primary (M7)\n", ME) }
	/* M6 */
	:: d_step { n[me].role == PRI && n[me].serves && n[me].session &&
		n[me].offer == AGREED && !n[me].write && !n[me].suspect &&
		!n[me].todo && !n[me].copying && stops < STOPS &&
		!IS_HONEST && empty(to[0]) && empty(to[1]) && n[peer].role == SEC &&
		!n[peer].write && !n[peer].suspect && n[me].consistent &&
		list == 3 &&
		!broken[0] && !broken[1] ->
		stops++;
		forget(me);
		n[me].author = 0;
		n[me].session = 1; n[me].role = SEC;
		send(peer, HANDOVER, 0, 0);
		printf("%c hands over (M6)\n", ME) }
#endif
	od
}

/* I6: where nothing more happens, all is well or somebody is asked. */
#define SETTLED(x) (n[x].role == PRI && n[x].serves && n[x].session && \
	n[x].offer == AGREED && n[1 - (x)].role == SEC && \
	n[1 - (x)].session && !n[0].write && !n[1].write && !n[x].suspect && \
	list == 3 && !DIFFER && EQUAL && n[0].epoch == n[1].epoch)
/* Nobody is consistent; or who is ahead is not (I3 above H5); or a primary's
 * flush failed, or nothing may begin a timeline any more (the bound). */
#define ASKED (!n[0].consistent || !n[1].consistent)

proctype world()
{
end:	do
	:: d_step { breaks < BREAKS && n[0].session && n[1].session &&
		!broken[0] ->
		breaks++; broken[0] = 1; drain(0);
		printf("the link to A breaks\n") }
	:: d_step { breaks < BREAKS && n[0].session && n[1].session &&
		!broken[1] ->
		breaks++; broken[1] = 1; drain(1);
		printf("the link to B breaks\n") }
	:: d_step { MAY_MEET && IS_SOURCE(0) -> meet(0, 1);
		printf("they meet: A is the source, union %d\n", n[0].todo) }
	:: d_step { MAY_MEET && IS_SOURCE(1) -> meet(1, 0);
		printf("they meet: B is the source, union %d\n", n[1].todo) }
	:: timeout ->
		assert(SETTLED(0) || SETTLED(1) || ASKED);
		break
	od
}

/* The two are in sync, A is primary. */
init {
	d_step {
		first[1] = 1;
		n[0].timeline = 1; n[0].epoch = 1; n[0].consistent = 1;
		n[0].up = 1; n[0].session = 1; n[0].role = PRI;
		n[0].author = 1; n[0].maybe = 1; n[0].member = 1;
		n[0].offer = AGREED; n[0].serves = 1; n[0].ready = 1;
		n[1].timeline = 1; n[1].epoch = 1; n[1].consistent = 1;
		n[1].up = 1; n[1].session = 1; n[1].role = SEC
	}
	atomic { run host(0); run host(1); run world() }
}

/* In every state. */
never {
	do
	:: d_step { true -> check() }
	od
}

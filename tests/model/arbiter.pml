/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arbiter.pml - M8: two replicas and an arbiter that is slow, whose questions
 * and answers take as long as they like, overtake each other, and get lost.
 *
 * The arbiter keeps a revision and a list of replicas that are up to date, and
 * knows two calls: read, and swap on a revision.  Of a revision that somebody
 * has read only matters whether it still is the present one: it is a bit here,
 * which each swap clears.  A call that its caller has given up may still
 * arrive.  A lease is not modelled: whoever is listed may be
 * promoted at any time, as if every lease had run out at once, so that what
 * holds here does not rest on clocks.
 *
 * What pair.pml has of writes is one number here: the newest write that a
 * replica holds.  A member gets a write with the primary, in one step.
 *
 *   I3  who serves holds every write that a guest was told of
 *   I4  histories never fork, and no two complete writes at one time
 *   I6  no state without a way on, but in sync and both listed
 *
 * Bounds: WRITES, BREAKS, CRASHES, TIMELINES, LOSSES (of answers), ORDERS.
 */
#ifndef WRITES
#define WRITES 2
#endif
#ifndef BREAKS
#define BREAKS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TIMELINES
#define TIMELINES 3
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef ORDERS
#define ORDERS 1
#endif

/* states of replica.h; those of a primary first */
#define WAITING 0
#define SOLO 1
#define RESYNC 2
#define PAIRED 3
#define LOST 4
#define SECONDARY 5
#define TARGET 6
#define IN_SYNC 7

/* questions */
#define NOTHING 0
#define READ_ALONE 1
#define SWAP_ALONE 2
#define READ_OFFER 3
#define SWAP_BOTH 4

typedef call {
	unsigned question : 3; /* NOTHING: no call */
	bit answered, agreed;
	bit present; /* the revision that it found or names is the present one */
	unsigned list : 2; /* wanted, then found */
}

typedef replica {
	/* durable */
	byte timeline, newest;
	bit maybe, consistent;
	/* of this life */
	bit up, session, word, known, listed, offered, agreed;
	unsigned state : 3;
	bit present; /* the revision as read before SYNCED still is */
	call now, given_up;
}

replica n[2];
unsigned list : 2 = 3;
bit broken; /* the session is over, and somebody has not noticed */
bit synced_sent, synced_answered; /* on their way */
byte sent_timeline, sent_newest;
byte parent[5];
byte timelines = 1, writes, told, breaks, crashes, losses, orders;

#define peer (1 - me)
#define ME (65 + me)
#define BIT(x) (1 << (x))
#define BELOW(old, new) (new != old && (parent[new] == old || \
	parent[parent[new]] == old || parent[parent[parent[new]]] == old))
#define EQUAL (n[0].timeline == n[1].timeline)
#define LONGER(x) BELOW(n[1 - (x)].timeline, n[x].timeline)
#define IS_PRIMARY(x) (n[x].state <= LOST)
#define COMPLETES(x) (n[x].state == SOLO || n[x].state == RESYNC)

inline give_up(x) /* replica_arbiter_void() */
{
	if
	:: n[x].now.question && !n[x].now.answered ->
		n[x].given_up.question = n[x].now.question;
		n[x].given_up.present = n[x].now.present;
		n[x].given_up.list = n[x].now.list
	:: else
	fi;
	n[x].now.question = NOTHING; n[x].now.answered = 0;
	n[x].now.agreed = 0; n[x].now.present = 0; n[x].now.list = 0
}

inline forget_words(x)
{
	n[x].word = 0; n[x].known = 0; n[x].listed = 0; n[x].present = 0
}

inline end_call(x)
{
	n[x].now.question = NOTHING; n[x].now.answered = 0;
	n[x].now.agreed = 0; n[x].now.present = 0; n[x].now.list = 0
}

inline ask(x, what, wanted, at)
{
	n[x].now.question = what; n[x].now.list = wanted;
	n[x].now.present = at
}

inline lose_session(x) /* on_lost() */
{
	n[x].session = 0; n[x].offered = 0; n[x].agreed = 0;
	if
	:: IS_PRIMARY(x) && n[x].state != WAITING ->
		n[x].state = (n[x].maybe -> LOST : SOLO)
	:: n[x].state == WAITING
	:: else -> n[x].state = SECONDARY
	fi
}

inline new_timeline(x)
{
	timelines++;
	parent[timelines] = n[x].timeline;
	n[x].timeline = timelines;
	n[x].maybe = 0
}

inline check()
{
	assert(EQUAL || LONGER(0) || LONGER(1)); /* I4 */
	assert(!(COMPLETES(0) && COMPLETES(1))); /* I4 */
	assert(!COMPLETES(0) || n[0].newest >= told); /* I3 */
	assert(!COMPLETES(1) || n[1].newest >= told)
}

/* The arbiter takes a call: either that is waited for, or that is given up. */
inline serve(c)
{
	if
	:: c.question == SWAP_ALONE || c.question == SWAP_BOTH ->
#ifdef NO_REVISION
		c.agreed = 1;
#else
		c.agreed = c.present;
#endif
		if
		:: c.agreed ->
			list = c.list;
			n[0].present = 0; n[1].present = 0;
			n[0].now.present = 0; n[1].now.present = 0;
			n[0].given_up.present = 0; n[1].given_up.present = 0
		:: else
		fi
	:: else -> c.agreed = 1; c.present = 1
	fi;
	c.list = list; c.answered = 1
}

/* What is meant for the other side once it has met (H0). */
inline meet(s, t)
{
	broken = 0; synced_sent = 0; synced_answered = 0;
#ifndef NO_VOID
	give_up(0); give_up(1);
	forget_words(0); forget_words(1);
#endif
	n[s].session = 1; n[t].session = 1;
	n[s].offered = 0; n[s].agreed = 0; n[t].offered = 0; n[t].agreed = 0;
	assert(n[t].newest <= n[s].newest || n[t].newest > told); /* I3 */
	n[s].state = (EQUAL -> PAIRED : RESYNC);
	n[s].maybe = n[s].maybe || EQUAL;
	n[t].consistent = 0;
	n[t].state = TARGET;
}

proctype host(byte me)
{
end:	do
	/* a guest's write */
	:: d_step { COMPLETES(me) && writes < WRITES ->
		writes++; n[me].newest = writes; told = writes;
		printf("%c completes write %d alone\n", ME, writes) }
	:: d_step { n[me].state == PAIRED && n[me].session && !broken &&
		n[peer].session && writes < WRITES ->
		writes++; n[me].newest = writes; n[peer].newest = writes;
		told = writes;
		printf("both have write %d\n", writes) }
	/* one that the peer never got */
	:: d_step { n[me].state == PAIRED && n[me].session && broken &&
		writes < WRITES ->
		writes++; n[me].newest = writes;
		printf("%c has write %d, which waits for the peer\n", ME,
			writes) }
	/* going alone: M3, M5, C2 */
	:: d_step { n[me].up && !n[me].session && !n[me].word &&
		n[me].now.question == NOTHING && n[me].consistent &&
		(n[me].state == LOST || n[me].state == WAITING ||
		 (n[me].state == SECONDARY && orders < ORDERS)) ->
		if
		:: n[me].state == SECONDARY -> orders++
		:: else
		fi;
		ask(me, READ_ALONE, 0, 0);
		printf("%c asks to go alone\n", ME) }
	:: d_step { n[me].now.answered && n[me].now.question == READ_ALONE ->
		if
#ifdef NO_LISTED
		:: true ->
#else
		:: n[me].now.list & BIT(me) ->
#endif
			n[me].now.question = SWAP_ALONE;
			n[me].now.answered = 0; n[me].now.agreed = 0;
			n[me].now.list = BIT(me)
		:: else -> end_call(me)
		fi;
		printf("%c reads who is listed\n", ME) }
	:: d_step { n[me].now.answered && n[me].now.question == SWAP_ALONE ->
		n[me].word = n[me].now.agreed;
		end_call(me);
		printf("%c hears whether it may go alone: %d\n", ME,
			n[me].word) }
	:: d_step { n[me].up && !n[me].session && n[me].word &&
		n[me].consistent && n[me].state != SOLO &&
		(timelines < TIMELINES ||
		 (n[me].state == WAITING && !n[me].maybe)) ->
		if
		:: n[me].state == WAITING && !n[me].maybe /* C2 */
		:: else -> new_timeline(me)
		fi;
		n[me].state = SOLO;
		printf("%c goes on alone, timeline %d\n", ME, n[me].timeline) }
	/* the offer */
	:: d_step { n[me].session && (n[me].state == RESYNC ||
		n[me].state == PAIRED) && !n[me].known && !n[me].offered &&
		n[me].now.question == NOTHING ->
#ifdef NO_READ_BEFORE
		n[me].known = 1;
#else
		ask(me, READ_OFFER, 0, 0);
#endif
		printf("%c asks for the revision\n", ME) }
	:: d_step { n[me].now.answered && n[me].now.question == READ_OFFER ->
		n[me].known = 1; n[me].present = n[me].now.present;
		end_call(me);
		printf("%c knows the revision\n", ME) }
	:: d_step { n[me].session && (n[me].state == RESYNC ||
		n[me].state == PAIRED) && n[me].known && !n[me].offered ->
		n[me].state = PAIRED; n[me].maybe = 1; n[me].offered = 1;
		synced_sent = !broken;
		sent_timeline = n[me].timeline; sent_newest = n[me].newest;
		printf("%c sends SYNCED\n", ME) }
	:: d_step { n[me].session && n[me].state == TARGET && synced_sent ->
		synced_sent = 0;
		n[me].timeline = sent_timeline; n[me].consistent = 1;
		n[me].newest = (n[me].newest > sent_newest && n[me].newest <=
			n[peer].newest -> n[me].newest : sent_newest);
		n[me].maybe = 0; n[me].state = IN_SYNC;
		synced_answered = !broken;
		sent_timeline = 0; sent_newest = 0;
		printf("%c accepts SYNCED\n", ME) }
	:: d_step { n[me].session && n[me].state == PAIRED && synced_answered ->
		synced_answered = 0; n[me].agreed = 1;
		printf("%c hears that SYNCED is accepted\n", ME) }
	:: d_step { n[me].session && n[me].state == PAIRED && n[me].agreed &&
		!n[me].listed && n[me].now.question == NOTHING ->
#ifdef NO_READ_BEFORE
		ask(me, SWAP_BOTH, 3, 1);
#else
		ask(me, SWAP_BOTH, 3, n[me].present);
#endif
		printf("%c asks to list both\n", ME) }
	:: d_step { n[me].now.answered && n[me].now.question == SWAP_BOTH ->
		if
		:: n[me].now.agreed || n[me].now.list == 3 -> n[me].listed = 1
		:: else -> broken = n[me].session || broken
		fi;
		end_call(me);
		printf("%c hears whether both are listed: %d\n", ME,
			n[me].listed) }
	/* an answer is lost; after a time it is asked again */
	:: d_step { n[me].now.answered && losses < LOSSES ->
		losses++;
		end_call(me);
		printf("%c never gets an answer\n", ME) }
	/* loss, death, life */
	:: d_step { n[me].session && (broken || !n[peer].session) ->
		broken = 1;
		lose_session(me);
		printf("%c notices the loss\n", ME) }
	:: d_step { n[me].up && crashes < CRASHES ->
		crashes++;
		broken = broken || n[me].session;
		n[me].state = (IS_PRIMARY(me) -> WAITING : SECONDARY);
		n[me].session = 0; n[me].offered = 0; n[me].agreed = 0;
		n[me].up = 0;
		give_up(me); forget_words(me);
		printf("%c dies\n", ME) }
	:: d_step { !n[me].up ->
		n[me].up = 1;
		printf("%c restarts\n", ME) }
	od
}

proctype arbiter()
{
end:	do
	:: d_step { n[0].now.question && !n[0].now.answered -> serve(n[0].now) }
	:: d_step { n[1].now.question && !n[1].now.answered -> serve(n[1].now) }
	:: d_step { n[0].given_up.question -> serve(n[0].given_up);
		n[0].given_up.question = 0; n[0].given_up.answered = 0;
		n[0].given_up.agreed = 0; n[0].given_up.present = 0;
		n[0].given_up.list = 0;
		printf("what A gave up arrives\n") }
	:: d_step { n[1].given_up.question -> serve(n[1].given_up);
		n[1].given_up.question = 0; n[1].given_up.answered = 0;
		n[1].given_up.agreed = 0; n[1].given_up.present = 0;
		n[1].given_up.list = 0;
		printf("what B gave up arrives\n") }
	od
}

#define MAY_MEET (n[0].up && n[1].up && !n[0].session && !n[1].session)
/* Equal ones: the primary; the operator may say either if there are two. */
#define IS_SOURCE(x) (n[x].consistent && (LONGER(x) || (EQUAL && \
	(!n[1 - (x)].consistent || IS_PRIMARY(x) || !IS_PRIMARY(1 - (x))))))
#define SETTLED(x) (n[x].state == PAIRED && n[x].session && n[x].agreed && \
	n[x].listed && n[1 - (x)].state == IN_SYNC && list == 3 && EQUAL)

proctype world()
{
end:	do
	:: d_step { breaks < BREAKS && n[0].session && n[1].session &&
		!broken ->
		breaks++; broken = 1; synced_sent = 0; synced_answered = 0;
		printf("the link breaks\n") }
	:: d_step { MAY_MEET && IS_SOURCE(0) -> meet(0, 1);
		printf("they meet, A is the source\n") }
	:: d_step { MAY_MEET && IS_SOURCE(1) -> meet(1, 0);
		printf("they meet, B is the source\n") }
	:: timeout -> assert(SETTLED(0) || SETTLED(1)); break
	od
}

/* In every state. */
never {
	do
	:: d_step { true -> check() }
	od
}

init {
	d_step {
		n[0].timeline = 1; n[0].consistent = 1; n[0].maybe = 1;
		n[0].up = 1; n[0].session = 1; n[0].state = PAIRED;
		n[0].listed = 1; n[0].known = 1;
		n[0].offered = 1; n[0].agreed = 1;
		n[1].timeline = 1; n[1].consistent = 1;
		n[1].up = 1; n[1].session = 1; n[1].state = IN_SYNC
	}
	atomic { run host(0); run host(1); run arbiter(); run world() }
}

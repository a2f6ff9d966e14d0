/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * meeting.pml - H0: two replicas meet by messages, while each may die, be
 * promoted, go on alone, or have its metadata rolled back.
 *
 * Over a connection each sends its hello, which tells what it is at that
 * moment; each decides by the other's hello and by itself; the source says
 * begin, the target marks itself and says begun, and the session stands.  Then
 * the source sends SYNCED.  A connection that one side has left may still
 * deliver to the other, which has not noticed.
 *
 * The data of a replica are one number, that of the newest write.  What is
 * copied is what the metadata show to differ; metadata that were rolled back
 * do not show what was written since.
 *
 *   I3  who accepts SYNCED held nothing that its guest was told of and the
 *       source lacks, unless histories fork and the operator gave it up
 *   I1  after SYNCED the data are equal
 *   H0  two in one session are one source and one target; who serves is never
 *       made a target
 *   I6  no state without a way on but in sync, or refused for a reason
 *
 * Bounds: WRITES, BREAKS, CRASHES, TIMELINES, ORDERS (promotions by a lying
 * operator).  ROLLBACKS: of metadata to what they were before a session that
 * stood; of what came after the last one nobody else can know.
 */
#ifndef WRITES
#define WRITES 1
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef TIMELINES
#define TIMELINES 3
#endif
#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 0
#endif

mtype = { HELLO, BEGIN, BEGUN, SYNCED }

#define APART 0 /* no connection, or no hello sent on it */
#define GREETED 1
#define SOURCE 2 /* begin is sent */
#define CHOSEN 3 /* as target: waits for begin */
#define IN_SESSION 4

typedef replica {
	/* durable */
	byte timeline, incarnation, remembered;
	byte met, stood; /* meetings: the last, the last that both recorded */
	bit author, consistent, maybe;
	byte data; /* of the image, not of the metadata */
	bit stale; /* the metadata do not show all that was written */
	/* of this life */
	bit up, serves, target, unchanged, wholly;
	byte connection; /* 0: none */
	unsigned stage : 3;
	/* for the proof */
	byte told;
}

typedef hello {
	byte connection, timeline, incarnation, remembered, met, stood;
	bit author, consistent;
	byte data, told; /* SYNCED's; timeline, too */
	bit stale;
}

replica n[2];
hello said[2]; /* the newest of each that may still arrive */
hello offered[2]; /* what it was when it sent SYNCED */
chan to[2] = [3] of { mtype, byte, byte };
byte connections; /* 1 or 2: the present one, and one that is left */
byte parent[5];
byte timelines = 1, writes, breaks, crashes, orders;
#if ROLLBACKS
replica kept; /* a copy of one's metadata */
byte kept_of = 2, kept_at, rollbacks;
byte records[2], stood[2]; /* of meetings; up to the last that stood */
#endif
hidden byte a, b;
hidden mtype m;

#define peer (1 - me)
#define ME (65 + me)
#define BELOW(old, new) (new != old && (parent[new] == old || \
	parent[parent[new]] == old || parent[parent[parent[new]]] == old))

/* meeting_decide(), as `me` sees it: what it is, and the other's hello.  If
 * both would do, A is preferred: the configured source. */
#define THEIRS said[peer]
#define OFFER offered[peer]
#define SAME (n[me].timeline == THEIRS.timeline)
#define WE_LONGER BELOW(THEIRS.timeline, n[me].timeline)
#define THEY_LONGER BELOW(n[me].timeline, THEIRS.timeline)
#define FORK (!SAME && !WE_LONGER && !THEY_LONGER)
#define WE_SOURCE (n[me].consistent && (!THEIRS.consistent \
	-> !THEY_LONGER \
	: (SAME -> (n[me].author == THEIRS.author -> me == 0 : n[me].author) \
	   : (WE_LONGER || (FORK && me == 0)))))
#define THEY_SOURCE (THEIRS.consistent && (!n[me].consistent \
	-> !WE_LONGER \
	: (SAME -> (n[me].author == THEIRS.author -> me == 1 : THEIRS.author) \
	   : (THEY_LONGER || (FORK && me == 1)))))

#ifdef NO_H0_UNCHANGED
#define UNCHANGED(x) (1)
#else
#define UNCHANGED(x) (n[x].unchanged)
#endif

/* H0: metadata that were rolled back are no source, and are copied in full.
 * They are those of a number below what the other remembers; or they do not
 * know of a meeting that they have surely recorded. */
#ifdef NO_STOOD
#define WE_FORGOT (0)
#define THEY_FORGOT (0)
#else
#define WE_FORGOT (n[me].met < THEIRS.stood)
#define THEY_FORGOT (THEIRS.met < n[me].stood)
#endif
#define OLD_US (n[me].incarnation < THEIRS.remembered || WE_FORGOT)
#define OLD_THEM (THEIRS.incarnation < n[me].remembered || THEY_FORGOT)
#define OLD_SOURCE (WE_SOURCE -> OLD_US : OLD_THEM)
/* Rolled back to when it was an author: it may have gone on as one. */
#ifdef NO_OLD_AUTHOR
#define OLD_AUTHOR (0)
#else
#define OLD_AUTHOR (WE_SOURCE -> OLD_THEM && THEIRS.author : \
	OLD_US && n[me].author)
#endif

inline drop(x) /* it leaves its connection */
{
	n[x].connection = 0; n[x].stage = APART; n[x].unchanged = 0;
	n[x].target = 0; n[x].wholly = 0
}

inline drain(x)
{
	do
	:: len(to[x]) > 0 -> to[x]?m, a, b
	:: else -> break
	od
}

/* What is sent on a connection arrives if the other still is on it. */
inline send(type, p)
{
	if
	:: n[peer].connection == n[me].connection ->
		assert(nfull(to[peer]));
		to[peer]!type(n[me].connection, p)
	:: else
	fi
}

inline wipe_hello(x)
{
	said[x].connection = 0; said[x].timeline = 0; said[x].incarnation = 0;
	said[x].remembered = 0; said[x].met = 0;
	said[x].stood = 0;
	said[x].author = 0; said[x].consistent = 0;
	offered[x].timeline = 0; offered[x].data = 0; offered[x].told = 0;
	offered[x].stale = 0
}

/* Both reckon the same from the same two hellos. */
inline record(x)
{
#if ROLLBACKS
	records[x]++;
	n[x].met = 1 + (n[x].met > said[1 - x].met -> n[x].met :
		said[1 - x].met)
#else
	skip
#endif
}

inline stand()
{
#if ROLLBACKS
	stood[0] = records[0]; stood[1] = records[1]
#else
	skip
#endif
}

inline new_timeline(x)
{
	timelines++;
	parent[timelines] = n[x].timeline;
	n[x].timeline = timelines;
	n[x].incarnation++;
	n[x].author = 1; n[x].maybe = 0
}

proctype host(byte me)
{
end:	do
	/* hello: a snapshot; from now on any change is noticed */
	:: d_step { n[me].up && n[me].connection && n[me].stage == APART ->
		said[me].connection = n[me].connection;
		said[me].timeline = n[me].timeline;
		said[me].incarnation = n[me].incarnation;
		said[me].remembered = n[me].remembered;
		said[me].met = n[me].met; said[me].stood = n[me].stood;
		said[me].author = n[me].author;
		said[me].consistent = n[me].consistent;
		n[me].unchanged = 1; n[me].stage = GREETED;
		send(HELLO, 0);
		printf("%c says hello: timeline %d\n", ME, n[me].timeline) }
	:: d_step { n[me].stage == GREETED && to[me]?[HELLO] ->
		to[me]?HELLO(a, b);
		if
		:: !UNCHANGED(me) -> drop(me)
		:: else ->
			if
			:: a != n[me].connection /* of an earlier one */
			:: a == n[me].connection && WE_SOURCE &&
			   !OLD_SOURCE && !OLD_AUTHOR ->
				n[me].stage = SOURCE;
				record(me);
				n[me].wholly = OLD_THEM;
				n[me].remembered = THEIRS.incarnation;
				n[me].maybe = n[me].maybe || SAME;
				send(BEGIN, n[me].wholly)
			:: a == n[me].connection && THEY_SOURCE &&
			   !OLD_SOURCE && !OLD_AUTHOR && !n[me].serves ->
				n[me].stage = CHOSEN
			:: a == n[me].connection && THEY_SOURCE &&
			   !OLD_SOURCE && n[me].serves ->
#ifdef NO_H0_SERVING
				n[me].stage = CHOSEN
#else
				drop(me) /* ends its part first, by order */
#endif
			:: else -> drop(me) /* refused for a reason */
			fi
		fi;
		printf("%c has the other's hello, stage %d\n", ME,
			n[me].stage) }
	:: d_step { n[me].connection && to[me]?[BEGIN] &&
		n[me].stage != GREETED ->
		to[me]?BEGIN(a, b);
		if
		:: a == n[me].connection && n[me].stage == CHOSEN &&
			UNCHANGED(me) ->
			assert(!n[me].serves); /* H0 */
			n[me].remembered = said[peer].incarnation;
			record(me);
			n[me].stood = n[me].met;
			n[me].wholly = b;
			n[me].consistent = 0; /* H6 */
			n[me].target = 1; n[me].stage = IN_SESSION;
			send(BEGUN, 0)
		:: else -> drop(me)
		fi;
		printf("%c hears begin, stage %d\n", ME, n[me].stage) }
	:: d_step { n[me].connection && to[me]?[BEGUN] ->
		to[me]?BEGUN(a, b);
		if
		:: a == n[me].connection && n[me].stage == SOURCE &&
			UNCHANGED(me) ->
			n[me].stage = IN_SESSION; n[me].author = 1;
			n[me].serves = 1;
			n[me].stood = n[me].met;
			stand();
			n[me].told = (n[me].told > n[me].data -> n[me].told :
				n[me].data)
		:: else -> drop(me)
		fi;
		printf("%c hears begun, stage %d\n", ME, n[me].stage) }
	/* the copy is complete */
	:: d_step { n[me].stage == IN_SESSION && !n[me].target &&
		n[me].unchanged ->
		n[me].unchanged = 0;
		n[me].maybe = 1;
		offered[me].timeline = n[me].timeline;
		offered[me].data = n[me].data;
		offered[me].told = n[me].told; offered[me].stale = n[me].stale;
		send(SYNCED, 0);
		printf("%c sends SYNCED\n", ME) }
	:: d_step { n[me].connection && to[me]?[SYNCED] &&
		n[me].stage == IN_SESSION && n[me].target ->
		to[me]?SYNCED(a, b);
		assert(n[peer].connection != n[me].connection ||
			!n[peer].target); /* H0 */
		assert(n[me].told <= OFFER.data ||
			!(n[me].timeline == OFFER.timeline ||
			  BELOW(n[me].timeline, OFFER.timeline))); /* I3 */
		if
		:: n[me].wholly || !(n[me].stale || OFFER.stale) ->
			n[me].data = OFFER.data; n[me].stale = 0
		:: else
		fi;
		n[me].told = OFFER.told;
		n[me].timeline = OFFER.timeline;
		n[me].consistent = 1; n[me].author = 0; n[me].maybe = 0;
		assert(n[me].data == OFFER.data); /* I1 */
		printf("%c accepts SYNCED\n", ME) }
	/* a guest's write, which only one has: M3 came first */
	:: d_step { n[me].up && n[me].serves && !n[me].connection &&
		!n[me].maybe && writes < WRITES ->
		writes++;
		n[me].data = writes; n[me].told = writes;
		printf("%c completes write %d alone\n", ME, writes) }
	/* M3 */
	:: d_step { n[me].up && n[me].serves && n[me].maybe &&
#ifndef NO_H0_CLOSE
		!n[me].connection &&
#else
		n[me].stage != IN_SESSION &&
#endif
		timelines < TIMELINES ->
		new_timeline(me);
#ifndef NO_H0_CLOSE
		n[me].unchanged = 0;
#endif
		printf("%c goes on alone, timeline %d\n", ME, n[me].timeline) }
	/* M5, by an operator who may lie; the link is closed first */
	:: d_step { n[me].up && !n[me].serves && n[me].consistent &&
		orders < ORDERS && timelines < TIMELINES ->
		orders++;
#ifndef NO_H0_CLOSE
		drop(me);
#endif
		new_timeline(me);
		n[me].serves = 1;
		n[me].told = (n[me].told > n[me].data -> n[me].told :
			n[me].data);
		printf("%c is promoted, timeline %d\n", ME, n[me].timeline) }
	/* C2 */
	:: d_step { n[me].up && !n[me].serves && !n[me].connection &&
		n[me].author && !n[me].maybe && n[me].consistent ->
		n[me].serves = 1;
		n[me].told = (n[me].told > n[me].data -> n[me].told :
			n[me].data);
		printf("%c serves again\n", ME) }
	/* a primary is made a secondary, which the operator does if told so */
	:: d_step { n[me].up && n[me].serves && !n[me].connection &&
		n[peer].up && (n[peer].serves && me == 1 ||
		 BELOW(n[me].timeline, n[peer].timeline)) ->
		n[me].serves = 0;
		printf("%c is demoted\n", ME) }
	/* the other is gone */
	:: d_step { n[me].connection &&
		n[peer].connection != n[me].connection ->
		drop(me); drain(me);
		printf("%c notices the loss\n", ME) }
	:: d_step { n[me].up && crashes < CRASHES ->
		crashes++;
		drop(me); drain(me);
		n[me].up = 0; n[me].serves = 0;
		printf("%c dies\n", ME) }
	:: d_step { !n[me].up ->
		n[me].up = 1; n[me].incarnation++;
		printf("%c is opened, incarnation %d\n", ME,
			n[me].incarnation) }
#if ROLLBACKS
	/* somebody copies the metadata, and brings them back later */
	:: d_step { kept_of == 2 ->
		kept_of = me;
		kept.timeline = n[me].timeline;
		kept.incarnation = n[me].incarnation;
		kept.remembered = n[me].remembered;
		kept.met = n[me].met; kept.stood = n[me].stood;
		kept_at = records[me];
		kept.author = n[me].author;
		kept.consistent = n[me].consistent;
		kept.maybe = n[me].maybe; kept.data = n[me].data;
		printf("the metadata of %c are copied\n", ME) }
	:: d_step { !n[me].up && kept_of == me && rollbacks < ROLLBACKS &&
		kept_at < stood[me] ->
		rollbacks++;
		n[me].timeline = kept.timeline;
		n[me].incarnation = kept.incarnation;
		n[me].remembered = kept.remembered;
		n[me].met = kept.met; n[me].stood = kept.stood;
		n[me].author = kept.author;
		n[me].consistent = kept.consistent;
		n[me].maybe = kept.maybe;
		n[me].stale = n[me].data != kept.data;
		printf("the metadata of %c are rolled back\n", ME) }
#endif
	od
}

/* Refused for good: two that are not consistent, a fork that waits for the
 * operator, or who is ahead is not consistent. */
#define ASKED (!n[0].consistent || !n[1].consistent || n[0].stale || \
	n[1].stale || ROLLED || (n[0].serves && n[1].serves))
#if ROLLBACKS
#define ROLLED (rollbacks > 0)
#else
#define ROLLED (0)
#endif
#define SETTLED (n[0].stage == IN_SESSION && n[1].stage == IN_SESSION && \
	n[0].target != n[1].target && n[0].timeline == n[1].timeline && \
	n[0].consistent && n[1].consistent)

proctype world()
{
end:	do
	:: d_step { n[0].up && n[1].up && !n[0].connection &&
		!n[1].connection && !(n[0].serves && n[1].serves) ->
		connections = 3 - connections;
		drain(0); drain(1);
		wipe_hello(0); wipe_hello(1);
		n[0].connection = connections; n[1].connection = connections;
		printf("they are connected\n") }
	/* A one-sided end: B sees it at once, A later; or the other way. */
	:: d_step { breaks < BREAKS && n[0].connection ->
		breaks++; drop(0); drain(0);
		printf("A loses the connection\n") }
	:: d_step { breaks < BREAKS && n[1].connection ->
		breaks++; drop(1); drain(1);
		printf("B loses the connection\n") }
	:: timeout -> assert(SETTLED || ASKED); break
	od
}

init {
	d_step {
		connections = 1;
		n[0].timeline = 1; n[0].consistent = 1; n[0].author = 1;
		n[0].maybe = 1; n[0].up = 1; n[0].serves = 1;
		n[0].incarnation = 1; n[0].remembered = 1;
		n[1].timeline = 1; n[1].consistent = 1; n[1].up = 1;
		n[1].incarnation = 1; n[1].remembered = 1
	}
	atomic { run host(0); run host(1); run world() }
}

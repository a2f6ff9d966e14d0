/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * group.pml - E3, E4: the disks of one guest, replicated in epoch mode, and its
 * memory.  They have to land on one epoch together.
 *
 * On the primary host the controller ends epochs: it cuts each disk (the guest
 * stands still for that), sends the memory image, and holds back the guest's
 * output of an epoch until it hears that the epoch is decided.  On the backup
 * host each disk keeps a journal; when all of an epoch is durable in it the disk
 * has prepared the epoch.  When all disks have, and the memory is whole, the
 * group's record decides it, durably and at once for all.  A disk commits only
 * then.
 *
 * The content of a disk is the number of the newest epoch in it.  Either host
 * may die between any two steps; disks of the backup host are processes of
 * their own and die alone, too.
 *
 *   A7  a promoted guest gets disks and memory of one epoch, that was decided
 *   I3  no output was released of an epoch that a promotion undoes
 *   E4  a disk commits decided epochs only, in their order
 *   I6  no state without a way on but all epochs decided and committed, or
 *       promoted
 *
 * Bounds: EPOCHS, CRASHES (of a process on the backup host), DEATHS (of the
 * primary host).
 */
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define DISKS 2

typedef disk {
	/* durable, on the backup host */
	byte prepared; /* its journal is whole up to here */
	byte committed; /* the image has these */
	/* on their way or in memory */
	byte sent; /* what the primary has cut and sent */
	byte received; /* in the journal, not flushed yet */
	bit up;
}

disk d[DISKS];
byte decided; /* the record: durable */
byte kept; /* the memory image that is durable with it */
byte memory_sent, memory; /* whole on the backup host, in its memory */
byte guest = 1; /* the epoch that the guest is in */
byte told; /* decided, as the controller has heard */
byte released; /* output of these has left the primary host */
bit controller_up = 1; /* the backup's, which decides */
bit primary_up = 1, promoted;
byte promoted_to, promoted_disk[DISKS];
bit answering; /* "decided" is on its way */
byte crashes, deaths;

inline check()
{
	assert(released <= decided); /* output waits for the record */
	assert(d[0].committed <= decided && d[1].committed <= decided); /* E4 */
	assert(!promoted || (promoted_disk[0] == promoted_to &&
		promoted_disk[1] == promoted_to && kept == promoted_to)); /* A7 */
	assert(!promoted || released <= promoted_to) /* I3 */
}

#ifdef NO_ALL_PREPARED
#define MAY_DECIDE(e) (d[0].prepared >= e || d[1].prepared >= e)
#else
#define MAY_DECIDE(e) (d[0].prepared >= e && d[1].prepared >= e)
#endif
#ifdef NO_MEMORY
#define HAS_MEMORY(e) (1)
#else
#define HAS_MEMORY(e) (memory == e)
#endif

proctype primary()
{
end:	do
	/* An epoch ends: all disks are cut while the guest stands still.  One
	 * epoch is under way at a time. */
	:: d_step { primary_up && guest <= EPOCHS &&
		told == guest - 1 && memory_sent < guest ->
		d[0].sent = guest; d[1].sent = guest;
		memory_sent = guest; guest++;
		printf("the guest's epoch %d ends\n", guest - 1) }
	/* E4: the answer that it is decided releases its output */
	:: d_step { primary_up && answering ->
		answering = 0; told = decided;
		printf("the primary hears that %d is decided\n", told) }
#ifdef NO_WAIT
	:: d_step { primary_up && released < memory_sent &&
		d[0].prepared >= memory_sent && d[1].prepared >= memory_sent ->
#else
	:: d_step { primary_up && released < told ->
#endif
		released++;
		printf("output of epoch %d leaves\n", released) }
	:: d_step { primary_up && deaths < DEATHS && !promoted ->
		deaths++; primary_up = 0; answering = 0;
		printf("the primary host dies\n") }
	od
}

proctype backup(byte me)
{
end:	do
	:: d_step { d[me].up && primary_up && d[me].received < d[me].sent &&
		!promoted ->
		d[me].received++;
		printf("disk %d has received epoch %d\n", me, d[me].received) }
	:: d_step { d[me].up && d[me].prepared < d[me].received && !promoted ->
		d[me].prepared = d[me].received;
		printf("disk %d has prepared epoch %d\n", me, d[me].prepared) }
#ifdef NO_RECORD
	:: d_step { d[me].up && d[me].committed < d[me].prepared ->
#else
	:: d_step { d[me].up && d[me].committed < decided &&
		d[me].committed < d[me].prepared ->
#endif
		d[me].committed++;
		printf("disk %d has committed epoch %d\n", me,
			d[me].committed) }
	/* The process dies: what was not flushed of the journal is gone, and
	 * the primary sends it again when the session is back. */
	:: d_step { d[me].up && crashes < CRASHES ->
		crashes++;
		d[me].up = 0;
		d[me].received = d[me].prepared;
		printf("the process of disk %d dies\n", me) }
	:: d_step { !d[me].up ->
		d[me].up = 1;
#ifdef NO_ROLL_FORWARD
		/* it drops what it had prepared and not committed */
		d[me].prepared = d[me].committed;
		d[me].received = d[me].committed;
#endif
		printf("the process of disk %d is back\n", me) }
	od
}

proctype controller()
{
end:	do
	:: d_step { controller_up && primary_up && memory < memory_sent &&
		!promoted ->
		memory = memory_sent;
		printf("the memory of epoch %d is whole\n", memory) }
	/* one durable record for all */
	:: d_step { controller_up && !promoted && decided < EPOCHS &&
		MAY_DECIDE(decided + 1) && HAS_MEMORY(decided + 1) ->
		decided++;
		kept = memory;
		answering = primary_up;
		printf("epoch %d is decided\n", decided) }
	/* an answer that was lost with its controller is given again */
	:: d_step { controller_up && primary_up && !promoted &&
		told < decided && !answering ->
		answering = 1;
		printf("it is told again that %d is decided\n", decided) }
	:: d_step { controller_up && crashes < CRASHES && !promoted ->
		crashes++;
		controller_up = 0; answering = 0;
		memory = kept;
		printf("the controller dies\n") }
	:: d_step { !controller_up ->
		controller_up = 1;
		printf("the controller is back\n") }
	/* M5 with E3: at the highest decided epoch; each disk shows what its
	 * journal has up to there */
	:: d_step { controller_up && !primary_up && !promoted && d[0].up &&
		d[1].up ->
		promoted = 1;
#ifdef NO_DECIDED
		promoted_to = memory;
		promoted_disk[0] = d[0].prepared;
		promoted_disk[1] = d[1].prepared;
#else
		promoted_to = decided;
		promoted_disk[0] = (d[0].prepared < decided -> d[0].prepared :
			decided);
		promoted_disk[1] = (d[1].prepared < decided -> d[1].prepared :
			decided);
#endif
		d[0].sent = d[0].prepared; d[1].sent = d[1].prepared;
		printf("promoted at epoch %d\n", promoted_to) }
	od
}

#define ALL_DONE (decided == EPOCHS && d[0].committed == EPOCHS && \
	d[1].committed == EPOCHS && released == EPOCHS)

proctype world()
{
end:	do
	:: timeout -> assert(ALL_DONE || promoted); break
	od
}

/* In every state. */
never {
	do
	:: d_step { true -> check() }
	od
}

init {
	d_step { d[0].up = 1; d[1].up = 1 }
	atomic {
		run primary(); run backup(0); run backup(1);
		run controller(); run world()
	}
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_pair - two ends of an RDMA connection over the fake device, for tests:
 * one that called and one that listens, in one loop, with one pool, as a
 * process has it.
 */
#ifndef TESTS_RDMA_PAIR_H
#define TESTS_RDMA_PAIR_H

#include "core/reason.h"
#include "replication/transport.h"
#include "tests/fake_verbs.h"

#define PAIR_SENDS 512
#define PAIR_PORT  7788
#define PAIR_URL   FAKE_ADDRESS ":7788"
#define PAIR_KEY   "0123456789abcdef0123456789abcdef"

struct rdma_end;

struct end_send {
	struct channel_send send;
	struct rdma_end *end;
	int done, error;
	void *buffer; /* owned, of the pool or (`own`) of malloc(); may be NULL
		       */
	bool own;
};

struct rdma_end {
	struct channel *channel; /* owned; NULL without, or once closed */
	struct transport_context context;
	int opened, closed, error;
	char text[REASON_MAX]; /* the reason of the close */
	bool keep_open;	       /* on_close does not close */
	bool close_at_open, close_at_message;
	bool keep; /* payloads: the pool gets them back by end_drop() */
	void *kept[PAIR_SENDS];
	unsigned int kept_count;

	/* received */
	unsigned int got, got_control;
	uint64_t got_bytes;
	uint64_t next; /* the sequence that should come */
	bool landed;   /* every payload so far was in its own slot, aligned */

	/* sent */
	struct end_send sends[PAIR_SENDS];
	unsigned int sent, done, cancelled;
	unsigned int pairs; /* that there were at a cancelled send */
	uint64_t sequence;
};

struct rdma_pair {
	struct loop *loop;
	struct io *io;
	struct pool *pool;
	struct acceptor *acceptor;
	struct rdma_end caller, called;
	unsigned int accepted;
};

/* The fabric, a loop and a pool; and back, all as it was. */
int pair_setup(void **state);
int pair_teardown(void **state);
void pair_key(struct rdma_pair *pair, const char *caller, const char *called);
void pair_listen(struct rdma_pair *pair);
void pair_call(struct rdma_pair *pair);
/* Both ends are open. */
void pair_open(struct rdma_pair *pair);
void pair_close(struct rdma_pair *pair);

/* Turn the loop until there is nothing to do, or for so long. */
void pair_turn(struct rdma_pair *pair);
void pair_pass_ms(struct rdma_pair *pair, unsigned int ms);
/* Until it is so; fails after 20 s. */
#define pair_until(pair, condition)                                            \
	do {                                                                   \
		uint64_t begin_ns = loop_now((pair)->loop);                    \
		while (!(condition))                                           \
			pair_step((pair)->loop, begin_ns, #condition);         \
	} while (0)
/* One turn; fails if it began too long ago. */
void pair_step(struct loop *loop, uint64_t begin_ns, const char *condition);

/* A write of `length` bytes whose content tells its sequence; `own`: from
 * memory that is not the pool's. */
void end_send(struct rdma_end *end, size_t length, bool own);
/* A ping. */
void end_ping(struct rdma_end *end);
void end_close(struct rdma_end *end);
/* Give kept payloads back. */
void end_drop(struct rdma_end *end);
/* Each of its sends ended exactly once. */
void assert_each_ended_once(const struct rdma_end *end);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_verbs - one RDMA device inside a test program, in place of libibverbs
 * and librdmacm: it does what the manual pages say, checks that its user does
 * so too, and does wrong what a device or a network can do wrong.
 *
 * There is one fabric in a process, and everything in it has the one address
 * FAKE_ADDRESS.  What happens at a post happens at once, as far as nothing is
 * held; what is held goes on by fabric_release().
 *
 * The fabric aborts the test when its user breaks a rule of verbs: memory that
 * is not registered, or with the wrong key; a queue that overflows; an event
 * that is never acknowledged; an object destroyed while another needs it;
 * anything but destruction asked of a device after its removal was told; bytes
 * that changed between a post and its completion.
 */
#ifndef TESTS_FAKE_VERBS_H
#define TESTS_FAKE_VERBS_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <stdbool.h>

#include "core/list.h"

#define FAKE_ADDRESS "127.0.0.1"

/* Where a connection stops being made; a test goes on from there. */
enum fabric_stop {
	FABRIC_GO_ON,
	FABRIC_STOP_ADDRESS, /* resolving never ends */
	FABRIC_STOP_ROUTE,
	FABRIC_STOP_CONNECT, /* no request arrives */
	FABRIC_STOP_ACCEPT,  /* the answer does not arrive, nor its echo */
};

struct fabric {
	/* the device */
	bool absent;	/* no RDMA in this host */
	bool elsewhere; /* no device has the address */
	bool memlock;	/* the limit of locked memory is too small */
	int sge_max, wr_max, cqe_max;
	uint32_t inline_max;	    /* of a queue pair */
	uint32_t queue_max;	    /* that a queue pair really gives */
	bool removed, removal_told; /* its user has heard of it */

	/* what goes wrong */
	enum fabric_stop stop;
	int fail_send_in; /* the n-th post from now on; 0: none */
	int fail_receive_in;
	int hold_receives_in; /* completions of receives; 0: never */
	int cut_in;	      /* the connection breaks after n SENDs */
	bool hold_wire;	      /* nothing arrives */
	bool hold_sends;      /* completions of sends come late */
	bool late; /* held receives complete just before a queue is armed */
	bool hold_receives; /* completions of receives come late */
	bool no_flush;	    /* what was posted is never flushed */
	bool flush_twice;
	bool twice;  /* each completion comes twice */
	bool damage; /* the next SEND arrives with a wrong byte */
	int reject;  /* callers are rejected for this cause */
	bool starve; /* the next receive is missing */

	/* what there is */
	unsigned int channels, ids, domains, regions, completions, queues,
		pairs, events;
	size_t registered; /* bytes */

	/* what happened */
	unsigned int sends, doorbells, signalled, inlined, rnr;
	unsigned int send_depth; /* the most under way in one queue */
	struct list_head all_ids, all_pairs, all_regions;
};

extern struct fabric fabric;

/* A device like any, and nothing wrong. */
void fabric_open(void);
/* What was held goes on; hold it again with the flags. */
void fabric_release(void);
/* All connections break, as when the link is cut: the sends under way fail. */
void fabric_cut(void);
/* The device is removed, or was put back. */
void fabric_remove(void);
void fabric_return(void);
/* Its descriptors refer to the device no more: the removal could end. */
bool fabric_is_let_go(void);
/* An event of the device itself; `pair` may be NULL. */
void fabric_async(enum ibv_event_type type, struct ibv_qp *pair);
/* An event for the id, whatever its state. */
void fabric_event(struct rdma_cm_id *id, enum rdma_cm_event_type type,
		  int status);
/* The ids that are no listeners, nor a device's keeper; the n-th of them in
 * the order of their making, or NULL. */
struct rdma_cm_id *fabric_id(unsigned int n);
/* Everything is as it was before the first connection; aborts if not. */
void fabric_close(void);

/* --- between the files of it --- */

void fabric_die(const char *text);
void fabric_ring(int fd); /* it becomes readable */
void fabric_silence(int fd);
void fabric_complete(struct ibv_cq *cq, const struct ibv_wc *entry);
/* What a queue pair left there when it was destroyed goes with it. */
void fabric_forget(struct ibv_cq *cq, uint32_t pair);
void fabric_use(struct ibv_cq *cq, int users);
void fabric_release_receives(void);
int fabric_poll_cq(struct ibv_cq *cq, int max, struct ibv_wc *entries);
int fabric_req_notify_cq(struct ibv_cq *cq, int solicited_only);

struct ibv_context *fabric_context(void);
void fabric_plug(void);
struct ibv_qp *fabric_pair_new(struct ibv_pd *pd,
			       struct ibv_qp_init_attr *attributes);
void fabric_pair_free(struct ibv_qp *qp);
void fabric_pair_join(struct ibv_qp *one, struct ibv_qp *other);
/* To the error state; what was posted is flushed. */
void fabric_pair_break(struct ibv_qp *qp);
void fabric_check_alive(const char *what);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_completions - see fake_verbs.h: completion queues and channels.
 */
#include "tests/fake_verbs.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROOM 8192 /* above any queue of a test, twice */

struct completions {
	struct ibv_comp_channel channel;
	struct ibv_cq *fired[ROOM];
	unsigned int first, count, users;
};

struct queue {
	struct ibv_cq cq;
	struct ibv_wc entries[ROOM]; /* a ring */
	unsigned int first, count;
	bool armed;
	unsigned int unacknowledged, users;
};

void
fabric_ring(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

void
fabric_silence(int fd)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
}

/* --- completions --- */

static struct queue *
queue_of(struct ibv_cq *cq)
{
	return container_of(cq, struct queue, cq);
}

static void
complete(struct ibv_cq *cq, const struct ibv_wc *entry)
{
	struct queue *queue = queue_of(cq);
	struct completions *completions =
		container_of(cq->channel, struct completions, channel);

	if (queue->count >=
	    (unsigned int)cq->cqe *
		    (fabric.twice || fabric.flush_twice ? 2 : 1))
		fabric_die("a completion queue overflows");
	queue->entries[(queue->first + queue->count++) % ROOM] = *entry;
	if (!queue->armed)
		return;
	queue->armed = false;
	completions->fired[(completions->first + completions->count++) % ROOM] =
		cq;
	fabric_ring(completions->channel.fd);
}

void
fabric_complete(struct ibv_cq *cq, const struct ibv_wc *entry)
{
	complete(cq, entry);
	if (fabric.twice ||
	    (fabric.flush_twice && entry->status == IBV_WC_WR_FLUSH_ERR))
		complete(cq, entry);
}

int
fabric_poll_cq(struct ibv_cq *cq, int max, struct ibv_wc *entries)
{
	struct queue *queue = queue_of(cq);
	int count = 0;

	while (count < max && queue->count > 0) {
		entries[count++] = queue->entries[queue->first];
		queue->first = (queue->first + 1) % ROOM;
		queue->count--;
	}
	return count;
}

int
fabric_req_notify_cq(struct ibv_cq *cq, int solicited_only)
{
	fabric_check_alive("ibv_req_notify_cq");
	if (fabric.removed)
		return EIO;
	assert(!solicited_only);
	if (fabric.late) {
		fabric.hold_receives = false;
		fabric_release_receives();
	}
	queue_of(cq)->armed = true;
	return 0;
}

/* What a queue pair left there when it was destroyed goes with it. */
void
fabric_forget(struct ibv_cq *cq, uint32_t pair)
{
	struct queue *queue = queue_of(cq);
	unsigned int kept = 0;

	for (unsigned int i = 0; i < queue->count; i++) {
		struct ibv_wc entry = queue->entries[(queue->first + i) % ROOM];

		if (entry.qp_num == pair)
			continue;
		queue->entries[(queue->first + kept++) % ROOM] = entry;
	}
	queue->count = kept;
}

struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *verbs)
{
	struct completions *completions = calloc(1, sizeof(*completions));

	fabric_check_alive("ibv_create_comp_channel");
	assert(completions != NULL);
	completions->channel.context = verbs;
	completions->channel.fd = eventfd(0, EFD_CLOEXEC);
	assert(completions->channel.fd >= 0);
	fabric.completions++;
	return &completions->channel;
}

int
ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	struct completions *completions =
		container_of(channel, struct completions, channel);

	if (completions->users > 0)
		fabric_die(
			"a completion channel is destroyed before its queues");
	close(channel->fd);
	free(completions);
	fabric.completions--;
	return 0;
}

struct ibv_cq *
ibv_create_cq(struct ibv_context *verbs, int cqe, void *cq_context,
	      struct ibv_comp_channel *channel, int vector)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	(void)vector;
	fabric_check_alive("ibv_create_cq");
	assert(queue != NULL && cqe > 0 && cqe <= fabric.cqe_max);
	queue->cq.context = verbs;
	queue->cq.channel = channel;
	queue->cq.cq_context = cq_context;
	queue->cq.cqe = cqe;
	container_of(channel, struct completions, channel)->users++;
	fabric.queues++;
	return &queue->cq;
}

int
ibv_destroy_cq(struct ibv_cq *cq)
{
	struct queue *queue = queue_of(cq);

	if (queue->unacknowledged > 0)
		fabric_die("a completion queue has events that are not "
			   "acknowledged");
	if (queue->users > 0)
		fabric_die("a completion queue is destroyed before its queue "
			   "pair");
	container_of(cq->channel, struct completions, channel)->users--;
	free(queue);
	fabric.queues--;
	return 0;
}

int
ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq,
		 void **cq_context)
{
	struct completions *completions =
		container_of(channel, struct completions, channel);

	if (completions->count == 0) {
		errno = EAGAIN;
		return -1;
	}
	*cq = completions->fired[completions->first];
	*cq_context = (*cq)->cq_context;
	completions->first = (completions->first + 1) % ROOM;
	if (--completions->count == 0)
		fabric_silence(channel->fd);
	queue_of(*cq)->unacknowledged++;
	return 0;
}

void
ibv_ack_cq_events(struct ibv_cq *cq, unsigned int count)
{
	queue_of(cq)->unacknowledged -= count;
}

void
fabric_use(struct ibv_cq *cq, int users)
{
	queue_of(cq)->users += (unsigned int)users;
}

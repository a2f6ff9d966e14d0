/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fake_verbs - see fake_verbs.h: the device, its memory regions and queue
 * pairs. Completion queues are fake_completions.c's, connections
 * fake_rdma_cm.c's.
 *
 * Posting and polling are inline functions of the verbs' header that go
 * through the context's operations; everything else is linked in place of the
 * library's.
 */
#include "tests/fake_verbs.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 4096

struct fabric fabric;

struct domain {
	struct ibv_pd pd;
	unsigned int users;
};

struct region {
	struct ibv_mr mr;
	struct list_head entry;
};

struct posted {
	uint64_t id;
	bool signalled, arrived, done;
	unsigned int elements;
	struct ibv_sge sges[2];
	char *bytes; /* owned: as they were when posted */
	uint32_t length;
};

struct pair {
	struct ibv_qp qp;
	struct list_head entry;
	struct pair *other; /* NULL: not joined */
	struct posted *sends, *receives;
	unsigned int send_max, receive_max;
	uint32_t inline_max;
	uint64_t send_first, send_next, receive_first, receive_next;
	bool broken;
};

static struct ibv_device device = { .name = "fake0" };
static struct ibv_context context;
static struct ibv_async_event asyncs[64];
static unsigned int async_count;
static unsigned int async_open;

void
fabric_die(const char *text)
{
	fprintf(stderr, "fake_verbs: %s\n", text);
	abort();
}

void
fabric_check_alive(const char *what)
{
	if (fabric.removal_told) {
		fprintf(stderr, "%s: ", what);
		fabric_die("asked of a device that was removed");
	}
}

/* --- memory --- */

static const struct region *
region_of(const struct ibv_sge *sge)
{
	struct region *region;

	list_for_each_entry (region, &fabric.all_regions, entry) {
		uintptr_t base = (uintptr_t)region->mr.addr;

		if (region->mr.lkey == sge->lkey && sge->addr >= base &&
		    sge->addr + sge->length <= base + region->mr.length)
			return region;
	}
	return NULL;
}

static char *
bytes_of(const struct ibv_sge *sge)
{
	return (char *)(uintptr_t)sge->addr;
}

static uint32_t
gather(const struct ibv_sge *sges, unsigned int count, char *ret_bytes)
{
	uint32_t length = 0;

	for (unsigned int i = 0; i < count; i++) {
		memcpy(ret_bytes + length, bytes_of(&sges[i]), sges[i].length);
		length += sges[i].length;
	}
	return length;
}

static uint32_t
length_of(const struct ibv_sge *sges, unsigned int count)
{
	uint32_t length = 0;

	for (unsigned int i = 0; i < count; i++)
		length += sges[i].length;
	return length;
}

/* S2 of rdma_send.c: the device may read them until the completion. */
static void
check_unchanged(const struct posted *posted)
{
	char *now;

	if (posted->elements == 0)
		return; /* inline */
	now = malloc(posted->length + 1);
	assert(now != NULL);
	(void)gather(posted->sges, posted->elements, now);
	if (memcmp(now, posted->bytes, posted->length) != 0)
		fabric_die(
			"bytes changed between their post and its completion");
	free(now);
}

/* --- queue pairs --- */

static struct pair *
pair_of(struct ibv_qp *qp)
{
	return container_of(qp, struct pair, qp);
}

static struct posted *
send_at(struct pair *pair, uint64_t number)
{
	return &pair->sends[number % pair->send_max];
}

static struct posted *
receive_at(struct pair *pair, uint64_t number)
{
	return &pair->receives[number % pair->receive_max];
}

static struct ibv_wc
entry_of(const struct pair *pair, const struct posted *posted,
	 enum ibv_wc_status status)
{
	return (struct ibv_wc){ .wr_id = posted->id,
				.status = status,
				.qp_num = pair->qp.qp_num };
}

static void
free_posted(struct posted *posted)
{
	free(posted->bytes);
	posted->bytes = NULL;
}

static void
fail_sends(struct pair *pair, enum ibv_wc_status status)
{
	for (; pair->send_first < pair->send_next; pair->send_first++) {
		struct posted *posted = send_at(pair, pair->send_first);
		struct ibv_wc entry = entry_of(pair, posted, status);

		check_unchanged(posted);
		free_posted(posted);
		if (!fabric.no_flush)
			fabric_complete(pair->qp.send_cq, &entry);
		status = IBV_WC_WR_FLUSH_ERR;
	}
}

static void
break_with(struct pair *pair, enum ibv_wc_status status)
{
	if (pair->broken)
		return;
	pair->broken = true;
	fail_sends(pair, status);
	for (; pair->receive_first < pair->receive_next;
	     pair->receive_first++) {
		struct posted *posted = receive_at(pair, pair->receive_first);
		struct ibv_wc entry =
			entry_of(pair, posted, IBV_WC_WR_FLUSH_ERR);

		if (!posted->done && !fabric.no_flush)
			fabric_complete(pair->qp.recv_cq, &entry);
	}
}

void
fabric_pair_break(struct ibv_qp *qp)
{
	break_with(pair_of(qp), IBV_WC_WR_FLUSH_ERR);
}

/* Into the other's next receive. */
static bool
arrive(struct pair *pair, const struct posted *posted)
{
	struct pair *other = pair->other;
	struct posted *receive;
	struct ibv_wc entry;
	uint32_t done = 0;

	if (other->receive_first == other->receive_next || fabric.starve) {
		fabric.starve = false;
		fabric.rnr++;
		break_with(pair, IBV_WC_RNR_RETRY_EXC_ERR);
		return false;
	}
	receive = receive_at(other, other->receive_first);
	if (length_of(receive->sges, receive->elements) < posted->length)
		fabric_die("a SEND is longer than its receive");
	for (unsigned int i = 0; i < receive->elements; i++) {
		uint32_t part = posted->length - done;

		if (part > receive->sges[i].length)
			part = receive->sges[i].length;
		memcpy(bytes_of(&receive->sges[i]), posted->bytes + done, part);
		done += part;
	}
	if (fabric.damage)
		bytes_of(&receive->sges[0])[40] ^= 1;
	fabric.damage = false;
	receive->length = posted->length;
	receive->done = true;
	if (fabric.hold_receives)
		return true;
	entry = entry_of(other, receive, IBV_WC_SUCCESS);
	entry.byte_len = posted->length;
	other->receive_first++;
	fabric_complete(other->qp.recv_cq, &entry);
	if (fabric.hold_receives_in > 0 && --fabric.hold_receives_in == 0)
		fabric.hold_receives = true;
	return true;
}

static void
complete_receives(struct pair *pair)
{
	while (pair->receive_first < pair->receive_next && !pair->broken) {
		struct posted *receive = receive_at(pair, pair->receive_first);
		struct ibv_wc entry = entry_of(pair, receive, IBV_WC_SUCCESS);

		if (!receive->done)
			return;
		entry.byte_len = receive->length;
		pair->receive_first++;
		fabric_complete(pair->qp.recv_cq, &entry);
	}
}

/* All of a chain end with its signalled one. */
static void
complete_sends(struct pair *pair)
{
	uint64_t last = pair->send_first;

	for (uint64_t i = pair->send_first; i < pair->send_next; i++) {
		if (!send_at(pair, i)->arrived)
			break;
		if (send_at(pair, i)->signalled)
			last = i + 1;
	}
	for (; pair->send_first < last; pair->send_first++) {
		struct posted *posted = send_at(pair, pair->send_first);
		struct ibv_wc entry = entry_of(pair, posted, IBV_WC_SUCCESS);

		check_unchanged(posted);
		free_posted(posted);
		if (posted->signalled)
			fabric_complete(pair->qp.send_cq, &entry);
	}
}

static void
move(struct pair *pair)
{
	for (uint64_t i = pair->send_first;
	     i < pair->send_next && !pair->broken; i++) {
		struct posted *posted = send_at(pair, i);

		if (posted->arrived)
			continue;
		if (fabric.hold_wire || pair->other == NULL ||
		    pair->other->broken)
			break;
		if (!arrive(pair, posted))
			return;
		posted->arrived = true;
		if (fabric.cut_in > 0 && --fabric.cut_in == 0) {
			fabric_cut();
			return;
		}
	}
	if (!fabric.hold_sends && !pair->broken)
		complete_sends(pair);
}

void
fabric_release_receives(void)
{
	struct pair *pair;

	list_for_each_entry (pair, &fabric.all_pairs, entry)
		complete_receives(pair);
}

void
fabric_release(void)
{
	struct pair *pair;

	fabric.hold_wire = false;
	fabric.hold_sends = false;
	fabric.hold_receives = false;
	fabric_release_receives();
	list_for_each_entry (pair, &fabric.all_pairs, entry)
		move(pair);
}

void
fabric_cut(void)
{
	struct pair *pair;

	list_for_each_entry (pair, &fabric.all_pairs, entry)
		break_with(pair, IBV_WC_RETRY_EXC_ERR);
}

static int
post_one(struct pair *pair, const struct ibv_send_wr *wr)
{
	uint64_t under_way = pair->send_next - pair->send_first;
	struct posted *posted = send_at(pair, pair->send_next);
	bool is_inline = (wr->send_flags & IBV_SEND_INLINE) != 0;

	if (under_way >= pair->send_max)
		return ENOMEM;
	assert(wr->opcode == IBV_WR_SEND && wr->num_sge <= 2);
	*posted = (struct posted){
		.id = wr->wr_id,
		.signalled = (wr->send_flags & IBV_SEND_SIGNALED) != 0,
		.length = length_of(wr->sg_list, (unsigned int)wr->num_sge),
	};
	posted->bytes = malloc(posted->length + 1);
	assert(posted->bytes != NULL);
	(void)gather(wr->sg_list, (unsigned int)wr->num_sge, posted->bytes);
	if (is_inline && posted->length > pair->inline_max)
		fabric_die("more is inline than the queue pair takes");
	for (int i = 0; i < wr->num_sge && !is_inline; i++) {
		if (region_of(&wr->sg_list[i]) == NULL)
			fabric_die("a SEND from memory that is not registered");
		posted->sges[posted->elements++] = wr->sg_list[i];
	}
	pair->send_next++;
	if (under_way + 1 > fabric.send_depth)
		fabric.send_depth = (unsigned int)under_way + 1;
	fabric.sends++;
	fabric.signalled += posted->signalled;
	fabric.inlined += is_inline;
	return 0;
}

static int
post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct pair *pair = pair_of(qp);
	int r = 0;

	fabric_check_alive("ibv_post_send");
	*bad = wr;
	if (fabric.removed)
		return EIO;
	fabric.doorbells++;
	for (; wr != NULL && r == 0; wr = wr->next) {
		*bad = wr;
		if (fabric.fail_send_in > 0 && --fabric.fail_send_in == 0)
			r = ENOMEM;
		else
			r = post_one(pair, wr);
	}
	if (pair->broken) {
		fail_sends(pair, IBV_WC_WR_FLUSH_ERR);
		return r;
	}
	move(pair);
	return r;
}

static int
post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct pair *pair = pair_of(qp);

	fabric_check_alive("ibv_post_recv");
	*bad = wr;
	if (fabric.removed)
		return EIO;
	for (; wr != NULL; wr = wr->next) {
		struct posted *posted = receive_at(pair, pair->receive_next);

		*bad = wr;
		if (fabric.fail_receive_in > 0 && --fabric.fail_receive_in == 0)
			return ENOMEM;
		if (pair->receive_next - pair->receive_first >=
		    pair->receive_max)
			return ENOMEM;
		*posted = (struct posted){ .id = wr->wr_id };
		for (int i = 0; i < wr->num_sge; i++) {
			if (region_of(&wr->sg_list[i]) == NULL)
				fabric_die("a receive into memory that is not "
					   "registered");
			posted->sges[posted->elements++] = wr->sg_list[i];
		}
		pair->receive_next++;
	}
	return 0;
}

struct ibv_qp *
fabric_pair_new(struct ibv_pd *pd, struct ibv_qp_init_attr *attributes)
{
	static uint32_t number;
	struct ibv_qp_cap *cap = &attributes->cap;
	struct pair *pair;

	fabric_check_alive("rdma_create_qp");
	if (cap->max_inline_data > fabric.inline_max ||
	    cap->max_send_wr > fabric.queue_max ||
	    cap->max_recv_wr > fabric.queue_max ||
	    cap->max_send_sge > (uint32_t)fabric.sge_max) {
		errno = EINVAL;
		return NULL;
	}
	assert(attributes->qp_type == IBV_QPT_RC && !attributes->sq_sig_all);
	assert(cap->max_send_wr <= DEPTH_MAX && cap->max_recv_wr <= DEPTH_MAX);
	pair = calloc(1, sizeof(*pair));
	assert(pair != NULL);
	pair->sends = calloc(cap->max_send_wr, sizeof(struct posted));
	pair->receives = calloc(cap->max_recv_wr, sizeof(struct posted));
	assert(pair->sends != NULL && pair->receives != NULL);
	pair->send_max = cap->max_send_wr;
	pair->receive_max = cap->max_recv_wr;
	pair->inline_max = cap->max_inline_data;
	pair->qp.context = pd->context;
	pair->qp.pd = pd;
	pair->qp.send_cq = attributes->send_cq;
	pair->qp.recv_cq = attributes->recv_cq;
	pair->qp.qp_num = ++number;
	container_of(pd, struct domain, pd)->users++;
	fabric_use(pair->qp.send_cq, 1);
	fabric_use(pair->qp.recv_cq, 1);
	list_add_tail(&pair->entry, &fabric.all_pairs);
	fabric.pairs++;
	return &pair->qp;
}

void
fabric_pair_free(struct ibv_qp *qp)
{
	struct pair *pair = pair_of(qp);

	for (; pair->send_first < pair->send_next; pair->send_first++)
		free_posted(send_at(pair, pair->send_first));
	if (pair->other != NULL)
		pair->other->other = NULL;
	fabric_forget(qp->send_cq, qp->qp_num);
	fabric_forget(qp->recv_cq, qp->qp_num);
	container_of(qp->pd, struct domain, pd)->users--;
	fabric_use(qp->send_cq, -1);
	fabric_use(qp->recv_cq, -1);
	list_del(&pair->entry);
	free(pair->sends);
	free(pair->receives);
	free(pair);
	fabric.pairs--;
}

void
fabric_pair_join(struct ibv_qp *one, struct ibv_qp *other)
{
	pair_of(one)->other = pair_of(other);
	pair_of(other)->other = pair_of(one);
}

/* --- the library's functions --- */

const char *
ibv_get_device_name(struct ibv_device *which)
{
	return which->name;
}

int
ibv_query_device(struct ibv_context *verbs, struct ibv_device_attr *attributes)
{
	fabric_check_alive("ibv_query_device");
	assert(verbs == &context);
	*attributes = (struct ibv_device_attr){
		.max_sge = fabric.sge_max,
		.max_qp_wr = fabric.wr_max,
		.max_cqe = fabric.cqe_max,
	};
	return 0;
}

struct ibv_pd *
ibv_alloc_pd(struct ibv_context *verbs)
{
	struct domain *domain = calloc(1, sizeof(*domain));

	fabric_check_alive("ibv_alloc_pd");
	assert(domain != NULL);
	domain->pd.context = verbs;
	fabric.domains++;
	return &domain->pd;
}

int
ibv_dealloc_pd(struct ibv_pd *pd)
{
	struct domain *domain = container_of(pd, struct domain, pd);

	if (domain->users > 0)
		fabric_die("a protection domain is freed before what is in it");
	free(domain);
	fabric.domains--;
	return 0;
}

#undef ibv_reg_mr
struct ibv_mr *
ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	static uint32_t key = 7000;
	struct region *region;

	fabric_check_alive("ibv_reg_mr");
	if (access != IBV_ACCESS_LOCAL_WRITE)
		fabric_die("a memory region with another right than local "
			   "writing");
	if (fabric.memlock) {
		errno = ENOMEM;
		return NULL;
	}
	region = calloc(1, sizeof(*region));
	assert(region != NULL);
	region->mr.context = pd->context;
	region->mr.pd = pd;
	region->mr.addr = addr;
	region->mr.length = length;
	region->mr.lkey = ++key;
	container_of(pd, struct domain, pd)->users++;
	list_add_tail(&region->entry, &fabric.all_regions);
	fabric.regions++;
	fabric.registered += length;
	return &region->mr;
}

int
ibv_dereg_mr(struct ibv_mr *mr)
{
	struct region *region = container_of(mr, struct region, mr);

	container_of(mr->pd, struct domain, pd)->users--;
	list_del(&region->entry);
	fabric.regions--;
	fabric.registered -= mr->length;
	free(region);
	return 0;
}

int
ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attributes, int mask)
{
	fabric_check_alive("ibv_modify_qp");
	(void)qp;
	(void)attributes;
	assert(mask == IBV_QP_MIN_RNR_TIMER);
	return 0;
}

void
fabric_async(enum ibv_event_type type, struct ibv_qp *pair)
{
	assert(async_count < sizeof(asyncs) / sizeof(asyncs[0]));
	asyncs[async_count] = (struct ibv_async_event){ .event_type = type };
	if (pair != NULL)
		asyncs[async_count].element.qp = pair;
	else
		asyncs[async_count].element.port_num = 1;
	async_count++;
	fabric_ring(context.async_fd);
}

int
ibv_get_async_event(struct ibv_context *verbs, struct ibv_async_event *event)
{
	if (async_count == 0) {
		errno = EAGAIN;
		return -1;
	}
	*event = asyncs[0];
	memmove(asyncs, asyncs + 1, --async_count * sizeof(asyncs[0]));
	if (async_count == 0)
		fabric_silence(verbs->async_fd);
	async_open++;
	return 0;
}

void
ibv_ack_async_event(struct ibv_async_event *event)
{
	(void)event;
	async_open--;
}

/* --- life --- */

/* With descriptors of its own, as it is opened. */
void
fabric_plug(void)
{
	if (context.async_fd != 0) {
		close(context.async_fd);
		close(context.cmd_fd);
	}
	context.async_fd = eventfd(0, EFD_CLOEXEC);
	context.cmd_fd = eventfd(0, EFD_CLOEXEC);
	assert(context.async_fd > 0 && context.cmd_fd > 0);
	async_count = 0;
}

bool
fabric_is_let_go(void)
{
	struct stat one, other, null;

	assert(stat("/dev/null", &null) == 0);
	assert(fstat(context.async_fd, &one) == 0);
	assert(fstat(context.cmd_fd, &other) == 0);
	return one.st_rdev == null.st_rdev && other.st_rdev == null.st_rdev;
}

struct ibv_context *
fabric_context(void)
{
	return &context;
}

void
fabric_open(void)
{
	fabric_plug();
	context.device = &device;
	context.ops.poll_cq = fabric_poll_cq;
	context.ops.req_notify_cq = fabric_req_notify_cq;
	context.ops.post_send = post_send;
	context.ops.post_recv = post_recv;
	fabric = (struct fabric){
		.sge_max = 32,
		.wr_max = 1024,
		.cqe_max = 1024,
		.inline_max = 400,
		.queue_max = 1024,
	};
	INIT_LIST_HEAD(&fabric.all_ids);
	INIT_LIST_HEAD(&fabric.all_pairs);
	INIT_LIST_HEAD(&fabric.all_regions);
}

void
fabric_close(void)
{
	if (fabric.channels + fabric.ids + fabric.domains + fabric.regions +
		    fabric.completions + fabric.queues + fabric.pairs +
		    async_open !=
	    0)
		fabric_die("something was not destroyed");
	fabric_plug();
	close(context.async_fd);
	close(context.cmd_fd);
	context.async_fd = 0;
	context.cmd_fd = 0;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * rdma_device - RDMA devices: what they can take, the pool registered with
 * them, and what they tell by themselves.
 *
 * D1  The pool is registered once with a device, for local use only: nobody
 *     else may read or write this host's memory.  The registration stays from
 *     the first connection until the pool goes.
 * D2  An id of our own, bound to the device, keeps librdmacm from closing it
 *     under us while there is no connection, and hears of its removal.
 * D3  After a removal nothing but destruction is asked of a device.  The last
 *     connection that lets go frees it, with all that refers to it: the
 *     removal may be waiting for that.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/log.h"
#include "replication/rdma_private.h"

static LIST_HEAD(devices);

/* --- the end --- */

/*
 * Neither librdmacm nor we may close a device that librdmacm has opened, and it
 * does not itself when the device was the host's only one: but a kernel driver
 * that cannot take a device from its users waits for them.  What the two
 * descriptors refer to is closed in its place.
 */
static void
let_go(const struct ibv_context *verbs)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	(void)dup3(null, verbs->cmd_fd, O_CLOEXEC);
	(void)dup3(null, verbs->async_fd, O_CLOEXEC);
	close(null);
}

static void
device_free(struct rdma_device *device)
{
	assert(list_empty(&device->channels));
	list_del(&device->entry);
	pool_unwatch(&device->user);
	watch_close(&device->watch);
	watch_close(&device->keeper_watch);
	if (device->mr != NULL)
		(void)ibv_dereg_mr(device->mr);
	if (device->pd != NULL)
		(void)ibv_dealloc_pd(device->pd);
	if (device->gone)
		let_go(device->verbs);
	if (device->keeper != NULL)
		(void)rdma_destroy_id(device->keeper);
	if (device->keeper_events != NULL)
		rdma_destroy_event_channel(device->keeper_events);
	free(device);
}

static void
on_pool_free(struct pool_user *user)
{
	struct rdma_device *device =
		container_of(user, struct rdma_device, user);

	assert(list_empty(&device->channels)); /* they hold buffers of it */
	device_free(device);
}

void
rdma_device_put(struct rdma_device *device)
{
	if (device->gone && list_empty(&device->channels))
		device_free(device);
}

static void
fail_all(struct rdma_device *device, int port, const char *text)
{
	struct rdma_channel *rdma;
	struct reason reason;

	(void)reason_set(&reason, -ENODEV, "the RDMA device %s %s",
			 ibv_get_device_name(device->verbs->device), text);
	log_warn("rdma", "%s", reason.text);
	list_for_each_entry (rdma, &device->channels, device_entry) {
		if (port == 0 || rdma->id->port_num == port)
			rdma_fail(rdma, -ENODEV, &reason);
	}
}

void
rdma_device_removed(struct rdma_device *device)
{
	if (device->gone)
		return;
	device->gone = true;
	fail_all(device, 0, "was removed");
}

/* --- what it tells --- */

static void
fail_queue(struct rdma_device *device, const struct ibv_qp *qp,
	   const char *text)
{
	struct rdma_channel *rdma;
	struct reason reason;

	list_for_each_entry (rdma, &device->channels, device_entry) {
		if (rdma->id == NULL || rdma->id->qp != qp)
			continue;
		(void)reason_set(&reason, -EIO, "%s", text);
		rdma_fail(rdma, -EIO, &reason);
	}
}

static void
fail_completions(struct rdma_device *device, const struct ibv_cq *cq)
{
	struct rdma_channel *rdma;
	struct reason reason;

	(void)reason_set(&reason, -EIO, "a completion queue has failed");
	list_for_each_entry (rdma, &device->channels, device_entry) {
		if (rdma->send_cq == cq || rdma->receive_cq == cq)
			rdma_fail(rdma, -EIO, &reason);
	}
}

/* A message came before the last word of the set-up, which may be lost. */
static void
establish(struct rdma_device *device, const struct ibv_qp *qp)
{
	struct rdma_channel *rdma;

	list_for_each_entry (rdma, &device->channels, device_entry) {
		if (rdma->id->qp == qp && rdma->state == RDMA_ACCEPTING)
			(void)rdma_notify(rdma->id, IBV_EVENT_COMM_EST);
	}
}

static void
take_event(struct rdma_device *device, const struct ibv_async_event *event)
{
	switch ((int)event->event_type) {
	case IBV_EVENT_QP_FATAL:
	case IBV_EVENT_QP_REQ_ERR:
	case IBV_EVENT_QP_ACCESS_ERR:
		fail_queue(device, event->element.qp, "the queue pair failed");
		break;
	case IBV_EVENT_CQ_ERR:
		fail_completions(device, event->element.cq);
		break;
	case IBV_EVENT_COMM_EST:
		establish(device, event->element.qp);
		break;
	case IBV_EVENT_PORT_ERR:
		fail_all(device, event->element.port_num, "lost its link");
		break;
	case IBV_EVENT_DEVICE_FATAL:
		rdma_device_removed(device);
		break;
	default:
		log_debug("rdma", "%s: %s",
			  ibv_get_device_name(device->verbs->device),
			  ibv_event_type_str(event->event_type));
		break;
	}
}

static void
on_device(struct watch *watch, unsigned int events)
{
	struct rdma_device *device =
		container_of(watch, struct rdma_device, watch);
	struct ibv_async_event event;

	(void)events;
	for (int i = 0; i < RDMA_EVENTS_MAX; i++) {
		if (ibv_get_async_event(device->verbs, &event) != 0)
			break;
		take_event(device, &event);
		ibv_ack_async_event(&event);
	}
	if (events & WATCH_HUP)
		watch_close(watch); /* it has no more to tell */
	rdma_device_put(device);
}

static void
on_keeper(struct watch *watch, unsigned int events)
{
	struct rdma_device *device =
		container_of(watch, struct rdma_device, keeper_watch);
	struct rdma_cm_event *event;
	bool removed = false;

	(void)events;
	for (int i = 0; i < RDMA_EVENTS_MAX; i++) {
		if (rdma_get_cm_event(device->keeper_events, &event) != 0)
			break;
		removed |= event->event == RDMA_CM_EVENT_DEVICE_REMOVAL;
		(void)rdma_ack_cm_event(event);
	}
	if (removed)
		rdma_device_removed(device);
	rdma_device_put(device);
}

/* --- the beginning --- */

/* D2, on the address that the connection uses. */
static int
keep(struct rdma_device *device, struct rdma_cm_id *id)
{
	struct sockaddr_storage address = { 0 };
	const struct sockaddr *own = rdma_get_local_addr(id);
	struct sockaddr_in *in = (struct sockaddr_in *)&address;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&address;

	if (own->sa_family == AF_INET6)
		memcpy(in6, own, sizeof(*in6));
	else
		memcpy(in, own, sizeof(*in));
	in->sin_port = 0; /* both families have it in one place */
	device->keeper_events = rdma_create_event_channel();
	if (device->keeper_events == NULL ||
	    rdma_create_id(device->keeper_events, &device->keeper, device,
			   RDMA_PS_TCP) < 0 ||
	    rdma_bind_addr(device->keeper, (struct sockaddr *)&address) < 0 ||
	    rdma_set_nonblocking(device->keeper_events->fd) < 0)
		return -errno;
	return watch_open(&device->keeper_watch, device->loop,
			  device->keeper_events->fd, WATCH_READ, on_keeper);
}

static int
query(struct rdma_device *device, struct reason *reason)
{
	struct ibv_device_attr attributes;
	int r = ibv_query_device(device->verbs, &attributes);

	if (r != 0)
		return reason_set(reason, -r, "the RDMA device %s: %s",
				  ibv_get_device_name(device->verbs->device),
				  strerror(r));
	if (attributes.max_sge < 2 ||
	    attributes.max_qp_wr < (int)RDMA_RECEIVES_MIN ||
	    attributes.max_cqe < (int)RDMA_RECEIVES_MIN)
		return reason_set(
			reason, -EOPNOTSUPP,
			"the RDMA device %s is too small: it takes %d elements "
			"and %d work requests of a queue; 2 and %u are needed",
			ibv_get_device_name(device->verbs->device),
			attributes.max_sge, attributes.max_qp_wr,
			RDMA_RECEIVES_MIN);
	device->sends_max = RDMA_SENDS;
	device->receives_max = RDMA_RECEIVES;
	if (device->sends_max > (unsigned int)attributes.max_qp_wr)
		device->sends_max = (unsigned int)attributes.max_qp_wr;
	if (device->receives_max > (unsigned int)attributes.max_qp_wr)
		device->receives_max = (unsigned int)attributes.max_qp_wr;
	if (device->sends_max > (unsigned int)attributes.max_cqe)
		device->sends_max = (unsigned int)attributes.max_cqe;
	if (device->receives_max > (unsigned int)attributes.max_cqe)
		device->receives_max = (unsigned int)attributes.max_cqe;
	return 0;
}

static int
register_pool(struct rdma_device *device, struct reason *reason)
{
	const char *name = ibv_get_device_name(device->verbs->device);
	size_t size = pool_size(device->pool);
	struct rlimit limit = { 0 };
	int error;

	device->pd = ibv_alloc_pd(device->verbs);
	if (device->pd != NULL)
		device->mr = ibv_reg_mr(device->pd, pool_base(device->pool),
					size, IBV_ACCESS_LOCAL_WRITE);
	if (device->mr != NULL)
		return 0;
	error = errno;
	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	if (device->pd != NULL && (error == ENOMEM || error == EPERM) &&
	    limit.rlim_cur != RLIM_INFINITY)
		return reason_set(
			reason, -ENOMEM,
			"%zu MiB of buffers cannot be locked for the RDMA "
			"device %s, the limit is %llu KiB: raise it "
			"(LimitMEMLOCK=infinity in the unit, ulimit -l) or "
			"give a smaller --pool-size",
			size >> 20, name,
			(unsigned long long)limit.rlim_cur >> 10);
	return reason_set(reason, -error,
			  "%zu MiB of buffers cannot be registered with the "
			  "RDMA device %s: %s",
			  size >> 20, name, strerror(error));
}

static int
device_open(struct rdma_device *device, struct rdma_cm_id *id,
	    struct reason *reason)
{
	int r = query(device, reason);

	if (r == 0)
		r = register_pool(device, reason);
	if (r < 0)
		return r;
	r = keep(device, id);
	if (r == 0)
		r = rdma_set_nonblocking(device->verbs->async_fd);
	if (r == 0)
		r = watch_open(&device->watch, device->loop,
			       device->verbs->async_fd, WATCH_READ, on_device);
	if (r < 0)
		(void)reason_set(reason, r, "the RDMA device %s: %s",
				 ibv_get_device_name(device->verbs->device),
				 strerror(-r));
	return r;
}

struct rdma_device *
rdma_device_get(const struct transport_context *context, struct rdma_cm_id *id,
		struct reason *reason)
{
	struct rdma_device *device;

	list_for_each_entry (device, &devices, entry) {
		if (device->verbs == id->verbs &&
		    device->pool == context->pool && !device->gone)
			return device;
	}
	device = calloc(1, sizeof(*device));
	if (device == NULL)
		return NULL;
	device->loop = context->loop;
	device->verbs = id->verbs;
	device->pool = context->pool;
	device->user.on_free = on_pool_free;
	INIT_LIST_HEAD(&device->channels);
	list_add_tail(&device->entry, &devices);
	pool_watch(device->pool, &device->user);
	if (device_open(device, id, reason) < 0) {
		device_free(device);
		return NULL;
	}
	return device;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * replica_rig - see replica_rig.h.
 */
#include "tests/test.h"

#include "tests/replica_rig.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/pool.h"
#include "core/reason.h"
#include "tests/fake_transport.h"

#define SECRET_OF_NONE NULL
#define EXTENT	       (64u << 10)
#define TIMELINE       0x71
#define SECTORS	       (RIG_REGION / 512)

static const struct transport *const transports[] = { &transport_fake, NULL };
static const char *const listens[] = { "fake://" RIG_ADDRESS, NULL };
static const char *const nobody[] = { "fake://nobody", NULL };

/* --- a driver that is a replica, and no more --- */

static struct rig *current;

static uint64_t
some_number(void *arg)
{
	static uint64_t last = 1000;

	(void)arg;
	return ++last;
}

static int
driver_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct replica **replica = driver->data;
	struct reason reason = { "" };
	struct store *store = fake_store_open(&current->file, current->loop);
	int error = 0;

	(void)name;
	(void)flags;
	assert(store != NULL);
	current->options.arbiter = arbiter_none.open(
		&(struct arbiter_context){ .loop = current->loop }, "",
		&reason);
	*replica =
		replica_open(driver, store, &current->options, &error, &reason);
	return *replica == NULL ? td_reason(driver, error, "%s", reason.text)
				: 0;
}

static int
driver_close(td_driver_t *driver)
{
	struct replica **replica = driver->data;

	*replica = replica_close(*replica);
	return 0;
}

static int
driver_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
driver_validate(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static void
driver_queue(td_driver_t *driver, td_request_t treq)
{
	struct replica *replica = *(struct replica **)driver->data;

	if (treq.op == TD_OP_FLUSH && (treq.flags & TD_REQUEST_LAST))
		replica_leave(replica, treq);
	else
		replica_queue(replica, treq);
}

static struct tap_disk driver_replica = {
	.disk_type = "replica",
	.private_data_size = sizeof(struct replica *),
	.td_open = driver_open,
	.td_close = driver_close,
	.td_get_parent_id = driver_parent_id,
	.td_validate_parent = driver_validate,
	.td_queue_read = driver_queue,
	.td_queue_write = driver_queue,
	.td_queue_flush = driver_queue,
	.td_queue_discard = driver_queue,
	.td_queue_write_zeroes = driver_queue,
	.td_queue_block_status = driver_queue,
};

static struct driver_type types[16];

static void
fill_types(void)
{
	size_t count = 0;

	for (; fake_types[count].name != NULL; count++)
		types[count] = fake_types[count];
	types[count] =
		(struct driver_type){ "replica", -1, &driver_replica, "" };
}

/* --- guests --- */

static void
on_done(td_request_t treq, int result)
{
	struct guest_request *request = treq.private;

	assert(!request->done);
	request->done = true;
	request->result = result;
}

static void
queue(struct rig *rig, struct guest_request *request, int op, uint64_t offset,
      uint32_t flags)
{
	td_queue_request(rig->stack.top,
			 (td_request_t){
				 .op = op,
				 .buf = (char *)request->data,
				 .sec = op == TD_OP_FLUSH ? 0 : offset / 512,
				 .secs = op == TD_OP_FLUSH ? 1 : SECTORS,
				 .cb = on_done,
				 .private = request,
				 .flags = flags,
			 });
	loop_run_until_idle(rig->loop);
}

static struct guest_request *
next_request(struct rig *rig)
{
	assert(rig->asked < sizeof(rig->guest) / sizeof(rig->guest[0]));
	return &rig->guest[rig->asked++];
}

struct guest_request *
rig_ask(struct rig *rig, int op, uint64_t offset)
{
	struct guest_request *request = next_request(rig);

	memset(request->data, (int)rig->asked, sizeof(request->data));
	queue(rig, request, op, offset, 0);
	return request;
}

/* --- the rig --- */

struct replica *
rig_replica(struct rig *rig)
{
	return *(struct replica **)rig->stack.images[0]->driver->data;
}

struct fake *
rig_image(struct rig *rig)
{
	return fake_of(&rig->stack, 1);
}

void
rig_pass(struct rig *rig, unsigned int ms)
{
	loop_run_until_idle(rig->loop);
	loop_advance(rig->loop, ms * NS_PER_MS);
	loop_run_until_idle(rig->loop);
}

int
rig_order(struct rig *rig, const char *command)
{
	struct reason reason = { "" };
	int r = replica_command(rig_replica(rig), command, NULL, &reason);

	loop_run_until_idle(rig->loop);
	return r;
}

void
rig_open(struct rig *rig, enum metadata_role role)
{
	struct reason reason = { "" };
	struct link_options *link = &rig->options.link;

	rig->options.role = role;
	rig->options.retry_ms = 500;
	rig->options.tracking = (struct tracker_options){ .region = RIG_REGION,
							  .extent = EXTENT,
							  .capacity = 64 };
	*link = (struct link_options){
		.name = "disk",
		.transports = transports,
		.context = { .loop = rig->loop, .pool = rig->pool },
		.listen = listens,
		.peers = nobody,
		.ping_ms = 200,
		.dead_ms = RIG_DEAD_MS,
		.grace_ms = RIG_GRACE_MS,
		.connect_ms = 100,
		.insecure_network = true,
		.random = some_number,
	};
	current = rig;
	if (image_stack_open(&rig->stack, "replica:|fake:2048", 0, &reason) < 0)
		fail_msg("%s", reason.text);
	rig_pass(rig, 100);
	if (rig->puppet == NULL)
		rig->puppet = puppet_new(rig->loop, SECRET_OF_NONE);
	rig->puppet->hello.role =
		role == METADATA_PRIMARY ? WIRE_SECONDARY : WIRE_PRIMARY;
}

static void
close_stack(struct rig *rig)
{
	assert_int_equal(image_stack_close(&rig->stack, NULL), 0);
	puppet_hang_up(rig->puppet);
}

void
rig_crash(struct rig *rig)
{
	fake_file_abandon(&rig->file);
	close_stack(rig);
}

bool
rig_stop(struct rig *rig)
{
	struct guest_request *last = next_request(rig);

	queue(rig, last, TD_OP_FLUSH, 0, TD_REQUEST_LAST);
	for (int i = 0; i < 60 && !last->done; i++)
		rig_pass(rig, 1000);
	if (!last->done)
		return false;
	close_stack(rig);
	return true;
}

int
rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	log_set_level(LOG_ERR);
	fill_types();
	fake_network_open();
	rig->loop = loop_new_simulated();
	rig->pool = pool_new(rig->loop, POOL_MAX, NULL);
	fake_file_init(&rig->file, 1);
	rig->options.ack = REPLICA_ACK_WRITTEN;
	image_stack_init(&rig->stack, rig->loop, NULL, types, on_done);
	rig->stack.pool = rig->pool;
	*state = rig;
	return 0;
}

int
rig_teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->stack.top != NULL) {
		struct fake *image = rig_image(rig);

		image->hold = false;
		while (image->held_count > 0)
			fake_release(image, 0, 0);
		rig_pass(rig, 100);
		rig_crash(rig);
	}
	rig->puppet = puppet_free(rig->puppet);
	image_stack_done(&rig->stack);
	fake_file_done(&rig->file);
	pool_free(rig->pool);
	loop_free(rig->loop);
	free(rig);
	return 0;
}

/* --- pairs --- */

void
lose_peer(struct rig *rig)
{
	puppet_hang_up(rig->puppet);
	rig_pass(rig, RIG_LOST_MS);
}

/* The puppet is a target, and names nothing of its own (H6). */
static void
name_nothing(struct rig *rig)
{
	struct puppet *puppet = rig->puppet;
	unsigned char bytes[WIRE_REGIONS_HEAD];
	size_t length = wire_encode_regions(NULL, 0, true, bytes);

	puppet_send(puppet,
		    (struct wire_header){ .type = WIRE_REGIONS,
					  .length = (uint32_t)length },
		    bytes, length);
	loop_run_until_idle(rig->loop);
}

void
call_again(struct rig *rig)
{
	struct puppet *puppet = rig->puppet;

	puppet_forget(puppet);
	puppet->session = 0;
	puppet_call(puppet, RIG_ADDRESS);
	rig_pass(rig, 10);
	if (puppet->hello.role == WIRE_PRIMARY && !puppet->closed)
		puppet_begin_fairly(puppet, 0x5e55 + puppet->session,
				    &rig->begin_like);
	rig_pass(rig, 10);
	if (puppet->heard[WIRE_BEGIN] > 0 && puppet->session != 0)
		name_nothing(rig);
	rig_pass(rig, 100);
}

void
pair_as_primary(struct rig *rig)
{
	rig_open(rig, METADATA_PRIMARY);
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_SYNCED], 1);
	assert_int_equal(rig_replica(rig)->state, REPLICA_PAIRED);
	assert_true(rig_replica(rig)->in_sync);
}

void
meet_as_secondary(struct rig *rig)
{
	struct wire_hello *hello;

	rig_open(rig, METADATA_SECONDARY);
	hello = &rig->puppet->hello;
	memset(hello->disk_id, 0xdd, WIRE_ID);
	hello->flags = WIRE_ACTIVE | WIRE_CONSISTENT | WIRE_PRIMARY_LAST;
	hello->epoch = 5;
	history_append(&hello->history, TIMELINE, 5, 0);
	call_again(rig);
	assert_int_equal(rig->puppet->heard[WIRE_BEGUN], 1);
}

uint64_t
offer(struct rig *rig)
{
	static struct wire_synced synced;
	static unsigned char bytes[WIRE_SYNCED_MAX];
	const struct wire_hello *hello = &rig->puppet->hello;
	size_t length;

	memset(&synced, 0, sizeof(synced));
	synced.epoch = hello->epoch;
	memcpy(synced.disk_id, hello->disk_id, WIRE_ID);
	synced.history = hello->history;
	length = wire_encode_synced(&synced, bytes);
	return puppet_send(rig->puppet,
			   (struct wire_header){ .type = WIRE_SYNCED,
						 .epoch = hello->epoch,
						 .length = (uint32_t)length },
			   bytes, length);
}

void
pair_as_secondary(struct rig *rig)
{
	meet_as_secondary(rig);
	puppet_send(rig->puppet,
		    (struct wire_header){ .type = WIRE_COPY_ZERO,
					  .length = PUPPET_SIZE },
		    NULL, 0);
	offer(rig);
	rig_pass(rig, 100);
	assert_int_equal(rig_replica(rig)->state, REPLICA_SYNCED);
}

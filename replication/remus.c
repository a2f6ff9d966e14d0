/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * remus - see remus.h: the driver's face of a replica.
 */
#include "replication/remus.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/io.h"
#include "core/reason.h"
#include "replication/key.h"
#include "replication/replica.h"
#include "replication/tracked.h"

#define NAME_MAX_BYTES IMAGE_NAME_MAX
#define TIME_MAX_MS    (24ul * 3600 * 1000)

struct remus {
	struct replica *replica;   /* owned */
	char text[NAME_MAX_BYTES]; /* the options, cut into pieces */
	char meta[NAME_MAX_BYTES];
	const char *key_file; /* NULL without */
	unsigned char key[KEY_MAX];
	const char *listen[LINK_ADDRESSES_MAX + 1];
	const char *peers[LINK_ADDRESSES_MAX + 1];
	const char *arbiter; /* NULL: none */
	bool on_loss_is_said;
	struct replica_options options;
};

/* --- options --- */

static int
take_url(td_driver_t *driver, const char **list, const char *url)
{
	for (int i = 0; i < LINK_ADDRESSES_MAX; i++) {
		if (list[i] == NULL) {
			list[i] = url;
			return 0;
		}
	}
	return td_reason(driver, -E2BIG, "more than %d addresses",
			 LINK_ADDRESSES_MAX);
}

static int
take_word(td_driver_t *driver, const char *key, const char *value,
	  const char *const *words, int *ret_index)
{
	for (int i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], value) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	return td_reason(driver, -EINVAL, "%s cannot be '%s'", key, value);
}

static int
take_time(td_driver_t *driver, const char *key, const char *value,
	  unsigned int *ret_ms)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(value, &end, 10);
	if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 ||
	    number == 0 || number > TIME_MAX_MS)
		return td_reason(
			driver, -EINVAL,
			"%s cannot be '%s': give 1 to %lu milliseconds", key,
			value, TIME_MAX_MS);
	*ret_ms = (unsigned int)number;
	return 0;
}

/* The time that a key sets; NULL if it is none. */
static unsigned int *
time_of(struct replica_options *options, const char *key)
{
	const struct {
		const char *key;
		unsigned int *ms;
	} times[] = {
		{ "ping-ms", &options->link.ping_ms },
		{ "dead-ms", &options->link.dead_ms },
		{ "grace-ms", &options->link.grace_ms },
		{ "connect-ms", &options->link.connect_ms },
		{ "ack-limit-ms", &options->ack_limit_ms },
		{ "retry-ms", &options->retry_ms },
		{ "resync-latency-ms", &options->resync_latency_ms },
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		if (strcmp(times[i].key, key) == 0)
			return times[i].ms;
	}
	return NULL;
}

static int
take_option(td_driver_t *driver, const char *key, const char *value)
{
	static const char *const roles[] = { "primary", "secondary", NULL };
	static const char *const acks[] = { "received", "written", "durable",
					    NULL };
	static const char *const losses[] = { "continue", "freeze", NULL };
	static const char *const switches[] = { "on", "off", NULL };
	struct remus *remus = driver->data;
	struct replica_options *options = &remus->options;
	int index = 0, r;

	assert(remus != NULL);
	if (strcmp(key, "role") == 0) {
		r = take_word(driver, key, value, roles, &index);
		if (r == 0)
			options->role = index == 0 ? METADATA_PRIMARY
						   : METADATA_SECONDARY;
		return r;
	}
	if (strcmp(key, "ack") == 0) {
		r = take_word(driver, key, value, acks, &index);
		if (r == 0)
			options->ack = (enum replica_ack)index;
		return r;
	}
	if (strcmp(key, "on-peer-loss") == 0) {
		r = take_word(driver, key, value, losses, &index);
		if (r == 0)
			options->on_loss = (enum replica_on_loss)index;
		remus->on_loss_is_said = true;
		return r;
	}
	if (strcmp(key, "rdma-mac") == 0) {
		r = take_word(driver, key, value, switches, &index);
		options->link.context.no_mac = index == 1;
		return r;
	}
	if (strcmp(key, "listen") == 0)
		return take_url(driver, remus->listen, value);
	if (strcmp(key, "peer") == 0)
		return take_url(driver, remus->peers, value);
	if (time_of(options, key) != NULL)
		return take_time(driver, key, value, time_of(options, key));
	r = tracked_take(driver, &options->tracking, key, value);
	if (r != 0)
		return r < 0 ? r : 0;
	if (strcmp(key, "key") == 0)
		remus->key_file = value;
	else if (strcmp(key, "meta") == 0)
		(void)snprintf(remus->meta, sizeof(remus->meta), "%s", value);
	else if (strcmp(key, "arbiter") == 0)
		remus->arbiter = value;
	else if (strcmp(key, "name") == 0)
		options->link.name = value;
	else
		return td_reason(driver, -EINVAL, "there is no option '%s'",
				 key);
	return 0;
}

static int
take_piece(td_driver_t *driver, char *piece)
{
	struct remus *remus = driver->data;
	char *equal = strchr(piece, '=');

	if (*piece == '\0')
		return 0;
	if (strcmp(piece, "insecure-network") == 0) {
		remus->options.link.insecure_network = true;
		return 0;
	}
	if (strcmp(piece, "digest") == 0) {
		remus->options.digest = true;
		return 0;
	}
	if (equal == NULL && strstr(piece, "://") != NULL)
		return take_url(driver, remus->peers, piece);
	if (equal == NULL)
		return td_reason(driver, -EINVAL,
				 "'%s' is neither KEY=VALUE nor a URL", piece);
	*equal = '\0';
	if (equal[1] == '\0')
		return td_reason(driver, -EINVAL, "%s has no value", piece);
	return take_option(driver, piece, equal + 1);
}

/* What no option alone can tell. */
static int
check_options(td_driver_t *driver)
{
	const struct remus *remus = driver->data;

	if (remus->options.role == 0)
		return td_reason(driver, -EINVAL,
				 "say role=primary or role=secondary");
	if (remus->options.role == METADATA_PRIMARY && remus->peers[0] == NULL)
		return td_reason(driver, -EINVAL,
				 "a primary needs the address of its peer: "
				 "peer=URL");
	if (remus->options.role == METADATA_SECONDARY &&
	    remus->listen[0] == NULL)
		return td_reason(driver, -EINVAL,
				 "a secondary needs an address to be called "
				 "at: listen=URL");
	return 0;
}

static int
parse(td_driver_t *driver, const char *name)
{
	struct remus *remus = driver->data;
	char *rest = remus->text, *piece;
	int r;

	remus->options.ack = REPLICA_ACK_WRITTEN;
	(void)snprintf(remus->text, sizeof(remus->text), "%s", name);
	while ((piece = strsep(&rest, ",")) != NULL) {
		r = take_piece(driver, piece);
		if (r < 0)
			return r;
	}
	return check_options(driver);
}

/* --- surroundings --- */

static int
load_key(td_driver_t *driver)
{
	struct remus *remus = driver->data;
	struct transport_context *context = &remus->options.link.context;
	struct reason reason = { "" };
	long length;

	if (remus->key_file == NULL)
		return 0;
	length = key_load(remus->key_file, remus->key, &reason);
	if (length < 0)
		return td_reason(driver, (int)length, "%s",
				 reason_text(&reason, (int)length));
	context->key = remus->key;
	context->key_length = (size_t)length;
	return 0;
}

static int
open_arbiter(td_driver_t *driver)
{
	struct remus *remus = driver->data;
	struct replica_options *options = &remus->options;
	const struct arbiter_context context = {
		.loop = driver->image->stack->loop,
		.io = driver->image->stack->io,
		.disk = options->link.name,
	};
	struct reason reason = { "" };
	const char *name = remus->arbiter != NULL ? remus->arbiter : "none";

	options->arbiter =
		arbiter_open(remus_program.arbiters, &context, name, &reason);
	if (options->arbiter == NULL)
		return td_reason(driver, -EINVAL, "%s",
				 reason_text(&reason, -EINVAL));
	if (options->arbiter->decides && !remus->on_loss_is_said)
		options->on_loss = REPLICA_FREEZE;
	return 0;
}

static int
open_replica(td_driver_t *driver)
{
	struct remus *remus = driver->data;
	struct image_stack *stack = driver->image->stack;
	struct link_options *link = &remus->options.link;
	struct reason reason = { "" };
	struct store *store;
	int r = -EIO;

	link->transports = remus_program.transports;
	link->context.loop = stack->loop;
	link->context.io = stack->io;
	link->context.pool = td_pool(driver);
	link->listen = remus->listen;
	link->peers = remus->peers;
	link->random = remus_program.random;
	link->random_arg = remus_program.random_arg;
	if (link->name == NULL)
		link->name = "disk";
	if (link->context.pool == NULL)
		return td_reason(driver, -EINVAL,
				 "this program has no buffers "
				 "for replicas");
	remus->options.look_at_image = remus_program.look_at_image;
	remus->options.image_path =
		tracked_file(driver, remus_program.look_at_image);
	store = remus_program.open_store(stack->io, remus->meta, true, &reason);
	if (store == NULL)
		return td_reason(driver, r, "%s", reason_text(&reason, r));
	r = open_arbiter(driver);
	if (r < 0) {
		store->ops->close(store);
		return r;
	}
	remus->replica =
		replica_open(driver, store, &remus->options, &r, &reason);
	if (remus->replica == NULL)
		return td_reason(driver, r, "%s", reason_text(&reason, r));
	/* Its first step is durable before anybody sees the disk, so that who
	 * asks it, or orders it about, at once is not told to try again. */
	if (driver->io != NULL)
		io_drain(driver->io);
	if (replica_failure(remus->replica) == NULL)
		return 0;
	(void)td_reason(driver, -EIO, "%s: %s", remus->meta,
			replica_failure(remus->replica));
	remus->replica = replica_close(remus->replica);
	return -EIO;
}

/* --- the driver --- */

static int
remus_open(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct remus *remus = driver->data;
	int r;

	if (td_image_below(driver) == NULL)
		return td_reason(driver, -EINVAL,
				 "it stands over an image: "
				 "remus:OPTIONS|aio:PATH");
	if (flags & (TD_OPEN_RDONLY | TD_OPEN_QUERY))
		return td_reason(driver, -EROFS,
				 "a replica cannot be opened read-only");
	r = parse(driver, name);
	if (r == 0)
		r = tracked_find_meta(driver, remus_program.look_at_image,
				      remus->meta, sizeof(remus->meta));
	if (r == 0)
		r = load_key(driver);
	return r < 0 ? r : open_replica(driver);
}

static int
remus_close(td_driver_t *driver)
{
	struct remus *remus = driver->data;

	if (driver->io != NULL)
		io_drain(driver->io); /* a commit may be under way */
	remus->replica = replica_close(remus->replica);
	memset(remus->key, 0, sizeof(remus->key));
	return 0;
}

static int
remus_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
remus_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static void
remus_queue(td_driver_t *driver, td_request_t treq)
{
	struct remus *remus = driver->data;

	if (treq.op == TD_OP_FLUSH && (treq.flags & TD_REQUEST_LAST))
		replica_leave(remus->replica, treq);
	else
		replica_queue(remus->replica, treq);
}

static int
remus_resize(td_driver_t *driver, td_sector_t sectors)
{
	if (sectors == 0 || sectors == driver->info.size)
		return 0;
	return td_reason(driver, -EOPNOTSUPP,
			 "a replicated disk cannot be resized yet");
}

static void
remus_stats(td_driver_t *driver, struct json_t *object)
{
	const struct remus *remus = driver->data;

	replica_status(remus->replica, object);
}

static int
remus_command(td_driver_t *driver, const char *command, struct json_t *result)
{
	struct remus *remus = driver->data;
	struct reason reason = { "" };
	int r = replica_command(remus->replica, command, result, &reason);

	return r < 0 ? td_reason(driver, r, "%s", reason_text(&reason, r)) : 0;
}

struct tap_disk tapdisk_remus = {
	.disk_type = "tapdisk_remus",
	.private_data_size = sizeof(struct remus),
	.td_open = remus_open,
	.td_close = remus_close,
	.td_get_parent_id = remus_get_parent_id,
	.td_validate_parent = remus_validate_parent,
	.td_queue_read = remus_queue,
	.td_queue_write = remus_queue,
	.td_queue_flush = remus_queue,
	.td_queue_discard = remus_queue,
	.td_queue_write_zeroes = remus_queue,
	.td_queue_block_status = remus_queue,
	.td_resize = remus_resize,
	.td_stats = remus_stats,
	.td_command = remus_command,
};

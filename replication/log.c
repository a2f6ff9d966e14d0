/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * log - see log.h.
 *
 * L1  A change is forwarded when its extents are in the durable log (W1), and
 *     stamped then with an epoch that is durable (W2); it is held until it has
 *     come back.
 * L2  A checkpoint is confirmed when every change of its epoch has come back.
 * L3  With its metadata lost it serves no more: changes that nobody notes would
 *     make the next answer wrong.
 */
#include "replication/log.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/image.h"
#include "core/io.h"
#include "core/log.h"
#include "core/reason.h"
#include "replication/ask.h"
#include "replication/checkpoint.h"
#include "replication/remus.h"
#include "replication/tracked.h"

#define REQUESTS 320 /* the vbd's depth, and room for parts */

struct log {
	td_driver_t *driver; /* borrowed */
	bool forwards;	     /* above remus: that tracks */
	char text[IMAGE_NAME_MAX];
	char meta[IMAGE_NAME_MAX];
	struct tracker_options options;
	struct metadata *metadata; /* owned */
	struct tracker tracker;
	struct image_io io;
	bool started, failed, stopping;
	int error;	/* that its metadata failed with */
	uint64_t epoch; /* that changes carry: durable */

	struct list_head free, waiting, active;
	struct log_request *requests; /* owned */

	/* a checkpoint on its way (E1) */
	struct task work;
	struct metadata_commit commit;
	bool committing;
	enum ask_verb verb;
	char due[METADATA_CHECKPOINT_NAME];

	/* the end */
	td_request_t last;
	struct image_op flush;
	int last_error;
};

struct log_request {
	struct list_head entry;
	struct log *log;
	td_request_t treq;
	struct tracker_hold hold;
	int left; /* sectors that have not come back */
	uint64_t epoch;
};

static struct metadata_state *
state_of(const struct log *log)
{
	return metadata_state(log->metadata);
}

/* --- changes --- */

static void
on_part(td_request_t part, int error)
{
	struct log_request *request = part.cb_data;
	struct log *log = request->log;
	td_request_t treq = request->treq;

	treq.buf = part.buf;
	treq.sec = part.sec;
	treq.secs = part.secs;
	if (error < 0 && error != -EBUSY) /* F1 */
		tracker_suspect(&log->tracker, part.sec << SECTOR_SHIFT,
				(uint64_t)part.secs << SECTOR_SHIFT);
	request->left -= part.secs;
	assert(request->left >= 0);
	if (request->left == 0) {
		tracker_release(&log->tracker, request->hold.offset,
				request->hold.length);
		list_move_tail(&request->entry, &log->free);
		task_post(&log->work);
	}
	td_complete_request(treq, error);
}

static void
on_held(struct tracker_hold *hold)
{
	struct log_request *request =
		container_of(hold, struct log_request, hold);
	struct log *log = request->log;
	td_request_t treq = request->treq;

	list_move_tail(&request->entry, &log->active);
	request->epoch = log->epoch;
	request->left = treq.secs;
	tracker_stamp(&log->tracker, hold->offset, hold->length,
		      request->epoch);
	treq.cb = on_part;
	treq.cb_data = request;
	td_forward_request(treq);
}

static void
begin(struct log *log, td_request_t treq)
{
	struct log_request *request;

	if (list_empty(&log->free)) {
		td_complete_request(treq, -EBUSY);
		return;
	}
	request = list_first_entry(&log->free, struct log_request, entry);
	list_move_tail(&request->entry, &log->waiting);
	request->treq = treq;
	request->hold = (struct tracker_hold){
		.offset = treq.sec << SECTOR_SHIFT,
		.length = (uint64_t)treq.secs << SECTOR_SHIFT,
		.on_held = on_held,
	};
	if (tracker_hold(&log->tracker, &request->hold))
		on_held(&request->hold);
}

static void
queue_change(struct log *log, td_request_t treq)
{
	uint64_t most = tracker_max_length(&log->tracker) >> SECTOR_SHIFT;
	int left = treq.secs;

	if (log->failed || !log->started) {
		td_complete_request(treq, log->failed ? -EIO : -EBUSY);
		return;
	}
	while (left > 0) {
		treq.secs = (uint64_t)left < most ? left : (int)most;
		left -= treq.secs;
		begin(log, treq);
		treq.sec += (td_sector_t)treq.secs;
		if (treq.op == TD_OP_WRITE)
			treq.buf += (size_t)treq.secs << SECTOR_SHIFT;
	}
}

/* --- its metadata --- */

/* The stop of a log that failed waits for the image only. */
static void
end_failed(struct log *log)
{
	if (!log->failed || !log->stopping || log->io.pending > 0)
		return;
	log->stopping = false;
	td_complete_request(log->last, -EIO);
}

/* L3 */
static void
on_failed(void *owner, int error)
{
	struct log *log = owner;
	char why[REASON_MAX];

	if (!log->failed) {
		(void)snprintf(why, sizeof(why),
			       "the metadata of its changes cannot be written "
			       "(%s): make room or replace the disk they are "
			       "on, and start it again",
			       strerror(-error));
		log_error("log", "%s", why);
		td_set_service(log->driver, TD_SERVICE_REFUSED, why);
	}
	log->failed = true;
	log->error = error;
	while (!list_empty(&log->waiting)) {
		struct log_request *request = list_first_entry(
			&log->waiting, struct log_request, entry);

		tracker_cancel(&log->tracker, &request->hold);
		list_move_tail(&request->entry, &log->free);
		td_complete_request(request->treq, -EIO);
	}
	end_failed(log);
}

static void
on_flush_failed(void *owner, int error)
{
	(void)owner;
	log_error("log", "a flush of the image failed: %s", strerror(-error));
}

static const struct tracker_events events = {
	.on_failed = on_failed,
	.on_flush_failed = on_flush_failed,
};

static void
on_started(void *owner)
{
	struct log *log = owner;

	log->started = true;
	log->epoch = state_of(log)->epoch;
	td_set_service(log->driver, TD_SERVICE_OPEN, "");
	task_post(&log->work);
}

static void
random_bytes(void *bytes, size_t length)
{
	if (getrandom(bytes, length, 0) != (ssize_t)length)
		abort(); /* ids that are not unique would be a lie */
}

static void
begin_new(struct log *log)
{
	const td_disk_info_t *info = &log->driver->info;
	struct metadata_state *state = state_of(log);
	uint64_t timeline;

	random_bytes(state->replica_id, METADATA_ID);
	random_bytes(state->disk_id, METADATA_ID);
	random_bytes(&timeline, sizeof(timeline));
	state->role = METADATA_PRIMARY;
	state->size = info->size << SECTOR_SHIFT;
	state->sector_size = (uint32_t)info->sector_size;
	state->consistent = state->active = state->primary_last = true;
	state->epoch = 1;
	history_append(&state->history, timeline, 1, 0);
}

/* Whether the disk may be written to without a peer (C2). */
static int
check_state(const struct log *log, struct reason *reason)
{
	const td_disk_info_t *info = &log->driver->info;
	const struct metadata_state *state = state_of(log);
	bool paired = state->role != METADATA_PRIMARY || !state->active ||
		      !state->consistent || state->history.count == 0;

	for (int i = 0; i < METADATA_PEERS; i++)
		paired = paired || state->peer[i].may_be_synced;
	if (paired)
		return reason_set(reason, -EEXIST,
				  "%s: they are those of a replica whose peer "
				  "may have gone on: open it with --role and "
				  "--peer",
				  log->meta);
	if (state->size != (uint64_t)info->size << SECTOR_SHIFT ||
	    state->sector_size != info->sector_size)
		return reason_set(reason, -EMEDIUMTYPE,
				  "%s: they are of a disk of %llu bytes, and "
				  "the image has another size: is it the "
				  "disk's image?",
				  log->meta, (unsigned long long)state->size);
	return 0;
}

/* --- checkpoints (E1) --- */

static void
on_committed(struct metadata_commit *commit, int error)
{
	struct log *log = container_of(commit, struct log, commit);

	log->committing = false;
	if (error < 0) {
		on_failed(log, error);
		return;
	}
	log->epoch = state_of(log)->epoch;
	task_post(&log->work);
}

static void
commit(struct log *log)
{
	log->committing = true;
	log->commit.on_done = on_committed;
	metadata_commit(log->metadata, &log->commit);
}

static bool
is_under_way(const struct log *log, uint64_t epoch)
{
	const struct log_request *request;

	list_for_each_entry (request, &log->active, entry) {
		if (request->epoch <= epoch)
			return true;
	}
	return false;
}

/* L2 */
static void
confirm(struct log *log)
{
	struct metadata_state *state = state_of(log);

	for (unsigned int i = 0; i < state->checkpoints; i++) {
		struct metadata_checkpoint *row = &state->checkpoint[i];

		if (row->confirmed || is_under_way(log, row->epoch))
			continue;
		row->confirmed = true;
		commit(log);
		return;
	}
}

static void
on_work(struct task *task)
{
	struct log *log = container_of(task, struct log, work);

	end_failed(log);
	if (!log->started || log->failed || log->stopping || log->committing)
		return;
	if (log->due[0] == '\0') {
		confirm(log);
		return;
	}
	if (log->verb == ASK_CREATE)
		(void)checkpoint_cut(state_of(log), log->due, NULL);
	else
		(void)checkpoint_delete(state_of(log), log->due, NULL);
	log->due[0] = '\0';
	commit(log);
}

static int
command_checkpoint(struct log *log, const char *words, struct json_t *result,
		   struct reason *reason)
{
	char name[METADATA_CHECKPOINT_NAME] = { 0 };
	enum ask_verb verb;
	int r = ask_parse(words, &verb, name, reason);

	if (r < 0)
		return r;
	if (verb == ASK_LIST) {
		ask_list(state_of(log), result);
		return 0;
	}
	if (log->due[0] != '\0')
		return reason_set(
			reason, -EBUSY,
			"another checkpoint is being made: try again");
	if (verb == ASK_CREATE)
		r = checkpoint_may_cut(state_of(log), name, reason);
	else
		r = checkpoint_find(state_of(log), name, reason) ? 0 : -ENOENT;
	if (r < 0)
		return r;
	log->verb = verb;
	memcpy(log->due, name, sizeof(name));
	task_post(&log->work);
	if (verb == ASK_CREATE)
		(void)json_object_set_new(
			result, "checkpoint",
			json_pack("{s:s, s:b}", "name", name, "confirmed", 0));
	return 0;
}

static int
command(struct log *log, const char *text, struct json_t *result,
	struct reason *reason)
{
	if (log->forwards)
		return image_stack_command(log->driver->image->stack, "remus",
					   text, result, reason);
	if (log->failed)
		return reason_set(reason, -EIO,
				  "what changed is not on record any more, "
				  "since the metadata failed: %s",
				  strerror(-log->error));
	if (!log->started)
		return reason_set(reason, -EBUSY,
				  "what changed is still being read from the "
				  "metadata: try again");
	if (strncmp(text, "checkpoint", 10) == 0)
		return command_checkpoint(log, text + 10, result, reason);
	if (strncmp(text, "changed", 7) == 0)
		return ask_changed(&log->tracker, state_of(log), text + 7,
				   result, reason);
	return reason_set(reason, -EINVAL,
			  "'%s' is no command: checkpoint and changed are",
			  text);
}

/* --- the end --- */

static void
on_stopped(void *owner)
{
	struct log *log = owner;

	log->stopping = false;
	td_complete_request(log->last, log->last_error);
}

static void
on_last_flushed(struct image_op *op, int error)
{
	struct log *log = container_of(op, struct log, flush);
	const char *path =
		tracked_file(log->driver, remus_program.look_at_image);
	uint64_t size = 0, time_ns = 0;

	log->last_error = error;
	if (log->failed)
		return; /* on_image_idle() sees to it */
	if (error < 0)
		tracker_distrust(&log->tracker);
	if (path == NULL || !remus_program.look_at_image(path, &size, &time_ns))
		size = time_ns = 0;
	tracker_stop(&log->tracker, size, time_ns, on_stopped);
}

static void
on_image_idle(struct image_io *io)
{
	task_post(&container_of(io, struct log, io)->work);
}

static void
leave(struct log *log, td_request_t treq)
{
	log->last = treq;
	log->stopping = true;
	log->flush = (struct image_op){ .op = TD_OP_FLUSH,
					.on_done = on_last_flushed };
	image_io_start(&log->io, &log->flush);
}

/* --- opening --- */

static int
parse(struct log *log, const char *name)
{
	td_driver_t *driver = log->driver;
	char *rest = log->text, *piece, *value;
	int r;

	(void)snprintf(log->text, sizeof(log->text), "%s", name);
	while ((piece = strsep(&rest, ",")) != NULL) {
		if (*piece == '\0')
			continue;
		if (log->forwards)
			return td_reason(driver, -EINVAL,
					 "above remus it has no options: say "
					 "them to remus");
		value = strchr(piece, '=');
		if (value == NULL || value[1] == '\0')
			return td_reason(driver, -EINVAL,
					 "'%s' is no KEY=VALUE", piece);
		*value++ = '\0';
		r = tracked_take(driver, &log->options, piece, value);
		if (r < 0)
			return r;
		if (r == 0 && strcmp(piece, "meta") == 0)
			(void)snprintf(log->meta, sizeof(log->meta), "%s",
				       value);
		else if (r == 0)
			return td_reason(driver, -EINVAL,
					 "there is no option '%s'", piece);
	}
	return log->forwards
		       ? 0
		       : tracked_find_meta(driver, remus_program.look_at_image,
					   log->meta, sizeof(log->meta));
}

static int
allocate(struct log *log)
{
	INIT_LIST_HEAD(&log->free);
	INIT_LIST_HEAD(&log->waiting);
	INIT_LIST_HEAD(&log->active);
	log->requests = calloc(REQUESTS, sizeof(*log->requests));
	if (log->requests == NULL)
		return -ENOMEM;
	for (int i = 0; i < REQUESTS; i++) {
		log->requests[i].log = log;
		list_add_tail(&log->requests[i].entry, &log->free);
	}
	return 0;
}

static int
open_metadata(struct log *log, struct reason *reason)
{
	struct image_stack *stack = log->driver->image->stack;
	struct store *store =
		remus_program.open_store(stack->io, log->meta, true, reason);
	const char *path =
		tracked_file(log->driver, remus_program.look_at_image);
	uint64_t size, time_ns;
	bool is_new = false;
	int r;

	if (store == NULL)
		return -EIO;
	log->metadata = metadata_open(stack->loop, store, &is_new, reason);
	if (log->metadata == NULL)
		return -EBADMSG;
	if (is_new)
		begin_new(log);
	r = check_state(log, reason);
	log->options.is_new = is_new;
	if (r == 0)
		r = tracker_open(&log->tracker, stack->loop, log->metadata,
				 &log->io, &log->options, &events, reason);
	if (r < 0)
		return r;
	log->tracker.owner = log;
	if (path != NULL &&
	    remus_program.look_at_image(path, &size, &time_ns) &&
	    tracker_check_image(&log->tracker, size, time_ns))
		log_warn("log",
			 "%s was changed while it was not tracked: every "
			 "region counts as changed",
			 path);
	state_of(log)->incarnation++;
	return 0;
}

static int log_close_driver(td_driver_t *driver);

static int
log_open_driver(td_driver_t *driver, const char *name, td_flag_t flags)
{
	struct log *log = driver->data;
	td_image_t *below = td_image_below(driver);
	struct reason reason = { "" };
	int r;

	if (below == NULL)
		return td_reason(driver, -EINVAL,
				 "it stands over an image: log:|aio:PATH");
	if (flags & (TD_OPEN_RDONLY | TD_OPEN_QUERY))
		return td_reason(driver, -EROFS,
				 "a disk that is opened read-only has no "
				 "changes to track");
	log->driver = driver;
	log->forwards = below->driver->ops == &tapdisk_remus;
	r = parse(log, name);
	if (r < 0 || log->forwards)
		return r;
	task_init(&log->work, driver->image->stack->loop, on_work);
	image_io_init(&log->io, driver->image->stack->loop, below);
	log->io.on_idle = on_image_idle;
	r = allocate(log);
	if (r == 0)
		r = open_metadata(log, &reason);
	if (r < 0) {
		(void)log_close_driver(driver);
		return td_reason(driver, r, "%s", reason_text(&reason, r));
	}
	td_set_service(driver, TD_SERVICE_HELD, "it is being opened");
	tracker_start(&log->tracker, on_started);
	/* Durable before anybody sees the disk, as with a replica. */
	if (driver->io != NULL)
		io_drain(driver->io);
	if (!log->failed)
		return 0;
	(void)log_close_driver(driver);
	return td_reason(
		driver, -EIO,
		"%s: the metadata cannot be written (%s): make room or "
		"replace the disk they are on",
		log->meta, strerror(-log->error));
}

static int
log_close_driver(td_driver_t *driver)
{
	struct log *log = driver->data;

	if (log->forwards)
		return 0;
	if (driver->io != NULL)
		io_drain(driver->io); /* a commit may be under way */
	task_cancel(&log->work);
	log->metadata = metadata_close(log->metadata);
	tracker_close(&log->tracker);
	image_io_done(&log->io);
	free(log->requests);
	log->requests = NULL;
	return 0;
}

static int
log_get_parent_id(td_driver_t *driver, td_disk_id_t *id)
{
	(void)driver;
	(void)id;
	return TD_NO_PARENT;
}

static int
log_validate_parent(td_driver_t *driver, td_driver_t *parent, td_flag_t flags)
{
	(void)driver;
	(void)parent;
	(void)flags;
	return -EINVAL;
}

static void
log_queue(td_driver_t *driver, td_request_t treq)
{
	struct log *log = driver->data;

	bool is_flush = treq.op == TD_OP_FLUSH;
	bool changes = !is_flush && treq.op != TD_OP_READ &&
		       treq.op != TD_OP_BLOCK_STATUS;

	if (!log->forwards && changes)
		queue_change(log, treq);
	else if (!log->forwards && is_flush && treq.flags & TD_REQUEST_LAST)
		leave(log, treq);
	else
		td_forward_request(treq);
}

static int
log_resize(td_driver_t *driver, td_sector_t sectors)
{
	if (sectors == 0 || sectors == driver->info.size)
		return 0;
	return td_reason(driver, -EOPNOTSUPP,
			 "a disk whose changes are tracked cannot be resized "
			 "yet");
}

static void
log_stats(td_driver_t *driver, struct json_t *object)
{
	const struct log *log = driver->data;

	if (log->forwards)
		return;
	(void)json_object_set_new(object, "tracking",
				  tracker_json(&log->tracker));
	(void)json_object_set_new(object, "epoch",
				  json_integer((json_int_t)log->epoch));
}

static int
log_command(td_driver_t *driver, const char *text, struct json_t *result)
{
	struct reason reason = { "" };
	int r = command(driver->data, text, result, &reason);

	return r < 0 ? td_reason(driver, r, "%s", reason_text(&reason, r)) : 0;
}

struct tap_disk tapdisk_log = {
	.disk_type = "tapdisk_log",
	.private_data_size = sizeof(struct log),
	.td_open = log_open_driver,
	.td_close = log_close_driver,
	.td_get_parent_id = log_get_parent_id,
	.td_validate_parent = log_validate_parent,
	.td_queue_read = log_queue,
	.td_queue_write = log_queue,
	.td_queue_flush = log_queue,
	.td_queue_discard = log_queue,
	.td_queue_write_zeroes = log_queue,
	.td_queue_block_status = log_queue,
	.td_resize = log_resize,
	.td_stats = log_stats,
	.td_command = log_command,
};

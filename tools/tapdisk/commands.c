/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * commands.c - what the control socket can ask of the daemon.
 *
 * Each handler unpacks its arguments strictly, does one thing, and answers.
 * docs/control.md has the members of arguments and results.
 */
#include <errno.h>
#include <unistd.h>

#include "core/log.h"
#include "core/reason.h"
#include "tools/tapdisk/daemon.h"
#include "tools/tapdisk/options.h"

/* The end of a change that a command asked for. */
static void
on_changed(struct daemon *daemon, void *arg, int error,
	   const struct reason *reason)
{
	struct control_call *call = arg;

	if (error < 0)
		control_refuse(call, error, reason);
	else
		control_reply(call, report_status(daemon));
}

/* Answers with the status, or with a refusal. */
static void
answer(struct control_call *call, int error, const struct reason *reason)
{
	on_changed(control_context(call), call, error, reason);
}

static void
command_status(struct control_call *call, json_t *arguments)
{
	if (control_unpack(call, arguments, "{}"))
		answer(call, 0, NULL);
}

static void
command_stats(struct control_call *call, json_t *arguments)
{
	if (control_unpack(call, arguments, "{}"))
		control_reply(call, report_stats(control_context(call)));
}

static void
command_attach(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	int minor, fd;

	if (!control_unpack(call, arguments, "{s:i}", "minor", &minor))
		return;
	if (daemon->minor != RUN_DIR_NO_MINOR) {
		reason_set(&reason, -EBUSY,
			   "%s is attached to minor %d already; detach it "
			   "first",
			   daemon->name, daemon->minor);
		control_refuse(call, -EBUSY, &reason);
		return;
	}
	fd = run_dir_hold_minor(daemon->options->run_dir, minor, &reason);
	if (fd >= 0) {
		daemon->minor_fd = fd;
		daemon->minor = minor;
	}
	answer(call, fd < 0 ? fd : 0, &reason);
}

/* A daemon that serves nothing and belongs to no minor has no use left. */
static void
command_detach(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	int r = 0;

	if (!control_unpack(call, arguments, "{}"))
		return;
	if (daemon->minor == RUN_DIR_NO_MINOR)
		r = reason_set(&reason, -ENODEV, "%s is attached to no minor",
			       daemon->name);
	else if (vbd_state(daemon->vbd) != VBD_CLOSED)
		r = reason_set(&reason, -EBUSY,
			       "%s is %s; close it before it is detached",
			       daemon->name,
			       vbd_state_name(vbd_state(daemon->vbd)));
	if (r == 0) {
		run_dir_drop_minor(daemon->minor_fd);
		daemon->minor_fd = -1;
		daemon->minor = RUN_DIR_NO_MINOR;
	}
	answer(call, r, &reason);
	if (r == 0)
		daemon_stop(daemon);
}

static void
command_open(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	struct vbd_options disk = { 0 };
	char image[IMAGE_NAME_MAX];
	int read_only = daemon->options->read_only;
	int direct = !daemon->options->no_direct;
	int timeout_s = (int)daemon->options->timeout_s;
	int r;

	if (!control_unpack(call, arguments, "{s:s, s?b, s?b, s?i}", "image",
			    &disk.image, "read_only", &read_only, "direct",
			    &direct, "timeout", &timeout_s))
		return;
	if (timeout_s < 0)
		r = reason_set(&reason, -EINVAL, "a time limit of %d s is none",
			       timeout_s);
	else if (daemon->stopping)
		r = reason_set(&reason, -ESHUTDOWN, "%s is about to end",
			       daemon->name);
	else
		r = pair_compose(&daemon->options->pair, daemon->name,
				 disk.image, image, sizeof(image), &reason);
	if (r == 0) {
		disk.image = image;
		disk.flags = options_open_flags(read_only, !direct);
		disk.timeout_s = (unsigned int)timeout_s;
		r = disk_open(daemon, &disk, &reason);
	}
	answer(call, r, &reason);
}

static void
command_close(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	int force = 0, limit_s = 0, r;
	struct reason reason = { "" };
	unsigned int clients;

	if (!control_unpack(call, arguments, "{s?b, s?i}", "force", &force,
			    "timeout", &limit_s))
		return;
	clients = disk_clients(daemon);
	if (clients > 0 && !force)
		r = reason_set(&reason, -EBUSY,
			       "%u client%s of %s would lose the disk; "
			       "disconnect first, or force it with -f",
			       clients, clients == 1 ? "" : "s", daemon->name);
	else
		r = disk_close(daemon, limit_s > 0 ? (unsigned int)limit_s : 0,
			       on_changed, call, &reason);
	if (r < 0)
		control_refuse(call, r, &reason);
}

static void
command_pause(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	int limit_s = 0, r;

	if (!control_unpack(call, arguments, "{s?i}", "timeout", &limit_s))
		return;
	r = disk_pause(daemon, limit_s > 0 ? (unsigned int)limit_s : 0,
		       on_changed, call, &reason);
	if (r < 0)
		control_refuse(call, r, &reason);
}

static void
command_unpause(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	const char *image = NULL;
	char name[IMAGE_NAME_MAX];
	int r;

	if (!control_unpack(call, arguments, "{s?s}", "image", &image))
		return;
	r = pair_keep(vbd_image_name(daemon->vbd), daemon->role, image, name,
		      sizeof(name), &reason);
	if (r == 0)
		r = vbd_unpause(daemon->vbd, name, &reason);
	answer(call, r, &reason);
}

static void
command_resize(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	json_int_t size = 0;
	int r;

	if (!control_unpack(call, arguments, "{s?I}", "size", &size))
		return;
	if (size < 0)
		r = reason_set(&reason, -EINVAL, "a size of %lld is none",
			       (long long)size);
	else
		r = vbd_resize(daemon->vbd, (uint64_t)size, &reason);
	answer(call, r, &reason);
}

/* Instructions in a driver's own words: {"type": "fault", "command": ...}. */
void
daemon_instruct(struct control_call *call, const char *type,
		const char *command)
{
	struct daemon *daemon = control_context(call);
	struct reason reason = { "" };
	json_t *result = json_object();
	int r = image_stack_command(vbd_images(daemon->vbd), type, command,
				    result, &reason);

	if (r == 0) {
		control_reply(call, result);
		return;
	}
	json_decref(result);
	control_refuse(call, r, &reason);
}

static void
command_driver(struct control_call *call, json_t *arguments)
{
	const char *type, *command;

	if (control_unpack(call, arguments, "{s:s, s:s}", "type", &type,
			   "command", &command))
		daemon_instruct(call, type, command);
}

static void
command_log_level(struct control_call *call, json_t *arguments)
{
	struct reason reason = { "" };
	const char *word;
	int level;

	if (!control_unpack(call, arguments, "{s:s}", "level", &word))
		return;
	level = options_log_level(word);
	if (level >= 0)
		log_set_level(level);
	else
		reason_set(&reason, level,
			   "log level %.32s is unknown: use error, warning, "
			   "info or debug",
			   word);
	answer(call, level < 0 ? level : 0, &reason);
}

static void
command_exit(struct control_call *call, json_t *arguments)
{
	struct daemon *daemon = control_context(call);

	if (!control_unpack(call, arguments, "{}"))
		return;
	answer(call, 0, NULL);
	daemon_stop(daemon);
}

const struct control_command daemon_commands[] = {
	{ "attach", command_attach },
	{ "changed", track_changed },
	{ "checkpoint-create", track_create },
	{ "checkpoint-delete", track_delete },
	{ "checkpoints", track_list },
	{ "close", command_close },
	{ "demote", pair_demote },
	{ "detach", command_detach },
	{ "driver-command", command_driver },
	{ "exit", command_exit },
	{ "log-level", command_log_level },
	{ "open", command_open },
	{ "pause", command_pause },
	{ "promote", pair_promote },
	{ "resize", command_resize },
	{ "resolve", track_resolve },
	{ "resync", pair_resync },
	{ "stats", command_stats },
	{ "status", command_status },
	{ "unpause", command_unpause },
	{ "verify", pair_verify },
	{ NULL, NULL },
};

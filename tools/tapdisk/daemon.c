/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon.c - puts the process together, runs it, and takes it apart.
 *
 * Signals come through a signalfd and are blocked before any thread is made,
 * so that helper threads inherit the mask.
 */
#include "tools/tapdisk/daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/io.h"
#include "core/log.h"
#include "core/pool.h"
#include "core/reason.h"
#include "tools/tapdisk/options.h"
#include "tools/tapdisk/process.h"

#define LOOK_MS	   5
#define LAST_TURNS 200

/* --- the stop --- */

static void
on_stop_closed(struct daemon *daemon, void *arg, int error,
	       const struct reason *reason)
{
	(void)arg;
	(void)reason; /* logged by the disk */
	if (error < 0)
		daemon->exit_code = EXIT_UNCLEAN;
}

/* Close the disk, as soon as the change under way has ended; then let the
 * last answers leave, for LAST_TURNS looks. */
static void
stop_advance(struct daemon *daemon)
{
	bool closed = vbd_state(daemon->vbd) == VBD_CLOSED && !daemon->change;

	if (closed && (control_is_quiet(daemon->control) ||
		       daemon->last_turns++ == LAST_TURNS)) {
		loop_stop(daemon->loop);
		return;
	}
	if (!closed)
		disk_close(daemon, 0, on_stop_closed, NULL, NULL);
	timer_set(&daemon->stop_look, LOOK_MS * NS_PER_MS);
}

static void
on_stop_look(struct timer *timer)
{
	stop_advance(container_of(timer, struct daemon, stop_look));
}

/* The kernel holds buffers that we cannot take back: no tidy end. */
static void
on_stop_limit(struct timer *timer)
{
	struct daemon *daemon = container_of(timer, struct daemon, stop_limit);

	log_error("daemon",
		  "not stopped within %u s: %u requests are under way; gives "
		  "up, data that was not flushed may be lost",
		  daemon->options->stop_timeout_s, vbd_pending(daemon->vbd));
	run_dir_drop_name(daemon->options->run_dir, daemon->name,
			  daemon->name_fd);
	unlink(daemon->socket);
	if (daemon->options->pid_file)
		unlink(daemon->options->pid_file);
	_exit(EXIT_UNCLEAN);
}

void
daemon_stop(struct daemon *daemon)
{
	if (daemon->stopping)
		return;
	daemon->stopping = true;
	log_info("daemon", "stops");
	process_notify("STOPPING=1");
	timer_set(&daemon->stop_limit,
		  daemon->options->stop_timeout_s * NS_PER_S);
	stop_advance(daemon);
}

static void
on_signal(struct watch *watch, unsigned int events)
{
	struct daemon *daemon = container_of(watch, struct daemon, signals);
	struct signalfd_siginfo info;
	int r;

	(void)events;
	if (read(daemon->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGHUP) {
		daemon_stop(daemon);
		return;
	}
	r = log_reopen();
	if (r < 0)
		log_error("daemon", "cannot open the log again: %s",
			  strerror(-r));
	else
		log_info("daemon", "log opened again");
}

static int
signals_open(struct daemon *daemon, struct reason *reason)
{
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	daemon->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	r = daemon->signal_fd < 0
		    ? -errno
		    : watch_open(&daemon->signals, daemon->loop,
				 daemon->signal_fd, WATCH_READ, on_signal);
	if (r < 0)
		return reason_set(reason, r, "cannot receive signals: %s",
				  strerror(-r));
	return 0;
}

/* --- the start --- */

/* The place in the run directory that makes the disk's name ours. */
static int
claim(struct daemon *daemon, struct reason *reason)
{
	const struct options *options = daemon->options;
	int r;

	if (options->name)
		snprintf(daemon->name, sizeof(daemon->name), "%s",
			 options->name);
	else
		snprintf(daemon->name, sizeof(daemon->name), "tapdisk%d",
			 (int)getpid());
	log_set_disk(daemon->name);
	r = run_dir_make(options->run_dir, options->group, reason);
	if (r < 0)
		return r;
	run_dir_sweep(options->run_dir);
	daemon->name_fd =
		run_dir_hold_name(options->run_dir, daemon->name, reason);
	if (daemon->name_fd < 0)
		return daemon->name_fd;
	return run_dir_path(daemon->socket, options->run_dir, reason, "ctl%d",
			    (int)getpid());
}

static int
assemble(struct daemon *daemon, const struct driver_type *types,
	 struct reason *reason)
{
	const struct options *options = daemon->options;
	int r;

	daemon->loop = loop_new(reason);
	if (!daemon->loop)
		return -EIO;
	loop_set_busy_poll(daemon->loop, options->busy_poll_us * NS_PER_US);
	timer_init(&daemon->stop_limit, daemon->loop, on_stop_limit);
	timer_init(&daemon->stop_look, daemon->loop, on_stop_look);
	r = signals_open(daemon, reason);
	if (r < 0)
		return r;
	daemon->io = io_new(daemon->loop, options->io, reason);
	if (!daemon->io)
		return -EIO;
	daemon->pool = pool_new(daemon->loop, options->pool_bytes, reason);
	if (!daemon->pool)
		return -ENOMEM;
	daemon->vbd = vbd_new(daemon->loop, daemon->io, types);
	if (!daemon->vbd)
		return reason_set(reason, -ENOMEM, "out of memory");
	vbd_set_pool(daemon->vbd, daemon->pool);
	disk_init(daemon);
	events_init(daemon);
	daemon->control = control_new(
		daemon->loop, daemon->socket, options->group >= 0 ? 0660 : 0600,
		options->group, daemon_commands, daemon, reason);
	return daemon->control ? 0 : -EIO;
}

static int
start(struct daemon *daemon, const struct driver_type *types,
      struct reason *reason)
{
	const struct options *options = daemon->options;
	char image[IMAGE_NAME_MAX];
	struct vbd_options disk = {
		.image = image,
		.flags = options_open_flags(options->read_only,
					    options->no_direct),
		.timeout_s = options->timeout_s,
	};
	int r;

	r = claim(daemon, reason);
	if (r == 0)
		r = assemble(daemon, types, reason);
	if (r == 0 && options->image)
		r = pair_compose(&options->pair, daemon->name, options->image,
				 image, sizeof(image), reason);
	if (r == 0 && options->image)
		r = disk_open(daemon, &disk, reason);
	if (r == 0)
		r = process_ready(options->pid_file, reason);
	return r;
}

static void
on_start_failed(struct daemon *daemon, void *arg, int error,
		const struct reason *reason)
{
	(void)arg;
	(void)error;
	(void)reason;
	loop_stop(daemon->loop);
}

/* An open disk is closed in the loop, however far the start came. */
static void
close_after_failure(struct daemon *daemon)
{
	if (!daemon->vbd || vbd_state(daemon->vbd) == VBD_CLOSED)
		return;
	if (!daemon->change &&
	    disk_close(daemon, 0, on_start_failed, NULL, NULL) < 0)
		return;
	daemon->on_done = on_start_failed;
	timer_set(&daemon->stop_limit,
		  daemon->options->stop_timeout_s * NS_PER_S);
	loop_run(daemon->loop);
}

static void
take_apart(struct daemon *daemon)
{
	disk_cut_off(daemon);
	if (daemon->vbd)
		vbd_unlisten(&daemon->listener);
	daemon->vbd = vbd_free(daemon->vbd);
	daemon->pool = pool_free(daemon->pool);
	daemon->io = io_free(daemon->io);
	if (daemon->minor_fd >= 0)
		close(daemon->minor_fd);
	run_dir_drop_name(daemon->options->run_dir, daemon->name,
			  daemon->name_fd);
	/* Its connections end last: who waits for that finds all given up. */
	daemon->control = control_free(daemon->control);
	if (daemon->signal_fd >= 0) {
		watch_close(&daemon->signals);
		close(daemon->signal_fd);
	}
	daemon->loop = loop_free(daemon->loop);
	log_set_disk(NULL);
}

int
daemon_run(const struct options *options, const struct driver_type *types,
	   const struct frontend *const *frontends)
{
	struct daemon daemon = {
		.options = options,
		.frontends = frontends,
		.name_fd = -1,
		.minor_fd = -1,
		.minor = RUN_DIR_NO_MINOR,
		.signal_fd = -1,
		.exit_code = EXIT_STOPPED,
	};
	struct reason reason = { "" };
	int r;

	r = start(&daemon, types, &reason);
	if (r < 0) {
		/* To the person at the terminal, also when the log is not. */
		fprintf(stderr, "tapdisk: %s: %s\n", daemon.name,
			reason_text(&reason, r));
		close_after_failure(&daemon);
		take_apart(&daemon);
		return EXIT_START;
	}
	log_info("daemon", "%s, %s",
		 options->image ? "serves the disk" : "waits for a disk",
		 io_backend_name(daemon.io));
	r = loop_run(daemon.loop);
	if (r < 0) {
		log_error("daemon", "the event loop failed: %s", strerror(-r));
		_exit(EXIT_UNCLEAN);
	}
	log_info("daemon", "stopped");
	take_apart(&daemon);
	if (options->pid_file)
		unlink(options->pid_file);
	return daemon.exit_code;
}

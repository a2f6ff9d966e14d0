/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_options.c - see daemon_options.h.
 */
#include "tools/common/daemon_options.h"

#include <stdio.h>
#include <string.h>

const struct daemon_option daemon_options[DAEMON_OPTIONS] = {
	{ DAEMON_OPTION_NAME, "name", "NAME",
	  "name of the disk, in logs and for tap-ctl", false },
	{ DAEMON_OPTION_READ_ONLY, "read-only", NULL, "let nobody write",
	  false },
	{ DAEMON_OPTION_NBD, "nbd", "ADDRESS",
	  "serve NBD at unix:PATH, tcp:HOST:PORT or\n"
	  "tcp:[IPV6]:PORT; may be given several times",
	  true },
	{ DAEMON_OPTION_NBD_EXPORT, "nbd-export", "NAME",
	  "name of the export (the disk's name)", true },
	{ DAEMON_OPTION_TLS, "tls", "off|on|require",
	  "refuse, allow or demand TLS of NBD clients", true },
	{ DAEMON_OPTION_TLS_CERTIFICATES, "tls-certificates", "DIR",
	  "ca-cert.pem, server-cert.pem, server-key.pem", true },
	{ DAEMON_OPTION_TLS_PSK, "tls-psk", "FILE",
	  "lines of USER:HEXKEY, as psktool writes them", true },
	{ DAEMON_OPTION_TLS_VERIFY_PEER, "tls-verify-peer", NULL,
	  "clients must have a certificate of our CA", true },
	{ DAEMON_OPTION_IO, "io", "libaio|io_uring",
	  "how to do disk I/O (the first that works)", true },
	{ DAEMON_OPTION_REQUEST_TIMEOUT, "request-timeout", "S",
	  "a request fails after S seconds (120)", true },
	{ DAEMON_OPTION_POOL_SIZE, "pool-size", "SIZE",
	  "memory for data under way (64M)", true },
	{ DAEMON_OPTION_BUSY_POLL, "busy-poll", "US",
	  "poll up to US microseconds before sleeping (0)", true },
	{ DAEMON_OPTION_RUN_DIR, "run-dir", "DIR",
	  "where sockets are\n"
	  "($TAPDISK_RUN_DIR, or /run/tapdisk)",
	  false },
	{ DAEMON_OPTION_GROUP, "group", "GROUP",
	  "let this group use the sockets, too", true },
	{ DAEMON_OPTION_LOG, "log", "stderr|syslog|file:PATH",
	  "where messages go (stderr; syslog with --daemon)", true },
	{ DAEMON_OPTION_LOG_LEVEL, "log-level", "LEVEL",
	  "error, warning, info or debug (info)", true },
	{ DAEMON_OPTION_DAEMON, "daemon", NULL,
	  "go to the background once the disk is served, and\n"
	  "print the process id",
	  false },
	{ DAEMON_OPTION_PID_FILE, "pid-file", "PATH",
	  "write the process id once the disk is served", false },
	{ DAEMON_OPTION_STOP_TIMEOUT, "stop-timeout", "S",
	  "when told to stop, end within S seconds (30)", true },
	{ DAEMON_OPTION_VERSION, "version", NULL, "print the version", false },
	{ DAEMON_OPTION_HELP, "help", NULL, "print this text", false },
};

#define HEAD_WIDTH 27

void
option_print_text(const char *head, const char *help)
{
	const char *line = help, *end;

	printf("  %-*s", HEAD_WIDTH - 2, head);
	if (strlen(head) > HEAD_WIDTH - 2)
		printf("\n%*s", HEAD_WIDTH, "");
	while ((end = strchr(line, '\n'))) {
		printf(" %.*s\n%*s", (int)(end - line), line, HEAD_WIDTH, "");
		line = end + 1;
	}
	printf(" %s\n", line);
}

void
option_print(const struct daemon_option *option)
{
	char head[64];

	snprintf(head, sizeof(head), "--%s%s%s", option->name,
		 option->argument ? " " : "",
		 option->argument ? option->argument : "");
	option_print_text(head, option->help);
}

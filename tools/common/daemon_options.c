/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * daemon_options.c - see daemon_options.h.
 */
#include "tools/common/daemon_options.h"

#include <stdio.h>
#include <string.h>

const struct daemon_option daemon_options[DAEMON_OPTIONS] = {
	{ DAEMON_OPTION_NAME, false, "name", "NAME",
	  "name of the disk, in logs and for tap-ctl" },
	{ DAEMON_OPTION_READ_ONLY, false, "read-only", NULL,
	  "let nobody write" },
	{ DAEMON_OPTION_NBD, true, "nbd", "ADDRESS",
	  "serve NBD at unix:PATH, tcp:HOST:PORT or\n"
	  "tcp:[IPV6]:PORT; may be given several times" },
	{ DAEMON_OPTION_NBD_EXPORT, true, "nbd-export", "NAME",
	  "name of the export (the disk's name)" },
	{ DAEMON_OPTION_TLS, true, "tls", "off|on|require",
	  "refuse, allow or demand TLS of NBD clients" },
	{ DAEMON_OPTION_TLS_CERTIFICATES, true, "tls-certificates", "DIR",
	  "ca-cert.pem, server-cert.pem, server-key.pem" },
	{ DAEMON_OPTION_TLS_PSK, true, "tls-psk", "FILE",
	  "lines of USER:HEXKEY, as psktool writes them" },
	{ DAEMON_OPTION_TLS_VERIFY_PEER, true, "tls-verify-peer", NULL,
	  "clients must have a certificate of our CA" },
	{ DAEMON_OPTION_IO, true, "io", "libaio|io_uring",
	  "how to do disk I/O (the first that works)" },
	{ DAEMON_OPTION_REQUEST_TIMEOUT, true, "request-timeout", "S",
	  "a request fails after S seconds (120)" },
	{ DAEMON_OPTION_POOL_SIZE, true, "pool-size", "SIZE",
	  "memory for data under way (64M)" },
	{ DAEMON_OPTION_BUSY_POLL, true, "busy-poll", "US",
	  "poll up to US microseconds before sleeping (0)" },
	{ DAEMON_OPTION_RUN_DIR, false, "run-dir", "DIR",
	  "where sockets are\n"
	  "($TAPDISK_RUN_DIR, or /run/tapdisk)" },
	{ DAEMON_OPTION_GROUP, true, "group", "GROUP",
	  "let this group use the sockets, too" },
	{ DAEMON_OPTION_LOG, true, "log", "stderr|syslog|file:PATH",
	  "where messages go (stderr; syslog with --daemon)" },
	{ DAEMON_OPTION_LOG_LEVEL, true, "log-level", "LEVEL",
	  "error, warning, info or debug (info)" },
	{ DAEMON_OPTION_DAEMON, false, "daemon", NULL,
	  "go to the background once the disk is served, and\n"
	  "print the process id" },
	{ DAEMON_OPTION_PID_FILE, false, "pid-file", "PATH",
	  "write the process id once the disk is served" },
	{ DAEMON_OPTION_STOP_TIMEOUT, true, "stop-timeout", "S",
	  "when told to stop, end within S seconds (30)" },
	{ DAEMON_OPTION_VERSION, false, "version", NULL, "print the version" },
	{ DAEMON_OPTION_HELP, false, "help", NULL, "print this text" },
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

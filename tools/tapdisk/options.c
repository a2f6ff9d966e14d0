/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * options.c - see options.h.
 *
 * A wrong command line gets one sentence that names the option, and
 * EXIT_USAGE.
 */
#include "tools/tapdisk/options.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <jansson.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "core/image.h"
#include "core/pool.h"
#include "core/reason.h"
#include "core/vbd.h"
#include "tools/common/daemon_options.h"
#include "tools/common/run_dir.h"
#include "tools/common/size.h"
#include "tools/tapdisk/process.h"

#ifndef TAPDISK_VERSION
#	define TAPDISK_VERSION "0.1"
#endif

#define STOP_TIMEOUT_S 30
#define BUSY_POLL_US   100
#define SECONDS_MAX    86400
#define POOL_LIMIT     (64ull << 30)
#define POOL_DEFAULT   (64ull << 20)

static const char examples[] =
	"Serve a disk to a virtual machine, and look at it:\n"
	"  truncate -s 10G /srv/vm1.img\n"
	"  tapdisk --name vm1 --nbd unix:/run/vm1.sock aio:/srv/vm1.img\n"
	"  nbdinfo 'nbd+unix:///vm1?socket=/run/vm1.sock'\n"
	"  tap-ctl status --name vm1\n"
	"\n"
	"In the background, for clients on the network, with a shared key:\n"
	"  tapdisk --daemon --name vm1 --nbd 'tcp:*:10809' --tls require \\\n"
	"          --tls-psk /etc/tapdisk/keys.psk aio:/srv/vm1.img\n"
	"\n"
	"A scratch disk in memory:\n"
	"  tapdisk --name scratch --nbd unix:/tmp/scratch.sock ram:64M\n"
	"\n"
	"Without IMAGE it waits for \"tap-ctl attach\" and \"tap-ctl open\".\n"
	"The manual page tapdisk(8) tells the rest.\n";

static void usage_error(const char *format, ...)
	__attribute__((format(printf, 1, 2), noreturn));

static void
usage_error(const char *format, ...)
{
	va_list list;

	fprintf(stderr, "tapdisk: ");
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "; \"tapdisk --help\" shows how\n");
	exit(EXIT_USAGE);
}

static void
print_help(const struct driver_type *types)
{
	char head[64];
	size_t i;

	printf("Usage: tapdisk [OPTIONS] [IMAGE]\n\n"
	       "Serves one virtual disk over NBD until it is told to stop.\n"
	       "IMAGE is TYPE:PATH; filters stand before it: "
	       "FILTER:ARGUMENTS|TYPE:PATH.\n\nTypes:\n");
	for (; types->name; types++) {
		snprintf(head, sizeof(head), "%s:", types->name);
		printf("  %-9s %s\n", head, types->help ? types->help : "");
	}
	printf("\nOptions:\n");
	for (i = 0; i < DAEMON_OPTIONS; i++)
		option_print(&daemon_options[i]);
	printf("\n%s", examples);
}

static uint64_t
take_number(const char *option, const char *text, bool is_size, uint64_t min,
	    uint64_t max)
{
	uint64_t value;
	int r = size_parse(text, &value);

	if (r == -EINVAL || (!is_size && text[strspn(text, "0123456789")]))
		usage_error("--%s %s: not a number", option, text);
	if (r < 0 || value < min || value > max)
		usage_error("--%s %s: must be from %llu to %llu", option, text,
			    (unsigned long long)min, (unsigned long long)max);
	return value;
}

static int
take_group(const char *text)
{
	struct group *group = getgrnam(text);

	if (group)
		return (int)group->gr_gid;
	if (strspn(text, "0123456789") == strlen(text))
		return (int)take_number("group", text, false, 0, INT32_MAX);
	usage_error("--group %s: there is no such group", text);
}

static enum options_tls
take_tls(const char *text)
{
	if (strcmp(text, "off") == 0)
		return OPTIONS_TLS_OFF;
	if (strcmp(text, "on") == 0)
		return OPTIONS_TLS_ON;
	if (strcmp(text, "require") == 0)
		return OPTIONS_TLS_REQUIRE;
	usage_error("--tls %s: must be off, on or require", text);
}

td_flag_t
options_open_flags(bool read_only, bool no_direct)
{
	return (read_only ? TD_OPEN_RDONLY : 0u) |
	       (no_direct ? TD_OPEN_NO_O_DIRECT : 0u);
}

int
options_log_level(const char *word)
{
	static const struct {
		const char *word;
		int level;
	} levels[] = {
		{ "error", LOG_ERR },
		{ "warning", LOG_WARNING },
		{ "info", LOG_INFO },
		{ "debug", LOG_DEBUG },
	};
	size_t i;

	for (i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i].word, word) == 0)
			return levels[i].level;
	return -EINVAL;
}

static void
take_address(struct options *options, const char *text)
{
	if (options->nbd_count == OPTIONS_ADDRESSES_MAX)
		usage_error("--nbd %s: at most %d addresses are possible", text,
			    OPTIONS_ADDRESSES_MAX);
	options->nbd[options->nbd_count++] = text;
}

/* Where an option's text goes as it stands; NULL for the others. */
static const char **
word_of(struct options *options, enum daemon_option_id id)
{
	switch ((int)id) {
	case DAEMON_OPTION_NBD_EXPORT:
		return &options->nbd_export;
	case DAEMON_OPTION_TLS_CERTIFICATES:
		return &options->tls_certificates;
	case DAEMON_OPTION_TLS_PSK:
		return &options->tls_psk;
	case DAEMON_OPTION_IO:
		return &options->io;
	case DAEMON_OPTION_RUN_DIR:
		return &options->run_dir;
	case DAEMON_OPTION_LOG:
		return &options->log;
	case DAEMON_OPTION_PID_FILE:
		return &options->pid_file;
	default:
		return NULL;
	}
}

/* The option that is said by its mere presence; NULL for the others. */
static bool *
flag_of(struct options *options, enum daemon_option_id id)
{
	switch ((int)id) {
	case DAEMON_OPTION_READ_ONLY:
		return &options->read_only;
	case DAEMON_OPTION_NO_DIRECT:
		return &options->no_direct;
	case DAEMON_OPTION_TLS_VERIFY_PEER:
		return &options->tls_verify_peer;
	case DAEMON_OPTION_DAEMON:
		return &options->background;
	default:
		return NULL;
	}
}

static void
take_value(struct options *options, enum daemon_option_id id, const char *text)
{
	switch ((int)id) {
	case DAEMON_OPTION_NAME:
		if (!run_dir_name_is_valid(text))
			usage_error("--name %s: use 1 to %d letters, digits, "
				    "'.', '_' or '-'",
				    text, RUN_DIR_NAME_MAX);
		options->name = text;
		break;
	case DAEMON_OPTION_NBD:
		take_address(options, text);
		break;
	case DAEMON_OPTION_TLS:
		options->tls = take_tls(text);
		break;
	case DAEMON_OPTION_REQUEST_TIMEOUT:
		options->timeout_s = (unsigned int)take_number(
			"request-timeout", text, false, 1, SECONDS_MAX);
		break;
	case DAEMON_OPTION_POOL_SIZE:
		options->pool_bytes = take_number("pool-size", text, true,
						  POOL_MAX, POOL_LIMIT);
		break;
	case DAEMON_OPTION_BUSY_POLL:
		options->busy_poll_us =
			take_number("busy-poll", text, false, 0, 1000000);
		break;
	case DAEMON_OPTION_GROUP:
		options->group = take_group(text);
		break;
	case DAEMON_OPTION_LOG_LEVEL:
		options->log_level = options_log_level(text);
		if (options->log_level < 0)
			usage_error("--log-level %s: must be error, warning, "
				    "info or debug",
				    text);
		break;
	case DAEMON_OPTION_STOP_TIMEOUT:
		options->stop_timeout_s = (unsigned int)take_number(
			"stop-timeout", text, false, 1, SECONDS_MAX);
		break;
	default:
		break;
	}
}

static void
take_option(struct options *options, enum daemon_option_id id, const char *text,
	    const struct driver_type *types)
{
	const struct daemon_option *option = daemon_option_of(id);
	struct reason reason;

	if (id == DAEMON_OPTION_VERSION) {
		printf("tapdisk %s\n", TAPDISK_VERSION);
		exit(EXIT_STOPPED);
	}
	if (id == DAEMON_OPTION_HELP) {
		print_help(types);
		exit(EXIT_STOPPED);
	}
	if (option->use == DAEMON_OPTION_PAIR) {
		if (pair_take(&options->pair, option, text, &reason) < 0)
			usage_error("%s", reason.text);
	} else if (word_of(options, id))
		*word_of(options, id) = text;
	else if (flag_of(options, id))
		*flag_of(options, id) = true;
	else
		take_value(options, id, text);
}

/* What no option alone can tell. */
static void
check_together(const struct options *options)
{
	struct reason reason;
	json_t *text;

	if (options->tls != OPTIONS_TLS_OFF && !options->tls_certificates &&
	    !options->tls_psk)
		usage_error("--tls needs --tls-certificates or --tls-psk");
	if (options->tls_certificates && options->tls_psk)
		usage_error("give --tls-certificates or --tls-psk, not both");
	if (options->tls_verify_peer && !options->tls_certificates)
		usage_error("--tls-verify-peer needs --tls-certificates");
	if (pair_check(&options->pair, &reason) < 0)
		usage_error("%s", reason.text);
	if (pair_is_given(&options->pair) && options->read_only)
		usage_error("--role does not go with --read-only: both "
			    "replicas have to write");
	if (options->image && strlen(options->image) >= IMAGE_NAME_MAX)
		usage_error("the name of the image is too long");
	text = json_string(options->image ? options->image : "");
	if (!text)
		usage_error("the name of the image is not UTF-8");
	json_decref(text);
}

/* With one processor, who polls keeps it from those who are waited for. */
static uint64_t
busy_poll_default(void)
{
	cpu_set_t processors;

	if (sched_getaffinity(0, sizeof(processors), &processors) == 0 &&
	    CPU_COUNT(&processors) == 1)
		return 0;
	return BUSY_POLL_US;
}

void
options_parse(struct options *options, int argc, char **argv,
	      const struct driver_type *types)
{
	struct option table[DAEMON_OPTIONS + 1] = { 0 };
	size_t i;
	int id;

	*options = (struct options){
		.run_dir = run_dir_default(),
		.group = -1,
		.log_level = LOG_INFO,
		.stop_timeout_s = STOP_TIMEOUT_S,
		.pool_bytes = POOL_DEFAULT,
		.busy_poll_us = busy_poll_default(),
		/* As nbdkit: key material turns TLS on unless --tls says. */
		.tls = (enum options_tls) - 1,
	};
	for (i = 0; i < DAEMON_OPTIONS; i++) {
		table[i].name = daemon_options[i].name;
		table[i].has_arg = daemon_options[i].argument != NULL;
		table[i].val = (int)daemon_options[i].id;
	}
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		if (id == ':')
			usage_error("%s needs an argument", argv[optind - 1]);
		if (id == '?')
			usage_error("unknown option %s", argv[optind - 1]);
		take_option(options, (enum daemon_option_id)id, optarg, types);
	}
	if (optind < argc)
		options->image = argv[optind++];
	if (optind < argc)
		usage_error("%s: only one image can be served", argv[optind]);
	if (options->tls == (enum options_tls) - 1)
		options->tls = options->tls_certificates || options->tls_psk
				       ? OPTIONS_TLS_ON
				       : OPTIONS_TLS_OFF;
	if (!options->log)
		options->log = options->background ? "syslog" : "stderr";
	check_together(options);
}

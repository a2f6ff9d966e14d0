/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tap-ctl - commands tapdisk daemons: reads the command line by the tables of
 * tap-ctl/verbs.c and runs one verb.
 */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "tools/common/daemon_options.h"
#include "tools/common/run_dir.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

static const enum arg common_args[] = { ARG_JSON, ARG_RUN_DIR, ARG_DEBUG,
					ARG_HELP };

#define COMMON_ARGS (sizeof(common_args) / sizeof(common_args[0]))
#define TABLE_MAX   (VERB_ARGS_MAX + COMMON_ARGS + DAEMON_OPTIONS + 1)
#define LONG_ONLY   1000 /* getopt value of an arg without a letter */
#define HELP_EXAMPLE                                                           \
	"Examples:\n"                                                          \
	"  tap-ctl create -n vm1 -a aio:/srv/vm1.img\n"                        \
	"  tap-ctl status -n vm1\n"                                            \
	"  tap-ctl status --watch\n"                                           \
	"  tap-ctl destroy -n vm1\n"

static void
print_arg(enum arg arg)
{
	const struct arg_row *row = &arg_rows[arg];
	char letter[] = "-x, ", head[64];

	letter[1] = row->letter;
	snprintf(head, sizeof(head), "%s--%s%s%s",
		 row->letter ? letter : "    ", row->name,
		 row->argument ? " " : "", row->argument ? row->argument : "");
	option_print_text(head, row->help);
}

static void
print_usage(void)
{
	const struct verb *verb;

	printf("Usage: tap-ctl [--debug] VERB [OPTIONS]\n\n"
	       "Commands the tapdisk processes of this host.\n\nVerbs:\n");
	for (verb = verbs; verb->name; verb++)
		printf("  %-10s %s\n", verb->name, verb->summary);
	printf("\n\"tap-ctl VERB --help\" tells of a verb, tap-ctl(8) of "
	       "all.\n\n" HELP_EXAMPLE);
}

/* Of tapdisk's options, those that the verb takes, too. */
static bool
takes(const struct verb *verb, const struct daemon_option *option)
{
	switch (option->use) {
	case DAEMON_OPTION_ALONE:
		return false;
	case DAEMON_OPTION_SPAWN:
		return verb->takes == DAEMON_OPTION_SPAWN;
	case DAEMON_OPTION_PAIR:
		return verb->takes != DAEMON_OPTION_ALONE;
	}
	return false;
}

static void
print_verb(const struct verb *verb)
{
	size_t i;

	printf("Usage: tap-ctl %s [OPTIONS]%s%s\n\n%s: %s.\n\n", verb->name,
	       verb->operands ? " " : "", verb->operands ? verb->operands : "",
	       verb->name, verb->summary);
	if (verb->help)
		printf("%s\n", verb->help);
	printf("Options:\n");
	for (i = 0; i < VERB_ARGS_MAX && verb->args[i]; i++)
		print_arg(verb->args[i]);
	for (i = 0; i < COMMON_ARGS; i++)
		print_arg(common_args[i]);
	if (verb->takes == DAEMON_OPTION_ALONE)
		return;
	printf("\nOptions of tapdisk that are passed on:\n");
	for (i = 0; i < DAEMON_OPTIONS; i++)
		if (takes(verb, &daemon_options[i]))
			option_print(&daemon_options[i]);
}

static int usage_error(const struct context *context, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int
usage_error(const struct context *context, const char *format, ...)
{
	va_list list;

	fprintf(stderr, "tap-ctl %s: ", context->verb->name);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "; \"tap-ctl %s --help\" shows how\n",
		context->verb->name);
	exit(EXIT_USAGE);
}

/* --- the grammar of one verb --- */

static void
add_arg(struct option *table, size_t *count, char *letters, enum arg arg)
{
	const struct arg_row *row = &arg_rows[arg];
	size_t length = strlen(letters);

	table[(*count)++] = (struct option){
		.name = row->name,
		.has_arg = row->argument != NULL,
		.val = row->letter ? row->letter : LONG_ONLY + (int)arg,
	};
	if (!row->letter)
		return;
	letters[length] = row->letter;
	letters[length + 1] = row->argument ? ':' : '\0';
	letters[length + 2] = '\0';
}

static void
build_grammar(const struct verb *verb, struct option *table, char *letters)
{
	size_t i, count = 0;

	for (i = 0; i < VERB_ARGS_MAX && verb->args[i]; i++)
		add_arg(table, &count, letters, verb->args[i]);
	for (i = 0; i < COMMON_ARGS; i++)
		add_arg(table, &count, letters, common_args[i]);
	for (i = 0; i < DAEMON_OPTIONS; i++)
		if (takes(verb, &daemon_options[i]))
			table[count++] = (struct option){
				.name = daemon_options[i].name,
				.has_arg = daemon_options[i].argument != NULL,
				.val = 2 * LONG_ONLY + (int)i,
			};
	table[count] = (struct option){ 0 };
}

/* The arg that getopt means by `value`. */
static enum arg
arg_of(const struct verb *verb, int value)
{
	size_t i;

	if (value >= LONG_ONLY)
		return (enum arg)(value - LONG_ONLY);
	for (i = 0; i < VERB_ARGS_MAX && verb->args[i]; i++)
		if (arg_rows[verb->args[i]].letter == value)
			return verb->args[i];
	return ARG_HELP;
}

static bool
pass_on(struct context *context, int index)
{
	static char words[PASS_MAX][64];
	const struct daemon_option *option = &daemon_options[index];
	char *word = words[context->pass_count];

	if (context->pass_count + 2 > PASS_MAX)
		return false;
	snprintf(word, sizeof(words[0]), "--%s", option->name);
	context->pass[context->pass_count++] = word;
	if (option->argument)
		context->pass[context->pass_count++] = optarg;
	return true;
}

/* Words for the daemon: passed on to the one that is spawned, or composed to
 * the image's name by open. */
static void
take_daemon_option(struct context *context, int index)
{
	struct reason reason;

	if (context->verb->takes == DAEMON_OPTION_SPAWN) {
		if (!pass_on(context, index))
			usage_error(context, "too many options");
		return;
	}
	if (pair_take(&context->pair, &daemon_options[index], optarg, &reason) <
	    0)
		usage_error(context, "%s", reason.text);
}

static void
unknown_option(const struct context *context, const char *word)
{
	const char *instead = verb_instead_of(context->verb, optopt);

	if (instead)
		usage_error(context, "-%c: %s", optopt, instead);
	usage_error(context, "unknown option %s", word);
}

static void
parse(struct context *context, int argc, char **argv)
{
	struct option table[TABLE_MAX];
	char letters[2 * VERB_ARGS_MAX + 8] = ":";
	struct reason reason;
	int value;
	enum arg arg;

	build_grammar(context->verb, table, letters);
	opterr = 0;
	while ((value = getopt_long(argc, argv, letters, table, NULL)) != -1) {
		if (value == ':')
			usage_error(context, "%s needs an argument",
				    argv[optind - 1]);
		if (value == '?')
			unknown_option(context, argv[optind - 1]);
		if (value >= 2 * LONG_ONLY) {
			take_daemon_option(context, value - 2 * LONG_ONLY);
			continue;
		}
		arg = arg_of(context->verb, value);
		context->text[arg] = optarg ? optarg : "";
	}
	if (pair_check(&context->pair, &reason) < 0)
		usage_error(context, "%s", reason.text);
	context->operands = argv + optind;
	context->operand_count = argc - optind;
}

static int
run(struct context *context)
{
	const struct verb *verb = context->verb;

	if (has(context, ARG_HELP)) {
		print_verb(verb);
		return EXIT_OK;
	}
	if (context->operand_count > verb->operands_max)
		usage_error(context, "%s is one word too many",
			    context->operands[verb->operands_max]);
	if (context->operand_count < verb->operands_min)
		usage_error(context, "%s is missing", verb->operands);
	if (has(context, ARG_DEBUG))
		client_trace();
	context->run_dir = has(context, ARG_RUN_DIR)
				   ? context->text[ARG_RUN_DIR]
				   : run_dir_default();
	return verb->run(context);
}

static const struct verb *
find_verb(const char *name)
{
	const struct verb *verb;

	for (verb = verbs; verb->name; verb++)
		if (strcmp(verb->name, name) == 0)
			return verb;
	return NULL;
}

int
main(int argc, char **argv)
{
	struct context context = { 0 };
	int r;

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "--debug") == 0) {
		context.text[ARG_DEBUG] = "";
		argv++;
		argc--;
	}
	if (argc > 1 &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	     strcmp(argv[1], "help") == 0)) {
		print_usage();
		return EXIT_OK;
	}
	if (argc < 2 || !(context.verb = find_verb(argv[1]))) {
		fprintf(stderr,
			"tap-ctl: %s%s; \"tap-ctl --help\" lists the verbs\n",
			argc < 2 ? "a verb is missing" : "unknown verb ",
			argc < 2 ? "" : argv[1]);
		return EXIT_USAGE;
	}
	parse(&context, argc - 1, argv + 1);
	r = run(&context);
	if (fflush(stdout) != 0 && r == EXIT_OK)
		r = complain(&context, EXIT_REFUSED,
			     "cannot write the answer: %m");
	return r;
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * say.c - what all verbs need to read their arguments and to answer.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/reason.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/verbs.h"

int
complain(const struct context *context, int code, const char *format, ...)
{
	va_list list;

	fflush(stdout);
	fprintf(stderr, "tap-ctl %s: ", context->verb->name);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	return code;
}

int
complain_of(const struct context *context, int error,
	    const struct reason *reason)
{
	int code = EXIT_REFUSED;

	if (error == -ENOENT)
		code = EXIT_NONE;
	else if (error == -ETIMEDOUT || error == -ECONNRESET ||
		 error == -EACCES || error == -EPROTO)
		code = EXIT_MUTE;
	return complain(context, code, "%s", reason_text(reason, error));
}

bool
has(const struct context *context, enum arg arg)
{
	return context->text[arg] != NULL;
}

long
number_of(const struct context *context, enum arg arg, long max, long otherwise)
{
	const char *text = context->text[arg];
	uint64_t value;

	if (!text)
		return otherwise;
	if (text[strspn(text, "0123456789")] || size_parse(text, &value) < 0 ||
	    value > (uint64_t)max)
		exit(complain(context, EXIT_USAGE,
			      "--%s %s: must be a number from 0 to %ld",
			      arg_rows[arg].name, text, max));
	return (long)value;
}

void
print_json(const json_t *object)
{
	json_dumpf(object, stdout, JSON_INDENT(2));
	putchar('\n');
}

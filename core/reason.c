/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reason - see reason.h.  Formatting only; owns nothing.
 */
#include "core/reason.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
reason_set(struct reason *reason, int error, const char *format, ...)
{
	va_list args;

	if (reason == NULL)
		return error;
	va_start(args, format);
	(void)vsnprintf(reason->text, sizeof(reason->text), format, args);
	va_end(args);
	return error;
}

const char *
reason_text(const struct reason *reason, int error)
{
	if (reason != NULL && reason->text[0] != '\0')
		return reason->text;
	return strerror(-error);
}

const char *
errno_name(int error)
{
	const char *name = strerrorname_np(-error);

	return name != NULL ? name : "E???";
}

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * reason - the one sentence that goes back to the person who asked.
 *
 * Functions of the control path take a struct reason last.  When they fail
 * they leave what failed, on what, and what to do; when they succeed it is
 * untouched.  A NULL reason is allowed everywhere and costs nothing.
 */
#ifndef CORE_REASON_H
#define CORE_REASON_H

#define REASON_MAX 512 /* bytes, with the final NUL; longer text is cut */

struct reason {
	char text[REASON_MAX];
};

/* Sets the text and returns `error` (a negative errno), so that callers can
 * write: return reason_set(reason, -ENOENT, "..."); */
int reason_set(struct reason *reason, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The text, or if there is none the words for `error` (negative errno). */
const char *reason_text(const struct reason *reason, int error);

/* "ENOENT" for -ENOENT; "E???" for a number without a name. */
const char *errno_name(int error);

#endif

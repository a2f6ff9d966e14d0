/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * arbiter_none - no arbiter: whoever asks hears what he believes, and every
 * swap succeeds.  That a peer is dead is the operator's word then: on-peer-loss
 * continue, promote, promote --alone.
 */
#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/arbiter.h"

static void
none_read(struct arbiter *arbiter, struct arbiter_call *call)
{
	(void)arbiter;
	call->record.revision = 1;
	call->on_done(call, 0);
}

static void
none_cancel(struct arbiter *arbiter, struct arbiter_call *call)
{
	(void)arbiter; /* all calls have ended */
	(void)call;
}

static void
none_close(struct arbiter *arbiter)
{
	(void)arbiter; /* nobody owns it */
}

static const struct arbiter_ops ops = {
	.read = none_read,
	.swap = none_read,
	.cancel = none_cancel,
	.close = none_close,
};

static struct arbiter *
none_open(const struct arbiter_context *context, const char *text,
	  struct reason *reason)
{
	static struct arbiter none = { .ops = &ops, .name = "none" };

	(void)context;
	if (*text == '\0')
		return &none;
	(void)reason_set(reason, -EINVAL, "the arbiter none takes no '%s'",
			 text);
	return NULL;
}

const struct arbiter_type arbiter_none = { .name = "none", .open = none_open };

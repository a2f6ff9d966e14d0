/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * checkpoint - see checkpoint.h.
 *
 * A name is 1 to 63 bytes of letters, digits, '.', '_', '-' and ':', so that it
 * can stand in a command, a file's name and the name of an NBD context.
 */
#include "replication/checkpoint.h"

#include <errno.h>
#include <string.h>

#include "core/reason.h"
#include "replication/bytes.h"

static const char good[] = "abcdefghijklmnopqrstuvwxyz"
			   "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			   "0123456789._-:";

static int
check_name(const char *name, struct reason *reason)
{
	if (*name == '\0')
		return reason_set(reason, -EINVAL, "a checkpoint needs a name");
	if (strlen(name) >= METADATA_CHECKPOINT_NAME)
		return reason_set(reason, -ENAMETOOLONG,
				  "a checkpoint's name has %d bytes at most",
				  METADATA_CHECKPOINT_NAME - 1);
	if (name[strspn(name, good)] != '\0')
		return reason_set(reason, -EINVAL,
				  "a checkpoint's name is made of letters, "
				  "digits and . _ - :");
	return 0;
}

static struct metadata_checkpoint *
find(const struct metadata_checkpoint *rows, unsigned int count,
     const char *name)
{
	for (unsigned int i = 0; i < count; i++) {
		if (strcmp(rows[i].name, name) == 0)
			return (struct metadata_checkpoint
					*)(uintptr_t)&rows[i];
	}
	return NULL;
}

static bool
is_padded(const struct metadata_checkpoint *row)
{
	size_t length = strnlen(row->name, sizeof(row->name));

	for (size_t i = length; i < sizeof(row->name); i++) {
		if (row->name[i] != '\0')
			return false;
	}
	return length < sizeof(row->name);
}

#define CONFIRMED 0x1u

void
checkpoint_encode(const struct metadata_checkpoint *row,
		  unsigned char *ret_bytes)
{
	memset(ret_bytes, 0, CHECKPOINT_BYTES);
	memcpy(ret_bytes, row->name, METADATA_CHECKPOINT_NAME);
	put64(ret_bytes + 64, row->timeline);
	put64(ret_bytes + 72, row->epoch);
	put32(ret_bytes + 80, row->confirmed ? CONFIRMED : 0);
}

int
checkpoint_decode(const unsigned char *bytes,
		  struct metadata_checkpoint *ret_row)
{
	memcpy(ret_row->name, bytes, METADATA_CHECKPOINT_NAME);
	ret_row->timeline = get64(bytes + 64);
	ret_row->epoch = get64(bytes + 72);
	ret_row->confirmed = get32(bytes + 80) & CONFIRMED;
	return get32(bytes + 80) & ~CONFIRMED ? -EBADMSG : 0;
}

int
checkpoints_check(const struct metadata_checkpoint *rows, unsigned int count)
{
	if (count > METADATA_CHECKPOINTS)
		return -EBADMSG;
	for (unsigned int i = 0; i < count; i++) {
		const struct metadata_checkpoint *row = &rows[i];

		if (!is_padded(row) || check_name(row->name, NULL) < 0 ||
		    find(rows, i, row->name) != NULL || row->timeline == 0)
			return -EBADMSG;
	}
	return 0;
}

int
checkpoint_may_cut(const struct metadata_state *state, const char *name,
		   struct reason *reason)
{
	int r = check_name(name, reason);

	if (r < 0)
		return r;
	if (find(state->checkpoint, state->checkpoints, name) != NULL)
		return reason_set(reason, -EEXIST,
				  "there is a checkpoint %s already", name);
	if (state->checkpoints == METADATA_CHECKPOINTS)
		return reason_set(
			reason, -ENOSPC,
			"there are %d checkpoints, which is the most: "
			"delete one",
			METADATA_CHECKPOINTS);
	if (!state->consistent || history_last(&state->history) == NULL)
		return reason_set(reason, -EPERM,
				  "this copy of the disk is not consistent: it "
				  "has no state to give a name to");
	return 0;
}

int
checkpoint_cut(struct metadata_state *state, const char *name,
	       struct reason *reason)
{
	const struct history_entry *last = history_last(&state->history);
	struct metadata_checkpoint *row;
	int r = checkpoint_may_cut(state, name, reason);

	if (r < 0)
		return r;
	row = &state->checkpoint[state->checkpoints++];
	*row = (struct metadata_checkpoint){ .timeline = last->timeline,
					     .epoch = state->epoch };
	memcpy(row->name, name, strlen(name));
	state->epoch++;
	return 0;
}

struct metadata_checkpoint *
checkpoint_find(struct metadata_state *state, const char *name,
		struct reason *reason)
{
	struct metadata_checkpoint *row =
		find(state->checkpoint, state->checkpoints, name);

	if (row == NULL)
		(void)reason_set(reason, -ENOENT,
				 "there is no checkpoint %.64s", name);
	return row;
}

int
checkpoint_delete(struct metadata_state *state, const char *name,
		  struct reason *reason)
{
	struct metadata_checkpoint *row = checkpoint_find(state, name, reason);
	unsigned int behind;

	if (row == NULL)
		return -ENOENT;
	behind = (unsigned int)(state->checkpoint + state->checkpoints - row) -
		 1;
	memmove(row, row + 1, behind * sizeof(*row));
	memset(&state->checkpoint[--state->checkpoints], 0, sizeof(*row));
	return 0;
}

int
checkpoint_may_answer(const struct metadata_state *state,
		      const struct metadata_checkpoint *checkpoint,
		      struct reason *reason)
{
	const struct history_entry *last = history_last(&state->history);

	if (!state->consistent || last == NULL)
		return reason_set(reason, -EPERM,
				  "this copy of the disk is not consistent: it "
				  "cannot tell what changed");
	if (!history_holds(&state->history, checkpoint->timeline,
			   checkpoint->epoch))
		return reason_set(reason, -ESTALE,
				  "checkpoint %s lies on a history that this "
				  "disk has left: make a full copy and a new "
				  "checkpoint",
				  checkpoint->name);
	if (!checkpoint->confirmed || (checkpoint->timeline == last->timeline &&
				       checkpoint->epoch >= state->epoch))
		return reason_set(reason, -EAGAIN,
				  "checkpoint %s is not confirmed yet",
				  checkpoint->name);
	return 0;
}

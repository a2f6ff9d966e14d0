/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire_track - the structures of wire.h that tell of changes: the regions of a
 * union, and checkpoints.
 */
#include <errno.h>
#include <string.h>

#include "replication/bytes.h"
#include "replication/checkpoint.h"
#include "replication/wire.h"

#define REGIONS_LAST 0x1u
#define ROW_END	     84 /* what of a checkpoint's row is in use */

size_t
wire_encode_regions(const struct wire_region *regions, unsigned int count,
		    bool last, unsigned char *ret_bytes)
{
	put32(ret_bytes, last ? REGIONS_LAST : 0);
	put32(ret_bytes + 4, count);
	for (unsigned int i = 0; i < count; i++) {
		unsigned char *at = ret_bytes + WIRE_REGIONS_HEAD +
				    (size_t)i * WIRE_REGION_BYTES;

		put64(at, regions[i].offset);
		put64(at + 8, regions[i].length);
	}
	return WIRE_REGIONS_HEAD + (size_t)count * WIRE_REGION_BYTES;
}

int
wire_decode_regions(const unsigned char *bytes, size_t length,
		    struct wire_region ret_regions[WIRE_REGIONS_MAX],
		    bool *ret_last)
{
	uint32_t flags, count;

	if (length < WIRE_REGIONS_HEAD)
		return -EPROTO;
	flags = get32(bytes);
	count = get32(bytes + 4);
	if ((flags & ~REGIONS_LAST) != 0 || count > WIRE_REGIONS_MAX ||
	    length != WIRE_REGIONS_HEAD + (size_t)count * WIRE_REGION_BYTES)
		return -EPROTO;
	for (uint32_t i = 0; i < count; i++) {
		const unsigned char *at = bytes + WIRE_REGIONS_HEAD +
					  (size_t)i * WIRE_REGION_BYTES;

		ret_regions[i].offset = get64(at);
		ret_regions[i].length = get64(at + 8);
		if (ret_regions[i].length == 0 ||
		    ret_regions[i].offset > INT64_MAX ||
		    ret_regions[i].length > INT64_MAX)
			return -EPROTO;
	}
	*ret_last = flags & REGIONS_LAST;
	return (int)count;
}

int
wire_decode_row(const unsigned char *bytes, struct metadata_checkpoint *ret_row)
{
	static const unsigned char zero[CHECKPOINT_BYTES - ROW_END];

	if (memcmp(bytes + ROW_END, zero, sizeof(zero)) != 0 ||
	    checkpoint_decode(bytes, ret_row) < 0)
		return -EPROTO;
	return 0;
}

/* No checkpoint, only an epoch's end. */
static bool
is_nameless(const struct metadata_checkpoint *row)
{
	static const char zero[METADATA_CHECKPOINT_NAME];

	return memcmp(row->name, zero, sizeof(zero)) == 0;
}

void
wire_encode_checkpoint(const struct wire_checkpoint *checkpoint,
		       unsigned char ret_bytes[WIRE_CHECKPOINT_BYTES])
{
	put32(ret_bytes, (uint32_t)checkpoint->order);
	put32(ret_bytes + 4, 0);
	checkpoint_encode(&checkpoint->row, ret_bytes + 8);
}

int
wire_decode_checkpoint(const unsigned char *bytes, size_t length,
		       struct wire_checkpoint *ret_checkpoint)
{
	struct wire_checkpoint checkpoint;
	uint32_t order;

	if (length != WIRE_CHECKPOINT_BYTES)
		return -EPROTO;
	order = get32(bytes);
	if (order < WIRE_CUT || order > WIRE_DELETE || get32(bytes + 4) != 0 ||
	    wire_decode_row(bytes + 8, &checkpoint.row) < 0)
		return -EPROTO;
	checkpoint.order = (enum wire_checkpoint_order)order;
	if ((order != WIRE_CUT || !is_nameless(&checkpoint.row)) &&
	    checkpoints_check(&checkpoint.row, 1) < 0)
		return -EPROTO;
	*ret_checkpoint = checkpoint;
	return 0;
}

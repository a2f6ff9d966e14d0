/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * wire - the bytes of the replication protocol: one 64-byte header before
 * every message, and the payloads that are structures.  docs/protocol.md
 * specifies it byte by byte; all numbers are little-endian.
 *
 * Encoding and decoding only: no I/O, no state.  A peer is not trusted: every
 * field is checked here for its own range, and by the receiver against what
 * it knows (sizes, sequence, session).
 */
#ifndef REPLICATION_WIRE_H
#define REPLICATION_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/metadata.h"

#define WIRE_MAGIC	 0x31524454u /* "TDR1" */
#define WIRE_HEADER	 64u	     /* bytes */
#define WIRE_PAYLOAD_MAX (1u << 20)  /* bytes */
#define WIRE_VERSION_MIN 1
#define WIRE_VERSION_MAX 1
#define WIRE_ID		 16 /* bytes of a disk's or replica's id */
#define WIRE_NONCE	 32
#define WIRE_MAC	 32
#define WIRE_TEXT_MAX	 512	      /* bytes of a sentence, without a NUL */
#define WIRE_ACKS_MAX	 256	      /* acknowledgements in one message */
#define WIRE_FEATURES	 0x1u	      /* incompatible ones that we know */
#define WIRE_DIGEST	 32	      /* bytes of a digest: SHA-256 */
#define WIRE_VERIFY_MAX	 (256u << 10) /* bytes of a range that it is of */

/* Compatible ones: what a peer that has it may be sent. */
#define WIRE_FEATURE_VERIFY 0x1u

struct reason;

enum wire_type {
	/* control: unsequenced, about the connection */
	WIRE_HELLO = 1, /* struct wire_hello: the first from either side */
	WIRE_AUTH,	/* WIRE_MAC bytes: key_prove()'s */
	WIRE_RESUME,	/* offset: highest sequence received without a gap */
	WIRE_BEGIN,	/* source: struct wire_begin */
	WIRE_BEGUN,	/* target: it agreed, and is ready */
	WIRE_REFUSE,	/* a sentence: why; the connection ends */
	WIRE_PING,	/* offset: the sender's, for him to know it again */
	WIRE_PONG,	/* offset: the ping's */
	WIRE_ACK,	/* a list of struct wire_ack */
	WIRE_GOODBYE,	/* clean leave (M7); a sentence */

	/* sequenced: acknowledged one by one, replayed after a reconnect */
	WIRE_WRITE = 32, /* a guest's write: offset, length, data */
	WIRE_ZERO,	 /* write zeroes, may unmap: offset, length, no data */
	WIRE_FLUSH,	 /* make durable all that came before it */
	WIRE_COPY,	 /* a resync's copy of a range: offset, length, data */
	WIRE_COPY_ZERO,	 /* as WIRE_ZERO, from a resync */
	WIRE_SYNCED,	 /* M1: struct wire_synced */
	WIRE_HANDOVER,	 /* M6: the sender has become secondary */
	WIRE_VERIFY,	 /* offset, length, digest of what the sender has
			  * there; -EILSEQ: the receiver has other bytes */
	WIRE_REGIONS,	 /* target: of its part of the union (H6) */
	WIRE_CHECKPOINT, /* E1: struct wire_checkpoint */
};

/* How the sender of a write wants it acknowledged; final is WIRE_ACK_WRITTEN
 * without a flag. */
#define WIRE_FLAG_RECEIVED 0x1 /* also, at once, WIRE_ACK_RECEIVED */
#define WIRE_FLAG_DURABLE  0x2 /* final is WIRE_ACK_DURABLE */
/* Of a verify that stands for a copy: what is equal takes the epoch as its
 * stamp (M2). */
#define WIRE_FLAG_STAMP 0x4

/* A header, decoded. */
struct wire_header {
	enum wire_type type;
	uint16_t flags;
	uint64_t session;
	uint64_t sequence; /* 0 for control */
	uint64_t epoch;
	uint64_t offset;       /* bytes */
	uint32_t length;       /* bytes of the range, see wire_payload() */
	uint32_t payload_crc;  /* CRC32C of the payload; 0 without one */
	uint32_t credits;      /* sequenced messages the sender will take beyond
				* `acknowledged` */
	uint32_t acknowledged; /* low bits of the highest sequence received
				* without a gap */
	uint32_t proven; /* low bits of the highest sequence up to which all
			  * is done on both images */
};

/* Bytes of payload that follow the header: `length`, except for WIRE_ZERO and
 * WIRE_COPY_ZERO, which have none, and WIRE_VERIFY with WIRE_DIGEST. */
uint32_t wire_payload(const struct wire_header *header);
bool wire_is_sequenced(enum wire_type type);
const char *wire_type_name(enum wire_type type);

/* The number whose low bits are `low` and which is nearest to `near`. */
uint64_t wire_widen(uint32_t low, uint64_t near);

/* CRC32C (RFC 3720 appendix B.4; ISA-L). */
uint32_t wire_crc(const void *data, size_t length);

/* The header's own CRC is written and checked here; the payload's is the
 * caller's to compute (a payload may come later than its header). */
void wire_encode(const struct wire_header *header,
		 unsigned char ret_bytes[WIRE_HEADER]);

/* -EPROTO and a reason for a foreign magic, a wrong CRC, an unknown type or
 * flag, a payload that its type cannot have (never beyond WIRE_PAYLOAD_MAX), a
 * range that is none, a sequence number where none belongs or none where one
 * does; outputs untouched then. */
int wire_decode(const unsigned char bytes[WIRE_HEADER],
		struct wire_header *ret_header, struct reason *reason);

/* --- acknowledgements --- */

enum wire_ack_kind {
	WIRE_ACK_RECEIVED = 1, /* in memory, checked; not final */
	WIRE_ACK_WRITTEN,      /* image I/O completed (or failed: status) */
	WIRE_ACK_DURABLE,      /* and flushed */
};

struct wire_ack {
	uint64_t sequence;
	enum wire_ack_kind kind;
	int status; /* 0 or a negative errno */
};

#define WIRE_ACK_BYTES 16u

void wire_encode_acks(const struct wire_ack *acks, unsigned int count,
		      unsigned char *ret_bytes);
/* Returns how many, or -EPROTO; the output may be partly written then. */
int wire_decode_acks(const unsigned char *bytes, size_t length,
		     struct wire_ack ret_acks[WIRE_ACKS_MAX]);

/* --- sentences, of refuse and goodbye --- */

/* Returns the length; cut at WIRE_TEXT_MAX. */
size_t wire_encode_text(const char *text,
			unsigned char ret_bytes[WIRE_TEXT_MAX]);
/* What would upset a terminal or a log becomes '?'. */
void wire_decode_text(const unsigned char *bytes, size_t length,
		      char ret_text[WIRE_TEXT_MAX + 1]);

/* --- hello --- */

enum wire_role {
	WIRE_PRIMARY = 1,
	WIRE_SECONDARY,
};

#define WIRE_ACTIVE	0x1 /* the replication rules' `active` */
#define WIRE_CONSISTENT 0x2
#define WIRE_OUTDATED	0x4
#define WIRE_KEYED	0x8 /* the sender has a key */
#define WIRE_COPYING                                                           \
	0x10		       /* target of an unfinished resync that was not  \
				* restarted since: its copied ranges are there (H8) */
#define WIRE_PRIMARY_LAST 0x20 /* as recorded: it was the primary last */
#define WIRE_DISCARD	  0x40 /* the operator gave this side up (H4) */
#define WIRE_DISCARD_PEER 0x80 /* he gave the other one up */

/* H4: where the two parted, and what the sender has done since. */
struct wire_fork {
	uint64_t timeline, epoch;
	uint64_t regions, bytes;
};

#define WIRE_FORK_BYTES	   32u
#define WIRE_PARTNER_BYTES 32u

/* What a replica says of itself at each connection (meeting, H0). */
struct wire_hello {
	uint16_t version_min, version_max;
	uint32_t features_incompatible; /* a peer must know all of them */
	uint32_t features_compatible;
	uint16_t header_length; /* room for a MAC later */
	enum wire_role role;
	uint32_t flags;			/* WIRE_ACTIVE, … */
	unsigned char disk_id[WIRE_ID]; /* all zero: a new, empty replica */
	unsigned char replica_id[WIRE_ID];
	uint64_t size;	      /* bytes, of the disk */
	uint32_t sector_size; /* bytes */
	uint32_t window;      /* sequenced messages it takes unacknowledged */
	uint32_t payload_max; /* bytes */
	uint64_t incarnation;
	unsigned char partner[WIRE_ID]; /* whom the next three are about: who
					 * was met last; zero: nobody was */
	uint64_t peer_incarnation;	/* the highest it saw of that one */
	uint64_t met, stood;		/* as in the state */
	uint64_t session;		/* that it could resume; 0: none */
	uint64_t received;		/* in it, the highest without a gap */
	uint64_t unacknowledged; /* in it, the lowest of its own that has no
				  * final acknowledgement, sent or to be sent */
	uint64_t epoch;
	unsigned char nonce[WIRE_NONCE];
	char name[64]; /* of the disk, NUL-terminated */
	struct history history;
	struct wire_fork fork; /* at the last meeting; timeline 0: none */
};

#define WIRE_HELLO_PREFIX 12u /* bytes that no version changes */
#define WIRE_HELLO_MAX	  (512u + HISTORY_MAX * 24u)

/* Returns the length. */
size_t wire_encode_hello(const struct wire_hello *hello,
			 unsigned char ret_bytes[WIRE_HELLO_MAX]);
/* -EPROTO, or -EPROTONOSUPPORT for a version or feature we do not know, with
 * a reason that names both sides'. */
int wire_decode_hello(const unsigned char *bytes, size_t length,
		      struct wire_hello *ret_hello, struct reason *reason);

struct wire_begin {
	uint64_t session;
	enum meeting_outcome outcome; /* as the source sees it */
	uint64_t timeline, epoch;     /* the common position */
	uint64_t incarnation;	      /* the highest seen of the target (H0) */
	bool resume_copy; /* what was copied before still counts (H8) */
	bool clean;	  /* the source knows of nothing to copy (H6) */
};

#define WIRE_BEGIN_BYTES 40u

size_t wire_encode_begin(const struct wire_begin *begin,
			 unsigned char ret_bytes[WIRE_BEGIN_BYTES]);
int wire_decode_begin(const unsigned char *bytes, size_t length,
		      struct wire_begin *ret_begin);

/* M1: what the target takes over. */
struct wire_synced {
	uint64_t epoch;
	unsigned char disk_id[WIRE_ID];
	struct history history;
	uint64_t wide_epoch; /* as the state's */
	unsigned int checkpoints;
	struct metadata_checkpoint checkpoint[METADATA_CHECKPOINTS];
};

#define WIRE_SYNCED_MAX (128u + HISTORY_MAX * 24u + METADATA_CHECKPOINTS * 96u)

size_t wire_encode_synced(const struct wire_synced *synced,
			  unsigned char ret_bytes[WIRE_SYNCED_MAX]);
int wire_decode_synced(const unsigned char *bytes, size_t length,
		       struct wire_synced *ret_synced);

/* --- of the union (H6) --- */

struct wire_region {
	uint64_t offset, length; /* bytes */
};

#define WIRE_REGIONS_MAX   4096u /* in a message */
#define WIRE_REGIONS_HEAD  8u
#define WIRE_REGION_BYTES  16u
#define WIRE_REGIONS_BYTES (WIRE_REGIONS_HEAD + WIRE_REGIONS_MAX * 16u)

/* Returns the length. */
size_t wire_encode_regions(const struct wire_region *regions,
			   unsigned int count, bool last,
			   unsigned char *ret_bytes);
/* Returns how many, or -EPROTO; each is a range that does not wrap round.  The
 * output may be partly written on failure. */
int wire_decode_regions(const unsigned char *bytes, size_t length,
			struct wire_region ret_regions[WIRE_REGIONS_MAX],
			bool *ret_last);

/* --- of checkpoints (E1) --- */

/* A row, as in the state; what means nothing must be zero.  0 or -EPROTO. */
int wire_decode_row(const unsigned char *bytes,
		    struct metadata_checkpoint *ret_row);

enum wire_checkpoint_order {
	WIRE_CUT = 1, /* the epoch ends; without a name: no checkpoint */
	WIRE_CONFIRM,
	WIRE_DELETE,
};

struct wire_checkpoint {
	enum wire_checkpoint_order order;
	struct metadata_checkpoint row;
};

#define WIRE_CHECKPOINT_BYTES 104u

void wire_encode_checkpoint(const struct wire_checkpoint *checkpoint,
			    unsigned char ret_bytes[WIRE_CHECKPOINT_BYTES]);
int wire_decode_checkpoint(const unsigned char *bytes, size_t length,
			   struct wire_checkpoint *ret_checkpoint);

#endif

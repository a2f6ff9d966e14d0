/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbd_protocol - the numbers of the NBD protocol, by the sections of its
 * specification (github.com/NetworkBlockDevice/nbd, doc/proto.md), and the
 * reading and writing of its big-endian fields.
 */
#ifndef CORE_FRONTENDS_NBD_PROTOCOL_H
#define CORE_FRONTENDS_NBD_PROTOCOL_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* "Newstyle negotiation" */
#define NBD_MAGIC	   0x4e42444d41474943ull /* NBDMAGIC */
#define NBD_OPTION_MAGIC   0x49484156454f5054ull /* IHAVEOPT */
#define NBD_REPLY_MAGIC	   0x0003e889045565a9ull
#define NBD_GREETING_BYTES 18 /* magic, option magic, handshake flags */
#define NBD_OPTION_BYTES   16 /* magic, option, length */
#define NBD_REPLY_BYTES	   20 /* magic, option, type, length */
#define NBD_EXPORT_BYTES   10 /* size, transmission flags */
#define NBD_EXPORT_ZEROES  124

/* "Handshake flags", "Client flags" */
#define NBD_FLAG_FIXED_NEWSTYLE	  0x1
#define NBD_FLAG_NO_ZEROES	  0x2
#define NBD_FLAG_C_FIXED_NEWSTYLE 0x1u
#define NBD_FLAG_C_NO_ZEROES	  0x2u

/* "Transmission flags" */
#define NBD_FLAG_HAS_FLAGS	   0x0001
#define NBD_FLAG_READ_ONLY	   0x0002
#define NBD_FLAG_SEND_FLUSH	   0x0004
#define NBD_FLAG_SEND_FUA	   0x0008
#define NBD_FLAG_SEND_TRIM	   0x0020
#define NBD_FLAG_SEND_WRITE_ZEROES 0x0040
#define NBD_FLAG_SEND_DF	   0x0080
#define NBD_FLAG_CAN_MULTI_CONN	   0x0100
#define NBD_FLAG_SEND_CACHE	   0x0400
#define NBD_FLAG_SEND_FAST_ZERO	   0x0800

/* "Option types" */
#define NBD_OPT_EXPORT_NAME	  1u
#define NBD_OPT_ABORT		  2u
#define NBD_OPT_LIST		  3u
#define NBD_OPT_STARTTLS	  5u
#define NBD_OPT_INFO		  6u
#define NBD_OPT_GO		  7u
#define NBD_OPT_STRUCTURED_REPLY  8u
#define NBD_OPT_LIST_META_CONTEXT 9u
#define NBD_OPT_SET_META_CONTEXT  10u

/* "Option reply types" */
#define NBD_REP_ACK	     1u
#define NBD_REP_SERVER	     2u
#define NBD_REP_INFO	     3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP    0x80000001u
#define NBD_REP_ERR_POLICY   0x80000002u
#define NBD_REP_ERR_INVALID  0x80000003u
#define NBD_REP_ERR_TLS_REQD 0x80000005u
#define NBD_REP_ERR_UNKNOWN  0x80000006u
#define NBD_REP_ERR_SHUTDOWN 0x80000007u
#define NBD_REP_ERR_TOO_BIG  0x80000009u

/* NBD_REP_INFO */
#define NBD_INFO_EXPORT	     0
#define NBD_INFO_NAME	     1
#define NBD_INFO_DESCRIPTION 2
#define NBD_INFO_BLOCK_SIZE  3

/* "Values": strings, sizes */
#define NBD_STRING_MAX	    4096
#define NBD_BLOCK_PREFERRED 4096u
#define NBD_PAYLOAD_MAX	    (32u << 20)

/* "Transmission phase" */
#define NBD_REQUEST_MAGIC    0x25609513u
#define NBD_REQUEST_BYTES    28 /* magic, flags, type, cookie, offset, length */
#define NBD_SIMPLE_MAGIC     0x67446698u
#define NBD_SIMPLE_BYTES     16 /* magic, error, cookie */
#define NBD_STRUCTURED_MAGIC 0x668e33efu
#define NBD_STRUCTURED_BYTES 20 /* magic, flags, type, cookie, length */

/* "Command flags" */
#define NBD_CMD_FLAG_FUA       0x01u
#define NBD_CMD_FLAG_NO_HOLE   0x02u
#define NBD_CMD_FLAG_DF	       0x04u
#define NBD_CMD_FLAG_REQ_ONE   0x08u
#define NBD_CMD_FLAG_FAST_ZERO 0x10u

/* "Request types" */
#define NBD_CMD_READ	     0
#define NBD_CMD_WRITE	     1
#define NBD_CMD_DISC	     2
#define NBD_CMD_FLUSH	     3
#define NBD_CMD_TRIM	     4
#define NBD_CMD_CACHE	     5
#define NBD_CMD_WRITE_ZEROES 6
#define NBD_CMD_BLOCK_STATUS 7

/* "Structured reply flags", "Structured reply types" */
#define NBD_REPLY_FLAG_DONE	    0x1
#define NBD_REPLY_TYPE_OFFSET_DATA  1
#define NBD_REPLY_TYPE_BLOCK_STATUS 5
#define NBD_REPLY_TYPE_ERROR	    0x8001
#define NBD_REPLY_TYPE_ERROR_OFFSET 0x8002

/* "Error values" */
#define NBD_EPERM     1u
#define NBD_EIO	      5u
#define NBD_ENOMEM    12u
#define NBD_EINVAL    22u
#define NBD_ENOSPC    28u
#define NBD_EOVERFLOW 75u
#define NBD_ENOTSUP   95u
#define NBD_ESHUTDOWN 108u

/* Each moves the pointer past the field. */

static inline void
nbd_put16(char **at, uint16_t value)
{
	value = htobe16(value);
	memcpy(*at, &value, sizeof(value));
	*at += sizeof(value);
}

static inline void
nbd_put32(char **at, uint32_t value)
{
	value = htobe32(value);
	memcpy(*at, &value, sizeof(value));
	*at += sizeof(value);
}

static inline void
nbd_put64(char **at, uint64_t value)
{
	value = htobe64(value);
	memcpy(*at, &value, sizeof(value));
	*at += sizeof(value);
}

static inline uint16_t
nbd_get16(const char **at)
{
	uint16_t value;

	memcpy(&value, *at, sizeof(value));
	*at += sizeof(value);
	return be16toh(value);
}

static inline uint32_t
nbd_get32(const char **at)
{
	uint32_t value;

	memcpy(&value, *at, sizeof(value));
	*at += sizeof(value);
	return be32toh(value);
}

static inline uint64_t
nbd_get64(const char **at)
{
	uint64_t value;

	memcpy(&value, *at, sizeof(value));
	*at += sizeof(value);
	return be64toh(value);
}

#endif

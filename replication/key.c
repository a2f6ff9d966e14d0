/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * key - see key.h.
 */
#include "replication/key.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/reason.h"

static int
hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

static long
parse(const char *path, const char *text, size_t length,
      unsigned char ret_key[KEY_MAX], struct reason *reason)
{
	while (length > 0 && strchr("\r\n", text[length - 1]) != NULL)
		length--;
	if (length % 2 != 0 || length < 2UL * KEY_MIN || length > 2UL * KEY_MAX)
		return reason_set(reason, -EINVAL,
				  "%s: a key is one line of %d to %d "
				  "hexadecimal digits (openssl rand -hex 32)",
				  path, 2 * KEY_MIN, 2 * KEY_MAX);
	for (size_t i = 0; i < length / 2; i++) {
		int high = hex_digit(text[2 * i]);
		int low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return reason_set(reason, -EINVAL,
					  "%s: a key is made of hexadecimal "
					  "digits only",
					  path);
		ret_key[i] = (unsigned char)(high << 4 | low);
	}
	return (long)length / 2;
}

long
key_load(const char *path, unsigned char ret_key[KEY_MAX],
	 struct reason *reason)
{
	char text[2 * KEY_MAX + 4];
	struct stat stat;
	ssize_t length;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long r;

	if (fd < 0 || fstat(fd, &stat) < 0) {
		r = reason_set(reason, -errno, "the key %s cannot be read: %s",
			       path, strerror(errno));
	} else if (stat.st_mode & 077) {
		r = reason_set(reason, -EPERM,
			       "the key %s may be read by others: chmod 600 it",
			       path);
	} else {
		length = read(fd, text, sizeof(text));
		r = length < 0 ? -errno
			       : parse(path, text, (size_t)length, ret_key,
				       reason);
	}
	if (fd >= 0)
		close(fd);
	gnutls_memset(text, 0, sizeof(text));
	return r;
}

void
key_prove(const struct key_bytes *key, bool caller,
	  const unsigned char binding[WIRE_MAC],
	  const struct key_bytes *own_hello, const struct key_bytes *peer_hello,
	  unsigned char ret_mac[WIRE_MAC])
{
	gnutls_hmac_hd_t hmac;
	int r = gnutls_hmac_init(&hmac, GNUTLS_MAC_SHA256, key->bytes,
				 key->length);

	assert(r == 0);
	r = gnutls_hmac(hmac, caller ? "C" : "L", 1);
	assert(r == 0);
	r = gnutls_hmac(hmac, binding, WIRE_MAC);
	assert(r == 0);
	r = gnutls_hmac(hmac, own_hello->bytes, own_hello->length);
	assert(r == 0);
	r = gnutls_hmac(hmac, peer_hello->bytes, peer_hello->length);
	assert(r == 0);
	(void)r;
	gnutls_hmac_deinit(hmac, ret_mac);
}

bool
key_equal(const unsigned char *a, const unsigned char *b)
{
	return gnutls_memcmp(a, b, WIRE_MAC) == 0;
}

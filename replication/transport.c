/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * transport - which transport a URL means, and whether it leaves this host.
 */
#include "replication/transport.h"

#include <errno.h>
#include <string.h>

#include "core/reason.h"

const struct transport *
transport_find(const struct transport *const *transports, const char *url,
	       const char **ret_address, struct reason *reason)
{
	const char *separator = strstr(url, "://");

	for (; separator != NULL && *transports != NULL; transports++) {
		const char *scheme = (*transports)->scheme;

		if (strlen(scheme) == (size_t)(separator - url) &&
		    strncmp(scheme, url, strlen(scheme)) == 0) {
			*ret_address = separator + 3;
			return *transports;
		}
	}
	(void)reason_set(reason, -EINVAL,
			 "'%s' is no address of a replica: write "
			 "rdma://HOST:PORT or tcp://HOST:PORT",
			 url);
	return NULL;
}

bool
transport_is_loopback(const char *address)
{
	static const char *const names[] = { "localhost:", "[::1]:" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strncmp(address, names[i], strlen(names[i])) == 0)
			return true;
	}
	/* Digits and dots only: a name may begin with 127, too. */
	return strncmp(address, "127.", 4) == 0 &&
	       address[strspn(address, "0123456789.")] == ':';
}

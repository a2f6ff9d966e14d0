/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * credentials - TLS keys and certificates made for a test, in a directory of
 * its own, under the names that tls.h reads.  Failures end the test program.
 */
#ifndef TESTS_CREDENTIALS_H
#define TESTS_CREDENTIALS_H

/* ca-cert.pem, server-cert.pem (for "localhost"), server-key.pem,
 * client-cert.pem, client-key.pem; and keys.psk with one key for "alice". */
void credentials_make(const char *directory);
void credentials_remove(const char *directory); /* and the directory */

#endif

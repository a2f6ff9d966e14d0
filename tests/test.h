/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test.h - the only file that includes cmocka, with the headers that it needs
 * before it.
 */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif

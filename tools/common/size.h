/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * size - byte counts as people write and read them: "64M", "1.5 GiB".
 */
#ifndef TOOLS_COMMON_SIZE_H
#define TOOLS_COMMON_SIZE_H

#include <stddef.h>
#include <stdint.h>

#define SIZE_TEXT_MAX 16

/* "512 B", "64 MiB", "1.5 GiB" */
void size_text(char text[SIZE_TEXT_MAX], uint64_t bytes);

/* A whole number, with K, M, G or T behind it for powers of 1,024: 0, or
 * -EINVAL, or -ERANGE. */
int size_parse(const char *text, uint64_t *ret_bytes);

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * random.h - numbers that come again with the same seed (splitmix64: Steele,
 * Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
 */
#ifndef DRIVERS_RANDOM_H
#define DRIVERS_RANDOM_H

#include <stdint.h>

/* The next of a sequence whose seed and state is *state; 0 <= it < 1. */
static inline double
random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return (double)(z >> 11) / (double)(1ull << 53);
}

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * tapdisk-log.h - the seed's logging macros, on the log of core/log.h.
 */
#ifndef CORE_TAPDISK_LOG_H
#define CORE_TAPDISK_LOG_H

#include <errno.h>
#include <string.h>
#include <syslog.h>

#include "log.h"

#define DPRINTF(_f, _a...) log_at(LOG_INFO, "driver", _f, ##_a)
#define EPRINTF(_f, _a...)                                                     \
	log_at(LOG_ERR, "driver", "tap-err:%s: " _f, __func__, ##_a)
#define PERROR(_f, _a...) EPRINTF(_f ": %s", ##_a, strerror(errno))

#endif

/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * extra.h - drivers that are not built in: those of `make EXTRA_DRIVERS=...`.
 */
#ifndef TOOLS_TAPDISK_EXTRA_H
#define TOOLS_TAPDISK_EXTRA_H

#include "core/image.h"

/* Written by drivers/extra_drivers.sh; without such drivers it is empty. */
extern const struct driver_type extra_drivers[];

/*
 * The table of all drivers: the extra ones and then, of the built-in ones,
 * those whose names they have not taken.  An extra driver has the number that
 * td_get_parent_id names it by: the built-in's that it replaces, or blktap2's
 * for that name, or none.  Ends the process if there are too many.
 */
const struct driver_type *extra_join(const struct driver_type *built_in);

#endif

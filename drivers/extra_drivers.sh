#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Write the table of out-of-tree drivers, in C, to stdout:
#
#   COMPILE="cc -Icore ..." drivers/extra_drivers.sh [FILE.c...]
#
# A driver is a `struct tap_disk tapdisk_<name>` that a file defines.  The files
# are preprocessed first, so that comments and macros do not deceive us.  A file
# may define several drivers, or none and only help another.

set -euo pipefail
export LC_ALL=C

definitions() { # FILE: the names of the drivers it defines
    eval "$COMPILE -E -P \"\$1\"" | tr -s '[:space:]' ' ' |
        grep -oE '(^|[;}] ?|[a-z]+ )struct tap_disk tapdisk_[A-Za-z0-9_]+ ?[=;]' |
        grep -vE '^(extern|static) ' |
        sed -E 's/.*struct tap_disk tapdisk_([A-Za-z0-9_]+) ?[=;]/\1/' |
        sort -u || true
}

declarations=
rows=
for file; do
    if [ ! -f "$file" ]; then
        echo "EXTRA_DRIVERS: there is no file $file" >&2
        exit 1
    fi
    for name in $(definitions "$file"); do
        declarations+="extern struct tap_disk tapdisk_$name;"$'\n'
        rows+="	{ \"$name\", -1, &tapdisk_$name, \"from ${file##*/}\" },"$'\n'
    done
done
if [ $# -gt 0 ] && [ -z "$rows" ]; then
    echo "EXTRA_DRIVERS: no struct tap_disk tapdisk_<name> is defined in $*" >&2
    exit 1
fi

cat <<END
/* Written by drivers/extra_drivers.sh. */
#include "tools/tapdisk/extra.h"

$declarations
const struct driver_type extra_drivers[] = {
$rows	{ NULL, -1, NULL, NULL },
};
END

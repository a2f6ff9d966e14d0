#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The mutants of tests/mutants/ still break what is there: each applies and
# compiles, and some are hunted down for real, among them one that changes
# nothing and must be missed.  `make mutants` hunts all.
#
# time limit: 900
. "$(dirname "$0")/lib.sh"

mutants=$TOP/tests/mutants/mutants.py

"$mutants" --check
"$mutants" payload_crc_unchecked wrong_position older_copy intent_unflushed |
    tee "$work/table"
[ "$(tail -n 1 "$work/table")" = "4 caught, 0 missed" ] ||
    fail "$(tail -n 1 "$work/table")"

# What it says of a mutant that nothing finds, and of one that is out of date.
mkdir "$work/mutants"
cp "$mutants" "$work/mutants"
mutant() { # NAME OLD NEW
    cat >"$work/mutants/$1.mutant" <<END
# SPDX-License-Identifier: BSD-3-Clause
# H2: nothing is broken
# try: unit/test_meeting
@@ replication/meeting.c
<<<<
$2
====
$3
>>>>
END
}
mutant harmless 'return a < b ? a : b;' 'return b > a ? a : b;'
expect_failure '^0 caught, 1 missed$' "$work/mutants/mutants.py" --top "$TOP"
mutant harmless 'return a <= b ? a : b;' 'return a;'
expect_failure 'stands 0 times in replication/meeting.c' \
    "$work/mutants/mutants.py" --top "$TOP"

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two replicas on simulated time, disks and network: many seeds, each a story
# of guests, faults and operators, in which A1, A4 and A5 must hold; see
# tests/sim/sim.h.
#
# over: san
# time limit: 300
. "$(dirname "$0")/lib.sh"

seeds=1000
case $BUILD in
*/address-undefined) seeds=200 ;;
esac

# The same seed tells the same story.
"$BUILD/tests/sim/sim" --trace --from 7 2>/dev/null >"$work/one"
"$BUILD/tests/sim/sim" --trace --from 7 2>/dev/null >"$work/two"
cmp "$work/one" "$work/two"
grep -q 'seed 7 passed' "$work/one" || fail "seed 7 did not pass"

"$BUILD/tests/sim/sim" --seeds "$seeds"

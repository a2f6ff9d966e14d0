#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# All schedules of up to four steps (writes, flushes, crashes, cuts, healing,
# promotion) from a pair in sync: each ends in sync, with nothing lost; see
# tests/sim/explore.c.
#
# over: san
# time limit: 1800
. "$(dirname "$0")/lib.sh"

steps=${STEPS:-4}
case $BUILD in
*/address-undefined) steps=2 ;;
esac
"$BUILD/tests/sim/sim" --explore "$steps"

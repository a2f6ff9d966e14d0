#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# `make demo` on a host with an RDMA device uses it, unasked.
#
# time limit: 900
. "$(dirname "$0")/vm/lib.sh"

boot a
on a env DEMO_SMALL=1 WAIT_S="$WAIT_S" BUILD="$BUILD" \
    bash "$TOP/tests/demo.sh" >"$work/demo" || fail "$(cat "$work/demo")"
[ "$(tail -n 1 "$work/demo")" = 'demo: OK' ]
for option in listen peer; do
    [ "$(grep -c -- "--$option rdma://10.9.0.1:" "$work/demo")" = 3 ] ||
        fail "the demo used something else: $(cat "$work/demo")"
done

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The guests of tests/vm/ are what stories in them rely on: two hosts with real
# verbs between them, scripts whose status comes back, an end within the time
# limit that shows the console, and nothing left, even when the story is killed.
#
# time limit: 600
. "$(dirname "$0")/vm/lib.sh"

need rping

some_left() { # of stories below $work; -q: files that vanish do not matter
    grep -qazs -- "vm.shared=$work/" /proc/[0-9]*/cmdline
}
none_left() {
    ! some_left
}

boot a b

# Words stay words, the status and both outputs come back, files are shared.
[ "$(on a printf '%s.' 'one  word' $'two\nlines')" = $'one  word.two\nlines.' ] ||
    fail "words do not arrive as they were"
status=0
on b bash -c 'echo out; echo error >&2; exit 7' >"$work/output" || status=$?
[ "$status $(sort "$work/output" | tr '\n' ' ')" = "7 error out " ] ||
    fail "status $status, output: $(<"$work/output")"
on a bash -c "hostname >$work/name"
[ "$(<"$work/name")" = a ] || fail "a file of the guest's is not here"
on b grep -qx a "$work/name"
on a touch "$TOP/build/vm/changed" # its own, in memory laid over ours
[ ! -e "$TOP/build/vm/changed" ] || fail "a guest changes this machine's files"
begin b slow bash -c 'echo begun; sleep 1; exit 3'
status=0
finish b slow || status=$?
[ "$status $(<"$work/b.slow.log")" = "3 begun" ] || fail "begin and finish"

# Real verbs between the two, by both address families.
for address in 10.9.0.1 fd09::1; do
    begin a rping timeout 60 rping -s -a $address -C 10 -P
    wait_until on a bash -c 'rdma resource show cm_id | grep -q LISTEN'
    on b rping -c -a $address -C 10 -v >"$work/rping"
    [ "$(grep -c '^ping data: rdma-ping-' "$work/rping")" = 10 ] ||
        fail "rping over $address: $(<"$work/rping")"
    on a pkill rping
    finish a rping || true
done

# A host finds out by itself that it has RDMA, and that it has not.
[ "$(on a bash -c ". $TOP/tests/lib.sh; rdma_address")" = 10.9.0.1 ] ||
    fail "a does not find its RDMA device"
on a rdma link delete rxe0
if on a bash -c ". $TOP/tests/lib.sh; rdma_address"; then
    fail "a finds an RDMA device that it has not"
fi

# A machine that hangs answers nobody, and goes on.
hang b
expect_failure '100% packet loss' on a ping -c 2 -W 1 b
go_on b
on a ping -c 1 -W 60 b

# One that crashed is gone, and what its disk has had is there.
crash b
with_disk b 16M
boot b
on b bash -c 'echo kept >/srv/file; sync'
crash b
boot b
on b grep -qx kept /srv/file
crash a
crash b

# The command: a script's output and its status.
export TMPDIR=$work
# shellcheck disable=SC2016
echo 'echo "from $VM_NAME"; exit 7' >"$work/script"
status=0
"$TOP/tests/vm/run" "$work/script" >"$work/output" 2>&1 || status=$?
[ $status -eq 7 ] || fail "status $status: $(<"$work/output")"
grep -qx 'from a' "$work/output"

# Too long: it ends by itself and says so.
echo 'sleep 1000' >"$work/script"
VM_LIMIT=15 expect_failure "this guest's time limit of 15 s is over" \
    "$TOP/tests/vm/run" "$work/script"
wait_until none_left

# Killed without a chance to clean up: its guest dies with it.
"$TOP/tests/vm/run" "$work/script" >"$work/output" 2>&1 &
pids+=($!)
wait_until some_left
kill_tapdisk "${pids[-1]}"
wait_until none_left

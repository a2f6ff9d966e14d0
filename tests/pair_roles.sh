#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Who may serve (A3, A8, A9): roles are said, and what was decided since stands
# in the metadata.  After a failover both hosts start with their old command
# lines: refused, and nothing is overwritten.  A half-synced secondary that
# starts again refuses promotion.  A stale host that starts alone waits and
# says for whom.  With on-peer-loss freeze nobody goes on without being told.
#
# over: san
# time limit: 400
. "$(dirname "$0")/two_hosts.sh"

image[b]="fault:|${image[b]}"

write() { # NAME BYTE [OFFSET]: a block of it, flushed
    python3 - "$(uri_of "$1")" "$2" "${3:-8192}" <<'PYTHON'
import sys, nbd
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
handle.pwrite(sys.argv[2].encode() * 4096, int(sys.argv[3]))
handle.flush()
PYTHON
}

reads() { # NAME BYTE: the image of NAME has it there
    [ "$(dd if="$work/$1.img" bs=1 skip=8192 count=1 status=none)" = "$2" ]
}

# told_later HOST TEXT: why it is not in sync
told_later() {
    wait_until told "$1" '["why"]' "$2"
}

serves_nobody() { # NAME
    expect_failure 'replied with error' nbdinfo "$(uri_of "$1")"
}

echo "a half-synced secondary"
half_sync() { # b dies in the midst of a copy, and starts again without a
    image[b]="fault:op=write,from=12M,hang|aio:$work/b.img"
    host b secondary
    host a primary
    wait_until holds b # the last part of the copy; the rest is there
    replica_is a '["failover"]["possible"]' false
    replica_is b '["failover"]["possible"]' false
    kill_host b
    kill_host a
    image[b]="fault:|aio:$work/b.img"
    host b secondary
    serves_nobody b
}

new_disks 16M
random_file "$work/a.img" 16M
half_sync
expect_failure 'no copy to it was ever completed' tap-ctl promote -n b
expect_failure 'no copy to it' tap-ctl promote -n b --force
stop_host b
expect_failure 'never copied to' tapdisk --name b --role primary \
    --listen tcp://127.0.0.1:0 --peer tcp://127.0.0.1:1 --run-dir "$run_dir" \
    "aio:$work/b.img"
host b secondary
host a primary
wait_until in_sync a
cmp "$work/a.img" "$work/b.img"
# The same to a copy that was complete once.
stop_host b
wait_until replica_is a '["state"]' solo
write a 0 $((13 << 20)) # what the copy is to bring
kill_host a
half_sync
expect_failure 'not consistent.*copy is unfinished.*promote --force' \
    tap-ctl promote -n b
told b '["why"]' 'its copy is unfinished'
stop_host b

echo "failover, and both hosts start with their old command lines"
host b secondary
host a primary
wait_until in_sync a
write a 1
kill_host a
wait_until replica_is b '["link"]["state"]' broken
tap-ctl promote -n b
write b 2
kill_host b
host b secondary
host a primary
# Neither knows yet: a waits for b, and says where that is.
told_later a 'peer has the newer data.*promote the peer.*--role secondary'
told_later b 'this replica has the newer data.*promote it.*--role secondary'
serves_nobody a
serves_nobody b
reads a 1 || fail "a was overwritten"
reads b 2 || fail "b was overwritten"
echo "what the sentence says to do"
tap-ctl promote -n b
stop_host a
host a secondary
wait_until in_sync b
reads a 2 || fail "a has not what b wrote"

echo "a stale host that starts alone"
kill_host b # b is the primary
host b primary
replica_is b '["state"]' waiting
wait_until in_sync b
stop_host a
wait_until replica_is b '["state"]' solo
write b 3
kill_host b
# a left cleanly while b went on, and knows
host a secondary
expect_failure 'out of date.*promote --force' tap-ctl promote -n a
stop_host a
host a primary
replica_is a '["state"]' waiting
told a '["why"]' "waiting for .*tcp://127.0.0.1:${port[b]}"
expect_failure 'promote --alone' tap-ctl promote -n a
expect_failure 'out of date' tap-ctl promote -n a --alone
serves_nobody a
stop_host a
host a secondary
host b primary # it may: nobody else can have gone on
wait_until in_sync b
reads a 3
# b was lost without a word: it may be that a was promoted
kill_host b
kill_host a
host b primary
replica_is b '["state"]' waiting
told b '["why"]' "waiting for .*tcp://127.0.0.1:${port[a]}.*promote --alone"
serves_nobody b
host a secondary
wait_until in_sync b

echo "freeze"
stop_host b
host b primary --on-peer-loss freeze
wait_until in_sync b
kill_host a
wait_until told b '["why"]' 'freeze.*promote --alone'
replica_is b '["state"]' lost
write b 4 &
writer=$!
pids+=("$writer")
wait_until pending b 1
for _ in {1..10}; do
    replica_is b '["state"]' lost || fail "it went on"
    kill -0 $writer || fail "a write was completed"
done
expect_failure 'promote --alone' tap-ctl promote -n b
host a secondary # it comes back, and the guest goes on
wait "$writer"
wait_until in_sync b
reads a 4
kill_host a
wait_until told b '["why"]' freeze
write b 5 &
writer=$!
pids+=("$writer")
tap-ctl promote -n b --alone # the operator's word
wait "$writer"
replica_is b '["state"]' solo
told b '["failover"]["loses_bytes"]' 4096
reads b 5
host a secondary
wait_until in_sync b

echo "a hand-over that is not ready is refused"
tap-ctl demote -n b
wait_until replica_is a '["role"]' primary
wait_until in_sync a
expect_failure 'secondary already' tap-ctl demote -n b
expect_failure 'primary is alive' tap-ctl promote -n b
expect_failure 'primary already' tap-ctl promote -n a
expect_failure 'in sync already' tap-ctl resync -n a
stop_host b
stop_host a

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What two hosts copy when they meet again is what may differ and no more (H6):
# after an outage, a crash of either or of both in either order, a clean leave, a
# promotion and the return of the other; a crash within a copy;
# metadata of another disk, and such as were rolled back.  In sync both
# read equal (A5), and a checkpoint answers what changed since, on either host.
#
# over: san
# time limit: 300
. "$(dirname "$0")/lib.sh"

need socat nbdcopy qemu-io python3 cmp
export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir

times=ping-ms=50,dead-ms=1000,grace-ms=300,connect-ms=50,retry-ms=200
port_a=$(free_port) port_b=$(free_port)
size=256M region=65536
ack=written

start() { # NAME ROLE [FILTERS]: a or b
    local port=$port_a peer=$port_b
    [ "$1" = a ] || port=$port_b peer=$port_a
    start_tapdisk "$1" \
        "remus:role=$2,ack=$ack,listen=tcp://127.0.0.1:$port,peer=tcp://127.0.0.1:$peer,$times|${3:-}aio:$work/$1.img"
    if [ "$1" = a ]; then pid_a=$pid; else pid_b=$pid; fi
}

order() { # NAME COMMAND
    tap-ctl driver -n "$1" remus "$2" >/dev/null
}

in_sync() { # NAME: of the primary
    wait_until replica_is "$1" '["in_sync"]' true
}

# write NAME FIRST COUNT: a block in each of so many regions
write() {
    python3 - "$(uri_of "$1")" "$2" "$3" "$region" <<'PY'
import os, sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
first, count, region = map(int, sys.argv[2:])
for i in range(first, first + count):
    h.pwrite(os.urandom(4096), i * region + 8192)
h.flush()
h.shutdown()
PY
}

# Bytes that resyncs have brought so far; a process counts its own.
copied() { # NAME
    replica_status "$1" '["resync_bytes"] + image["resync_zeroed_bytes"]'
}

# regions_copied NAME BEFORE
regions_copied() {
    echo $((($(copied "$1") - $2) / region))
}

at_most() { # WHAT LIMIT VALUE
    [ "$3" -le "$2" ] || fail "$1: $3 regions were copied, at most $2 expected"
    echo "$1: $3 regions"
}

same() {
    cmp "$work/a.img" "$work/b.img"
}

truncate -s $size "$work/a.img" "$work/b.img"
qemu-io -f raw -c "write -P 7 0 16M" "$work/a.img" >/dev/null
qemu-io -f raw -c "write -P 9 8M 16M" "$work/b.img" >/dev/null
start b secondary
start a primary
in_sync a
same

# A clean leave and the return: what the primary wrote meanwhile, no more.
stop_tapdisk "$pid_b"
wait_until replica_is a '["state"]' solo
before=$(copied a)
write a 100 400
start b secondary
in_sync a
at_most "outage" 408 "$(regions_copied a "$before")"
[ "$(regions_copied a "$before")" -ge 400 ] || fail "too little was copied"
same

# The secondary crashes; its log of intents is what it may have lost.
before=$(copied a)
write a 1000 10
kill_tapdisk "$pid_b"
wait_until replica_is a '["state"]' solo
write a 1000 20
start b secondary
in_sync a
at_most "secondary crashed" 2200 "$(regions_copied a "$before")"
same

# The primary crashes and returns: it waits for its peer, and both agree.
write a 1500 10
kill_tapdisk "$pid_a"
wait_until replica_is b '["state"]' secondary
start a primary
in_sync a
at_most "primary crashed" 1500 "$(regions_copied a 0)"
same

# Promotion while the other is gone, and its return.
write a 1600 10
kill_tapdisk "$pid_a"
wait_until replica_is b '["state"]' secondary
order b promote
wait_until replica_is b '["state"]' solo
before=$(copied b)
write b 1700 20
start a secondary
in_sync b
at_most "promotion and return" 1500 "$(regions_copied b "$before")"
same

# Both crash, and return in either order.
for first in "a b" "b a"; do
    write b 1800 10
    kill_tapdisk "$pid_b"
    kill_tapdisk "$pid_a"
    for host in $first; do
        case $host in
        a) start a secondary ;;
        b) start b primary ;;
        esac
    done
    in_sync b
    at_most "both crashed, $first" 3000 "$(regions_copied b 0)"
    same
done

# A hand-over: nothing is copied, and it is the other's turn.
before=$(copied b)
order b demote
wait_until replica_is a '["state"]' paired
wait_until replica_is b '["state"]' synced
in_sync a
[ "$(copied b)" = "$before" ] || fail "a hand-over copied"

# Checkpoints: confirmed on both, exact, and answered on either host.
checkpoint() { # NAME HOST
    tap-ctl driver -n "$2" remus "checkpoint create $1" >/dev/null
    for host in a b; do
        wait_until confirmed "$1" $host
    done
}
confirmed() { # NAME HOST
    tap-ctl driver -n "$2" remus "checkpoint list" | python3 -c '
import json, sys
rows = json.load(sys.stdin)["checkpoints"]
sys.exit(not any(r["name"] == sys.argv[1] and r["confirmed"] for r in rows))' "$1"
}
changed() { # NAME HOST: "EXACT REGIONS..."
    tap-ctl driver -n "$2" remus "changed $1" | python3 -c '
import json, sys
a = json.load(sys.stdin)
assert a["next"] == a["size"]
print(a["exact"], *(r for o, n in a["runs"]
                    for r in range(o // a["region"], (o + n) // a["region"])))'
}
checkpoint monday a
write a 2000 3
expected="True 2000 2001 2002"
[ "$(changed monday a)" = "$expected" ] || fail "a: $(changed monday a)"
[ "$(changed monday b)" = "$expected" ] || fail "b: $(changed monday b)"
expect_failure 'already' tap-ctl driver -n a remus "checkpoint create monday"
expect_failure 'no checkpoint' tap-ctl driver -n a remus "changed tuesday"
expect_failure 'on the primary' tap-ctl driver -n b remus \
    "checkpoint create tuesday"
expect_failure 'needs a name' tap-ctl driver -n a remus "checkpoint create"
expect_failure '63 bytes at most' tap-ctl driver -n a remus \
    "checkpoint create $(printf 'x%.0s' {1..64})"

# Through a crash, a promotion and a resync the answer may grow, and holds all.
write a 2010 2
kill_tapdisk "$pid_a"
wait_until replica_is b '["state"]' secondary
order b promote
wait_until replica_is b '["state"]' solo
write b 2020 1
holds() { # HOST REGION...
    local answer which
    answer=" $(changed monday "$1") "
    for which in "${@:2}"; do
        [[ $answer == *" $which "* ]] || fail "$1: no $which in $answer"
    done
}
holds b 2000 2001 2002 2010 2011 2020
start a secondary
in_sync b
holds a 2000 2001 2002 2010 2011 2020
order b "checkpoint delete monday"
is_gone() { # NAME HOST
    ! confirmed "$1" "$2"
}
wait_until is_gone monday a

# Both promoted: diverged, named, both readable, nothing overwritten.
kill_tapdisk "$pid_b"
wait_until replica_is a '["state"]' secondary
order a promote
wait_until replica_is a '["state"]' solo
write a 2100 5
kill_tapdisk "$pid_a"
start b primary
order b "promote --alone"
wait_until replica_is b '["state"]' solo
write b 2200 7
start a primary
wait_until replica_is a '["diverged"]' true
wait_until replica_is b '["diverged"]' true
regions_of() { # HOST SIDE
    replica_status "$1" "[\"fork\"][\"$2\"]"
}
counted() { # HOST SIDE
    [ "$(regions_of "$1" "$2")" != null ]
}
for host in a b; do
    for side in local peer; do
        wait_until counted $host $side
    done
done
[ "$(regions_of a local)" = "$(regions_of b peer)" ] || fail "they count apart"
python3 - "$(regions_of a local)" "$(regions_of b local)" <<'PY'
import json, sys
a, b = map(json.loads, sys.argv[1:])
assert a["regions"] >= 5 and b["regions"] >= 7, (a, b)
PY
nbdcopy "$(uri_of a)" - >"$work/of_a"
nbdcopy "$(uri_of b)" - >"$work/of_b"
cmp -s "$work/of_a" "$work/of_b" && fail "they should differ"
expect_failure 'local, or --discard peer' tap-ctl driver -n a remus resolve
before=$(copied b)
order a "resolve --discard local"
in_sync b
wait_until replica_is a '["state"]' synced
nbdcopy "$(uri_of b)" - | cmp - "$work/of_b"
at_most "resolved" 3000 "$(regions_copied b "$before")"
same

# A crash within a copy, on either side.
stop_tapdisk "$pid_a"
wait_until replica_is b '["state"]' solo
write b 0 3000
start a secondary
kill_tapdisk "$pid_a"
start a secondary
kill_tapdisk "$pid_b"
start b primary
in_sync b
same
stop_tapdisk "$pid_a"
wait_until replica_is b '["state"]' solo
write b 0 3000
start a secondary
in_sync b
same

# Roles are not swapped within a copy: neither way, and it goes on.
stop_tapdisk "$pid_a"
wait_until replica_is b '["state"]' solo
write b 0 2000
start a secondary "fault:delay=20ms,op=write|"
wait_until replica_is b '["state"]' resync
expect_failure 'still being copied to: wait until it is in sync' \
    tap-ctl demote -n b
expect_failure 'the primary is alive: tap-ctl demote there' tap-ctl promote -n a
kill_tapdisk "$pid_b"
wait_until replica_is a '["state"]' secondary
expect_failure 'not consistent, since its copy is unfinished' \
    tap-ctl promote -n a
start b primary
in_sync b
order b demote
wait_until replica_is a '["state"]' paired
write a 3000 5
order a demote
wait_until replica_is b '["state"]' paired
in_sync b
same

# With received a write is acknowledged from memory; both die.
stop_tapdisk "$pid_b"
stop_tapdisk "$pid_a"
ack=received
start b primary
start a secondary
in_sync b
write b 500 50
kill_tapdisk "$pid_a"
kill_tapdisk "$pid_b"
start b primary
start a secondary
in_sync b
same

# Metadata that were rolled back: a full copy, and it is said.
# Opened once or more, they have the incarnation that the peer remembers.
roll_back() { # OPENINGS before it meets its peer
    stop_tapdisk "$pid_a"
    wait_until replica_is b '["state"]' solo
    cp "$work/a.img.meta" "$work/old.meta"
    start a secondary
    in_sync b
    stop_tapdisk "$pid_a"
    wait_until replica_is b '["state"]' solo
    cp "$work/old.meta" "$work/a.img.meta"
    for _ in $(seq 2 "$1"); do
        start_tapdisk a "remus:role=secondary,listen=tcp://127.0.0.1:0,$times|aio:$work/a.img"
        stop_tapdisk "$pid"
    done
}
for openings in 1 3; do
    roll_back $openings
    before=$(copied b)
    start a secondary
    in_sync b
    [ "$(regions_copied b "$before")" -eq 4096 ] ||
        fail "after a rollback $(regions_copied b "$before") regions were copied"
    grep -q "rolled back" "$work/b.log" || fail "the rollback is not named"
    : >"$work/b.log"
    same
done

# An image that was changed behind its back is named, and all is copied.
stop_tapdisk "$pid_a"
wait_until replica_is b '["state"]' solo
qemu-io -f raw -c "write -P 3 77M 64k" "$work/a.img" >/dev/null
start a secondary
in_sync b
replica_is a '["image_changed"]' true || fail "it was not named"
same

# Metadata of another disk.
stop_tapdisk "$pid_a"
wait_until replica_is b '["state"]' solo
rm "$work/a.img.meta"
start_tapdisk c "remus:role=primary,peer=tcp://127.0.0.1:1,listen=tcp://127.0.0.1:0,meta=$work/c.meta,$times|ram:$size"
stop_tapdisk "$pid"
cp "$work/c.meta" "$work/a.img.meta"
start a secondary
replica_is a '["state"]' secondary || fail "it is no secondary"
wait_until grep -q "different disks" "$work/a.log"

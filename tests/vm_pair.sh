#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk on two real hosts, over RDMA (real verbs) and over TCP, while clients
# write: the link flaps, both ways and one way, is slow and loses packets, is
# gone for longer than the grace time; a host hangs, crashes, or loses its
# daemon.  Nothing that was acknowledged is lost (A1), the copies are equal
# (A5), a flap costs no copy, and status tells the truth in time.
#
# time limit: 1500
. "$(dirname "$0")/vm/pair.sh"

need fio python3

told() {
    printf '%s: %s (%s s)\n' "$over" "$*" $SECONDS
}

# no_copy CASE...: run it; it ends in sync, with nothing copied anew, while
# writes go on.
no_copy() {
    local before
    before=$(copied a)
    "$@"
    more_acked 20
    in_sync a
    [ "$(copied a)" = "$before" ] || fail "$*: it cost a copy"
    told "$* cost no copy"
}

short_cut() { # HOST...
    local host others
    others=("${@:1:$#-1}")
    for host in "${others[@]}"; do
        cut "$host"
    done
    wait_for_break "${@: -1}"
    for host; do
        heal "$host"
    done
}

wait_for_break() { # HOST: cut it; a notices within the dead time
    if [ "$1" = a ]; then
        tells_within $DEAD_S a state broken \
            tc qdisc replace dev eth0 root netem loss 100%
    else
        cut "$1"
        tells_within $DEAD_S a state broken true
    fi
}

bad_link() { # slow, and loses packets
    local host
    for host in a b; do
        on "$host" tc qdisc replace dev eth0 root netem delay 2ms 1ms loss 1%
    done
    more_acked 50
    for host in a b; do
        heal "$host"
    done
}

# --- what both transports must stand ---

both_transports() {
    new_pair 16M
    same_images
    replica_is a '["link"]["path"]' "${over%% *}" ||
        fail "the link is over $(replica_status a '["link"]["path"]')"
    told "in sync"
    start_writer a

    no_copy short_cut b a
    no_copy short_cut a
    no_copy short_cut b
    no_copy bad_link

    # Longer than the grace time: a goes on alone, and says so.
    cut b
    cut a
    tells_within $((DEAD_S + GRACE_S)) a state solo true
    [ "$(replica_status a '["failover"]["loses"]')" != nothing ] ||
        fail "a says that a failover now would lose nothing"
    more_acked 20
    heal a
    heal b
    in_sync a
    told "a long cut was copied"

    # The peer's host hangs.
    hang b
    tells_within $((DEAD_S + GRACE_S)) a state solo true
    more_acked 20
    go_on b
    in_sync a
    told "a hung peer was copied to"

    # The peer's daemon is killed.
    end_replica b KILL
    tells_within $((DEAD_S + GRACE_S)) a state solo true
    more_acked 20
    replica b secondary
    in_sync a
    stop_writer
    check_acks a
    same_images
    told "a killed daemon came back"
}

with_disk a 64M
with_disk b 64M
boot a b

over=tcp
both_transports
end_replica a
end_replica b

over=rdma
both_transports

# --- and over RDMA: ---

# What fio wrote is what it reads, on both hosts; the link flaps under it and
# is bad for a while.
begin a fio fio --name=verify --ioengine=nbd --uri="$URI" --rw=randwrite \
    --bs=4k --iodepth=8 --size=3M --verify=crc32c --verify_fatal=1 \
    --do_verify=1 --output-format=normal
short_cut b a
for host in a b; do
    on $host tc qdisc replace dev eth0 root netem delay 1ms loss 0.3%
done
finish a fio || fail "fio: $(<"$work/a.fio.log")"
for host in a b; do
    heal $host
done
in_sync a
same_images
told "fio verifies"

# The primary's host hangs, with nobody writing: b notices, and promotes nobody.
hang a
tells_within $DEAD_S b state broken true
go_on a
in_sync a
told "a hung primary went on"

# The peer's host crashes, on an idle link.
crash b
tells_within $DEAD_S a state broken true
tells_within $GRACE_S a state solo true
boot b
replica b secondary
in_sync a
same_images
told "a crashed secondary came back"

# The primary's host crashes while it is written to.
start_writer a
more_acked 100
crash a
wait_until replica_is b '["link"]["state"]' broken
on b tap-ctl promote -n disk
wait_until replica_is b '["state"]' solo
check_acks b
boot a
replica a secondary
in_sync b
check_acks b
same_images
told "a crashed primary came back as a secondary"
end_replica b
end_replica a

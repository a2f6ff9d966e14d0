#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What is RDMA's alone, on real verbs between two hosts: six hundred connections
# leave memory, descriptors and verbs objects where they were; when RDMA breaks
# the disk goes on over TCP, and back, and nothing is copied; a stop ends in
# time though nobody answers.
#
# time limit: 900
. "$(dirname "$0")/vm/pair.sh"

need python3

verbs_objects() { # HOST: how many of each kind are in use
    on "$1" rdma resource show | tr -s ' '
}

in_use() { # HOST PATH
    wait_until replica_is "$1" '["link"]["path"]' "$2"
    in_sync "$1"
}

with_disk a 64M
with_disk b 64M
boot a b

# --- rounds of connections ---

for host in a b; do
    verbs_objects $host >"$work/$host.objects"
done
begin b rounds "$BUILD/tests/vm/rounds" listen 10.9.0.2:7700
wait_until on b bash -c 'rdma resource show cm_id | grep -q LISTEN'
WAIT_S=600
begin a rounds "$BUILD/tests/vm/rounds" connect 10.9.0.2:7700 600
finish a rounds || fail "rounds: $(<"$work/a.rounds.log")"
WAIT_S=${VM_WAIT_S:-300}
on b pkill rounds
finish b rounds || true
for host in a b; do
    awk '/^[0-9]/ { reports++; rounds = $1 }
        rounds == 100 { descriptors = $2; kib = $3 }
        rounds == 600 { exit !(reports == 6 && $2 == descriptors &&
            $3 <= kib + 512) }
        END { if (rounds != 600) exit 1 }' "$work/$host.rounds.log" ||
        fail "$host after 100, 200, ... rounds: $(<"$work/$host.rounds.log")"
    verbs_objects $host | cmp - "$work/$host.objects" ||
        fail "verbs objects of $host: $(verbs_objects $host)"
done
echo "600 rounds left nothing"

# --- RDMA alone, over a link that is well: it breaks not once ---

over=rdma
DEAD_S=60 # a busy machine is no reason
new_pair 16M
on a fio --name=verify --ioengine=nbd --uri="$URI" --rw=randwrite --bs=4k \
    --iodepth=16 --size=8M --verify=crc32c --verify_fatal=1 --do_verify=1 \
    >"$work/fio" || fail "fio: $(<"$work/fio")"
in_sync a
same_images
replica_is a '["link"]["path"]' rdma
replica_is a '["link"]["reconnects"]' 0 ||
    fail "the link: $(replica_status a '["link"]')"
end_replica a
end_replica b
DEAD_S=3
echo "2000 writes by fio, and one connection"

# --- from RDMA to TCP, and back ---

over="rdma tcp"
new_pair 16M
in_use a rdma
start_writer a
before=$(copied a)

# The network does not pass RoCE any more (UDP port 4791); then it does again.
for host in a b; do
    on $host bash -ec 'tc qdisc replace dev eth0 root handle 1: prio
        tc qdisc replace dev eth0 parent 1:3 handle 30: netem loss 100%
        tc filter replace dev eth0 parent 1: protocol ip prio 1 u32 \
            match ip protocol 17 0xff match ip dport 4791 0xffff flowid 1:3'
done
in_use a tcp
more_acked 50
replica_status a '["link"]["paths"]'
for host in a b; do
    heal $host
done
in_use a rdma
more_acked 50
[ "$(copied a)" = "$before" ] || fail "going over TCP and back cost a copy"
echo "a network without RoCE: over TCP and back, no copy"

# The device is taken out of the host.  Soft-RoCE, which cannot be taken from
# its users, waits until the last has let go, and librdmacm does not before the
# process ends: until then TCP serves.
begin b removal rdma link delete rxe0
in_use a tcp
more_acked 50
[ "$(copied a)" = "$before" ] || fail "going over to TCP cost a copy"
stop_writer
check_acks a
same_images
end_replica b
finish b removal
on b rdma link add rxe0 type rxe netdev eth0
replica b secondary
in_use a rdma
same_images
echo "a device removed: over TCP, no copy; there again: RDMA"

# --- a stop, when nobody answers ---

hang b
# shellcheck disable=SC2016
took=$(on a bash -c 'begin=${EPOCHREALTIME/./}
    pid=$(</run/disk.pid); kill $pid
    while [ -e /proc/$pid ]; do sleep 0.05; done
    echo $(((${EPOCHREALTIME/./} - begin) / 1000))')
echo "a stopped after $took ms"
[ "$took" -le $(((30 + SLACK_S) * 1000)) ] || fail "it took $took ms to stop"
go_on b
verbs_objects a | cmp - "$work/a.objects" ||
    fail "verbs objects of a: $(verbs_objects a)"
end_replica b

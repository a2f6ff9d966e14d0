# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# vm/pair.sh - what stories share whose replicas live in guests: a disk,
# /srv/disk.img, whose primary is in one of a and b and whose secondary is in
# the other.  In place of lib.sh's words for replicas on this machine:
#
#     replica HOST ROLE      start the daemon; over which transports says
#                            $over, the best first: "rdma", "rdma tcp"
#     replica_status HOST MEMBER, replica_is HOST MEMBER VALUE
#     cut HOST, heal HOST    what leaves the host is lost; is not
#     start_writer HOST, stop_writer, acked COUNT, more_acked, check_acks HOST
#                            the client that keeps account (ack_log.py)
#     same_images            on both hosts, idle and in sync, byte by byte

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The dead time is what an idle peer is given to answer; the grace time is
# longer than an emulated host on a busy machine needs to be back.
PING=250ms DEAD_S=3 GRACE_S=15
URI="nbd+unix:///?socket=/run/disk.sock"
over=rdma

urls() { # OPTION HOST: "OPTION URL" for each transport
    local scheme port=7788
    for scheme in $over; do
        echo "$1 $scheme://$2:$port"
        port=$((port + 1))
    done
}

replica() { # HOST ROLE [OPTION...]
    local host=$1 role=$2
    shift 2
    # shellcheck disable=SC2046 # words
    on "$host" tapdisk --daemon --name disk --role "$role" \
        $(urls --listen "$host") $(urls --peer "$(vm_other "$host")") \
        --insecure-network --ping $PING --dead ${DEAD_S}s --grace ${GRACE_S}s \
        --nbd unix:/run/disk.sock --pid-file /run/disk.pid \
        --log "file:$work/$host-tapdisk.log" "$@" aio:/srv/disk.img \
        >"$work/started" || fail "tapdisk in $host: $(<"$work/started")"
}

# end_replica HOST [SIGNAL]: and wait until it is gone.
end_replica() {
    # shellcheck disable=SC2016
    on "$1" bash -c 'pid=$(</run/disk.pid); kill -'"${2:-TERM}"' $pid
        while [ -e /proc/$pid ]; do sleep 0.05; done'
}

replica_status() { # HOST MEMBER
    on "$1" tap-ctl stats -n disk | replica_member "$2"
}

copied() { # bytes that were copied to the peer so far
    replica_status "$1" '["resync_bytes"] + image["resync_zeroed_bytes"]'
}

cut() { # HOST
    on "$1" tc qdisc replace dev eth0 root netem loss 100%
}

heal() { # HOST
    on "$1" tc qdisc del dev eth0 root
}

# tells_within SECONDS HOST KEY VALUE COMMAND...: so soon after the COMMAND on
# the host its status says so.  Its own clock counts; the bound is widened by
# what a busy machine may take of an emulated one.
SLACK_S=20
tells_within() {
    local limit=$1 host=$2 key=$3 value=$4 took
    shift 4
    # shellcheck disable=SC2016
    took=$(on "$host" bash -c '"${@:2}" >&2 || exit
        begin=${EPOCHREALTIME/./}
        until tap-ctl stats -n disk | tr -d " \n" | grep -q "$1"; do
            [ $((${EPOCHREALTIME/./} - begin)) -lt 100000000 ] || exit 1
        done
        echo $(((${EPOCHREALTIME/./} - begin) / 1000))' tells \
        "\"$key\":\"$value\"" "$@") ||
        fail "$host does not say \"$key\": \"$value\" after: $*"
    echo "   $host says $key $value after $took ms (time set: $limit s)"
    [ "$took" -le $(((limit + SLACK_S) * 1000)) ] ||
        fail "$host said $key $value after $took ms, not within $limit s"
}

start_writer() { # HOST
    writer_host=$1
    rm -f "$work/acks"
    begin "$1" writer "$TOP/tests/ack_log.py" write "$URI" "$work/acks"
    wait_until acked 10
}

stop_writer() {
    on "$writer_host" pkill -TERM -x ack_log.py || true
    finish "$writer_host" writer
}

acked() { # COUNT
    [ -s "$work/acks" ] && [ "$(wc -l <"$work/acks")" -ge "$1" ]
}

more_acked() { # COUNT: so many more than now
    wait_until acked $(($(wc -l <"$work/acks") + $1))
}

check_acks() { # HOST
    on "$1" "$TOP/tests/ack_log.py" check "$URI" "$work/acks"
}

in_sync() { # HOST
    wait_until replica_is "$1" '["in_sync"]' true
}

same_images() {
    local of_a of_b
    of_a=$(on a sha256sum /srv/disk.img)
    of_b=$(on b sha256sum /srv/disk.img)
    [ "$of_a" = "$of_b" ] || fail "the images differ"
}

# New images on both; a primary in a and a secondary in b, in sync.
new_pair() { # SIZE
    on a bash -c "rm -f /srv/disk.img*; truncate -s $1 /srv/disk.img"
    on b bash -c "rm -f /srv/disk.img*; head -c $1 /dev/urandom >/srv/disk.img"
    replica b secondary
    replica a primary
    in_sync a
}

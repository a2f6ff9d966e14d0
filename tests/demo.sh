#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The demo, `make demo`: a file system with thousands of this machine's files
# lives on two hosts, the primary is killed while it is written to, and nothing
# that was acknowledged is lost.  It teaches on the way.
# time limit: 120
. "$(dirname "$0")/lib.sh"

FILES=8000               # at most; at least 5,000 must be found
FILE_MAX=256k            # of one file
BYTES_MAX=$((210 << 20)) # of all
SIZE=300M                # of the disk

need mke2fs e2fsck debugfs nbdcopy cmp python3

number=0
step() {
    number=$((number + 1))
    printf '\n%d. %s\n' $number "$(fmt -w 76 <<<"$*")"
}

run() { # show a command as a person would type it, and run it
    printf '   $ %s\n' "${*//$TOP\//}"
    "$@" 2>&1 | sed 's/^/   /'
}

cd "$work"

step "We need a disk with something real on it.  Here is an ext4 file system" \
    "of $SIZE with files of this machine, in an ordinary file: original.img."
find -H /usr/share /usr/include /usr/lib -xdev -type f -readable ! -name $'*\n*' \
    -size +0 -size -$FILE_MAX -printf '%s %p\n' 2>/dev/null | sort -k 2 |
    awk -v files=$FILES -v bytes=$BYTES_MAX \
        'n < files && sum + $1 <= bytes { n++; sum += $1
            print substr($0, length($1) + 2) }' >list
found=$(wc -l <list)
[ "$found" -ge 5000 ] || fail "only $found files of this machine fit"
mkdir tree
tar -cf - --no-recursion -T list 2>/dev/null | tar -xf - -C tree
random_file tree/acknowledged 4M
run mke2fs -q -t ext4 -b 4096 -d tree original.img $SIZE
bytes=$(du -sm --apparent-size tree | cut -f 1)
rm -rf tree
echo "   ($found files, $bytes MB)"

export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir
port_a=$(free_port) port_b=$(free_port)
quick=ping-ms=100,dead-ms=1000,grace-ms=2000,connect-ms=100,retry-ms=500

# start_replica NAME ROLE PORT PEER-PORT
start_replica() {
    echo "   \$ tapdisk --name $1 --nbd unix:$1.sock \\"
    echo "       'remus:role=$2,listen=tcp://127.0.0.1:$3,peer=tcp://127.0.0.1:$4|aio:$1.img' &"
    start_tapdisk "$1" \
        "remus:role=$2,listen=tcp://127.0.0.1:$3,peer=tcp://127.0.0.1:$4,$quick|aio:$1.img"
}

# Until the primary NAME says that the two are in sync, a bar.
show_sync() {
    local percent=0 hashes
    until replica_is "$1" '["in_sync"]' true; do
        percent=$(replica_status "$1" \
            '["resync"] and int(image["resync"]["done_bytes"] * 100 / '\
'image["resync"]["total_bytes"])')
        [[ $percent =~ ^[0-9]+$ ]] || percent=0
        printf -v hashes '%*s' $((percent / 2)) ''
        printf '   [%-50s] %3d %%\n' "${hashes// /#}" "$percent"
    done
    printf -v hashes '%50s' ''
    printf '   [%s] 100 %%  in sync\n' "${hashes// /#}"
}

acked() { # COUNT
    [ -s acks ] && [ "$(wc -l <acks)" -ge "$1" ]
}

step "Two hosts are to hold one disk; here both are this machine.  The" \
    "secondary, b, starts first.  Its image is full of random bytes, to show" \
    "that all of it is made equal.  It serves nobody."
random_file b.img $SIZE
start_replica b secondary "$port_b" "$port_a"
pid_b=$pid

step "The primary, a, has the disk, which is empty so far, and serves it by" \
    "NBD.  It calls b and begins to copy."
truncate -s $SIZE a.img
start_replica a primary "$port_a" "$port_b"
pid_a=$pid

step "Copy the file system in through the primary, while it synchronises:"
run nbdcopy --flush original.img "$uri"
show_sync a

step "From here on a write is acknowledged when both hosts have it.  The two" \
    "images are equal, and equal to the original.  Silence is equality:"
run cmp original.img a.img
run cmp a.img b.img

step "A client writes into the blocks of one file of the file system, and" \
    "keeps account of each write that was acknowledged.  In the middle of" \
    "it the primary is killed, as by a power failure."
debugfs -R 'blocks /acknowledged' original.img 2>/dev/null >blocks
"$TOP/tests/ack_log.py" write "$uri" acks blocks &
writer=$!
pids+=("$writer")
wait_until acked 2000
echo "   \$ kill -KILL $pid_a"
kill_tapdisk "$pid_a"
wait "$writer" || true
echo "   ($(wc -l <acks) writes)"

step "The link alone promotes nobody: that is the operator's word, or an" \
    "arbiter's.  He knows that a is dead, and promotes b:"
wait_until replica_is b '["link"]["state"]' broken
echo "   \$ tap-ctl driver -n b remus promote"
tap-ctl driver -n b remus promote >/dev/null
wait_until replica_is b '["state"]' solo

step "Every acknowledged write is there, and the file system is whole:"
run "$TOP/tests/ack_log.py" check "$(uri_of b)" acks
run nbdcopy "$(uri_of b)" copy.img
run e2fsck -fn copy.img

step "The old primary comes back, as a secondary: it is brought up to date."
start_replica a secondary "$port_a" "$port_b"
pid_a=$pid
show_sync b

step "Stop both.  They say goodbye, flush, and are equal:"
echo "   \$ kill $pid_b $pid_a"
stop_tapdisk "$pid_b"
stop_tapdisk "$pid_a"
run cmp a.img b.img

echo
echo "demo: OK"

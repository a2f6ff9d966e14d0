#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The demo, `make demo`: a file system with thousands of this machine's files
# lives on two hosts, the primary is killed while it is written to, and nothing
# that was acknowledged is lost.  It teaches on the way.
# time limit: 120
. "$(dirname "$0")/lib.sh"

FILES=6000                # the first so many,
FILES_MIN=5000            # of which some may change under our hands,
MIB=205                   # and as many of the largest as make up so much
FILE_MAX=1024k            # of one file
SIZE=320                  # of the disk, MiB
PLACES=(/usr/share /usr/include /usr/lib)
if [ -n "${DEMO_SMALL:-}" ]; then # for a slow machine
    FILES=300 FILES_MIN=250 MIB=10 SIZE=64 PLACES=(/usr/include)
fi

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

shown_uri() { # NAME
    echo "nbd+unix:///?socket=$1.sock"
}

cd "$work"

step "We need a disk with something real on it.  Here is an ext4 file system" \
    "of $SIZE MiB with files of this machine, in an ordinary file: original.img."
find -H "${PLACES[@]}" -xdev -type f -readable ! -name $'*\n*' \
    -size +0 -size -$FILE_MAX -printf '%s %p\n' 2>/dev/null | sort -k 2 >all
{
    head -n $FILES all
    tail -n +$((FILES + 1)) all | sort -rn
} | awk -v files=$FILES -v bytes=$((MIB << 20)) 'n < files || sum < bytes {
        n++; sum += $1; print substr($0, length($1) + 2) }' >list
mkdir tree
tar -cf - --no-recursion -T list 2>/dev/null | tar -xf - -C tree
random_file tree/acknowledged 4M
run mke2fs -q -t ext4 -b 4096 -d tree original.img ${SIZE}M
found=$(find tree -type f | wc -l)
bytes=$(find tree -type f -printf '%s\n' |
    awk '{ sum += $1 } END { print int(sum / 1e6) }')
rm -rf tree
echo "   ($found files, $bytes MB)"
if [ "$found" -lt $FILES_MIN ] || [ "$bytes" -lt $MIB ]; then
    fail "this machine has not the $FILES_MIN files and $MIB MB that it takes"
fi

export PATH=$BUILD:$PATH TAPDISK_RUN_DIR=$run_dir
port_a=$(free_port) port_b=$(free_port)

# Over RDMA where a device of this machine answers; DEMO_OVER=tcp: not even then.
scheme=tcp host=127.0.0.1 more=()
if [ "${DEMO_OVER:-}" != tcp ] && address=$(rdma_address); then
    # a network, and no key: good for a demo
    scheme=rdma host=$address more=(--insecure-network)
fi

# start_replica NAME ROLE PORT PEER-PORT
start_replica() {
    local words=(--role "$2" --listen "$scheme://$host:$3"
        --peer "$scheme://$host:$4" "${more[@]}")
    printf '   $ tapdisk --name %s --nbd unix:%s.sock %s \\\n' \
        "$1" "$1" "${words[*]:0:2}"
    printf '         %s aio:%s.img &\n' "${words[*]:2}" "$1"
    start_tapdisk "$1" "${words[@]}" "aio:$1.img"
}

# Until the primary NAME says that the two are in sync, and PID has ended, a
# bar: one that moves on a terminal, and else a line for each tenth.
show_sync() { # NAME [PID]
    local shown=-10 percent hashes text
    until replica_is "$1" '["in_sync"]' true && ended "${2:-0}"; do
        percent=$(replica_status "$1" \
            '["resync"] and int(image["resync"]["done_bytes"] * 100 / '\
'image["resync"]["total_bytes"])')
        [[ $percent =~ ^[0-9]+$ ]] || continue
        [ -t 1 ] || [ "$percent" -ge $((shown + 10)) ] || continue
        shown=$percent
        printf -v hashes '%*s' $((percent / 2)) ''
        printf -v text '   [%-50s] %3d %%' "${hashes// /#}" "$percent"
        if [ -t 1 ]; then printf '%s\r' "$text"; else echo "$text"; fi
    done
    printf -v hashes '%50s' ''
    printf '   [%s] 100 %%  in sync\n' "${hashes// /#}"
}

# What a crash now would make doubtful is little.
rests() { # NAME
    local extents
    extents=$(replica_status "$1" '["tracking"]["extents"]')
    [[ $extents =~ ^[0-9]+$ ]] && [ "$extents" -lt 16 ]
}

# Bytes that the replica NAME has copied to its peer.
copied() { # NAME
    echo $(($(replica_status "$1" '["resync_bytes"]') +
        $(replica_status "$1" '["resync_zeroed_bytes"]')))
}

acked() { # COUNT
    [ -s acks ] && [ "$(wc -l <acks)" -ge "$1" ]
}

step "Two hosts are to hold one disk; here both are this machine.  The" \
    "secondary, b, starts first.  Its image is full of random bytes, to show" \
    "that all of it is made equal.  It serves nobody."
random_file b.img ${SIZE}M
start_replica b secondary "$port_b" "$port_a"
pid_b=$pid

step "The primary, a, has the disk, which is empty so far, and serves it by" \
    "NBD.  It calls b and begins to copy."
truncate -s ${SIZE}M a.img
start_replica a primary "$port_a" "$port_b"
pid_a=$pid

step "Copy the file system in through the primary, while it synchronises:"
echo "   \$ nbdcopy original.img '$(shown_uri a)'"
nbdcopy --flush original.img "$uri" &
copy=$!
pids+=("$copy")
show_sync a $copy
wait $copy

step "From here on a write is acknowledged when both hosts have it.  The two" \
    "images are equal, and equal to the original.  Silence is equality:"
run cmp original.img a.img
run cmp a.img b.img

step "Where guests have just written is on record, by extents of 4 MiB, for a" \
    "crash to be survived without a look at the whole disk.  What nobody" \
    "writes to for some seconds leaves that record:"
tracks() {
    echo "   \$ tap-ctl status -n a | grep tracks"
    tap-ctl status -n a | grep tracks | sed 's/^/   /'
}
tracks
wait_until rests a
tracks

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
echo "   ($(grep -vc -- - acks) writes were acknowledged)"

step "The link alone promotes nobody: that is the operator's word, or an" \
    "arbiter's.  He knows that a is dead, and promotes b:"
wait_until replica_is b '["link"]["state"]' broken
run tap-ctl promote -n b
run tap-ctl status -n b

step "Every acknowledged write is there, and the file system is whole:"
echo "   \$ ack_log.py check '$(shown_uri b)' acks"
"$TOP/tests/ack_log.py" check "$(uri_of b)" acks | sed 's/^/   /'
echo "   \$ nbdcopy '$(shown_uri b)' copy.img"
nbdcopy "$(uri_of b)" copy.img
run e2fsck -fn copy.img

step "The old primary comes back, as a secondary, and catches up with what" \
    "changed, and with what its crash made doubtful; not with the disk:"
before=$(copied b)
start_replica a secondary "$port_a" "$port_b"
pid_a=$pid
show_sync b
after=$(copied b)
printf '   (%d MB were copied, of a disk of %d MB)\n' \
    $(((after - before) / 1000000)) $((SIZE * 1048576 / 1000000))
[ $((after - before)) -lt $((SIZE << 19)) ] ||
    fail "the old primary was copied to as if nothing were known of it"

step "Stop both.  They say goodbye, flush, and are equal:"
echo "   \$ kill $pid_b $pid_a"
stop_tapdisk "$pid_b"
stop_tapdisk "$pid_a"
run cmp a.img b.img

echo
echo "demo: OK"

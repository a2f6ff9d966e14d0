#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The demo between two hosts over RDMA, `make demo-rdma`: two virtual machines
# with Soft-RoCE between them hold one disk with a file system of this machine's
# files; the primary's machine is killed while it is written to, and nothing
# that was acknowledged is lost.
# time limit: 900
. "$(dirname "$0")/vm/pair.sh"

FILES=2000              # at most
FILE_MAX=64k            # of one file
BYTES_MAX=$((40 << 20)) # of all
SIZE=64M                # of the disk

need mke2fs e2fsck debugfs nbdcopy cmp python3

number=0
step() {
    number=$((number + 1))
    printf '\n%d. %s\n' $number "$(fmt -w 76 <<<"$*")"
}

run() { # [on HOST] COMMAND...: show it as a person would type it, and run it
    local where=''
    [ "$1" != on ] || where=$2
    printf '   %s$ %s\n' "$where" "$(sed "s|$work/||g; s|$TOP/||g" \
        <<<"${*:1+2*${#where}}")"
    "$@" 2>&1 | sed 's/^/   /'
}

# The bar of the demo on one machine, of a primary in a guest.
show_sync() { # HOST
    local percent hashes
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

start_replica() { # HOST ROLE
    local peer
    peer=$(vm_other "$1")
    echo "   $1\$ tapdisk --name disk --role $2 --listen rdma://$1:7788 \\"
    echo "        --peer rdma://$peer:7788 --nbd unix:/run/disk.sock aio:/srv/disk.img &"
    replica "$1" "$2"
}

cd "$work"

step "Two hosts, a and b, each with a disk of its own, a network between them," \
    "and an RDMA device on it.  They boot:"
with_disk a 160M
with_disk b 160M
boot a b
run on a rdma link
run on b rdma link

step "Here is an ext4 file system of $SIZE with files of this machine, in an" \
    "ordinary file: original.img."
find -H /usr/share /usr/include -xdev -type f -readable ! -name $'*\n*' \
    -size +0 -size -$FILE_MAX -printf '%s %p\n' 2>/dev/null | sort -k 2 |
    awk -v files=$FILES -v bytes=$BYTES_MAX \
        'n < files && sum + $1 <= bytes { n++; sum += $1
            print substr($0, length($1) + 2) }' >list
found=$(wc -l <list)
[ "$found" -ge 1000 ] || fail "only $found files of this machine fit"
mkdir tree
tar -cf - --no-recursion -T list 2>/dev/null | tar -xf - -C tree
random_file tree/acknowledged 4M
run mke2fs -q -t ext4 -b 4096 -d tree original.img $SIZE
rm -rf tree
echo "   ($found files)"

step "The secondary, b, starts first.  Its image is full of random bytes, to" \
    "show that all of it is made equal.  The primary, a, has an empty image," \
    "and serves the disk by NBD."
on b bash -c "head -c $SIZE /dev/urandom >/srv/disk.img"
on a truncate -s $SIZE /srv/disk.img
start_replica b secondary
start_replica a primary

step "Copy the file system in through the primary, while it synchronises:"
run on a nbdcopy --flush "$work/original.img" "$URI"
show_sync a

step "Is it RDMA?  Status says so, and so does the kernel:"
run on a tap-ctl status -n disk
run on a rdma resource show qp
replica_is a '["link"]["path"]' rdma || fail "the link is not over RDMA"
on a rdma resource show qp | grep -q 'type RC state RTS.*comm tapdisk' ||
    fail "the daemon has no connected queue pair"

step "Both images are equal to the original.  Silence is equality:"
run on a cmp "$work/original.img" /srv/disk.img
run on b cmp "$work/original.img" /srv/disk.img

step "A client writes into the blocks of one file of the file system, and" \
    "keeps account of each write that was acknowledged.  In the middle of" \
    "it the primary's host is killed, as by a power failure."
debugfs -R 'blocks /acknowledged' original.img 2>/dev/null >blocks
begin a writer "$TOP/tests/ack_log.py" write "$URI" "$work/acks" "$work/blocks"
wait_until acked 300
# shellcheck disable=SC2154 # vm/lib.sh's
echo "   \$ kill -KILL ${vm_pid[a]}    # the virtual machine a"
crash a
echo "   ($(wc -l <acks) writes)"

step "b notices within the dead time.  That alone promotes nobody: it is the" \
    "operator's word, or an arbiter's.  He knows that a is dead:"
wait_until replica_is b '["link"]["state"]' broken
run on b tap-ctl promote -n disk
wait_until replica_is b '["state"]' solo

step "Every acknowledged write is there, and the file system is whole:"
run on b "$TOP/tests/ack_log.py" check "$URI" "$work/acks"
run on b nbdcopy "$URI" "$work/copy.img"
run e2fsck -fn copy.img

step "The old primary's host comes back, and it becomes a secondary, which is" \
    "brought up to date."
boot a
start_replica a secondary
show_sync b

step "Stop both.  They say goodbye, flush, and are equal:"
run on b tap-ctl destroy -n disk
run on a tap-ctl destroy -n disk
same_images
on b sha256sum /srv/disk.img | sed 's/^/   /'
on a sha256sum /srv/disk.img | sed 's/^/   /'

echo
echo "demo-rdma: OK"

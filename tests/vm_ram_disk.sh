#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A device that is memory: its transfers are made on the spot, past the page
# cache, or by helper threads if they are long; what was written is there.
#
# time limit: 300
. "$(dirname "$0")/vm/lib.sh"

need fio qemu-io

URI="nbd+unix:///?socket=/run/disk.sock"

boot a
on a modprobe brd rd_nr=1 rd_size=32768
on a tapdisk --daemon --name disk --pid-file /run/disk.pid \
    --nbd unix:/run/disk.sock --log "file:$work/a-tapdisk.log" aio:/dev/ram0 \
    >"$work/started" || fail "tapdisk: $(<"$work/started")"
on a tap-ctl stats -n disk >"$work/stats"
grep -q '"way": "memory"' "$work/stats" || fail "not as memory: $(<"$work/stats")"
grep -q '"direct": true' "$work/stats" || fail "by way of the page cache"
on a fio --name=verify --ioengine=nbd --uri="$URI" --rw=randwrite \
    --bsrange=512-8k --blockalign=512 --iodepth=16 --size=2M --verify=crc32c \
    --verify_fatal=1 --do_verify=1 >"$work/fio" || fail "fio: $(<"$work/fio")"
on a qemu-io -f raw -c 'write -P 7 8M 1M' -c 'write -P 8 512 1536' \
    -c 'write -P 9 31M 1M' "$URI" >"$work/write" ||
    fail "$(<"$work/write")"
# On the device, though the daemon never stopped: no cache of its held anything.
# shellcheck disable=SC2016
on a bash -c 'pid=$(</run/disk.pid); kill -9 $pid
    while [ -e /proc/$pid ]; do sleep 0.05; done'
on a qemu-io -r -f host_device -t none -c 'read -P 7 8M 1M' \
    -c 'read -P 8 512 1536' -c 'read -P 9 31M 1M' /dev/ram0 >"$work/read" 2>&1 ||
    fail "$(<"$work/read")"

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# vm/lib.sh - guests for stories: up to two small machines, a and b, with a
# network between them, Soft-RoCE on it, and this machine's files inside.  A
# story sources this in place of ../lib.sh, and has from here:
#
#     boot NAME...           boots them at once; returns when they can be used
#     on NAME COMMAND...     runs a command, given as words, in the guest: its
#                            output and status are those of on
#     begin NAME JOB COMMAND...   the same in the background; its output goes
#                            to $work/NAME.JOB.log
#     finish NAME JOB        waits for it: its status is that of finish
#     bring NAME PACKAGE...  the files of Debian packages that are not installed
#                            here, into the guest
#     hang NAME, go_on NAME  the whole machine stands still, and goes on
#     crash NAME             the machine is gone, as by a power failure; what
#                            it has on /srv survives (see with_disk)
#     with_disk NAME SIZE    before boot: /srv is a disk, else it is memory
#
# Words are quoted for the guest's shell; a script is one word of bash -c.
# $work is the same directory in the guests, for what passes between them and
# the story.  In a guest, $BUILD comes first in PATH, a and b are the two
# hosts' names (10.9.0.1, 10.9.0.2; fd09::1, fd09::2), rxe0 is the RDMA device.
#
# V1  A guest ends with the story, however that ends: QEMU is told to die with
#     its parent.  So boot must not be called in a subshell.
# V2  A guest ends by itself after VM_LIMIT seconds.
# V3  When a story fails it shows the end of each guest's console, and of the
#     logs in $work.
#
# Without KVM a guest is an emulation, twenty times slower than this machine:
# wait for conditions, and prove nothing by the clock.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

WAIT_S=${VM_WAIT_S:-300}
VM_LIMIT=${VM_LIMIT:-900} # seconds that a guest lives at most
VM_MEMORY=${VM_MEMORY:-1024}
VM_MTU=${VM_MTU:-1500}
VM_ACCEL=${VM_ACCEL:-tcg,thread=single} # QEMU's -accel: kvm where that works
VM_PIN=${VM_PIN:-} # not empty: each guest has a core of its own
declare -A vm_pid=() vm_port=() vm_channel=()
vm_heard=

need setpriv qemu-system-x86_64
vm_image() { # [PACKAGE...]: make what guests boot from
    local status=0
    "$TOP/tests/vm/image" "$@" >"$work/image" || status=$?
    [ $status -ne 77 ] || skip "$(tail -n 1 "$work/image")"
    [ $status -eq 0 ] || fail "$(cat "$work/image")"
}
vm_image
mkdir "$work/vm"

vm_number() { # NAME: 1 of a, 2 of b
    printf '%d' $(($(printf '%d' "'$1") - 96))
}

vm_other() { # NAME
    [ "$1" = a ] && echo b || echo a
}

with_disk() { # NAME SIZE
    truncate -s "$2" "$work/vm/$1.disk"
    mke2fs -q -t ext4 "$work/vm/$1.disk"
}

# Two free UDP ports at once, so that they differ.
vm_free_ports() {
    python3 -c 'import socket
s = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))'
}

vm_start() { # NAME: the process
    local name=$1 number other channel pin=() disk=()
    number=$(vm_number "$name")
    other=$(vm_other "$name")
    [ -z "$VM_PIN" ] || pin=(taskset -c $(((number - 1) % $(nproc))))
    [ ! -e "$work/vm/$name.disk" ] || disk=(-drive
        "file=$work/vm/$name.disk,format=raw,if=none,id=disk"
        -device "virtio-blk-pci,drive=disk")
    [ -n "${vm_port[a]:-}" ] ||
        read -r "vm_port[a]" "vm_port[b]" < <(vm_free_ports)
    rm -f "$work/vm/$name".{in,out}
    mkfifo "$work/vm/$name.in" "$work/vm/$name.out"
    local files=path=/,security_model=none,readonly=on,multidevs=remap
    local net=local.type=inet,local.host=127.0.0.1,local.port=${vm_port[$name]}
    net+=,remote.type=inet,remote.host=127.0.0.1,remote.port=${vm_port[$other]}
    "${pin[@]}" setpriv --pdeathsig KILL qemu-system-x86_64 \
        -nodefaults -no-user-config -display none -no-reboot \
        -machine pc -cpu max -accel "$VM_ACCEL" -smp 1 -m "$VM_MEMORY" \
        -kernel "$TOP/build/vm/vmlinux" -initrd "$TOP/build/vm/initrd" \
        -append "console=ttyS0 loglevel=5 panic=-1 no_timer_check nokaslr \
mitigations=off audit=0 net.ifnames=0 vm.name=$name \
vm.number=$number vm.shared=$work vm.top=$TOP vm.build=$BUILD \
vm.limit=$VM_LIMIT vm.mtu=$VM_MTU" \
        -serial "file:$work/$name-console.log" -monitor none \
        -fsdev "local,id=host,$files" \
        -device virtio-9p-pci,fsdev=host,mount_tag=host \
        -fsdev "local,id=shared,path=$work,security_model=none,multidevs=remap" \
        -device virtio-9p-pci,fsdev=shared,mount_tag=shared \
        -device virtio-serial-pci -chardev "pipe,id=agent,path=$work/vm/$name" \
        -device virtserialport,chardev=agent,name=agent \
        -device virtio-rng-pci \
        -netdev "dgram,id=net,$net" \
        -device "virtio-net-pci,netdev=net,mac=52:54:00:00:09:0$number" \
        "${disk[@]}" >"$work/$name-qemu.log" 2>&1 </dev/null &
    vm_pid[$name]=$!
    pids+=("${vm_pid[$name]}")
    # Opened both ways, so that no end of a guest can hold us up.
    exec {channel}<>"$work/vm/$name.out"
    vm_channel[$name]=$channel
}

# vm_hear NAME: what the agent says, a line, into $vm_heard; fails when it says
# nothing for a second, since a caller then asks after QEMU, which takes a
# process.  A line is written at once, so where a byte is, all of it is.  A read
# must not time out on the way: bash may have taken the end of the line by then,
# and not say so.
vm_hear() {
    local channel=${vm_channel[$1]}
    for _ in {1..50}; do
        if read -rt 0 <&"$channel"; then
            read -r vm_heard <&"$channel"
            return
        fi
        pause 0.02
    done
    return 1
}

vm_is_up() { # NAME
    ended "${vm_pid[$1]}" || { vm_hear "$1" && [ "$vm_heard" = "0 0" ]; }
}

boot() { # NAME...
    local name
    for name; do
        vm_start "$name"
    done
    for name; do
        wait_until vm_is_up "$name"
        ! ended "${vm_pid[$name]}" || fail "guest $name did not come up"
    done
}

on() { # NAME COMMAND...
    local name=$1 id=$BASHPID.$SRANDOM status end=$((SECONDS + WAIT_S))
    shift
    echo "$id ${*@Q}" >"$work/vm/$name.request"
    # a line of the pipe's: what QEMU does not take, nobody reads
    cat "$work/vm/$name.request" 1<>"$work/vm/$name.in"
    vm_heard=
    until [[ $vm_heard == "$id "* ]]; do
        if ! vm_hear "$name"; then
            ! ended "${vm_pid[$name]}" || fail "guest $name is gone; on $*"
            [ $SECONDS -lt $end ] || fail "guest $name gives no answer; on $*"
        fi
    done
    status=${vm_heard#* }
    cat "$work/on.$id"
    rm -f "$work/on.$id"
    return "$status"
}

begin() { # NAME JOB COMMAND...
    local file=$work/$1.$2
    local name=$1
    shift 2
    rm -f "$file.status"
    on "$name" bash -c "{ ${*@Q}; echo \$? >$file.new; mv $file.new \
        $file.status; } >$file.log 2>&1 &"
}

vm_job_ended() { # NAME JOB
    [ -e "$work/$1.$2.status" ] || ended "${vm_pid[$1]}"
}

finish() { # NAME JOB
    wait_until vm_job_ended "$@"
    [ -e "$work/$1.$2.status" ] || fail "guest $1 is gone, and $2 with it"
    return "$(<"$work/$1.$2.status")"
}

# bring NAME PACKAGE...: the files of Debian packages, into that guest only.
bring() {
    local name=$1 package
    shift
    vm_image "$@"
    for package; do
        on "$name" bash -c "tar -c -C $TOP/build/vm/packages/$package . |
            tar -x -C / --keep-directory-symlink"
    done
    on "$name" ldconfig
}

hang() { # NAME
    kill -STOP "${vm_pid[$1]}"
}

go_on() { # NAME
    kill -CONT "${vm_pid[$1]}"
}

crash() { # NAME
    kill_tapdisk "${vm_pid[$1]}"
}

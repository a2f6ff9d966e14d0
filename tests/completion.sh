#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Completion in bash offers verbs, options, their arguments, the disks that
# run, image types and files.
. "$(dirname "$0")/lib.sh"

PATH=$BUILD:$PATH
export TAPDISK_RUN_DIR=$run_dir
cd "$work"

# complete_line FILE LINE: what is offered at the end of LINE, a line.
complete_line() {
    bash -c '. "$1"
        COMP_LINE=$2 COMP_POINT=${#2}
        case $2 in
        tap-ctl*) _tap_ctl ;;
        *) _tapdisk ;;
        esac
        printf "%s\n" "${COMPREPLY[@]}"' - "$1" "$2" | sort | xargs
}

offers() { # LINE WORDS: exactly these
    local got
    got=$(complete_line "$file" "$1")
    [ "$got" = "$2" ] || fail "\"$1\" offers \"$got\", not \"$2\""
}

offers_among() { # LINE WORD
    local got
    got=$(complete_line "$file" "$1")
    [[ " $got " == *" $2 "* ]] || fail "\"$1\" offers \"$got\", without \"$2\""
}

truncate -s 1M disk.img
mkdir pictures
start_tapdisk web "aio:disk.img"
start_tapdisk mail ram:1M
"$BUILD/tap-ctl" allocate >minor

file=$TOP/tools/tap-ctl.bash
offers "tap-ctl sta" "stats status"
offers "tap-ctl pause --m" "--minor"
offers "tap-ctl pause -n " "mail web"
offers "tap-ctl pause --name w" "web"
offers "tap-ctl pause -p $pid" "$pid"
offers "tap-ctl free -m " 0
offers "tap-ctl create -a r" "ram: remus:"
offers "tap-ctl create -a aio:d" "disk.img"
offers "tap-ctl create -a 'fault:|ai" "fault:|aio:"
offers "tap-ctl create -a 'fault:|aio:d" "fault:|aio:disk.img"
offers_among "tap-ctl create -a aio:" "pictures"
offers "tap-ctl create --log s" "stderr syslog"
offers "tap-ctl create --tls " "off on require"
offers "tap-ctl create --role s" "secondary"
offers "tap-ctl open --peer " "rdma:// tcp://"
offers "tap-ctl promote --a" "--alone"
offers "tap-ctl resync --discard " "local"
offers "tap-ctl verify --repair-from " "local"
offers_among "tap-ctl create --nb" "--nbd-export"
offers "tap-ctl log-level -n web w" "warning"
offers "tap-ctl resolve --discard " "local peer"
offers "tap-ctl checkpoint -n web c" "create"
offers "tap-ctl metadata " "check dump"
offers "tap-ctl metadata dump di" "disk.img"
offers "tap-ctl list -t lo" "log lossy"
offers "tap-ctl --run-dir $work list -n " ""

file=$TOP/tools/tapdisk.bash
offers "tapdisk --tls-p" "--tls-psk"
offers "tapdisk --io lib" "libaio"
offers "tapdisk --name x aio:pic" "pictures"
offers "tapdisk --nbd unix:pic" "pictures"

# As they are installed.
install -D "$TOP/tools/tap-ctl.bash" completions/tap-ctl
install -D "$TOP/tools/tapdisk.bash" completions/tapdisk
file=$work/completions/tapdisk
offers "tapdisk --tls-p" "--tls-psk"

#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Messages go to the system's log when it is asked for, and by themselves with
# --daemon: with the disk's name, the process's number and the right severity;
# and a host without a system log is served all the same.  The log is one of our
# own, at /dev/log of a mount namespace.
# over: san
if [ -z "${TAPDISK_OWN_DEV:-}" ]; then
    unshare -rm true 2>/dev/null ||
        { echo "no mount namespace can be made here"; exit 77; }
    TAPDISK_OWN_DEV=1 exec unshare -rm "$0"
fi
. "$(dirname "$0")/lib.sh"

need nbdinfo nbdsh python3

dev=$work/dev
mkdir "$dev"
mount -t tmpfs none "$dev"
at_end umount -l -R "$dev"
for node in null zero full random urandom; do
    touch "$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
ln -s /proc/self/fd "$dev/fd"
mount --rbind "$dev" /dev
at_end umount -l -R /dev

received() { # PATTERN: the log has a line like it
    grep -Eq -- "$1" "$work/messages"
}

echo "- without a system log the disk is served"
start_tapdisk alone --log syslog ram:1M
nbdinfo --size "$uri" | grep -qx 1048576 || fail "not served"
stop_tapdisk

python3 - /dev/log >"$work/messages" <<'END' &
import socket, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(sys.argv[1])
while True:
    print(log.recv(65536).decode(errors="replace"), flush=True)
END
pids+=("$!")
wait_until test -S /dev/log

# <facility * 8 + severity>: daemon is 3; 3 is an error, 4 a warning, 6 news
echo "- asked for: each line has the disk, the process and its severity"
start_tapdisk vm1 --log syslog "fault:op=read,error=EIO|ram:1M"
wait_until received "^<30>.* tapdisk\[$pid\]: vm1 "
nbdsh -u "$uri" -c '
try:
    h.pread(512, 4096)
except nbd.Error:
    pass'
wait_until received "^<2[78]>.* tapdisk\[$pid\]: vm1 .*4096.*Input/output error"
[ ! -s "$work/vm1.log" ] || fail "it also wrote: $(cat "$work/vm1.log")"
stop_tapdisk

echo "- a daemon in the background logs there by itself"
pid=$("$BUILD/tapdisk" --name vm2 --run-dir "$run_dir" --daemon ram:1M)
pids+=("$pid")
wait_until received "^<30>.* tapdisk\[$pid\]: vm2 "
kill "$pid"
wait_until ended "$pid"

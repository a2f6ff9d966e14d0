#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# TLS with stock clients: by certificates and by a shared key, over TCP, IPv6 and
# a Unix socket, as nbdkit and qemu-nbd name the options.  Data go in and come
# back; a client in the open, with another key, for another host, or without the
# certificate that is asked for gets nothing; `on` lets both kinds in.
# over: san
. "$(dirname "$0")/lib.sh"

need nbdcopy nbdinfo nbdsh qemu-io qemu-img psktool openssl cmp

# --- what an administrator makes ---

pki=$work/pki client=$work/client stranger=$work/stranger
mkdir "$pki" "$client" "$stranger"
quiet() { # COMMAND...
    "$@" >"$work/made" 2>&1 || { cat "$work/made"; fail "$*"; }
}
make_ca() { # DIRECTORY
    quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
        -nodes -days 2 -subj "/CN=ca of ${1##*/}" -keyout "$1/ca-key.pem" \
        -out "$1/ca-cert.pem"
}
make_certificate() { # CA-DIRECTORY DIRECTORY NAME HOST
    quiet openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj "/CN=$4" -addext "subjectAltName=DNS:$4" \
        -keyout "$2/$3-key.pem" -out "$work/request"
    quiet openssl x509 -req -in "$work/request" -days 2 -copy_extensions copy \
        -CA "$1/ca-cert.pem" -CAkey "$1/ca-key.pem" -out "$2/$3-cert.pem"
}
make_ca "$pki"
make_certificate "$pki" "$pki" server localhost
make_certificate "$pki" "$client" client guest
cp "$pki/ca-cert.pem" "$client"
make_ca "$stranger"
make_certificate "$stranger" "$stranger" client stranger
mv "$stranger/ca-cert.pem" "$stranger/own-ca-cert.pem"
cp "$pki/ca-cert.pem" "$stranger"
bare=$work/bare alien=$work/alien # no certificate; another CA
mkdir "$bare" "$alien"
cp "$pki/ca-cert.pem" "$bare"
cp "$stranger/own-ca-cert.pem" "$alien/ca-cert.pem"
quiet psktool -u alice -p "$work/keys.psk"
quiet psktool -u alice -p "$work/other.psk"

has_ipv6() {
    python3 -c 'import socket
socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null
}

# gets_in PYTHON: it connects h, which reads what the disk holds.
gets_in() {
    nbdsh -c "$1" -c "assert h.pread(512, 0) == open('$work/disk', 'rb').read(512)" \
        -c 'h.shutdown()' >"$work/client.out" 2>&1 || {
        cat "$work/client.out"
        fail "should get in: $1"
    }
}

kept_out() { # TEXT PYTHON
    expect_failure "$1" timeout 60 nbdsh -c "$2" -c 'h.pread(512, 0)'
}

connect_tls() { # PORT-OR-SOCKET KIND FILE-OR-DIRECTORY [HOST]
    local where="h.connect_tcp(\"${4:-localhost}\", \"$1\")"
    [[ $1 != /* ]] || where="h.connect_unix(\"$1\")"
    [[ $1 != /* ]] || [ "$2" != certificates ] ||
        where="h.set_tls_verify_peer(False); $where"
    printf 'h.set_tls(nbd.TLS_REQUIRE); '
    if [ "$2" = psk ]; then
        printf 'h.set_tls_username("alice"); h.set_tls_psk_file("%s"); ' "$3"
    else
        printf 'h.set_tls_certificates("%s"); ' "$3"
    fi
    echo "$where"
}

round_trip() { # URI
    random_file "$work/original" 8M
    nbdcopy --flush "$work/original" "$1"
    nbdcopy "$1" "$work/copy"
    cmp "$work/original" "$work/copy"
}

mkdir "$work/qemu-keys"
cp "$work/keys.psk" "$work/qemu-keys/keys.psk"
qemu_reads() { # HOST
    qemu-io -r --image-opts --object \
        "tls-creds-psk,id=t,endpoint=client,dir=$work/qemu-keys,username=alice" \
        -c 'read 0 8M' "driver=nbd,host=$1,port=$port,tls-creds=t" \
        >"$work/qemu" 2>&1 || fail "$(cat "$work/qemu")"
    ! grep -qi fail "$work/qemu" || fail "$(cat "$work/qemu")"
}

listen=(--nbd tcp:127.0.0.1:0)
truncate -s 8M "$work/disk"

echo "- a shared key, demanded"
start_tapdisk psk "${listen[@]}" --tls require --tls-psk "$work/keys.psk" \
    "aio:$work/disk"
port=$(tcp_port "$pid")
gets_in "$(connect_tls "$port" psk "$work/keys.psk" 127.0.0.1)"
gets_in "$(connect_tls "$work/psk.sock" psk "$work/keys.psk")"
kept_out 'TLS|handshake|invalid' \
    "$(connect_tls "$port" psk "$work/other.psk" 127.0.0.1)"
kept_out 'TLS|policy|server' "h.connect_tcp(\"127.0.0.1\", \"$port\")"
kept_out 'TLS|policy|server' "h.connect_unix(\"$work/psk.sock\")"
expect_failure 'TLS' qemu-io -r -f raw -c 'read 0 4k' "$uri"
round_trip "nbds://alice@127.0.0.1:$port/?tls-psk-file=$work/keys.psk"
round_trip "nbds+unix://alice@/?socket=$work/psk.sock&tls-psk-file=$work/keys.psk"
qemu_reads 127.0.0.1
stop_tapdisk

echo "- certificates, as one may use them or not"
start_tapdisk certs "${listen[@]}" --tls-certificates "$pki" "aio:$work/disk"
port=$(tcp_port "$pid")
gets_in "$(connect_tls "$port" certificates "$bare")"
gets_in "$(connect_tls "$work/certs.sock" certificates "$bare")"
gets_in "h.connect_tcp(\"127.0.0.1\", \"$port\")"
kept_out 'certificate' \
    "$(connect_tls "$port" certificates "$bare" 127.0.0.1)"
kept_out 'certificate' "$(connect_tls "$port" certificates "$alien")"
stop_tapdisk

echo "- certificates of clients, too"
start_tapdisk mutual "${listen[@]}" --tls require --tls-certificates "$pki" \
    --tls-verify-peer "aio:$work/disk"
port=$(tcp_port "$pid")
gets_in "$(connect_tls "$port" certificates "$client")"
kept_out . "$(connect_tls "$port" certificates "$bare")"
kept_out . "$(connect_tls "$port" certificates "$stranger")"
[ "$(grep -c 'dropped: TLS handshake: Certificate is required' \
    "$work/mutual.log")" -eq 2 ] || fail "the log does not tell why"
stop_tapdisk

echo "- over IPv6" # libnbd sends an address as a name, which GnuTLS refuses
if has_ipv6; then
    start_tapdisk six --nbd 'tcp:[::1]:0' --tls-psk "$work/keys.psk" \
        "aio:$work/disk"
    port=$(tcp_port "$pid")
    gets_in "$(connect_tls "$port" psk "$work/keys.psk" | sed 's/h.connect.*//')
import socket
h.connect_socket(socket.create_connection(('::1', $port)).detach())"
    qemu_reads ::1
    [ "$(nbdinfo --size "nbd://[::1]:$port")" = $((8 << 20)) ] ||
        fail "not in the open over IPv6"
    stop_tapdisk
else
    echo "no IPv6 here"
fi

echo "- credentials that do not serve are named, and nothing is served"
for words in "--tls require" "--tls-psk $work/nowhere.psk" \
    "--tls-certificates $work/bare" \
    "--tls-psk $work/keys.psk --tls-certificates $pki"; do
    # shellcheck disable=SC2086 # words
    expect_failure '^tapdisk: .*(tls|nowhere.psk|server-cert)' timeout 20 \
        "$BUILD/tapdisk" --run-dir "$run_dir" $words ram:1M
done

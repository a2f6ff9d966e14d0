#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What `make demo` and `make test` install by themselves: what is missing and
# nothing else, as root or by sudo; nothing is asked of apt when nothing is
# missing; other systems and users without rights get a sentence that says what
# to do.  And `make help` has a line for each target.  apt-get, dpkg-query, id and
# sudo are stand-ins: the machine is left alone.
. "$(dirname "$0")/lib.sh"

bin=$work/bin
mkdir "$bin"
make_fake() { # NAME, its text on stdin
    { echo '#!/bin/bash' && cat; } >"$bin/$1"
    chmod +x "$bin/$1"
}

# What is said to be installed stands in $work/installed, a package a line.
make_fake dpkg-query <<END
[[ \$* != *Version* ]] || { echo 1:14.0-55; exit; }
for package; do
    ! grep -qx -- "\$package" "$work/installed" ||
        printf 'installed:%s ' "\$package"
done
END
make_fake apt-get <<END
echo "apt-get \$*" >>"$work/calls"
exec 9<>"$work/installed"
while [ \$# -gt 0 ] && [ "\$1" != install ]; do shift; done
for package; do [[ \$package == -* ]] || echo "\$package"; done >>"$work/installed"
END
make_fake apt-cache </dev/null
make_fake sudo <<END
echo sudo >>"$work/calls"
exec "\$@"
END
make_fake id <<END
cat "$work/uid"
END

# install_deps [WITHOUT...]: with the stand-ins but those, and coreutils.
install_deps() {
    local only=$work/only program
    rm -rf "$only"
    mkdir "$only"
    for program in bash env cat sed grep fmt; do
        ln -s "$(command -v "$program")" "$only/$program"
    done
    cp "$bin"/* "$only"
    for program; do rm "$only/$program"; done
    : >"$work/calls"
    PATH=$only bash "$TOP/tests/install-deps" >"$work/out" 2>&1
}

calls() { # TEXT: exactly these calls
    [ "$(cat "$work/calls")" = "$1" ] || {
        cat "$work/out"
        fail "it called: $(cat "$work/calls")"
    }
}

said() {
    grep -Eq -- "$1" "$work/out" || { cat "$work/out"; fail "not said: $1"; }
}

echo "- everything is missing: installed in one go"
: >"$work/installed"
echo 0 >"$work/uid"
install_deps
[ "$(wc -l <"$work/calls")" -eq 2 ] || fail "$(cat "$work/calls")"
for package in make gcc libaio-dev liburing-dev libjansson-dev libgnutls28-dev \
    libisal-dev libcmocka-dev fio libnbd-bin qemu-utils nbdkit \
    libclang-rt-14-dev; do
    grep -qx -- "$package" "$work/installed" || fail "$package is left out"
done

echo "- nothing is missing: nobody is asked but dpkg"
install_deps
calls ""
[ ! -s "$work/out" ] || fail "it says: $(cat "$work/out")"

echo "- two are missing: those are installed, without root by sudo"
sed -i -e '/^fio$/d' -e '/^libisal-dev$/d' "$work/installed"
cp "$work/installed" "$work/before"
install_deps
calls "apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends libisal-dev fio"
cp "$work/before" "$work/installed"
echo 1000 >"$work/uid"
install_deps
[ "$(grep -c sudo "$work/calls")" -eq 2 ] || fail "$(cat "$work/calls")"

echo "- neither root nor sudo: told what to do, and not gone on"
cp "$work/before" "$work/installed"
! install_deps sudo || fail "went on without rights"
said 'let root run: apt-get install libisal-dev fio'
calls ""

echo "- not Debian: told what is needed, and left to try"
install_deps apt-get || fail "a system of another kind is refused"
said 'not a Debian system'
said 'libjansson-dev'

echo "- demo and test begin with it; help has every target"
for target in demo test bench; do
    [ "$(sed -n "/^$target:/{n;p}" "$TOP/Makefile")" = $'\t@tests/install-deps' ] ||
        fail "make $target does not begin with tests/install-deps"
done
${MAKE:-make} -C "$TOP" --no-print-directory help >"$work/help"
for target in all demo test bench install fmt lint clean help; do
    grep -Eq "^$target +[a-z]" "$work/help" || fail "help is silent on $target"
done

echo "- all output goes to build/, by sanitizers and compilers"
where() {
    ${MAKE:-make} -C "$TOP" -s --no-print-directory "$@" where
}
[ "$(where SAN= CC=cc)" = build ] || fail "where"
[ "$(where SAN=address,undefined CC=cc)" = build/address-undefined ] ||
    fail "SAN="
[ "$(where SAN= CC=clang)" = build/clang ] || fail "CC=clang"

# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion for tapdisk in bash stands beside this file, with tap-ctl's.
# shellcheck source=/dev/null
if [ -f "${BASH_SOURCE[0]%/*}/tap-ctl" ]; then
    . "${BASH_SOURCE[0]%/*}/tap-ctl"
else
    . "${BASH_SOURCE[0]%/*}/tap-ctl.bash"
fi

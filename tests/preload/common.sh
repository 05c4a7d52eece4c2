# Sourced by the tests of the preloaded malloc: one case a run, in a folder of its own, with nothing left behind.
# shellcheck shell=bash

case_name=$1
library=$(realpath -- "$2")
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source=$(cd -- "$here/../.." && pwd)
work=$(mktemp -d)
name=hshm-test-$$
trap 'rm -rf -- "$work"; rm -f -- "/dev/shm/$name"*' EXIT
ulimit -c 0
unset "${!HSHM_PRELOAD_@}" LD_PRELOAD
# What programs print must not depend on who runs them, and where.
export LC_ALL=C TZ=UTC HOME=$work

fail() {
    printf '%s: %s\n' "$case_name" "$*"
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "there is no $program"
    done
}

# preloaded PROGRAM ARGUMENT...
preloaded() {
    LD_PRELOAD=$library "$@"
}

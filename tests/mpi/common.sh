# Sourced by the scripts of this folder: what it takes to start MPI jobs as a test.
# shellcheck shell=bash

source_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
# MPI's own files are not to be mistaken for ours.
export OMPI_MCA_btl_vader_backing_directory=${TMPDIR:-/tmp}
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
# MPI itself never frees thousands of blocks, from modules that are unloaded at the end and have no names then; what we might
# leak the case `cycles` looks for.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
export TSAN_OPTIONS=${TSAN_OPTIONS:-}:suppressions=$source_root/tests/mpi/tsan.supp

is_openmpi() {
    "$1" --version 2>/dev/null | grep -q 'Open MPI\|OpenRTE'
}

# Arguments of mpirun for one machine, and, by set_forward, for variables that hosts have to be told.
here_only=() forward=()
if is_openmpi "${1:-mpirun}"; then
    # ranks of one machine need no network
    here_only=(--mca btl self,vader --mca pml ob1)
else
    # MPICH never yields: with more ranks than processors each collective waits for the scheduler.
    export HSHM_TEST_CYCLES=10
fi

set_forward() {
    local name
    for name in HSHM_TEST_GROUPS HSHM_TEST_THREADS HSHM_TEST_OPERATIONS HSHM_TEST_SEED HSHM_TEST_ALLOCATOR HSHM_TEST_KILL \
        ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS; do
        [ -z "${!name:-}" ] || forward+=(-x "$name")
    done
}

# need_simhosts MPIRUN  - skip the test where there can be none
need_simhosts() {
    # Its ranks on several hosts compute, but do not come to an end.
    is_openmpi "$1" || { echo "MPICH over simulated hosts does not end by itself: only OpenMPI is tried there"; exit 77; }
    local said status=0
    said=$("$source_root/scripts/simhosts" -n 1 true 2>&1) || status=$?
    [ $status -eq 0 ] || { echo "$said"; exit $status; }
}

on_hosts() {
    "$source_root/scripts/simhosts" -n 3 -s 160m -- "$@"
}

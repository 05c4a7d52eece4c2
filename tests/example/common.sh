# Sourced by the tests of examples: one case a run, in a folder of its own, with nothing left behind.
# shellcheck shell=bash

case_name=$1
bin=$(realpath -- "$2")
work=$(mktemp -d)
started=()
ulimit -c 0

# End what this test started, should it still run, and what that left.
finish() {
    local pid
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        rm -f -- /dev/shm/*"hshm_wordcount.$pid"
    done
    rm -rf -- "$work"
}
trap finish EXIT

fail() {
    printf '%s: %s\n' "$case_name" "$*"
    for file in "$work"/out "$work"/err; do
        [ -s "$file" ] && { echo "--- ${file##*/}"; head -c 4000 "$file"; }
    done
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

# begin PROGRAM ARGUMENT...  - start it beside this test; $pid is its process, its output goes to out and err.
# With the signals of a program in the foreground: a shell starts others with SIGINT ignored.
begin() {
    local program=$1
    shift
    env --default-signal=INT,QUIT "$bin/$program" "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    started+=("$pid")
}

# end STATUS  - wait for it; it must end like that, and leave no heap.
end() {
    local status=0
    wait "$pid" 2>/dev/null || status=$?
    [ "$status" -eq "$1" ] || fail "exit status $status, not $1"
    assert_no_heap
}

assert_no_heap() {
    local left
    left=$(find /dev/shm -maxdepth 1 \( -name "*.$pid" -o -name ".hshm-*.$pid.*" \))
    [ -z "$left" ] || fail "left behind: $left"
}

# run STATUS PROGRAM ARGUMENT...
run() {
    local status=$1
    shift
    begin "$@"
    end "$status"
}

# says FILE TEXT  - what went to out or err contains that text
says() {
    grep -qF -- "$2" "$work/$1" || fail "'$1' says nothing of: $2"
}

# children PID  - the processes that it started and that still are there
children() {
    local stat rest
    for stat in /proc/[0-9]*/stat; do
        # The name, in parentheses, may hold anything: fields are counted from behind it.
        { read -r rest <"$stat"; } 2>/dev/null || continue
        rest=${rest##*) }
        set -- "$1" $rest
        if [ "$3" = "$1" ] && [ "$2" != Z ]; then
            stat=${stat#/proc/}
            echo "${stat%/stat}"
        fi
    done
}

# One that has attached to the heap of $pid, in $worker.  Waits without a pause: it comes within milliseconds.
find_worker() {
    while kill -0 "$pid" 2>/dev/null; do
        for worker in $(children "$pid"); do
            grep -q "hshm_wordcount.$pid" "/proc/$worker/maps" 2>/dev/null && return 0
        done
    done
    fail "it ended before it had a worker"
}

# Text without end: workers are still at it when this test is done with them.
endless() {
    truncate -s 1T "$work/endless" 2>/dev/null || truncate -s 64G "$work/endless"
    echo "$work/endless"
}

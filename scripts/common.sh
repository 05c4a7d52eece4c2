# Sourced by the other scripts: where the project is, what is installed, how results are counted.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(nproc 2>/dev/null || echo 1)

# What every build with tests needs: Boost's containers for those in C++, MPI, and hosts that are simulated for it.
test_packages=(build-essential cmake ninja-build libcmocka-dev valgrind pkg-config libboost-dev libopenmpi-dev openmpi-bin iproute2)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' yellow=$'\e[33m' plain=$'\e[0m'
else
    bold='' red='' green='' yellow='' plain=''
fi

say() {
    printf '%s==> %s%s\n' "$bold" "$*" "$plain"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need_packages PACKAGE...  - install those of Debian's packages that are missing
need_packages() {
    local package missing=() sudo=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "this is no Debian: going on without checking for (by Debian's names) $*" >&2
        return 0
    fi
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) missing+=("$package") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "as root, run: apt-get install ${missing[*]}"
        sudo=(sudo -n)
    fi
    say "installing ${missing[*]}"
    local apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3
        -o DPkg::Lock::Timeout=300) log
    log=$(mktemp)
    # The lists may be missing (a fresh container) or name versions that the mirror no longer has.
    if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } </dev/null >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm -f -- "$log"
        die "cannot install ${missing[*]}; as root, run: apt-get update && apt-get install ${missing[*]}"
    fi
    rm -f -- "$log"
}

# count_cases PRESET LOG STATUS  - one line "pass|fail|skip TAB name TAB reason" for each test case in a test's log.
# A cmocka program says what its cases did; any other program is one case.  STATUS empty: it did not come to its end.
count_cases() {
    awk -v test="$1/$(basename -- "$2" .log)" -v status="$3" '
        function put(verdict, name, reason) { printf "%s\t%s\t%s\n", verdict, name, reason }
        function name_after(mark) { return substr($0, index($0, mark) + length(mark)) }
        function remember(line) { last = line; if (lines++ < 8) text = text (text == "" ? "" : "\n") line }
        function done_case(verdict) {
            put(verdict, test ": " running, verdict == "fail" ? "" : verdict == "skip" ? last : "")
            if (verdict == "fail") { failed++; n = split(text, t, "\n"); for (i = 1; i <= n; i++) print "\t" t[i] }
            running = ""
        }
        /\[==========\] .*Running [0-9]+ test/ { cmocka = 1; summary = 0; running = ""; next }
        /\[==========\] .*[0-9]+ test.* run/ { summary = 1; next }
        summary { next }
        cmocka && /\[ RUN      \] / { running = name_after("[ RUN      ] "); text = last = ""; lines = count = 0; next }
        cmocka && running != "" && /\[       OK \] / { done_case("pass"); next }
        cmocka && running != "" && /\[  SKIPPED \] / { done_case("skip"); next }
        cmocka && running != "" && /\[  FAILED  \] / { done_case("fail"); next }
        NF { remember($0); if (count++ >= 12) delete tail[count - 13]; tail[count - 1] = $0 }
        END {
            if (status == "") why = "did not come to its end"
            else if (status == 124 || status == 137) why = "took too long, or was killed"
            else why = "exit status " status
            if (cmocka && running != "") {
                put("fail", test ": " running, why); failed++
            } else if (cmocka) {
                if (status != "0" && !failed) { put("fail", test, why) }
            } else if (status == "0") {
                put("pass", test, "")
                exit
            } else if (status == "77") {
                put("skip", test, last)
                exit
            } else {
                put("fail", test, why)
            }
            if (status != "0" && (!cmocka || running != "" || !failed))
                for (i = count > 12 ? count - 12 : 0; i < count; i++) print "\t" tail[i]
        }' "$2"
}

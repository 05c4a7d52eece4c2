#!/usr/bin/env python3
"""suite.py - run the workloads of the suite on every heap that is here, and print what they cost.

Usually called by scripts/bench, which builds and installs what is needed.  One run of one workload on one heap is one
process of its own (suite_*); this program only decides which, in what order, and puts the figures side by side:

  - all heaps take turns in each round, so that a slow moment of the machine falls on all of them;
  - figures are medians over the rounds; ratios are of figures of this very run;
  - what cannot be measured is shown as "-", and why is said below the tables.
"""
import argparse
import glob
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

import suite_plots

TIMEOUT_S = 120
DISTURBED = 1.25  # a lone worker whose wall time is so much more than its CPU time was interrupted by others
DISTURBED_TRIES = 2
TOTAL_S = 660        # no round is begun that would go on beyond this
CASE_BUDGET_S = 1.5  # of one heap on one case, over all rounds; slow ones get fewer rounds
REFERENCE = "mimalloc"
OURS = "thread"


@dataclass
class Subject:
    """A heap, as the tables call it."""
    name: str
    program: str
    args: list = field(default_factory=list)
    preload: str = ""       # a library by its file's name
    shared: bool = False    # several processes can work in it
    only: str = ""          # regex of the cases that make sense; "" = all
    text: str = ""


SUBJECTS = [
    Subject("glibc", "suite_malloc", text="the C library's malloc"),
    Subject("mimalloc", "suite_malloc", preload="libmimalloc.so.2", text="libmimalloc2.0"),
    Subject("jemalloc", "suite_malloc", preload="libjemalloc.so.2", text="libjemalloc2"),
    Subject("tcmalloc", "suite_malloc", preload="libtcmalloc_minimal.so.4", text="libtcmalloc-minimal4"),
    Subject("tbbmalloc", "suite_malloc", preload="libtbbmalloc_proxy.so.2", text="libtbbmalloc2"),
    Subject("boost", "suite_boost", shared=True, text="Boost.Interprocess managed_shared_memory, rbtree_best_fit"),
    Subject("thread", "suite_hshm", ["--kind", "thread_local"], shared=True, text="THREAD_LOCAL, POSIX shared memory"),
    Subject("inline", "suite_hshm_inline", ["--kind", "thread_local"], shared=True,
            text="the same through <hshm/inline.h>"),
    Subject("prefault", "suite_hshm", ["--kind", "thread_local", "--prefault", "--region", str(768 << 20)], shared=True,
            only=r"^(fifo 64 B|random|fill|ring)(?!.*(1M|10M))", text="THREAD_LOCAL, all pages mapped beforehand"),
    Subject("private", "suite_hshm", ["--kind", "thread_local", "--on-malloc"],
            text="THREAD_LOCAL on the backend MALLOC: one process"),
    Subject("page", "suite_hshm", ["--kind", "scalable_page"], shared=True, text="SCALABLE_PAGE, POSIX shared memory"),
    Subject("stack", "suite_hshm", ["--kind", "stack"], shared=True, only=r"^(pair|fifo|lifo|fill|memory)",
            text="STACK, POSIX shared memory: room comes back from the top only"),
    Subject("malloc", "suite_hshm", ["--kind", "malloc"], text="MALLOC on the backend MALLOC: one process"),
]
PRIVATE_PEERS = ["glibc", "mimalloc", "jemalloc", "tcmalloc", "tbbmalloc"]


@dataclass
class Case:
    """A workload with its parameters.  team: 1, or "2" = two at once (processes where the heap is shared, else threads),
    "2t" = two threads, "2p" = two processes (shared heaps only), "5" like "2"."""
    name: str
    workload: str
    args: dict
    team: str = "1"
    quick: bool = False
    rounds: int = 1000  # at most
    group: str = "time"  # "memory": not in the table of times


def size_name(size):
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0 and size != 1024:
            return f"{size // unit} {name}"
    return f"{size} B"


def micro_cases():
    small = [(16, 1000, 3000000), (64, 1000, 3000000), (256, 1000, 3000000), (1024, 1000, 3000000)]
    large = [(16 << 10, 256, 300000), (256 << 10, 64, 20000), (1 << 20, 16, 8000)]
    pair_ops = {16 << 10: 2000000, 256 << 10: 200000, 1 << 20: 50000}
    for workload in ("pair", "fifo", "lifo"):
        for size, batch, ops in small + large:
            if workload == "pair":
                args = {"size": size, "ops": pair_ops.get(size, 5000000)}
            else:
                args = {"size": size, "live": batch, "ops": ops}
            yield Case(f"{workload} {size_name(size)}", workload, args,
                       quick=size == 64 or (workload == "pair" and size == 256 << 10))


def other_cases():
    both = [("1", ""), ("2", ", two")]
    yield Case("pair 64 B, two", "pair", {"ops": 2000000}, "2", quick=True)
    yield Case("fifo 64 B, two", "fifo", {"ops": 1500000}, "2")
    yield Case("random 64 B, two", "random", {"size": 64, "ops": 1000000}, "2", quick=True)
    for team, suffix in both:
        yield Case("random 16..1024 B" + suffix, "random", {"ops": 400000}, team, quick=True)
    for team, suffix in both:
        yield Case("batch" + suffix, "batch", {"ops": 2000000}, team, quick=team == "1")
    for team, suffix in (("1", ""), ("2t", ", two"), ("2p", ", two processes")):
        yield Case("server" + suffix, "server", {"ops": 2000000}, team, quick=team == "2t")
    for team, suffix in (("2t", ", two"), ("2p", ", two processes")):
        yield Case("stress" + suffix, "stress", {"ops": 1000000}, team, quick=team == "2t")
    for team, suffix in (("2", ", two"), ("2t", ", two threads")):
        yield Case("ring 64 B" + suffix, "ring", {"size": 64, "ops": 1500000}, team, quick=team == "2")
        yield Case("ring 16..1024 B" + suffix, "ring", {"size": "16..1024", "ops": 1000000}, team)
    yield Case("consumer, 4 to 1", "consumer", {"ops": 250000}, "5", quick=True)
    for workload in ("thrash", "scratch"):
        yield Case(f"{workload}, two", workload, {"ops": 40000000}, "2")
    yield Case("large 5..25 MiB", "large", {"ops": 100}, rounds=3)
    yield Case("fill 256 MiB by 64 B", "fill", {}, rounds=3)
    for name, live in (("1k", 1000), ("10k", 10000), ("100k", 100000), ("1M", 1000000), ("10M", 10000000)):
        yield Case(f"random 64 B of {name}", "random", {"size": 64, "live": live, "ops": 1000000},
                   rounds=2 if live >= 1000000 else 1000, quick=live <= 100000)


def memory_cases(phase_cycles):
    million = {"live": 1000000}
    yield Case("memory 64 B", "fill", {"size": 64, **million}, quick=True, rounds=1, group="memory")
    yield Case("memory 65 B", "fill", {"size": 65, **million}, rounds=1, group="memory")
    yield Case("memory 16..1024 B", "fill", {"size": "16..1024", **million}, rounds=1, group="memory")
    yield Case("phases", "phases", {"rounds": phase_cycles}, rounds=2)


def all_cases(phase_cycles):
    return list(micro_cases()) + list(other_cases()) + list(memory_cases(phase_cycles))


class Bench:
    def __init__(self, options):
        self.options = options
        self.programs = options.programs
        self.notes = {}     # why something is not there -> which
        self.runs = {}      # (subject, arguments) -> list of results
        self.cost = {}      # the same -> seconds of the first run
        self.preloads = {}
        self.disturbed = 0

    def note(self, why, what):
        self.notes.setdefault(why, []).append(what)

    def find_library(self, name):
        for folder in glob.glob("/usr/lib/*-linux-gnu") + ["/usr/lib64", "/usr/lib", "/usr/local/lib"]:
            path = os.path.join(folder, name)
            if os.path.exists(path):
                return path
        return None

    def usable_subjects(self, pattern):
        usable = []
        for subject in SUBJECTS:
            if pattern and not re.search(pattern, subject.name):
                continue
            if not os.path.exists(os.path.join(self.programs, subject.program)):
                self.note(f"{subject.program} was not built", subject.name)
                continue
            if subject.preload:
                path = self.find_library(subject.preload)
                if path is None:
                    self.note(f"{subject.preload} is not installed", subject.name)
                    continue
                self.preloads[subject.name] = path
            usable.append(subject)
        return usable

    def arguments(self, subject, case, overrides=()):
        count = {"1": 1, "2": 2, "2t": 2, "2p": 2, "5": 5}[case.team]
        processes = count if subject.shared and case.team != "2t" else 1
        args = {**case.args, **dict(overrides), "threads": count // processes, "processes": processes}
        flat = [os.path.join(self.programs, subject.program), *subject.args, "--subject", subject.name,
                "--workload", case.workload]
        for key, value in args.items():
            if key == "ops" and not overrides:
                value = max(1, int(value * self.options.scale))
            flat += ["--" + key, str(value)]
        return flat

    def execute(self, subject, args, wrapper=()):
        """One run; the answer is a dict with a status.  The region's name is ours, so we can see that it is gone."""
        region = f"hshm_suite.{os.getpid()}"
        env = dict(os.environ)
        if subject.name in self.preloads:
            env["LD_PRELOAD"] = self.preloads[subject.name]
        process = subprocess.Popen([*wrapper, *args, "--name", region], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=env)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S * (20 if wrapper else 1))
        except BaseException as error:
            process.terminate()  # it takes its workers and its region with it
            process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return {"status": "failed", "why": f"not done after {TIMEOUT_S} s"}
        finally:
            if os.path.exists("/dev/shm/" + region):
                os.unlink("/dev/shm/" + region)
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            return {"status": "failed", "why": (err.strip() or f"exit status {process.returncode}")[-200:]}

    def wanted_rounds(self, key, case):
        rounds = min(self.options.rounds, case.rounds)
        if key in self.cost:
            rounds = min(rounds, max(1, int(CASE_BUDGET_S / self.cost[key])))
        return rounds

    def run_all(self, subjects, cases):
        started = time.monotonic()
        for round_number in range(self.options.rounds):
            spent = time.monotonic() - started
            if round_number > 0 and spent * (round_number + 1) / round_number > TOTAL_S:
                print(f"only {round_number} rounds: another one would take it beyond {TOTAL_S} s")
                break
            ran = 0
            for case in cases:
                # Another one begins each time.
                turn = round_number % len(subjects)
                for subject in subjects[turn:] + subjects[:turn]:
                    ran += self.run_one(subject, case, round_number)
                if sys.stderr.isatty():
                    print(f"\rround {round_number + 1}: {case.name:<32}", end="", file=sys.stderr, flush=True)
            if ran == 0:
                break
        if sys.stderr.isatty():
            print(f"\r{'':<48}\r", end="", file=sys.stderr, flush=True)
        self.seconds = time.monotonic() - started

    def key(self, subject, case):
        # Nobody else's two threads stand beside two processes.
        return (subject.name, " ".join(self.arguments(subject, case)) + (" 2p" if case.team == "2p" else ""))

    def run_one(self, subject, case, round_number):
        if subject.only and not re.search(subject.only, case.name) or (case.team == "2p" and not subject.shared):
            return 0
        key = self.key(subject, case)
        results = self.runs.setdefault(key, [])
        # Two cases may be the same run for this heap; and what failed once fails again.
        if len(results) > round_number or len(results) >= self.wanted_rounds(key, case):
            return 0
        if results and results[-1]["status"] != "ok":
            return 0
        started = time.monotonic()
        result = self.execute_undisturbed(subject, case)
        self.cost.setdefault(key, time.monotonic() - started)
        results.append(result)
        if result["status"] != "ok":
            self.note(result.get("why", "?").split(";")[0], f"{subject.name}: {case.name}")
        return 1

    def execute_undisturbed(self, subject, case):
        """On a machine that others use, too, a lone worker's run can be told from one that had to wait for them."""
        for _ in range(1 if self.options.quick else 1 + DISTURBED_TRIES):
            result = self.execute(subject, self.arguments(subject, case))
            if result["status"] != "ok" or case.team != "1" or result["wall_ns"] < DISTURBED * result["cpu_ns"]:
                break
            self.disturbed += 1
        return result

    def figure(self, subject, case, name):
        results = [r for r in self.runs.get(self.key(subject, case), []) if r["status"] == "ok"]
        if not results:
            return None
        return statistics.median(r[name] for r in results)

    def first(self, subject, case):
        results = [r for r in self.runs.get(self.key(subject, case), []) if r["status"] == "ok"]
        return results[0] if results else None


# ---- tables ----

def number(value):
    if value is None:
        return "-"
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def print_table(title, columns, rows):
    """rows: (name, [text]).  Columns without a single figure are left out, so that the rest fits."""
    kept = [i for i in range(len(columns)) if any(cells[i] != "-" for _, cells in rows)] or list(range(len(columns)))
    width = max([len(name) for name, _ in rows] + [12])
    print(f"\n{title}")
    print(f"{'':<{width}}" + "".join(f"{columns[i]:>10}" for i in kept))
    for name, cells in rows:
        print(f"{name:<{width}}" + "".join(f"{cells[i]:>10}" for i in kept))
    missing = [columns[i] for i in range(len(columns)) if i not in kept]
    if missing:
        print("not measured: " + ", ".join(missing))


def geometric_mean(values):
    values = [v for v in values if v is not None and v > 0]
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def ratios_to(bench, subjects, cases, reference, figure="ns_per_op"):
    table = {}
    for case in cases:
        base = bench.figure(reference, case, figure)
        for subject in subjects:
            own = bench.figure(subject, case, figure)
            table[case.name, subject.name] = own / base if own and base else None
    return table


def mean_of_workloads(ratios, cases, subject):
    """Each workload weighs the same, however many sizes it was run with."""
    families = {}
    for case in cases:
        families.setdefault(case.workload, []).append(ratios[case.name, subject.name])
    return geometric_mean(geometric_mean(values) for values in families.values())


def print_times(bench, subjects, cases, by_name):
    cases = [c for c in cases if c.group == "time"]
    if not cases:
        return {}
    names = [s.name for s in subjects]
    print_table("ns per op, wall; median", names,
                [(c.name, [number(bench.figure(s, c, "ns_per_op")) for s in subjects]) for c in cases])
    print_table("ns of CPU per op; median", names,
                [(c.name, [number(bench.figure(s, c, "cpu_ns_per_op")) for s in subjects]) for c in cases])
    if REFERENCE not in by_name:
        return {}
    ratios = ratios_to(bench, subjects, cases, by_name[REFERENCE])
    rows = [(c.name, [number(ratios[c.name, s.name]) for s in subjects]) for c in cases]
    by_cpu = ratios_to(bench, subjects, cases, by_name[REFERENCE], "cpu_ns_per_op")
    rows.append(("mean of cases", [number(geometric_mean(ratios[c.name, s.name] for c in cases)) for s in subjects]))
    rows.append(("mean of workloads", [number(mean_of_workloads(ratios, cases, s)) for s in subjects]))
    rows.append(("  the same by CPU", [number(mean_of_workloads(by_cpu, cases, s)) for s in subjects]))
    known = [sum(ratios[c.name, s.name] is not None for c in cases) for s in subjects]
    rows.append(("  cases measured", [str(n) if n else "-" for n in known]))
    print_table(f"ns per op by {REFERENCE}'s (below 1: faster; means are geometric)", names, rows)
    print_best_peer(bench, subjects, cases, by_name)
    return ratios


def print_best_peer(bench, subjects, cases, by_name):
    """Ours by the best of the private peers, case by case: the hardest comparison there is."""
    ours = [by_name[n] for n in (OURS, "inline", "private", "page") if n in by_name]
    peers = [s for s in subjects if s.name in PRIVATE_PEERS]
    if not ours or not peers:
        return
    rows, columns = [], {s.name: [] for s in ours}
    for case in cases:
        known = [(bench.figure(p, case, "ns_per_op"), p.name) for p in peers]
        best = min((k for k in known if k[0] is not None), default=None)
        if best is None:
            continue
        cells = [best[1], number(best[0])]
        for subject in ours:
            own = bench.figure(subject, case, "ns_per_op")
            columns[subject.name].append(own / best[0] if own else None)
            cells.append(number(columns[subject.name][-1]))
        rows.append((case.name, cells))
    rows.append(("geometric mean", ["", ""] + [number(geometric_mean(columns[s.name])) for s in ours]))
    if any(c[2:] != ["-"] * len(ours) for _, c in rows):
        print_table("by the best private peer of each case", ["best", "ns"] + [s.name for s in ours], rows)


def print_memory(bench, subjects, cases):
    by_name = {c.name: c for c in cases}
    rows = []

    def add(title, case_name, figure):
        if case_name in by_name:
            results = [bench.first(s, by_name[case_name]) for s in subjects]
            # Pages that were mapped beforehand say nothing about the heap.
            rows.append((title, ["-" if r is None or s.name == "prefault" else figure(r)
                                 for s, r in zip(subjects, results)]))

    add("bytes per 64 B block, 1M", "memory 64 B", lambda r: f"{r['rss'] / r['live_blocks']:.1f}")
    add("payload share, 65 B", "memory 65 B", lambda r: f"{100 * r['live_bytes'] / r['rss']:.1f} %")
    add("payload share, 16..1024 B", "memory 16..1024 B", lambda r: f"{100 * r['live_bytes'] / r['rss']:.1f} %")
    add("peak by live, random 16..1024", "random 16..1024 B", lambda r: f"{r['peak_over_live']:.2f}")
    add("peak by live, consumer", "consumer, 4 to 1", lambda r: f"{r['peak_over_live']:.2f}")
    add("peak by live, large", "large 5..25 MiB", lambda r: f"{r['peak_over_live']:.2f}")
    if "phases" in by_name:
        results = [bench.first(s, by_name["phases"]) for s in subjects]
        labels = next(([p["label"] for p in r["points"]] for r in results if r), [])
        for i, label in enumerate(labels):
            if label not in ("prepared", "end"):
                rows.append((f"memory by live, phase {label}",
                             ["-" if r is None else f"{r['points'][i]['rss'] / r['points'][i]['live_bytes']:.2f}"
                              for r in results]))
    if rows:
        print_table("memory (the region's and private pages; see docs/performance.md)", [s.name for s in subjects], rows)


def print_notes(bench):
    if bench.notes:
        print("\nnot measured:")
    for why, what in bench.notes.items():
        shown = ", ".join(what[:3]) + (f" and {len(what) - 3} more" if len(what) > 3 else "")
        print(f"  {why} ({shown})")


def lost_blocks(bench):
    """A heap that counts its blocks must count those that the workload has."""
    for (subject, args), results in bench.runs.items():
        for r in results:
            if r["status"] == "ok" and r["heap_live_blocks"] not in (-1, r["live_blocks"]):
                yield f"{subject} {r['workload']}: {r['heap_live_blocks']} live blocks, {r['live_blocks']} expected"
                break


def print_spread(bench):
    """How far the rounds of one figure lie apart: how much to believe."""
    wide, figures = [], 0
    for results in bench.runs.values():
        values = [r["ns_per_op"] for r in results if r["status"] == "ok"]
        if len(values) > 1:
            figures += 1
            wide.append(max(values) / statistics.median(values))
    if figures:
        print(f"\nof {figures} figures with more than one round, the slowest round is more than 1.25 times the median in "
              f"{sum(w > 1.25 for w in wide)}, more than twice in {sum(w > 2 for w in wide)}; {bench.disturbed} runs of "
              "lone workers were interrupted by others and done again")


# ---- instructions ----

COUNT_CASES = [
    ("pair 64 B", Case("", "pair", {"size": 64}), 20000, 120000),
    ("fifo 64 B, 1000", Case("", "fifo", {"size": 64, "live": 1000}), 20000, 120000),
    ("lifo 64 B, 1000", Case("", "lifo", {"size": 64, "live": 1000}), 20000, 120000),
    ("random 64 B of 1k", Case("", "random", {"size": 64, "live": 1000}), 20000, 120000),
    ("random 64 B of 10k", Case("", "random", {"size": 64, "live": 10000}), 20000, 120000),
    ("random 64 B of 100k", Case("", "random", {"size": 64, "live": 100000}), 20000, 120000),
]


def instructions(bench, subject, case, ops):
    """Instructions of the one worker's process; the leader's depend on time."""
    with tempfile.TemporaryDirectory() as folder:
        wrapper = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={folder}/out.%p"]
        args = bench.arguments(subject, case, [("ops", ops), *([("region", 256 << 20)] if subject.shared else [])])
        result = bench.execute(subject, args, wrapper)
        if result["status"] != "ok":
            bench.note(result.get("why", "?").split(";")[0], f"{subject.name}: {case.workload}")
            return None
        with open(f"{folder}/out.{result['pids'][0]}") as lines:
            for line in lines:
                if line.startswith(("totals:", "summary:")):
                    return int(line.split()[1])
    return None


def count_instructions(bench, subjects):
    if shutil.which("valgrind") is None:
        sys.exit("suite.py: --callgrind needs valgrind")
    none = Subject("suite", "suite_none")
    subjects = [s for s in subjects if s.name != "prefault"] + [none]
    table, broken = {}, set()
    for name, case, few, many in COUNT_CASES:
        for subject in subjects:
            if subject.name in broken or (subject.only and not re.search(subject.only, name)):
                continue
            counts = [instructions(bench, subject, case, ops) for ops in (few, many)]
            if None in counts:
                broken.add(subject.name)
                continue
            table[name, subject.name] = (counts[1] - counts[0]) / (many - few)
    rows = []
    for name, *_ in COUNT_CASES:
        loop = table[name, "suite"]
        cells = [table.get((name, s.name)) for s in subjects]
        rows.append((name, ["-" if c is None else f"{c - (0 if s is none else loop):.1f}"
                            for s, c in zip(subjects, cells)]))
    print_table("instructions per op (callgrind), less those of the suite's own loop (last column)",
                [s.name for s in subjects], rows)
    return {f"{case}/{subject}": value for (case, subject), value in table.items()}


# ---- all together ----

def machine():
    model = "?"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cores": os.cpu_count(), "kernel": os.uname().release}


def save(bench, subjects, cases, counts, path):
    results = []
    for case in cases:
        for subject in subjects:
            runs = bench.runs.get(bench.key(subject, case))
            if runs:
                ok = [r for r in runs if r["status"] == "ok"]
                results.append({"case": case.name, "subject": subject.name, "rounds": len(ok),
                                "ns_per_op": bench.figure(subject, case, "ns_per_op"),
                                "cpu_ns_per_op": bench.figure(subject, case, "cpu_ns_per_op"), "runs": runs})
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as out:
        json.dump({"machine": machine(), "subjects": {s.name: s.text for s in subjects}, "instructions": counts,
                   "seconds": getattr(bench, "seconds", 0), "results": results}, out, indent=1)


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Run the suite on every heap that is here.")
    parser.add_argument("--quick", action="store_true", help="a few cases, one round, under a minute")
    parser.add_argument("--rounds", type=int, help="rounds (default 5)")
    parser.add_argument("--only", metavar="REGEX", help="cases to run")
    parser.add_argument("--subjects", metavar="REGEX", help="heaps to run")
    parser.add_argument("--scale", type=float, help="multiply the operations of each case")
    parser.add_argument("--phase-cycles", type=int, default=1, metavar="N", help="length of the fragmentation run")
    parser.add_argument("--plots", nargs="?", const="docs/img", metavar="DIR", help="write SVG plots (docs/img)")
    parser.add_argument("--callgrind", action="store_true", help="count instructions instead of measuring time")
    parser.add_argument("--list", action="store_true", help="list cases and heaps")
    parser.add_argument("--results", default="build/bench/results.json", metavar="FILE")
    parser.add_argument("--programs", default="build/bench/bench", metavar="DIR", help="where the suite was built")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.scale = options.scale or (0.25 if options.quick else 1.0)
    return options


def main():
    options = parse()
    bench = Bench(options)
    cases = [c for c in all_cases(options.phase_cycles) if not options.quick or c.quick]
    if options.only:
        cases = [c for c in cases if re.search(options.only, c.name)]
    if options.list:
        print("\n".join(c.name for c in cases))
        print("\n" + "\n".join(f"{s.name:<10} {s.text}" for s in SUBJECTS))
        return
    subjects = bench.usable_subjects(options.subjects)
    if not subjects or (not cases and not options.callgrind):
        sys.exit("suite.py: nothing to run; see --list")
    by_name = {s.name: s for s in subjects}
    counts = {}
    if options.callgrind:
        counts = count_instructions(bench, subjects)
        cases = []
    else:
        bench.run_all(subjects, cases)
        print_times(bench, subjects, cases, by_name)
        print_memory(bench, subjects, cases)
        print_spread(bench)
    print_notes(bench)
    for line in lost_blocks(bench):
        print("LOST " + line)
    path = options.results if not options.callgrind else options.results.replace(".json", "-instructions.json")
    save(bench, subjects, cases, counts, path)
    print(f"\nall figures: {path}" + (f"; {bench.seconds:.0f} s" if not options.callgrind else ""))
    if options.plots and not options.callgrind:
        for plot in suite_plots.write_all(path, options.plots):
            print(f"plot: {plot}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

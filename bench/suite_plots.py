"""suite_plots.py - SVG from results.json, written by hand: no libraries, readable on light and on dark pages."""
import json
import math
import os

# Middle tones, told apart on white and on black; ours are filled, peers are hollow.
COLOURS = {
    "thread": "#e4572e", "inline": "#f2a33a", "private": "#f078a6", "page": "#b83280", "prefault": "#d98880",
    "stack": "#c9ab0b", "malloc": "#b5806a",
    "glibc": "#7d8a99", "mimalloc": "#2f7fd1", "jemalloc": "#2a9d8f", "tcmalloc": "#5aa84f", "tbbmalloc": "#9467d6",
    "boost": "#a0855b",
}
OURS = {
    "thread": "#e4572e", "inline": "#f2a33a", "private": "#c2447e", "page": "#b8702a", "prefault": "#d98880",
    "stack": "#8e6bbf", "malloc": "#8d8d8d",
    "glibc": "#6b8fb3", "mimalloc": "#2f7fd1", "jemalloc": "#2a9d8f", "tcmalloc": "#5aa84f", "tbbmalloc": "#7a86d8",
    "boost": "#a0855b",
}
OURS = ("thread", "inline", "private", "page", "prefault", "stack", "malloc")
# One grey for both kinds of page: a page may be dark where the system is not.
STYLE = """<style>
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #777c85; }
.title { font-size: 15px; font-weight: 600; }
.small { font-size: 11px; }
.grid { stroke: #8884; stroke-width: 1; }
.axis { stroke: #888; stroke-width: 1.5; }
</style>"""


def escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class Svg:
    def __init__(self, width, height, title, subtitle):
        self.width, self.height = width, height
        self.parts = []
        self.text(16, 24, title, css="title")
        self.text(16, 42, subtitle, css="small")

    def text(self, x, y, text, anchor="start", css=""):
        css = f' class="{css}"' if css else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}>{escape(text)}</text>')

    def line(self, x1, y1, x2, y2, css):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def mark(self, x, y, subject, tip):
        colour = COLOURS.get(subject, "#888")
        fill = colour if subject in OURS else "none"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" '
                          f'stroke-width="2"><title>{escape(tip)}</title></circle>')

    def curve(self, points, subject):
        dash = "" if subject in OURS else ' stroke-dasharray="5 3"'
        path = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
        self.parts.append(f'<path d="{path}" fill="none" stroke="{COLOURS.get(subject, "#888")}" '
                          f'stroke-width="2"{dash}/>')

    def bar(self, x, y, width, height, subject, tip):
        colour = COLOURS.get(subject, "#888")
        opacity = 0.9 if subject in OURS else 0.55
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
                          f'fill="{colour}" fill-opacity="{opacity}"><title>{escape(tip)}</title></rect>')

    def legend(self, subjects, x, y, step=92):
        for i, subject in enumerate(subjects):
            self.mark(x + i * step, y - 4, subject, subject)
            self.text(x + i * step + 9, y, subject)

    def write(self, path):
        with open(path, "w") as out:
            out.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                      f'width="{self.width}" height="{self.height}" role="img">\n{STYLE}\n')
            out.write("\n".join(self.parts) + "\n</svg>\n")
        return path


def log_ticks(low, high):
    """1, 2, 5 in each decade, or the decades alone when there are many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    return [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]


def short(value):
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def table_of(data, figure="ns_per_op"):
    return {(r["case"], r["subject"]): r[figure] for r in data["results"] if r.get(figure)}


def subjects_of(data, table):
    return [s for s in data["subjects"] if any(key[1] == s for key in table)]


def where(data):
    machine = data["machine"]
    return f"{machine['cores']} cores, {machine['cpu']}, Linux {machine['kernel']}; medians of one run"


def plot_ratios(data, path):
    """One row a case, one mark a heap, by mimalloc's time."""
    table = table_of(data)
    cases = [c for c in dict.fromkeys(r["case"] for r in data["results"])
             if (c, "mimalloc") in table and not c.startswith("memory")]
    subjects = subjects_of(data, table)
    if not cases:
        return None
    ratio = {(c, s): table[c, s] / table[c, "mimalloc"] for c in cases for s in subjects if (c, s) in table}
    low, high = min(min(ratio.values()), 0.5) * 0.9, max(max(ratio.values()), 2) * 1.1
    left, top, row, width = 190, 92, 19, 1100
    svg = Svg(width, top + row * len(cases) + 40, "Time per operation, by mimalloc's (left is faster)", where(data))
    svg.legend(subjects, 24, 68, min(92, (width - 40) // max(len(subjects), 1)))

    def x_of(value):
        return left + (width - left - 30) * math.log(value / low) / math.log(high / low)

    bottom = top + row * len(cases)
    for tick in log_ticks(low, high):
        svg.line(x_of(tick), top - 8, x_of(tick), bottom, "axis" if tick == 1 else "grid")
        svg.text(x_of(tick), bottom + 18, f"{short(tick)}", "middle", "small")
    for i, case in enumerate(cases):
        y = top + row * i + row / 2
        svg.text(left - 12, y + 4, case, "end")
        svg.line(left, y, width - 30, y, "grid")
        for subject in subjects:
            if (case, subject) in ratio:
                svg.mark(x_of(ratio[case, subject]), y, subject,
                         f"{subject}, {case}: {table[case, subject]:.1f} ns, {ratio[case, subject]:.2f}")
    return svg.write(path)


def plot_curves(path, title, subtitle, subjects, labels, values, y_title):
    """values: (label, subject) -> y; both axes by ratio."""
    known = [v for v in values.values() if v]
    if not known:
        return None
    low, high = min(known) * 0.8, max(known) * 1.25
    left, top, width, height = 70, 112, 900, 360
    svg = Svg(width, top + height + 44, title, subtitle)
    svg.legend(subjects, 24, 68, min(92, (width - 40) // max(len(subjects), 1)))

    def y_of(value):
        return top + height - height * math.log(value / low) / math.log(high / low)

    def x_of(i):
        return left + 40 + (width - left - 90) * i / max(len(labels) - 1, 1)

    for tick in log_ticks(low, high):
        svg.line(left, y_of(tick), width - 20, y_of(tick), "grid")
        svg.text(left - 8, y_of(tick) + 4, short(tick), "end", "small")
    svg.text(16, top - 14, y_title, css="small")
    for i, label in enumerate(labels):
        svg.text(x_of(i), top + height + 20, label, "middle", "small")
    svg.line(left, top + height, width - 20, top + height, "axis")
    for subject in subjects:
        points = [(i, values[label, subject]) for i, label in enumerate(labels) if values.get((label, subject))]
        svg.curve([(x_of(i), y_of(v)) for i, v in points], subject)
        for i, v in points:
            svg.mark(x_of(i), y_of(v), subject, f"{subject}, {labels[i]}: {v:.3g}")
    return svg.write(path)


def plot_scale(data, path):
    table = table_of(data)
    sizes = [s for s in ("1k", "10k", "100k", "1M", "10M")]
    values = {(size, subject): table.get((f"random 64 B of {size}", subject))
              for size in sizes for subject in data["subjects"]}
    subjects = [s for s in data["subjects"] if any(values[size, s] for size in sizes)]
    return plot_curves(path, "Replacing a block of 64 bytes, by how many are live", where(data), subjects, sizes, values,
                       "ns per op")


def plot_phases(data, path):
    values, labels, subjects = {}, [], []
    for result in data["results"]:
        runs = [r for r in result["runs"] if r["status"] == "ok"]
        if result["case"] != "phases" or not runs:
            continue
        subjects.append(result["subject"])
        points = [p for p in runs[0]["points"] if p["label"] not in ("prepared", "end")]
        labels = [p["label"] for p in points]
        for p in points:
            values[p["label"], result["subject"]] = p["rss"] / p["live_bytes"]
    return plot_curves(path, "Memory by live bytes, at the end of each phase of sizes", where(data), subjects, labels,
                       values, "ratio")


def plot_memory(data, path):
    rows = []
    for result in data["results"]:
        runs = [r for r in result["runs"] if r["status"] == "ok"]
        if result["case"] == "memory 64 B" and runs and result["subject"] != "prefault":
            rows.append((result["subject"], runs[0]["rss"] / runs[0]["live_blocks"]))
    if not rows:
        return None
    left, top, row, width = 110, 62, 26, 720
    svg = Svg(width, top + row * len(rows) + 16, "Bytes of memory for a block of 64 bytes, one million live",
              where(data))
    most = max(value for _, value in rows)
    for i, (subject, value) in enumerate(rows):
        y = top + row * i
        length = (width - left - 80) * value / most
        svg.text(left - 10, y + 15, subject, "end")
        svg.bar(left, y + 3, length, row - 8, subject, f"{subject}: {value:.1f}")
        svg.text(left + length + 8, y + 15, f"{value:.1f}")
    x64 = left + (width - left - 80) * 64 / most
    svg.line(x64, top - 4, x64, top + row * len(rows), "axis")
    return svg.write(path)


def write_all(results, folder):
    with open(results) as lines:
        data = json.load(lines)
    os.makedirs(folder, exist_ok=True)
    plots = [plot_ratios(data, os.path.join(folder, "bench-ratios.svg")),
             plot_scale(data, os.path.join(folder, "bench-scale.svg")),
             plot_phases(data, os.path.join(folder, "bench-phases.svg")),
             plot_memory(data, os.path.join(folder, "bench-memory.svg"))]
    return [p for p in plots if p]

# SPDX-License-Identifier: MIT
"""Draws the results: bars, a panel a cell, and throughput over time while the working set grows.  Plain SVG 1.1."""
import math
import statistics
from xml.sax.saxutils import escape

from .results import number
from .workloads import CELLS, TITLES

COLOURS = {
    "spillfs": "#c8461e", "spillfs-none": "#e8a33d", "spillfs-user": "#d9798a", "spillfs-old": "#8c6d5a",
    "tmpfs": "#2f6db3", "tmpfs-swap": "#2f6db3", "ext4": "#3d8b57", "passthrough_hp": "#7a5ea8", "raw": "#7f868c",
}
FONT = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif"'
INK, FAINT, GRID = "#22262a", "#6b7278", "#d8dcdf"


class Drawing:
    def __init__(self, width, height):
        self.width, self.height, self.parts = width, height, []

    def text(self, x, y, text, size=12, anchor="start", colour=INK, weight="normal", extra=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
                          f'font-weight="{weight}" {extra}>{escape(text)}</text>')

    def rect(self, x, y, width, height, colour, extra=""):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
                          f'fill="{colour}" {extra}/>')

    def line(self, x1, y1, x2, y2, colour=GRID, width=1.0, extra=""):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                          f'stroke-width="{width}" {extra}/>')

    def path(self, points, colour, width=2.0):
        d = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f},{y:.1f}" for i, (x, y) in enumerate(points))
        self.parts.append(f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width}" '
                          'stroke-linejoin="round"/>')

    def save(self, path):
        with open(path, "w", encoding="utf-8") as f:
            f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                    f'viewBox="0 0 {self.width} {self.height}" {FONT}>\n<rect width="100%" height="100%" '
                    'fill="white"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


PANEL, PANEL_GAP, BAR, LABEL, VALUE, MARGIN, COLUMNS = 400, 28, 18, 104, 108, 24, 3


def _panel(drawing, x, y, results, group, cell, peers):
    title, unit = CELLS[group][cell]
    by_peer = results.values[group][cell]
    most = max(max(values) for values in by_peer.values())
    scale = (PANEL - LABEL - VALUE) / most if most > 0 else 0
    drawing.text(x, y + 12, title, 13, weight="bold")
    drawing.text(x + PANEL, y + 12, unit, 11, "end", FAINT)
    for i, peer in enumerate(p for p in peers if p in by_peer):
        top, values = y + 22 + i * (BAR + 4), by_peer[peer]
        middle = statistics.median(values)
        drawing.text(x + LABEL - 6, top + 13, peer, 11, "end")
        drawing.rect(x + LABEL, top, max(middle * scale, 1), BAR, COLOURS.get(peer, INK))
        if len(values) > 1:
            centre = top + BAR / 2
            left, right = x + LABEL + min(values) * scale, x + LABEL + max(values) * scale
            drawing.line(left, centre, right, centre, INK, 1.2)
            for end in (left, right):
                drawing.line(end, centre - 4, end, centre + 4, INK, 1.2)
        label = number(middle)
        ratio = results.ratio(group, cell, "spillfs", peer)
        if peer != "spillfs" and ratio is not None:
            label += f"  ({ratio:.2f}x)" if ratio < 100 else f"  ({ratio:.0f}x)"
        drawing.text(x + LABEL + max(max(values), middle) * scale + 6, top + 13, label, 11)


def bars(results, group, path):
    """A panel a cell, a bar a peer, whiskers from the least to the most; False when there is nothing to draw."""
    peers = results.peers(group)
    cells = [cell for cell in CELLS[group] if results.values[group].get(cell)]
    if not cells:
        return False
    height = 22 + len(peers) * (BAR + 4) + PANEL_GAP
    rows = math.ceil(len(cells) / COLUMNS)
    drawing = Drawing(2 * MARGIN + COLUMNS * PANEL + (COLUMNS - 1) * PANEL_GAP, 86 + rows * height + MARGIN)
    drawing.text(MARGIN, 34, TITLES[group], 19, weight="bold")
    note = results.about.get("sizes_text", {}).get(group, "").strip(" ,;")
    drawing.text(MARGIN, 56, f"{note}. Medians; whiskers: least and most of the rounds; in brackets: "
                 "spillfs cache=kernel divided by this peer. Longer is better.", 12, colour=FAINT)
    for i, cell in enumerate(cells):
        _panel(drawing, MARGIN + i % COLUMNS * (PANEL + PANEL_GAP), 76 + i // COLUMNS * height, results, group, cell,
               peers)
    drawing.save(path)
    return True


def _series(results):
    """peer -> [one list of IOPS a step], the median over the rounds at each interval; empty where all failed."""
    rounds = {}
    for run in results.grow:
        rounds.setdefault(run["peer"], []).append(run["steps"])
    series = {}
    for peer, runs in rounds.items():
        steps = min(len(run) for run in runs)
        # A round in which the step failed has nothing to say about it.
        good = [[run[s]["iops"] for run in runs if run[s]["iops"]] for s in range(steps)]
        series[peer] = [[statistics.median(values) for values in zip(*step)] for step in good]
    return {peer: steps for peer, steps in series.items() if any(steps)}


def _end_labels(ends, least_gap):
    """Moves labels apart: [(y, peer)] -> {peer: y}."""
    places, last = {}, -math.inf
    for y, peer in sorted(ends):
        last = max(y, last + least_gap)
        places[peer] = last
    return places


def growth(results, path):
    """Lines over time, a band a step; False when there is nothing to draw."""
    series = _series(results)
    if not series:
        return False
    steps = [step["step"] for step in max((run["steps"] for run in results.grow), key=len)]
    interval = results.grow[0]["interval_seconds"]
    per_step = max(len(values) for run in series.values() for values in run)
    values = [v for run in series.values() for step in run for v in step if v > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high += low == high
    left, top, width, height = 84, 92, 980, 420
    drawing = Drawing(left + width + 150, top + height + 66)
    drawing.text(24, 34, "(d) throughput while the working set outgrows RAM", 19, weight="bold")
    note = results.about.get("sizes_text", {}).get("grow", "").strip(" ,;")
    drawing.text(24, 56, f"{note}. 4 KiB random, 70 % reads, 2 jobs, of the whole set; appending between the steps is "
                 "not shown.", 12, colour=FAINT)

    def y_of(value):
        return top + height - (math.log10(max(value, 10 ** low)) - low) / (high - low) * height

    band = width / len(steps)
    for i, step in enumerate(steps):
        if i % 2 == 0:
            drawing.rect(left + i * band, top, band, height, "#f3f5f6")
        drawing.text(left + (i + 0.5) * band, top - 8, f"{step:g}x RAM", 12, "middle", weight="bold")
        drawing.text(left + i * band, top + height + 18, f"{i * per_step * interval:g}", 11, "middle", FAINT)
    drawing.text(left + width, top + height + 18, f"{len(steps) * per_step * interval:g}", 11, "middle", FAINT)
    drawing.text(left + width / 2, top + height + 40, "seconds of the random mix", 12, "middle", FAINT)
    for power in range(low, high + 1):
        for digit in (1, 2, 5):
            value = digit * 10 ** power
            if math.log10(value) <= high + 1e-9:
                drawing.line(left, y_of(value), left + width, y_of(value), GRID, 1 if digit == 1 else 0.5)
                drawing.text(left - 8, y_of(value) + 4, number(value), 11, "end", FAINT)
    drawing.text(24, top + height / 2, "operations a second", 12, "middle", FAINT,
                 extra=f'transform="rotate(-90 24 {top + height / 2:.0f})"')
    ends = []
    for peer, run in series.items():
        points = []
        for i, step in enumerate(run):
            if not step:
                continue
            points = [(left + (i + (j + 0.5) / len(step)) * band, y_of(value)) for j, value in enumerate(step)]
            drawing.path(points, COLOURS.get(peer, INK), 2.6 if peer == "spillfs" else 1.8)
        ends.append((points[-1][1], peer))
    for peer, y in _end_labels(ends, 16).items():
        drawing.text(left + width + 10, y + 4, peer, 13, colour=COLOURS.get(peer, INK), weight="bold")
    drawing.save(path)
    return True

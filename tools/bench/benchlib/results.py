# SPDX-License-Identifier: MIT
"""Keeps what was measured; makes medians, ratios, verdicts, the table and the JSON object of it."""
import json
import statistics

from . import exact
from .workloads import CELLS, SEQUENTIAL, TITLES

OURS = ("spillfs", "spillfs-none", "spillfs-user")


def number(value):
    """Three digits, for people."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            value, suffix = value / size, letter
            break
    else:
        suffix = ""
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{suffix}"


def rate(value, unit):
    return f"{value:.0f} {unit}" if unit == SEQUENTIAL else f"{number(value)} {unit}"


class Results:
    def __init__(self, targets):
        self.targets = targets
        self.values = {group: {} for group in CELLS}  # group -> cell -> peer -> [one a round]
        self.left_out = []    # {peer, group, reason}
        self.failures = []    # {peer, group, cell, round, reason}
        self.grow = []        # one a peer and round: see workloads.grow
        self.requests = {}    # peer -> [{operation, requests}]
        self.memory = {}      # peer -> {name: number}
        self.facts = []       # {peer, group, round, ...}
        self.about = {}

    def add(self, group, cell, peer, value):
        self.values[group].setdefault(cell, {}).setdefault(peer, []).append(value)

    def leave_out(self, peer, group, reason):
        self.left_out.append({"peer": peer, "group": group, "reason": reason})

    def fail(self, group, cell, peer, number_of_round, reason):
        self.failures.append({"peer": peer, "group": group, "cell": cell, "round": number_of_round, "reason": reason})

    def median(self, group, cell, peer):
        values = self.values.get(group, {}).get(cell, {}).get(peer)
        return statistics.median(values) if values else None

    def ratio(self, group, cell, peer, against):
        ours, theirs = self.median(group, cell, peer), self.median(group, cell, against)
        return ours / theirs if ours is not None and theirs else None

    def peers(self, group):
        """In the order of the run, those that have a number."""
        seen = []
        for peers in self.values[group].values():
            seen += [p for p in peers if p not in seen]
        return seen

    # --- targets ---

    def _verdict(self, target, cell):
        """(what was measured, met) or (None, None)."""
        group, peer = target["group"], target["peer"]
        if group == "requests":
            for row in self.requests.get(peer, []):
                if row["operation"] == cell:
                    return row["requests"], exact.within(row["requests"], target["at_most"])
            return None, None
        if group == "memory":
            value = self.memory.get(peer, {}).get(cell)
            return value, None if value is None else value <= target["at_most"]
        value = self.ratio(group, cell, peer, target["against"])
        return value, None if value is None else value >= target["at_least"]

    def verdicts(self):
        """One a target and cell."""
        rows = []
        for target in self.targets:
            for cell in target["cells"]:
                measured, met = self._verdict(target, cell)
                rows.append({"text": target["text"], "group": target["group"], "cell": cell, "peer": target["peer"],
                             "against": target.get("against"), "at_least": target.get("at_least"),
                             "at_most": target.get("at_most"), "measured": measured, "met": met})
        return rows

    def _bound(self, group, cell, peer, against):
        for target in self.targets:
            if (target["group"], target["peer"], target.get("against")) == (group, peer, against) and \
                    cell in target["cells"]:
                return target["at_least"]
        return None

    # --- the table ---

    def _ratio_text(self, group, cell, peer, against):
        value = self.ratio(group, cell, peer, against)
        if value is None:
            return "-"
        bound = self._bound(group, cell, peer, against)
        text = f"{value:.2f}" if value < 100 else f"{value:.0f}"
        if bound is None:
            return text
        return f"{text} {'met' if value >= bound else 'MISSED'} {bound:g}"

    def _block(self, group, peer):
        others = [p for p in self.peers(group) if p not in OURS and p != peer]
        rows = [[f"  {peer}", "median (min..max)"] + [f"vs {p}" for p in others]]
        for cell, (text, unit) in CELLS[group].items():
            values = self.values[group].get(cell, {}).get(peer)
            if not values:
                continue
            span = f"({number(min(values))}..{number(max(values))})" if len(values) > 1 else ""
            rows.append([f"    {text}", f"{rate(statistics.median(values), unit)} {span}"] +
                        [self._ratio_text(group, cell, peer, p) for p in others])
        return rows

    def _request_rows(self):
        for peer, rows in self.requests.items():
            yield [f"  {peer}", "requests per operation"]
            for row in rows:
                what = _opcodes(row["requests"])
                met = [v["met"] for v in self.verdicts()
                       if (v["group"], v["cell"], v["peer"]) == ("requests", row["operation"], peer)]
                yield [f"    {row['operation']}", what, *("met" if m else "MISSED" for m in met)]

    def _memory_rows(self):
        for peer, numbers in self.memory.items():
            yield [f"  {peer}", ""]
            for name, value in numbers.items():
                met = [f"{'met' if v['met'] else 'MISSED'} {v['at_most']:g}" for v in self.verdicts()
                       if (v["group"], v["cell"], v["peer"]) == ("memory", name, peer)]
                text = f"{value:.2f}" if isinstance(value, float) else str(value)
                yield [f"    {name.replace('_', ' ')}", text, *met]

    def table(self):
        lines = []
        for group in CELLS:
            ours = [p for p in self.peers(group) if p in OURS]
            if not self.peers(group):
                continue
            lines += ["", TITLES[group] + self.about.get("sizes_text", {}).get(group, "")]
            for peer in ours or self.peers(group):
                lines += _columns(self._block(group, peer))
        for group, rows in (("requests", list(self._request_rows())), ("memory", list(self._memory_rows()))):
            if rows:
                lines += ["", TITLES[group]] + _columns(rows)
        return "\n".join(lines + self._closing()) + "\n"

    def _closing(self):
        verdicts = self.verdicts()
        missed = [v for v in verdicts if v["met"] is False]
        lines = ["", f"Targets: {sum(v['met'] is True for v in verdicts)} met, {len(missed)} missed, "
                     f"{sum(v['met'] is None for v in verdicts)} not measured"]
        rows = []
        for v in missed:
            title = CELLS[v["group"]][v["cell"]][0] if v["group"] in CELLS else v["cell"].replace("_", " ")
            is_number = isinstance(v["measured"], (int, float))
            if not is_number:
                measured, bound = _opcodes(v["measured"]), f"not just {_opcodes(v['at_most'])}"
            else:
                measured = f"{v['measured']:.2f}"
                bound = f">= {v['at_least']:g}" if v["at_least"] is not None else f"<= {v['at_most']:g}"
            rows.append([f"  missed: {v['text']}", title, measured, bound])
        lines += _columns(rows)
        if self.left_out:
            lines += ["", "Left out:"] + [f"  {x['peer']} ({x['group']}): {x['reason']}" for x in self.left_out]
        if self.failures:
            lines += ["", "Failed:"] + [f"  {x['peer']}, {x['group']} {x['cell']}, round {x['round']}: {x['reason']}"
                                        for x in self.failures]
        return lines

    # --- JSON ---

    def as_json(self):
        cells = []
        for group, by_cell in self.values.items():
            for cell, by_peer in by_cell.items():
                for peer, values in by_peer.items():
                    cells.append({"group": group, "cell": cell, "peer": peer, "unit": CELLS[group][cell][1],
                                  "rounds": values, "median": statistics.median(values), "min": min(values),
                                  "max": max(values)})
        ratios = [{"group": c["group"], "cell": c["cell"], "peer": c["peer"], "against": other,
                   "ratio": self.ratio(c["group"], c["cell"], c["peer"], other)}
                  for c in cells if c["peer"] in OURS
                  for other in self.peers(c["group"]) if other != c["peer"]]
        return json.dumps({"about": self.about, "targets": self.verdicts(), "cells": cells,
                           "ratios": [r for r in ratios if r["ratio"] is not None], "grow": self.grow,
                           "requests": self.requests, "memory": self.memory, "left_out": self.left_out,
                           "failures": self.failures, "facts": self.facts}, indent=1) + "\n"


def _opcodes(counts):
    return " ".join(f"{name} {n:g}" for name, n in counts.items()) or "none"


def _columns(rows):
    """Lines of left-aligned columns."""
    if not rows:
        return []
    count = max(len(row) for row in rows)
    widths = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(count)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]

#!/usr/bin/env python3
"""Draws the results.json of a sweep as an SVG.

  python3 tools/plot/sweep_to_svg.py RESULTS [TITLE]        each arm's difference to the baseline, with its interval
  python3 tools/plot/sweep_to_svg.py RESULTS TITLE FIGURE   a map of a figure over two axes for each arm

An arm that is not tuned has a hollow dot. Needs nothing but Python's standard library.
"""

import json
import math
import sys
from html import escape

WIDTH, ROW, LEFT = 920, 24, 190
GREY, LIGHT, BLUE, RED, INK = "#57606a", "#d8dee4", "#0969da", "#bc4c00", "#1f2328"


def text(x, y, words, anchor="start", color=GREY, weight="400", size=13):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-weight="{weight}" '
            f'font-size="{size}">{escape(words)}</text>')


def line(x1, y1, x2, y2, color, width):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def tick_step(span):
    power = 10 ** math.floor(math.log10(span / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 6 >= span)


def provenance(results):
    """Says with what the runs ran, as lines."""
    return [f"{results['base']}; data {', '.join(results['data'])}; commit {', '.join(results['commits'])}",
            "; ".join(results["machines"])]


def differences(results, title):
    """A row for each arm: the mean difference by seeds, Student's interval, and the loss itself."""
    arms = [arm for arm in results["arms"] if "loss" in arm]
    ends = [0.0]
    for arm in arms:
        ends += arm.get("difference", {}).get("student_interval", [])
    low, high = min(ends), max(ends)
    pad = 0.04 * (high - low or 1)
    low, high = low - pad, high + pad
    right = WIDTH - 150
    x = lambda value: LEFT + (right - LEFT) * (value - low) / (high - low)
    top = 74
    bottom = top + ROW * len(arms)
    parts = [text(16, 26, title, color=INK, weight="600", size=15),
             text(LEFT, 50, f"difference to {results['baseline']}, nats per token, "
                            f"{100 * results['confidence']:g} % intervals over seeds"),
             text(WIDTH - 16, 50, "loss", anchor="end")]
    step = tick_step(high - low)
    tick = math.ceil(low / step) * step
    while tick <= high:
        parts.append(line(x(tick), top - 12, x(tick), bottom - 8, LIGHT, 1))
        parts.append(text(x(tick), bottom + 10, f"{tick:+.3g}" if abs(tick) > step / 2 else "0", anchor="middle"))
        tick += step
    parts.append(line(x(0), top - 12, x(0), bottom - 8, GREY, 1.2))
    for row, arm in enumerate(arms):
        y = top + ROW * row
        parts.append(text(LEFT - 12, y + 4, arm["arm"], anchor="end", color=INK))
        parts.append(text(WIDTH - 16, y + 4, f"{arm['loss']['mean']:.4f}", anchor="end"))
        if "difference" not in arm:
            continue
        mean = arm["difference"]["mean"]
        first, last = arm["difference"]["student_interval"]
        shown = first > 0 or last < 0
        color = GREY if not shown else RED if mean > 0 else BLUE
        parts.append(line(x(first), y, x(last), y, color, 2.5))
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="4.5" stroke="{color}" stroke-width="1.5" '
                     f'fill="{"#ffffff" if arm["not_tuned"] else color}"/>')
    return parts, bottom + 24


def maps(results, title, figure):
    """A small table for each arm: rows are values of the first axis, columns of the second."""
    arms, values = {}, []
    for arm in results["arms"]:
        found = arm.get("figures", {}).get(figure, {})
        value = found.get("mean", found.get("value"))
        arms.setdefault(arm["arm"], {})[tuple(arm["cell"].values())] = value
        values += [value] if value is not None else []
    axes = list(results["arms"][0]["cell"])
    rows = list(dict.fromkeys(cell[0] for cells in arms.values() for cell in cells))
    columns = list(dict.fromkeys(cell[1] for cells in arms.values() for cell in cells))
    low, high = min(values), max(values)
    box, gap = 56, 26
    across = max(1, int((WIDTH - 16) // (box * (len(columns) + 1) + gap)))
    height = ROW * (len(rows) + 2) + 22
    parts = [text(16, 26, title, color=INK, weight="600", size=15),
             text(16, 44, f"rows: {axes[0]}; columns: {axes[1]}", size=11)]
    for place, (name, cells) in enumerate(arms.items()):
        left = 16 + (place % across) * (box * (len(columns) + 1) + gap)
        top = 72 + (place // across) * height
        parts.append(text(left, top, name, color=INK, weight="600"))
        for j, column in enumerate(columns):
            parts.append(text(left + box * (j + 1.5), top + ROW, column, anchor="middle"))
        for i, row in enumerate(rows):
            y = top + ROW * (i + 1) + 8
            parts.append(text(left, y + 16, row))
            for j, column in enumerate(columns):
                value = cells.get((row, column))
                share = 0 if value is None or high == low else (value - low) / (high - low)
                parts.append(f'<rect x="{left + box * (j + 1)}" y="{y}" width="{box - 2}" height="{ROW - 2}" '
                             f'fill="{BLUE}" fill-opacity="{0.05 + 0.75 * share:.2f}"/>')
                parts.append(text(left + box * (j + 1.5) - 1, y + 16, "–" if value is None else f"{value:.3g}",
                                  anchor="middle", color="#ffffff" if share > 0.6 else INK))
    return parts, 72 + height * -(-len(arms) // across)


def main():
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        results = json.load(file)
    title = sys.argv[2] if len(sys.argv) > 2 else results["question"]
    parts, bottom = maps(results, title, sys.argv[3]) if len(sys.argv) == 4 else differences(results, title)
    for words in provenance(results):
        bottom += 18
        parts.append(text(16, bottom, words, size=11))
    height = bottom + 14
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="system-ui, sans-serif">')
    print(f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>')
    print("\n".join(parts))
    print("</svg>")


main()

#!/usr/bin/env python3
"""Draws one run's metrics.jsonl as an SVG: loss on the left, gradient lost in the LM head on the right.

  python3 tools/plot/run_to_svg.py runs/quickstart/metrics.jsonl >tools/plot/quickstart.svg

Needs nothing but Python's standard library.
"""

import json
import sys

WIDTH, HEIGHT = 920, 360
PANEL_WIDTH, PANEL_HEIGHT, TOP = 370, 250, 52
GREY, LIGHT, BLUE = "#57606a", "#d8dee4", "#0969da"


class Panel:
    """One pair of axes; x runs from 0 to `last`, y from `low` to `high`."""

    def __init__(self, left, title, last, low, high, ticks, tick_text):
        self.left, self.last, self.low, self.high = left, last, low, high
        self.parts = [text(left, TOP - 22, title, weight="600", color="#1f2328")]
        for tick in ticks:
            y = self.y(tick)
            self.parts.append(line([(left, y), (left + PANEL_WIDTH, y)], LIGHT, 1))
            self.parts.append(text(left - 8, y + 4, tick_text(tick), anchor="end"))
        step = 100 if last <= 800 else 200 if last <= 1600 else 500
        for tick in range(0, last + 1, step):
            self.parts.append(text(self.x(tick), TOP + PANEL_HEIGHT + 18, str(tick), anchor="middle"))
        self.parts.append(text(left + PANEL_WIDTH, TOP + PANEL_HEIGHT + 36, "optimizer step", anchor="end"))

    def x(self, step):
        return self.left + PANEL_WIDTH * step / self.last

    def y(self, value):
        value = min(max(value, self.low), self.high)
        return TOP + PANEL_HEIGHT * (self.high - value) / (self.high - self.low)

    def curve(self, points, color, width=2.0, dashes=""):
        self.parts.append(line([(self.x(s), self.y(v)) for s, v in points], color, width, dashes))

    def dots(self, points, color):
        for step, value in points:
            self.parts.append(f'<circle cx="{self.x(step):.1f}" cy="{self.y(value):.1f}" r="4" fill="{color}"/>')

    def label(self, step, value, words, color, dy=-8):
        self.parts.append(text(self.x(step), self.y(value) + dy, words, anchor="end", color=color))


def text(x, y, words, anchor="start", color=GREY, weight="400"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-weight="{weight}">{words}</text>'


def line(points, color, width, dashes=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>'


def loss_panel(rows, entropy, last):
    train = [(r["step"], r["train/loss"]) for r in rows if "train/loss" in r]
    validation = []
    for row in rows:  # every line repeats the last validation loss: keep where it was measured
        value = row.get("validation/loss")
        if value is not None and (not validation or validation[-1][1] != value):
            validation.append((row["step"], value))
    low, high = int(min(v for _, v in train)), int(max(v for _, v in train)) + 1
    panel = Panel(52, "Loss, nats per token", last, low, high, range(low, high + 1), str)
    panel.curve(train, "#80b3ff", 1.2)
    panel.curve([(0, entropy), (last, entropy)], GREY, 1.2, "5 4")
    panel.label(last, entropy, f"unigram entropy of the corpus {entropy:.2f}", GREY)
    panel.curve(validation, BLUE)
    panel.dots(validation, BLUE)
    if validation:
        panel.label(last, validation[-1][1], f"validation {validation[-1][1]:.2f}", BLUE, dy=-16)
    return panel


def head_panel(rows, last):
    rows = [r for r in rows if "head/lost_norm_ratio" in r]
    lost = [(r["step"], 100 * r["head/lost_norm_ratio"]) for r in rows]
    random = [(r["step"], 100 * r["head/isotropic_lost_norm_ratio"]) for r in rows]
    values = [v for points in (lost, random) for _, v in points]
    low = int(min(values)) - 1
    panel = Panel(520, "Gradient lost in the LM head, % of its norm", last, low, 100, range(low, 101), lambda t: f"{t} %")
    panel.curve(random, GREY, 1.2, "5 4")
    panel.curve(lost, BLUE)
    panel.label(last, random[-1][1], f"a head in random position {random[-1][1]:.2f} %", GREY, dy=-22)
    panel.label(last, lost[-1][1], f"this head {lost[-1][1]:.2f} %", BLUE, dy=18)
    return panel


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [json.loads(row) for row in file]
    entropy = rows[0]["run/unigram_entropy"]
    last = rows[-1]["step"]
    panels = [loss_panel(rows, entropy, last), head_panel(rows, last)]
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
          'font-family="system-ui, sans-serif" font-size="13">')
    print(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>')
    for panel in panels:
        print("\n".join(panel.parts))
    print("</svg>")


main()

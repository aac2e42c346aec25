#!/usr/bin/env python3
"""bar_chart.py TIMES.csv > TIMES.svg: times of one model as bars. Columns: name, math, ms, command; rows named
solder stand out, and a row whose math is "floor" becomes a line across the bars."""
import csv
import html
import sys

LEFT, BAR, GAP, WIDTH, RIGHT = 290, 22, 7, 430, 70
TITLES = {"tf32": "TF32", "fp32": "fp32"}


def text(x, y, what, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(what)}</text>'


def main():
    with open(sys.argv[1], encoding="utf-8", newline="") as file:
        rows = [{**row, "ms": float(row["ms"])} for row in csv.DictReader(file)]
    floor = next((row for row in rows if row["math"] == "floor"), None)
    bars = [row for row in rows if row is not floor]
    scale = WIDTH / max(row["ms"] for row in bars)
    y, parts = 62, []
    for math in dict.fromkeys(row["math"] for row in bars):
        parts.append(text(LEFT, y + 10, TITLES.get(math, math), 'font-weight="bold"'))
        y += 20
        group = [row for row in bars if row["math"] == math]
        ours = next((row["ms"] for row in group if row["name"] == "solder"), None)
        top = y
        for row in group:
            mine = row["name"] == "solder"
            width = row["ms"] * scale
            parts.append(text(LEFT - 8, y + 15.5, row["name"],
                              'text-anchor="end"' + (' font-weight="bold"' if mine else "")))
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" '
                         f'fill="{"#e08a1e" if mine else "#9db8d2"}"><title>{html.escape(row["command"])}</title></rect>')
            label = f'{row["ms"]:.2f} ms' if row["ms"] < 10 else f'{row["ms"]:.1f} ms'
            if ours and not mine:
                label += f', {row["ms"] / ours:.1f}x'
            parts.append(text(LEFT + width + 6, y + 15.5, label, 'fill="#404040"'))
            y += BAR + GAP
        if floor:
            x = LEFT + floor["ms"] * scale
            parts.append(f'<line x1="{x:.1f}" y1="{top - 3}" x2="{x:.1f}" y2="{y - GAP + 3}" stroke="#b02020" '
                         'stroke-dasharray="4 3"/>')
        y += 14
    if floor:
        parts.append(f'<line x1="{LEFT}" y1="{y + 2}" x2="{LEFT + 24}" y2="{y + 2}" stroke="#b02020" stroke-dasharray="4 3"/>')
        parts.append(text(LEFT + 30, y + 6, f'{floor["name"]}, {floor["ms"]:.2f} ms: x read once, y written once',
                          'fill="#404040"'))
        y += 24
    width = LEFT + WIDTH + RIGHT + 40
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" '
          'font-family="Helvetica, Arial, sans-serif" font-size="13">')
    print('<rect width="100%" height="100%" fill="white"/>')
    print(text(20, 28, "x [64,64,256,256] → Conv2d(64, 128, 3) → mish → mish, on one H100", 'font-size="16"'))
    print(text(20, 47, "median time of a run; shorter is better", 'fill="#505050"'))
    print("\n".join(parts))
    print("</svg>")


main()

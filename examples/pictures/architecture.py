#!/usr/bin/env python3
"""architecture.py > architecture.svg: README's picture of how solder is built, laid out by hand."""
import html

WIDTH, MARGIN, TITLE, ROW, BOX = 880, 16, 30, 66, 44
# Layers from top to bottom: title, fill, border, rows of boxes (name, centre in the row from 0 to 1, width, lines).
LAYERS = [
    ("examples/", "programs: they include <solder/solder.h> and nothing else", "#f1f1f1", "#b8b8b8", [[
        ("program", 0.11, 150, ["your program"]), ("tutorial", 0.42, 250, ["tutorial, headline, networks"]),
        ("cli", 0.72, 150, ["solder-run"])]]),
    ("graph/", "what runs: compile() from left to right, then a session", "#fff6e0", "#d8a84a", [[
        ("written", 0.05, 84, ["Graph", "as written"]), ("passes", 0.218, 134, ["passes", "fold, fuse"]),
        ("plan", 0.41, 120, ["plan", "how each runs"]), ("memory", 0.6, 134, ["plan_memory", "offsets in one arena"]),
        ("prepare", 0.78, 112, ["prepare", "kernels, weights"]), ("*model", 0.934, 112, ["Model", "for all threads"])], [
        ("cpu", 0.2, 130, ["CPU executor"]), ("cuda", 0.58, 190, ["CUDA executor", "recorded into a CUDA graph"]),
        ("*session", 0.89, 172, ["Session", "stream + arena + launches"])]]),
    ("ops/", "how it runs", "#e8f1fa", "#7aa5d2", [[
        ("ops_cpu", 0.2, 210, ["every op on the CPU,", "in threads"]),
        ("conv", 0.53, 270, ["convolution families: rows, window,", "direct, im2col + cuBLAS"]),
        ("rest", 0.85, 200, ["product, pool, reduce, ...;", "elementwise: generated, mish"])], [
        ("math", 0.53, 400, ["formulas.h: every function once, host and device"])]]),
    ("runtime/", "what any op needs", "#ecf5e5", "#8dba72", [[
        ("errors", 0.1, 130, ["errors"]), ("device", 0.365, 230, ["device, stream, cuBLAS handle"]),
        ("tensors", 0.635, 170, ["memory, tensors"]), ("files", 0.875, 190, [".npy, .safetensors"])]]),
]
ARROWS = ["written>passes", "passes>plan", "plan>memory", "memory>prepare", "prepare>*model", "*model>*session",
          "*session>cuda", "cuda>cpu:or", "cpu>ops_cpu", "cuda>conv", "cuda>rest", "ops_cpu>math", "conv>math",
          "rest>math"]


def main():
    out, boxes, y = [], {}, MARGIN
    inner = WIDTH - 4 * MARGIN
    for name, what, fill, border, rows in LAYERS:
        height = TITLE + ROW * len(rows)
        out.append(f'<rect x="{MARGIN}" y="{y}" width="{WIDTH - 2 * MARGIN}" height="{height}" rx="10" fill="{fill}" '
                   f'stroke="{border}"/>')
        out.append(f'<text x="{MARGIN + 12}" y="{y + 20}"><tspan font-weight="bold" font-size="14">{name}</tspan>'
                   f'<tspan dx="10" fill="#505050">{html.escape(what)}</tspan></text>')
        for index, row in enumerate(rows):
            for box, centre, width, lines in row:
                x = 2 * MARGIN + inner * centre - width / 2
                boxes[box] = (x, y + TITLE + ROW * index + 4, width, lines)
        y += height + 12
    for arrow in ARROWS:
        ends, _, kind = arrow.partition(":")
        (ax, ay, aw, _), (bx, by, bw, _) = (boxes[end] for end in ends.split(">"))
        if abs(ay - by) < 1:  # in one row
            x1, x2 = (ax + aw, bx) if ax < bx else (ax, bx + bw)
            y1 = y2 = ay + BOX / 2
        else:
            x1, y1, y2 = ax + aw / 2, ay + BOX, by
            x2 = min(max(x1, bx + 24), bx + bw - 24)  # straight down where the box below reaches that far
        if kind == "or":  # a choice, not a step
            x1, x2 = x2, x1
            out.append(f'<text x="{(x1 + x2) / 2:.1f}" y="{y1 + 4:.1f}" text-anchor="middle" fill="#505050">'
                       'or, without a GPU</text>')
            continue
        out.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#606060" '
                   'marker-end="url(#arrow)"/>')
    for box, (x, top, width, lines) in boxes.items():
        fill = "#ffe3a8" if box[0] == "*" else "#ffffff"
        out.append(f'<rect x="{x:.1f}" y="{top}" width="{width}" height="{BOX}" rx="7" fill="{fill}" stroke="#606060"/>')
        for index, line in enumerate(lines):
            line_y = top + BOX / 2 + 4 + 15 * (index - (len(lines) - 1) / 2)
            out.append(f'<text x="{x + width / 2:.1f}" y="{line_y:.1f}" text-anchor="middle">{html.escape(line)}</text>')
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 4}" viewBox="0 0 {WIDTH} {y + 4}" '
          'font-family="Helvetica, Arial, sans-serif" font-size="12">')
    print('<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
          '<path d="M0,0 L8,4 L0,8 z" fill="#606060"/></marker></defs>')
    print('<rect width="100%" height="100%" fill="white"/>')
    print("\n".join(out))
    print("</svg>")


main()

#!/usr/bin/env python3
"""katago_text.py MODEL.bin.gz FOLDER: KataGo's network as a text graph and its weights, FOLDER/model.txt and
model.safetensors: what examples/katago builds in float32, as the server can load it. Needs numpy."""
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "networks"))
from katago_reference import BOARD, Reader
from models import safetensors


class Exporter(Reader):
    """Every method reads a layer of the file, says its nodes, and returns the name of its result."""

    def __init__(self, path):
        super().__init__(path)
        self.lines, self.weights = [], {}

    def say(self, node):
        self.lines.append(f"v{len(self.lines)} = {node}")
        return self.lines[-1].split()[0]

    def parameter(self, name, values):
        self.lines.append(f"parameter {name} {','.join(map(str, values.shape))}")
        self.weights[name] = ("FP32", list(values.shape), np.ascontiguousarray(values, "<f4").tobytes())
        return name

    def conv(self, x):
        name = self.word()
        r, s, c, k = self.integers(6)[:4]
        weight = self.parameter(f"{name}.weight", self.floats(r, s, c, k).transpose(3, 2, 0, 1))
        return self.say(f"conv2d {x} {weight} padding={r // 2},{s // 2}")

    def matmul(self, x):
        name = self.word()
        return self.say(f"matmul {x} {self.parameter(f'{name}.weight', self.floats(*self.integers(2)))}")

    def add_bias(self, x):
        name = self.word()
        return self.say(f"add {x} {self.parameter(f'{name}.bias', self.floats(*self.integers(1)))}")

    def norm_act(self, x):
        name, channels, epsilon, has_weight, has_bias = self.word(), int(self.word()), self.word(), *self.integers(2)
        mean, variance = self.floats(channels), self.floats(channels)
        weight = self.floats(channels) if has_weight else np.ones(channels)
        bias = self.floats(channels) if has_bias else np.zeros(channels)
        stored = [self.parameter(f"{name}.{part}", values) for part, values in (
            ("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance))]
        return self.activation(self.say(f"batch_norm {x} {' '.join(stored)} eps={epsilon}"))

    def activation(self, x):
        self.word()
        kind = self.word()
        return x if kind == "ACTIVATION_IDENTITY" else self.say(f"{kind.removeprefix('ACTIVATION_').lower()} {x}")

    def add_to_board(self, x, row):
        of_board = self.say(f"unsqueeze {row} axes=2,3")
        return self.say(f"add {x} {of_board}")

    def pool(self, x, with_maximum):
        size = BOARD - 14
        mean = self.say(f"mean {x} axes=2,3")
        scaled = self.say(f"mul {mean} {size / 10}")
        last = self.say(f"reduce_max {x} axes=2,3" if with_maximum else f"mul {mean} {size * size / 100 - 0.1}")
        return self.say(f"concat {mean} {scaled} {last} axis=1")

    def block(self, x):
        kind, _ = self.word(), self.word()
        if kind == "ordinary_block":
            y = self.conv(self.norm_act(self.conv(self.norm_act(x))))
        elif kind == "gpool_block":
            normed = self.norm_act(x)
            y = self.conv(normed)
            row = self.pool(self.norm_act(self.conv(normed)), True)
            y = self.conv(self.norm_act(self.add_to_board(y, self.matmul(row))))
        else:
            inner = self.integers(1)[0]
            y = self.conv(self.norm_act(x))
            for _ in range(inner):
                y = self.block(y)
            y = self.conv(self.norm_act(y))
        return self.say(f"add {x} {y}")

    def output(self, name, x):
        """Of the last node."""
        assert self.lines[-1].startswith(f"{x} =")
        self.lines[-1:] = [self.lines[-1].replace(x, name, 1), f"output {name}"]

    def read(self):
        self.word()
        assert self.integers(3) == [14, 22, 19], "a format other than 14, or other inputs"
        for _ in range(8):  # multipliers, and the trunk's name
            self.word()
        blocks = self.integers(6)[0]
        self.lines += ["input spatial 1,22,19,19", "input global 1,19"]
        x = self.conv("spatial")
        x = self.add_to_board(x, self.matmul("global"))
        for _ in range(blocks):
            x = self.block(x)
        x = self.norm_act(x)
        self.word()
        y = self.conv(x)
        row = self.pool(self.norm_act(self.conv(x)), True)
        moves = self.norm_act(self.add_to_board(y, self.matmul(row)))
        self.output("policy", self.conv(moves))
        self.output("pass", self.matmul(row))
        self.word()
        board = self.norm_act(self.conv(x))
        hidden = self.activation(self.add_bias(self.matmul(self.pool(board, False))))
        for name in ("value", "score"):
            self.output(name, self.add_bias(self.matmul(hidden)))
        self.output("ownership", self.conv(board))


def write(model, folder):
    exporter = Exporter(model)
    exporter.read()
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.txt").write_text("\n".join(exporter.lines) + "\n")
    (folder / "model.safetensors").write_bytes(safetensors(exporter.weights))


if __name__ == "__main__":
    write(*sys.argv[1:])

#!/usr/bin/env python3
"""Files written by numpy, ml_dtypes and safetensors themselves, for the tests of solder's readers and writers.

    pip install numpy ml_dtypes safetensors
    python3 tests/tools/make_format_samples.py > tests/cases/format_samples.h     # the C++ literals the tests include
    python3 tests/tools/make_format_samples.py --corpus DIR                 # the same as files: seeds for the fuzzers
"""
import io
import pathlib
import sys

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy


def npy(array, version=None):
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), version=version, allow_pickle=True)
    return out.getvalue()


grid = np.arange(6, dtype=np.float32).reshape(2, 3) / 4 - 0.5  # -0.5, -0.25, 0, 0.25, 0.5, 0.75
cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
bf16 = ml_dtypes.bfloat16

NPY = {
    "F4": npy(grid),
    "F2": npy(grid.astype(np.float16)),
    "Bf16": npy(grid.astype(bf16)),
    "Scalar": npy(np.float32(2.5)),
    "Vector": npy(np.float32([1, 2, 3])),
    "Empty": npy(np.zeros((0, 4), np.float32)),
    "Fortran": npy(np.asfortranarray(cube)),
    "FortranF2": npy(np.asfortranarray(cube.astype(np.float16))),
    "Version2": npy(grid, (2, 0)),
    "Version3": npy(grid, (3, 0)),
    "F8": npy(grid.astype(np.float64)),
    "I8": npy(np.arange(3)),
    "BigEndian": npy(grid.astype(">f4")),
    "Structured": npy(np.zeros(2, [("a", "<f4")])),
    "Object": npy(np.array([None], dtype=object)),
}
SAFETENSORS = {
    "Plain": safetensors.numpy.save({
        "a.half": grid.astype(np.float16), "b.brain": grid.astype(bf16), "c.weight": grid, "a.bias": np.float32([1, 2, 3]),
        "scalar": np.array(2.5, np.float32), "empty": np.zeros((2, 0), np.float32), "z.half": np.float16([4]),
    }),
    "Mixed": safetensors.numpy.save({
        "bn.num_batches_tracked": np.array(7), "bn.weight": np.float32([1.5]), "mask": np.array([True, False, True]),
        "double": np.array([0.5]),
    }, {"format": "np", "note": "a \"quoted\" \\ note\n"}),
    "Names": safetensors.numpy.save({
        "": np.float32([0]), "q\"b\\s/n\nt\tb\bf\fr\r": np.float32([1]), "ctl\x01\x1f": np.float32([2]),
        "h\u00e9\u4e16\U0001f600": np.float32([3]),
    }),
    "Nothing": safetensors.numpy.save({}),
}


def literal(data):
    text = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in data)
    lines, line = [], ""
    for piece in _pieces(text):
        if len(line) + len(piece) > 100:
            lines.append(line)
            line = ""
        line += piece
    return "\n    ".join(f'"{part}"' for part in lines + [line]) + "sv"


def _pieces(text):
    at = 0
    while at < len(text):
        step = 4 if text[at] == "\\" else 1
        yield text[at:at + step]
        at += step


def main():
    if sys.argv[1:2] == ["--corpus"]:
        for kind, samples in (("npy", NPY), ("safetensors", SAFETENSORS)):
            folder = pathlib.Path(sys.argv[2]) / kind
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in samples.items():
                (folder / name).write_bytes(data)
        return
    print("#pragma once")
    print("// Made by tests/tools/make_format_samples.py with", end=" ")
    print(f"numpy {np.__version__}, ml_dtypes {ml_dtypes.__version__}, safetensors {safetensors.__version__}.")
    print("// clang-format off\n\n#include <string_view>\n\nnamespace samples {\n")
    print("using std::string_view_literals::operator\"\"sv;\n")
    for kind, samples in (("Npy", NPY), ("Safetensors", SAFETENSORS)):
        for name, data in samples.items():
            print(f"inline constexpr std::string_view k{kind}{name} =\n    {literal(data)};\n")
    print("}  // namespace samples")


main()

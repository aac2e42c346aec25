#!/usr/bin/env python3
"""check_examples.py MODELS GOLDENS BUILD: runs the examples of whole networks as their pages say, and compares what they write
with the goldens. Needs what prepare.py made, and numpy.
"""
import os
import subprocess
import sys
import tempfile

import numpy as np

BOUNDS = {"resnet50": 5e-6, "cspdarknet53_mish": 5e-6, "katago": 5e-6}
HEADS = ("policy", "pass", "value", "score", "ownership")


def fail(program, text, printed):
    raise SystemExit(f"{program}: {text}; it printed:\n{printed}")


def run(*command):
    done = subprocess.run([*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        fail(command[0], f"exit status {done.returncode}", done.stdout)
    return done.stdout


def compare(program, printed, got, want):
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    if not (got.shape == want.shape and error <= BOUNDS[os.path.basename(program)]):
        fail(program, f"a relative error of {error:.2e}", printed)


def check_classifier(models, folder, program, name, golden, out):
    weights = os.path.join(models, name[:name.index("_n")] + ".safetensors")
    logits = os.path.join(out, "logits.npy")
    printed = run(program, weights, os.path.join(folder, "input.npy"), logits)
    compare(program, printed, np.load(logits), golden["logits"])
    for image, best in enumerate(golden["logits"].argmax(1)):
        if f"image {image}:  {best} (" not in printed:
            fail(program, f"image {image} is of class {best}", printed)
    # Without its weights a network says what it misses and what the file has, at once.
    other = subprocess.run([program, logits, logits], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if other.returncode != 1 or "logits.npy" not in other.stdout:
        fail(program, "no error of its own on a file that is none", other.stdout)


def check_katago(models, folder, program, golden, out):
    inputs = [os.path.join(folder, name) for name in ("spatial.npy", "global.npy")]
    printed = run(program, os.path.join(models, "katago_b18c384nbt.bin.gz"), *inputs, out)
    for head in HEADS:
        compare(program, printed, np.load(os.path.join(out, head + ".npy")), golden[head])
    for i, spatial in enumerate(golden["spatial"]):
        taken = spatial[1:3].sum(0).ravel() > 0
        moves = np.append(np.where(taken, -np.inf, golden["policy"][i, 0].ravel()), golden["pass"][i, 0])
        best = int(moves.argmax())
        name = "pass" if best == 361 else "ABCDEFGHJKLMNOPQRST"[best % 19] + str(19 - best // 19)
        board = printed.split(f"position {i},")[1].split("moves:")[0]
        if f"moves: 1 {name} " not in printed.split(f"position {i},")[1]:
            fail(program, f"the best move of position {i} is {name}", printed)
        if board.count("X") + board.count("O") != taken.sum() + 2:  # "X to move", and column O
            fail(program, f"{taken.sum()} stones in position {i}", printed)


def main(models, goldens, build):
    with open(os.path.join(models, "goldens", "list.txt")) as f:
        names = f.read().split("\n")[1:-1]
    seen = set()
    for name in names:
        net = name[:name.index("_seed")]
        program, folder = os.path.join(build, net), os.path.join(models, "goldens", name)
        lines = sum(1 for _ in open(os.path.join("examples", net + ".cpp")))
        if lines >= 80:
            raise SystemExit(f"examples/{net}.cpp has {lines} lines, 80 or more")
        if net in seen:
            continue
        seen.add(net)
        with np.load(os.path.join(goldens, name + ".npz")) as golden, tempfile.TemporaryDirectory() as out:
            if net != "katago":
                check_classifier(models, folder, program, name, golden, out)
            elif "built without zlib" not in subprocess.run([program, "x", "x", "x"], stderr=subprocess.PIPE, text=True).stderr:
                check_katago(models, folder, program, golden, out)
    print("examples of networks: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])

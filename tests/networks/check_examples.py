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
    # What is no checkpoint, no images, or another network's checkpoint is an error that says so.
    images = os.path.join(folder, "input.npy")
    for arguments, words in (((logits, images), "logits.npy"), ((weights, logits), "[N,C,H,W], not [2, 1000]"),
                             ((os.path.join(folder, "golden.safetensors"), images), "given, and not asked for: \"")):
        other = subprocess.run([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if other.returncode != 1 or words not in other.stdout:
            fail(program, f"an error with {words}", other.stdout)


def check_katago(models, folder, program, golden, out):
    inputs = [os.path.join(folder, name) for name in ("spatial.npy", "global.npy")]
    network = os.path.join(models, "katago_b18c384nbt.bin.gz")
    first = subprocess.run([program, network, *inputs], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if "built without zlib" in first.stderr:
        print("katago: not checked, it was built without zlib")
        return
    printed = run(program, network, *inputs, out)
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


def check_ocr(models, program):
    """The lines of the picture that is here, blanks aside: networks may read a narrow one as none."""
    networks = [os.path.join(models, "onnx", "packages", f"ppocr4_{part}.onnx") for part in ("det", "rec")]
    if not os.path.exists(networks[0]):
        print("ocr: not checked, there are no ONNX models")
        return
    picture = os.path.join("examples", "pictures", "receipt.jpg")
    done = subprocess.run([program, picture, *networks], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [line.replace(" ", "") for line in done.stdout.splitlines()]
    for line in ("CAFESOLDER", "12TensorStreet", "2xEspresso5.60", "1xApplepie4.20", "Total12.55"):
        if line not in lines:
            fail(program, f"the line {line}", done.stdout)
    other = subprocess.run([program, __file__, *networks], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if other.returncode != 1 or "check_examples.py: unknown image type" not in other.stdout:
        fail(program, "an error for what is no picture", other.stdout)


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
            else:
                check_katago(models, folder, program, golden, out)
    check_ocr(models, os.path.join(build, "ocr"))
    print("examples of networks: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""prepare_onnx.py MODELS GOLDENS: makes what test_onnx_models.cpp and test_onnx_nodes.cpp read. Needs numpy and onnx.

    MODELS/onnx/models/NAME_seedS.onnx, .input.npy       for every golden GOLDENS/onnx_goldens_seedS/NAME.npz (onnx_goldens.py prepare)
    MODELS/onnx/models/NAME_seedS.golden.safetensors     of each output NAME (samples), NAME:stride [1], NAME:shape [rank],
                                                         NAME:errors [4] (float32, tf32, float16, bfloat16) and NAME:useful [1]
    MODELS/onnx/models/list.txt                          the folder GOLDENS, and then the names
    MODELS/onnx/nodes                                    lay_out_node_tests.py

What is there already is not made again.
"""
import hashlib
import os
import re
import sys

import numpy as np
import onnx

import make_networks
import onnx_goldens

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "onnx"))
import lay_out_node_tests  # noqa: E402


def require(golden, name, field, digest):
    if digest != str(golden[field]):
        raise SystemExit(f"{name}: {field} differs: numpy {np.__version__} draws other numbers than the golden's")


def results_of(golden):
    """What a golden says of the outputs, as float32 tensors by name."""
    results = {}
    for i in range(int(golden["outputs"])):
        name = str(golden[f"name_{i}"])
        results[name] = golden[f"values_{i}"]
        results[name + ":stride"] = golden[f"stride_{i}"].reshape(1)
        results[name + ":shape"] = golden[f"shape_{i}"]
        results[name + ":errors"] = np.array([golden[f"{kind}_{i}"] for kind in ("ort", "tf32", "fp16", "bf16")])
        results[name + ":useful"] = golden[f"useful_{i}"].reshape(1)
    return {name: np.ascontiguousarray(value.astype(np.float32)) for name, value in results.items()}


def prepare(packages, folder, name, seed, golden_path):
    path = os.path.join(folder, f"{name}_seed{seed}")
    golden = np.load(golden_path)
    model, x = onnx_goldens.prepare(packages, name, seed), onnx_goldens.picture(name, seed)
    require(golden, name, "weights_sha256", onnx_goldens.weights_digest(model))
    require(golden, name, "input_sha256", hashlib.sha256(x.tobytes()).hexdigest())
    onnx.save(model, path + ".onnx")
    np.save(path + ".input.npy", x)
    # Last: where it is, the others are complete.
    with open(path + ".golden.safetensors", "wb") as f:
        f.write(make_networks.safetensors_bytes(results_of(golden)))


def prepare_models(models, goldens):
    folder, names = os.path.join(models, "onnx", "models"), []
    os.makedirs(folder, exist_ok=True)
    for seeded in sorted(os.listdir(goldens)):
        if not (match := re.fullmatch(r"onnx_goldens_seed(\d+)", seeded)):
            continue
        for file in sorted(file for file in os.listdir(os.path.join(goldens, seeded)) if file.endswith(".npz")):
            name, path = f"{file[:-4]}_seed{match[1]}", os.path.join(goldens, seeded, file)
            names.append(name)
            made = os.path.join(folder, name + ".golden.safetensors")
            if not os.path.exists(made) or os.path.getmtime(made) < os.path.getmtime(path):
                print(f"networks: preparing {name}", flush=True)
                prepare(os.path.join(models, "onnx", "packages"), folder, file[:-4], int(match[1]), path)
    with open(os.path.join(folder, "list.txt"), "w") as f:
        f.write("\n".join([os.path.realpath(goldens), *names]) + "\n")


def prepare_nodes(models):
    source, out = os.path.join(models, "onnx", "node_tests.zip"), os.path.join(models, "onnx", "nodes")
    made, needs = os.path.join(out, "cases.txt"), (source, lay_out_node_tests.__file__)
    if not os.path.exists(made) or os.path.getmtime(made) < max(map(os.path.getmtime, needs)):
        lay_out_node_tests.main(source, out)


def main(models, goldens):
    prepare_nodes(models)
    prepare_models(models, goldens)


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""prepare.py MODELS GOLDENS: makes what test_networks.cpp reads, for every golden of the folder GOLDENS. Needs numpy.

    MODELS/NET_seedS.safetensors          weights of ResNet-50 or CSPDarknet53-Mish, drawn from the seed
    MODELS/goldens/NAME/input.npy         (KataGo: spatial.npy and global.npy)
    MODELS/goldens/NAME/golden.safetensors   the float64 results as float32: outputs by name; of each sampled layer
                                          LAYER, LAYER:stride [1] and LAYER:shape [4]
    MODELS/goldens/list.txt               the folder, and then the names

A golden says of which weights and input it is, by sha256: another numpy's stream of random numbers is an error here, not a
wrong result there. What is there already is not made again.
"""
import hashlib
import os
import re
import sys

import numpy as np

import make_networks

SEEDED = re.compile(r"(resnet50|cspdarknet53_mish)_seed(\d+)_n(\d+)_(\d+)$")
OWN = ("net", "seed", "model", "spatial", "global")  # what a golden has beside results


def require(golden, name, field, digest):
    if digest != golden[field]:
        raise SystemExit(f"{name}: {field} differs: numpy {np.__version__} draws other numbers than the golden's")


def make_weights(golden, name, net, seed, path):
    if os.path.exists(path):
        with open(path, "rb") as f:
            if hashlib.sha256(f.read()).hexdigest() == golden["weights_sha256"]:
                return
    print(f"networks: drawing the weights of {net}, seed {seed}", flush=True)
    data = make_networks.safetensors_bytes(make_networks.make_weights(net, seed))
    require(golden, name, "weights_sha256", hashlib.sha256(data).hexdigest())
    with open(path + ".part", "wb") as f:
        f.write(data)
    os.replace(path + ".part", path)


def prepare(models, goldens, name):
    golden = np.load(os.path.join(goldens, name + ".npz"))
    folder = os.path.join(models, "goldens", name)
    os.makedirs(folder, exist_ok=True)
    if seeded := SEEDED.match(name):
        net, seed, batch, size = seeded[1], *(int(number) for number in seeded.groups()[1:])
        make_weights(golden, name, net, seed, os.path.join(models, f"{net}_seed{seed}.safetensors"))
        x = make_networks.make_input(seed, batch, size)
        require(golden, name, "input_sha256", hashlib.sha256(x.tobytes()).hexdigest())
        np.save(os.path.join(folder, "input.npy"), x)
    else:
        np.save(os.path.join(folder, "spatial.npy"), golden["spatial"])
        np.save(os.path.join(folder, "global.npy"), golden["global"])
    results = {key: golden[key].astype(np.float32).reshape(golden[key].shape or 1)
               for key in golden.files if key not in OWN and not key.endswith("sha256")}
    with open(os.path.join(folder, "golden.safetensors"), "wb") as f:
        f.write(make_networks.safetensors_bytes(results))


def main(models, goldens):
    names = sorted(file[:-4] for file in os.listdir(goldens)
                   if file.endswith(".npz") and (SEEDED.match(file[:-4]) or file.startswith("katago_seed")))
    if not names:
        raise SystemExit(f"{goldens}: no golden is there; their names are like resnet50_seed1_n2_224.npz and katago_seed1.npz")
    for name in names:
        prepare(models, goldens, name)
    with open(os.path.join(models, "goldens", "list.txt"), "w") as f:
        f.write("\n".join([os.path.realpath(goldens), *names]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

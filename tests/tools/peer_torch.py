"""The headline model on PyTorch's own weights and input, through the example program, against PyTorch.

  peer_torch.py --example build/conv_double_mish [--batch 64] [--size 256]   full check, as `make run` calls it
  peer_torch.py --make-data tests/data                                       writes the small pair of tests/data

Needs python3 with torch, numpy and safetensors. The first form needs a GPU.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from peer_timing import median_ms
from safetensors.torch import save_file


class Model(torch.nn.Module):
    """Conv2d -> mish -> mish."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(64, 128, 3)

    def forward(self, x):
        return F.mish(F.mish(self.conv(x)))


def relative_error(result, reference):
    """Relative Frobenius error, in float64."""
    difference = result.double() - reference.double()
    return (difference.norm() / reference.double().norm()).item()


def make_data(folder):
    """A small pair: x, weights, and y computed in float64 and rounded once."""
    torch.manual_seed(7)
    model, x = Model(), torch.rand(2, 64, 13, 14)
    with torch.no_grad():
        y = model.double()(x.double()).float()
    weights = {name: value.float().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, os.path.join(folder, "headline_small.safetensors"))
    np.save(os.path.join(folder, "headline_small_x.npy"), x.numpy())
    np.save(os.path.join(folder, "headline_small_y.npy"), y.numpy())


def check(example, batch, size, folder):
    """Runs the example on files written by PyTorch; returns whether every comparison holds."""
    torch.manual_seed(0)
    model = Model().cuda().eval()
    x = torch.rand(batch, 64, size, size, device="cuda")
    paths = {name: os.path.join(folder, name) for name in ("x.npy", "w.safetensors", "y.npy")}
    save_file({name: value.cpu() for name, value in model.state_dict().items()}, paths["w.safetensors"])
    np.save(paths["x.npy"], x.cpu().numpy())
    with torch.no_grad():
        exact = Model().double().cuda()
        exact.load_state_dict(model.state_dict())
        sample = [0, batch // 2, batch - 1]
        references = {n: exact(x[n : n + 1].double()).cpu() for n in sample}

        fine = True
        for math, limit in (("tf32", 3.3e-4), ("fp32", 1e-6)):
            torch.backends.cudnn.allow_tf32 = math == "tf32"
            torch.cuda.empty_cache()
            torch_ms = median_ms(lambda: model(x))
            peer = model(x).cpu()
            torch.cuda.empty_cache()
            print(f"--- Math::{math}", flush=True)
            command = [example, "--input", paths["x.npy"], "--weights", paths["w.safetensors"], "--output",
                       paths["y.npy"], "--math", math, "--check"]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            print(done.stdout, end="", flush=True)
            if done.returncode != 0:
                return False
            y = torch.from_numpy(np.load(paths["y.npy"]))
            error = max(relative_error(y[n : n + 1], references[n]) for n in sample)
            peer_error = max(relative_error(peer[n : n + 1], references[n]) for n in sample)
            print(f"relative Frobenius error against float64: solder {error:.3g} (limit {limit:.2g}), "
                  f"PyTorch {peer_error:.3g}; against PyTorch's {math} output on the same GPU "
                  f"{relative_error(y, peer):.3g}")
            ours = re.search(r"median ([\d.]+) ms", done.stdout)
            print(f"PyTorch eager {torch_ms:.3f} ms, solder {ours[1]} ms: {torch_ms / float(ours[1]):.2f} times faster",
                  flush=True)
            fine = fine and error <= limit and bool(torch.isfinite(y).all())
    print("headline model: " + ("ok" if fine else "FAILED"))
    return fine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example")
    parser.add_argument("--make-data")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.make_data:
        make_data(arguments.make_data)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return 0 if check(arguments.example, arguments.batch, arguments.size, folder) else 1


if __name__ == "__main__":
    sys.exit(main())

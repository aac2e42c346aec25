#!/usr/bin/env python3
"""Whole networks beside PyTorch, in one run: network_peers.py [--batches 1,16,64] [--size 256] [--maths fp16,tf32]
[--networks resnet50,katago] [--katago FILE] [--compile] [SOLDER_RUN]

Needs a GPU and python3 with torch, torchvision and timm. Prints the median milliseconds of ResNet-50 and
CSPDarknet53 with Mish, with random weights, and of KataGo's b18c384nbt where --katago names its file (`make models`
fetches it), and PyTorch's time over solder's: in eager mode (16-bit types with channels innermost, float32 on NCHW
tensors), and with --compile through torch.compile (mode reduce-overhead, channels innermost). solder's input is
float32 in every mode, PyTorch's has the mode's type.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import timm
import torch
import torchvision

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "networks"))
import katago_reference  # noqa: E402

BOARD = katago_reference.BOARD


def resnet50():
    return torchvision.models.resnet50()


def cspdarknet53_mish():
    model = timm.create_model("cspdarknet53", pretrained=False)
    replace_activations(model)
    return model


def replace_activations(module):
    for name, child in module.named_children():
        if isinstance(child, (torch.nn.ReLU, torch.nn.LeakyReLU, torch.nn.SiLU)):
            setattr(module, name, torch.nn.Mish())
        else:
            replace_activations(child)


class KataGo(torch.nn.Module):
    """What katago_reference.read_model has read, in PyTorch: norms are a scale and a bias, as they are there."""

    ACTIVATIONS = {katago_reference.same: lambda x: x, katago_reference.relu: torch.relu,
                   katago_reference.mish: torch.nn.functional.mish}

    def __init__(self, model):
        super().__init__()
        self.values = torch.nn.ParameterList()
        self.parts = {name: self.take(model[name]) for name in ("input", "blocks", "tip", "policy", "value")}

    def take(self, part):
        """`part` with the number of a parameter for every array."""
        if isinstance(part, (list, tuple)):
            return [self.take(each) for each in part]
        if not isinstance(part, np.ndarray):
            return self.ACTIVATIONS.get(part, part) if callable(part) else part
        values = part.transpose(3, 2, 0, 1) if part.ndim == 4 else part
        self.values.append(torch.nn.Parameter(torch.from_numpy(np.array(values, np.float32))))
        return len(self.values) - 1

    def conv(self, x, weight):
        return torch.nn.functional.conv2d(x, self.values[weight], padding=self.values[weight].shape[2] // 2)

    def norm_act(self, x, norm):
        scale, bias, activation = norm
        return activation(x * self.values[scale][:, None, None] + self.values[bias][:, None, None])

    def matmul(self, x, weight):
        return x @ self.values[weight]

    def pool(self, x, third):
        mean, size = x.mean((2, 3)), BOARD - 14.0
        last = x.amax((2, 3)) if third == "maximum" else mean * (size * size * 0.01 - 0.1)
        return torch.cat([mean, mean * (size * 0.1), last], 1)

    def block(self, x, block):
        kind, layers = block
        if kind == "ordinary_block":
            norm1, conv1, norm2, conv2 = layers
            return x + self.conv(self.norm_act(self.conv(self.norm_act(x, norm1), conv1), norm2), conv2)
        if kind == "gpool_block":
            norm1, conv1, conv_pool, norm_pool, mul, norm2, conv2 = layers
            y = self.norm_act(x, norm1)
            pooled = self.pool(self.norm_act(self.conv(y, conv_pool), norm_pool), "maximum")
            y = self.conv(y, conv1) + self.matmul(pooled, mul)[:, :, None, None]
            return x + self.conv(self.norm_act(y, norm2), conv2)
        norm1, conv1, inner, norm2, conv2 = layers
        y = self.conv(self.norm_act(x, norm1), conv1)
        for each in inner:
            y = self.block(y, each)
        return x + self.conv(self.norm_act(y, norm2), conv2)

    def forward(self, spatial, scalars):
        conv, mul = self.parts["input"]
        x = self.conv(spatial, conv) + self.matmul(scalars, mul)[:, :, None, None]
        for block in self.parts["blocks"]:
            x = self.block(x, block)
        x = self.norm_act(x, self.parts["tip"])
        conv, conv_pool, norm_pool, mul, norm, conv_out, mul_pass = self.parts["policy"]
        pooled = self.pool(self.norm_act(self.conv(x, conv_pool), norm_pool), "maximum")
        y = self.norm_act(self.conv(x, conv) + self.matmul(pooled, mul)[:, :, None, None], norm)
        policy, policy_pass = self.conv(y, conv_out), self.matmul(pooled, mul_pass)
        conv, norm, mul, bias, function, mul_value, bias_value, mul_score, bias_score, conv_own = self.parts["value"]
        y = self.norm_act(self.conv(x, conv), norm)
        hidden = function(self.matmul(self.pool(y, "mean"), mul) + self.values[bias])
        return (policy, policy_pass, self.matmul(hidden, mul_value) + self.values[bias_value],
                self.matmul(hidden, mul_score) + self.values[bias_score], self.conv(y, conv_own))


def solder_ms(program, network, shapes, math):
    command = [program, *network, "--device", "cuda", "--math", math, "--iters", "50"]
    for name, shape in shapes.items():
        command += ["--shape", f"{name}=" + ",".join(str(extent) for extent in shape)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    value, unit = re.search(r"time: median ([\d.]+) (us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def torch_ms(run, iterations=30):
    times = []
    for i in range(iterations + 5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        if i >= 5:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def measure(name, make, network, shapes, math, arguments):
    """One line: a network of solder's, as arguments of its program, and of PyTorch's."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = math == "tf32"
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(math, torch.float32)
    ours = solder_ms(arguments.program, network, shapes, math)
    batch = next(iter(shapes.values()))[0]
    line = f"{name:<20}{batch:>6}{math:>6}{ours:>11.3f}"
    with torch.no_grad():
        model = make().cuda().eval().to(dtype)
        inputs = [torch.rand(shape, device="cuda", dtype=dtype) for shape in shapes.values()]
        inner = [x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs]
        if dtype != torch.float32:
            model, inputs = model.to(memory_format=torch.channels_last), inner
        eager = torch_ms(lambda: model(*inputs))
        line += f"{eager:>10.3f}{eager / ours:>7.2f}"
        if arguments.compile:
            torch._dynamo.reset()
            compiled = torch.compile(model.to(memory_format=torch.channels_last), mode="reduce-overhead")
            fused = torch_ms(lambda: compiled(*inner))
            line += f"{fused:>13.3f}{fused / ours:>7.2f}"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--maths", default="tf32,fp32,fp16,bf16")
    parser.add_argument("--networks", default="resnet50,cspdarknet53-mish,katago")
    parser.add_argument("--katago", metavar="FILE")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("program", nargs="?", default="build/solder-run")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    print(f"{'network':<20}{'batch':>6}{'math':>6}{'solder ms':>11}{'eager ms':>10}{'ratio':>7}"
          f"{'compiled ms':>13}{'ratio':>7}")
    networks = {"resnet50": (resnet50, ["resnet50"]), "cspdarknet53-mish": (cspdarknet53_mish, ["cspdarknet53-mish"])}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.katago and "katago" in arguments.networks:
            subprocess.run([sys.executable, HERE.parent / "triton" / "katago_text.py", arguments.katago, folder], check=True)
            model = katago_reference.read_model(arguments.katago)
            networks["katago"] = (lambda: KataGo(model), [f"{folder}/model.txt", "--weights", f"{folder}/model.safetensors"])
        for name in arguments.networks.split(","):
            if name not in networks:
                continue
            for batch in (int(part) for part in arguments.batches.split(",")):
                shapes = {"x": (batch, 3, arguments.size, arguments.size)}
                if name == "katago":
                    shapes = {"spatial": (batch, 22, BOARD, BOARD), "global": (batch, 19)}
                for math in arguments.maths.split(","):
                    measure(name, *networks[name], shapes, math, arguments)


if __name__ == "__main__":
    main()

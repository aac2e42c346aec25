#!/usr/bin/env python3
"""Whole networks beside PyTorch, in one run: network_peers.py [--batches 1,16,64] [--size 256] [--maths fp16,tf32] [--compile]
[SOLDER_RUN]

Needs a GPU and python3 with torch, torchvision and timm. Prints the median milliseconds of ResNet-50 and
CSPDarknet53 with Mish, with random weights, and PyTorch's time over solder's: in eager mode (16-bit types with channels
innermost, float32 on NCHW tensors), and with --compile through torch.compile (mode reduce-overhead, channels innermost).
solder's input is float32 in every mode, PyTorch's has the mode's type.
"""
import argparse
import re
import subprocess

import timm
import torch
import torchvision


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


def solder_ms(program, network, shape, math):
    command = [program, network, "--device", "cuda", "--math", math, "--iters", "50",
               "--shape", "x=" + ",".join(str(extent) for extent in shape)]
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1,16,64")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--maths", default="tf32,fp32,fp16,bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("program", nargs="?", default="build/solder-run")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    print(f"{'network':<20}{'batch':>6}{'math':>6}{'solder ms':>11}{'eager ms':>10}{'ratio':>7}"
          f"{'compiled ms':>13}{'ratio':>7}")
    for network, make in (("resnet50", resnet50), ("cspdarknet53-mish", cspdarknet53_mish)):
        for batch in (int(part) for part in arguments.batches.split(",")):
            shape = (batch, 3, arguments.size, arguments.size)
            for math in arguments.maths.split(","):
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = math == "tf32"
                dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(math, torch.float32)
                ours = solder_ms(arguments.program, network, shape, math)
                line = f"{network:<20}{batch:>6}{math:>6}{ours:>11.3f}"
                with torch.no_grad():
                    model, x = make().cuda().eval().to(dtype), torch.rand(shape, device="cuda", dtype=dtype)
                    inner = x.contiguous(memory_format=torch.channels_last)
                    if dtype != torch.float32:
                        model, x = model.to(memory_format=torch.channels_last), inner
                    eager = torch_ms(lambda: model(x))
                    line += f"{eager:>10.3f}{eager / ours:>7.2f}"
                    if arguments.compile and math != "fp32":
                        torch._dynamo.reset()
                        compiled = torch.compile(model.to(memory_format=torch.channels_last), mode="reduce-overhead")
                        fused = torch_ms(lambda: compiled(inner))
                        line += f"{fused:>13.3f}{fused / ours:>7.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()

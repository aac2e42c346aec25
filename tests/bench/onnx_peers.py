#!/usr/bin/env python3
"""ONNX models beside PyTorch and onnxruntime, in one run: onnx_peers.py [--runs 50] MODELS [SOLDER_RUN]

Needs a GPU, what `make models` makes in the folder MODELS, and python3 with torch, onnx2torch and onnxruntime. For a
model that reads text, a ResNet and a detector, batch 1: median milliseconds of solder in each mode and on the CPU, of
onnx2torch's module on the GPU in eager mode and through torch.compile (mode reduce-overhead, shapes as numbers), in TF32
and in float16 with channels innermost, and of onnxruntime on the CPU, all of its threads. Then cold: seconds from the start of a process
to its first result, of solder-run and of a Python program that does the same with each of the others.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np

MODELS = {  # file: shape of its one input
    "packages/ppocr5_rec.onnx": (1, 3, 48, 320),
    "models/light_resnet50_seed1.onnx": (1, 3, 224, 224),
    "packages/ddddocr_det_yolox.onnx": (1, 3, 416, 416),
}
COLD = "packages/ddddocr_det_yolox.onnx"  # 20 MB


def input_name(path):
    import onnx
    model = onnx.load(path, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    return next(value.name for value in model.graph.input if value.name not in weights)


def solder_command(program, path, shape, device, math):
    extents = ",".join(str(extent) for extent in shape)
    return [program, path, "--device", device, "--math", math, "--shape", f"{input_name(path)}={extents}"]


def solder_ms(command, runs):
    text = subprocess.run(command + ["--iters", str(runs)], check=True, capture_output=True, text=True).stdout
    value, unit = re.search(r"time: median ([\d.]+) (us|ms|s)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def median_ms(run, runs):
    times = []
    for i in range(runs + 5):
        start = time.perf_counter()
        run()
        if i >= 5:
            times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)[len(times) // 2]


def torch_module(path, dtype):
    import onnx
    import onnx2torch
    import torch
    model = onnx.load(path)
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:  # onnx2torch wants initializers
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
    add_hard_swish()
    module = onnx2torch.convert(model).eval().cuda()
    return module if dtype == "float32" else module.half().to(memory_format=torch.channels_last)


def add_hard_swish():
    """onnx2torch 1.5.15 knows no HardSwish; PyTorch does."""
    import torch
    from onnx2torch.node_converters.registry import add_converter
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    try:
        @add_converter(operation_type="HardSwish", version=14)
        def _(node, graph):
            return OperationConverterResult(torch_module=torch.nn.Hardswish(), onnx_mapping=onnx_mapping_from_node(node=node))
    except ValueError:  # it is there
        pass


def with_numbers(module, x):
    """torch.compile takes no tensor for a shape or a slice's ends, which is what onnx2torch makes of ONNX: with the shape of x
    known they are numbers, and what only computed them is dead."""
    import operator
    import torch
    known = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node):
            known[node] = super().run_node(node)
            return known[node]

    Recorder(module).run(x)
    for node in list(module.graph.nodes):
        kind = type(module.get_submodule(node.target)).__name__ if node.op == "call_module" else ""
        if kind.startswith(("OnnxReshape", "OnnxSqueeze", "OnnxUnsqueeze")):
            call = torch.reshape, (node.args[0], tuple(known[node].shape)), {}
        elif kind == "OnnxSlice":
            names = ("input_tensor", "starts", "ends", "axes", "steps")
            given = {**dict(zip(names, node.args)), **node.kwargs}
            starts, ends, axes, steps = ([int(n) for n in known[given[name]]] if given.get(name) is not None else None for name in names[1:])
            cuts = [slice(None)] * known[given["input_tensor"]].dim()
            for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts)):
                cuts[axis] = slice(start, min(end, known[given["input_tensor"]].shape[axis]), step)
            call = operator.getitem, (given["input_tensor"], tuple(cuts)), {}
        elif kind == "OnnxResize" and module.get_submodule(node.target).onnx_mode == "nearest":
            call = torch.nn.functional.interpolate, (node.args[0],), {"size": tuple(known[node].shape[2:]), "mode": "nearest"}
        else:
            continue
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(simple := module.graph.call_function(*call))
        known[simple] = known[node]
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def torch_ms(path, shape, dtype, compiles, runs):
    import torch
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch._dynamo.reset()
    x = torch.rand(shape, device="cuda", dtype=getattr(torch, dtype))
    if dtype == "float16":
        x = x.contiguous(memory_format=torch.channels_last)
    module = torch_module(path, dtype)
    if compiles:
        with torch.no_grad():
            module = torch.compile(with_numbers(module, x), mode="reduce-overhead")

    def run():
        module(x)
        torch.cuda.synchronize()

    with torch.no_grad():
        return median_ms(run, runs)


def onnxruntime_session(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def first_result(peer, path, shape):
    """What the cold program of a peer does."""
    x = np.random.default_rng(1).random(shape, dtype=np.float32)
    if peer == "onnxruntime":
        session = onnxruntime_session(path)
        session.run(None, {session.get_inputs()[0].name: x})
        return
    import torch
    module, x = torch_module(path, "float32"), torch.from_numpy(x).cuda()
    with torch.no_grad():
        (torch.compile(with_numbers(module, x)) if peer == "torch.compile" else module)(x)
    torch.cuda.synchronize()


def cold_seconds(command, runs=3, **environment):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def describe(what):
    """The result of a call, or in one line why there is none: not every model converts."""
    try:
        return what()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--cold", metavar="PEER", help="does what is timed cold, once, and ends")
    parser.add_argument("models")
    parser.add_argument("program", nargs="?", default="build/solder-run")
    arguments = parser.parse_args()
    folder = os.path.join(arguments.models, "onnx")
    if arguments.cold:
        first_result(arguments.cold, os.path.join(folder, COLD), MODELS[COLD])
        return
    for name, shape in MODELS.items():
        path = os.path.join(folder, name)
        print(f"{os.path.basename(name)}, {'x'.join(str(extent) for extent in shape)}, milliseconds", flush=True)
        for device, math in (("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "fp16"), ("cpu", "fp32")):
            ms = solder_ms(solder_command(arguments.program, path, shape, device, math), arguments.runs)
            print(f"  solder, {device}, {math}: {ms:.3f}", flush=True)
        for dtype, words in (("float32", "TF32"), ("float16", "float16")):
            for how, compiles in (("eager", False), ("torch.compile", True)):
                result = describe(lambda: "%.3f" % torch_ms(path, shape, dtype, compiles, arguments.runs))
                print(f"  onnx2torch, {words}, {how}: {result}", flush=True)
        x = np.random.default_rng(1).random(shape, dtype=np.float32)
        session = onnxruntime_session(path)
        ms = median_ms(lambda: session.run(None, {session.get_inputs()[0].name: x}), arguments.runs)
        print(f"  onnxruntime, CPU: {ms:.3f}", flush=True)
    path = os.path.join(folder, COLD)
    print(f"{os.path.basename(COLD)}, seconds from the start of a process to its first result", flush=True)
    for device in ("cpu", "cuda"):
        seconds = cold_seconds(solder_command(arguments.program, path, MODELS[COLD], device, "fp32"))
        print(f"  solder-run, {device}: {seconds:.3f}", flush=True)
    for peer in ("onnxruntime", "torch eager", "torch.compile"):
        command = [sys.executable, __file__, "--cold", peer, arguments.models]
        with tempfile.TemporaryDirectory() as cache:
            for again in ("", ", again with its caches") if peer == "torch.compile" else ("",):
                seconds = describe(lambda: "%.3f" % cold_seconds(command, 1 if peer == "torch.compile" else 3,
                                                                 TORCHINDUCTOR_CACHE_DIR=cache, TRITON_CACHE_DIR=f"{cache}/triton"))
                print(f"  {peer}{again}: {seconds}", flush=True)


if __name__ == "__main__":
    main()

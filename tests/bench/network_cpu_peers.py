#!/usr/bin/env python3
"""Whole networks on the CPU beside onnxruntime, in turns: network_cpu_peers.py build/network_cpu build/models [--threads N]

Needs what `make models` makes, and numpy, onnx and onnxruntime. Builds the graphs of tests/networks for onnxruntime,
which fuses as it does by default, checks the results of both with the goldens, and then times them, a run of one and a
run of the other. With one thread times are processor time, which other work on the machine hardly moves; with more, wall
time. The ratio is of the fastest runs, above 1 where solder is faster; then that of the medians.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

sys.path.append(str(pathlib.Path(__file__).parents[1] / "networks"))
import katago_reference  # noqa: E402
import make_networks  # noqa: E402

BOUND = 1e-4  # of an output's largest value


class Value:
    """A tensor of the graph: what the networks do with arrays becomes nodes. Shapes are NCHW, the networks' axes NHWC."""

    def __init__(self, graph, name, channels, rank):
        self.graph, self.name, self.channels, self.ndim = graph, name, channels, rank

    @property
    def shape(self):
        return (1, self.channels) if self.ndim == 2 else (1, 0, 0, self.channels)

    def __add__(self, other):
        other = other if isinstance(other, Value) else self.graph.constant(other, 2)
        return self.graph.node("Add", [self, other], self.channels)

    def __getitem__(self, index):  # [:, None, None]
        return self.graph.node("Unsqueeze", [self, self.graph.constant(np.array([2, 3]), 1)], self.channels, 4)

    def transpose(self, *axes):
        return self

    def __array_function__(self, function, types, arguments, options):
        if function is np.split:
            halves = [self.graph.new(self.channels // 2, 4) for _ in range(2)]
            self.graph.append("Split", [self], halves, axis=1, num_outputs=2)
            return halves
        if function is np.concatenate:
            parts = arguments[0]
            return self.graph.node("Concat", parts, sum(part.channels for part in parts), axis=1)
        raise NotImplementedError(function)


class OnnxGraph:
    """Builds the graph that the functions of make_networks and katago_reference describe to it."""

    def __init__(self):
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.num_values, self.activations = 0, {}

    def new(self, channels, rank):
        self.num_values += 1
        return Value(self, f"v{self.num_values}", channels, rank)

    def input(self, name, array):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
        return Value(self, name, array.shape[1], array.ndim)

    def output(self, name, value, shape):
        self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, array, rank):
        array = np.asarray(array)
        value = self.new(array.shape[-1] if array.ndim else 1, rank)
        self.constants.append(numpy_helper.from_array(
            np.ascontiguousarray(array, np.int64 if array.dtype.kind == "i" else np.float32), value.name))
        return value

    def append(self, kind, inputs, outputs, **attributes):
        self.nodes.append(helper.make_node(kind, [i.name for i in inputs], [o.name for o in outputs], **attributes))

    def node(self, kind, inputs, channels, rank=None, **attributes):
        value = self.new(channels, rank or inputs[0].ndim)
        self.append(kind, inputs, [value], **attributes)
        return value

    def conv(self, x, w, stride=1):
        """w [K,C,R,S]."""
        r, s = w.shape[2:]
        return self.node("Conv", [x, self.constant(w, 4)], len(w), kernel_shape=[r, s], strides=[stride] * 2,
                         pads=[r // 2, s // 2] * 2)

    def batch_norm(self, x, weight, bias, mean, variance, epsilon):
        parameters = [self.constant(p, 1) for p in (weight, bias, mean, variance)]
        return self.node("BatchNormalization", [x, *parameters], x.channels, epsilon=epsilon)

    def activate(self, x, function):
        if function is make_networks.same:
            return x
        return self.node("Mish" if function is make_networks.mish else "Relu", [x], x.channels)

    def mean(self, x):
        return self.node("Flatten", [self.node("GlobalAveragePool", [x], x.channels)], x.channels, 2)

    def serialized(self):
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        return model.SerializeToString()


class Classifier(OnnxGraph):
    """As make_networks.Network."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters = parameters

    def conv_bn(self, x, conv, bn, k, r, stride=1, activation=make_networks.same, add_before=None, add_after=None):
        y = self.conv(x, self.parameters[conv + ".weight"], stride)
        names = ("weight", "bias", "running_mean", "running_var")
        y = self.batch_norm(y, *(self.parameters[f"{bn}.{name}"] for name in names), make_networks.EPSILON)
        y = self.activate(y if add_before is None else y + add_before, activation)
        return y if add_after is None else y + add_after

    def max_pool(self, x):
        return self.node("MaxPool", [x], x.channels, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)

    def classify(self, x, name):
        w, bias = (self.constant(self.parameters[f"{name}.{part}"], 2) for part in ("weight", "bias"))
        return self.node("Gemm", [self.mean(x), w, bias], make_networks.CLASSES, transB=1)


class Katago(OnnxGraph, katago_reference.Forward):
    """As katago_reference.Forward, whose blocks and heads call these."""

    dtype = np.float32

    def conv(self, x, w):
        return super().conv(x, w.transpose(3, 2, 0, 1))

    def norm_act(self, x, norm):
        scale, bias, function = norm
        ones = np.ones(len(scale))
        y = self.batch_norm(x, scale, bias, 0 * ones, ones, 0.0)
        return self.activate(y, function)

    def keep(self, x):
        return x

    def matmul(self, x, w):
        return self.node("MatMul", [x, self.constant(w, 2)], w.shape[1])

    def pool(self, x, third):
        def scaled(value, factor):
            return self.node("Mul", [value, self.constant(np.float32(factor), 0)], x.channels)

        mean, size = self.mean(x), katago_reference.BOARD - 14.0
        if third == "maximum":
            last = self.node("Flatten", [self.node("GlobalMaxPool", [x], x.channels)], x.channels, 2)
        else:
            last = scaled(mean, size * size * 0.01 - 0.1)
        return self.node("Concat", [mean, scaled(mean, size * 0.1), last], 3 * x.channels, axis=1)

    def run(self, model, spatial, scalars):
        conv, mul = model["input"]
        x = self.conv(spatial, conv) + self.matmul(scalars, mul)[:, None, None]
        for block in model["blocks"]:
            x = self.block(x, block)
        x = self.norm_act(x, model["tip"])
        return {**self.policy(x, model["policy"]), **self.value(x, model["value"])}

    def value(self, x, head):
        *layers, function, mul_value, bias_value, mul_score, bias_score, conv_ownership = head
        return super().value(x, [*layers, lambda hidden: self.activate(hidden, function), mul_value, bias_value,
                                 mul_score, bias_score, conv_ownership])


def read_safetensors(path):
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F32": np.float32, "I64": np.int64}
    header = make_networks.json.loads(data[8:start])
    return {name: np.frombuffer(data[start + t["data_offsets"][0]:start + t["data_offsets"][1]],
                                dtypes[t["dtype"]]).reshape(t["shape"]) for name, t in header.items()}


def load(network, models, batch):
    """The graph, the weights' file, the inputs by name and the outputs that are right."""
    golden = models / "goldens" / ("katago_seed1" if network == "katago" else f"{network}_seed1_n2_224")
    names = {"spatial": "spatial", "global": "global"} if network == "katago" else {"x": "input"}
    repeated = [i % 2 for i in range(batch)]  # goldens are of two
    inputs = {name: np.load(golden / f"{file}.npy")[repeated] for name, file in names.items()}
    if network == "katago":
        weights, graph = models / "katago_b18c384nbt.bin.gz", Katago()
        values = [graph.input(name, array) for name, array in inputs.items()]
        outputs = graph.run(katago_reference.read_model(weights), *values)
    else:
        weights = models / f"{network}_seed1.safetensors"
        graph = Classifier(read_safetensors(weights))
        outputs = {"logits": make_networks.NETWORKS[network](graph, graph.input("x", inputs["x"]))}
    results = read_safetensors(golden / "golden.safetensors")
    right = {name: results[name][repeated] for name in outputs}
    for name, value in outputs.items():
        graph.output(name, value, right[name].shape)
    return graph, weights, inputs, right


def check(who, results, right):
    for name, want in right.items():
        error = np.abs(results[name].reshape(want.shape) - want).max() / np.abs(want).max()
        if not error < BOUND:
            raise SystemExit(f"{who}: {name} differs from the golden by {error:.1e} of its largest value")


def peer(graph, inputs, right, threads):
    """One run by onnxruntime, as a function."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph.serialized(), options, providers=["CPUExecutionProvider"])
    check("onnxruntime", dict(zip(right, session.run(list(right), inputs))), right)
    return lambda: session.run(list(right), inputs)


def compare(arguments, network, batch, folder):
    graph, weights, inputs, right = load(network, arguments.models, batch)
    for name, array in inputs.items():
        np.save(f"{folder}/{name}.npy", array)
    files = [f"{folder}/{name}.npy" for name in inputs]
    server = subprocess.Popen([arguments.program, network, weights, *files, folder], text=True, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, "SOLDER_THREADS": str(arguments.threads)})
    if server.stdout.readline() != "ready\n":
        raise SystemExit(f"{arguments.program} failed")
    check("solder", {name: np.load(f"{folder}/{name}.npy") for name in right}, right)
    run = peer(graph, inputs, right, arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    times = []
    for _ in range(arguments.runs + 1):
        server.stdin.write("\n")
        server.stdin.flush()
        wall, cpu = map(float, server.stdout.readline().split())
        start = clock()
        run()
        times.append((cpu if arguments.threads == 1 else wall, (clock() - start) * 1e3))
        time.sleep(0.05)  # onnxruntime's threads spin for a while
    server.stdin.close()
    server.wait()
    best, middle = np.min(times[1:], axis=0), np.median(times[1:], axis=0)
    print(f"{network:<18}{batch:>6}{best[0]:>11.1f}{middle[0]:>9.1f}{best[1]:>13.1f}{middle[1]:>9.1f}"
          f"{best[1] / best[0]:>8.2f}{middle[1] / middle[0]:>8.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", default="1")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", help="networks that contain this")
    arguments = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, {arguments.threads} threads")
    print(f"{'network':<18}{'batch':>6}{'solder ms':>11}{'median':>9}{'onnxruntime':>13}{'median':>9}"
          f"{'ratio':>8}{'median':>8}")
    for network in ("resnet50", "cspdarknet53_mish", "katago"):
        for batch in map(int, arguments.batches.split(",")):
            if arguments.only in network:
                with tempfile.TemporaryDirectory() as folder:
                    compare(arguments, network, batch, folder)


if __name__ == "__main__":
    main()

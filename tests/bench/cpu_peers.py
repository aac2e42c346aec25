"""onnxruntime's CPU beside bench_cpu, in turns: run after run of one, then the other.

    cpu_peers.py build/bench_cpu [--threads N] [--runs N]

Needs onnxruntime, onnx and numpy. Both write into memory that is there already. With one thread times are processor
time, which other work on the machine hardly moves; with more, wall time. Milliseconds and GFLOP/s are of the fastest
run of each, which such work moves least; then the ratio of those, and the 10th, 50th and 90th percentile of the ratios
of two runs side by side.
"""
import argparse
import subprocess
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper


def fields(case):
    return [int(word) if word.isdigit() else word for word in case.split()]


def peer(case, threads):
    """One run of the case by onnxruntime, as a function."""
    kind, n, c, h, k, r, stride = fields(case)
    if kind == "matmul":
        x_shape, w_shape, y_shape = (n, c), (k, c), (n, k)
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    else:
        group = c if kind == "depthwise" else 1
        p = (h + 2 * (r // 2) - r) // stride + 1
        x_shape, w_shape, y_shape = (n, c, h, h), (k, c // group, r, r), (n, k, p, p)
        node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[r, r], pads=[r // 2] * 4,
                                strides=[stride] * 2, group=group)
    nodes = [node]
    if kind == "mish_mish":
        node.output[0] = "conv"
        nodes += [helper.make_node("Mish", ["conv"], ["mish"]), helper.make_node("Mish", ["mish"], ["y"])]
    w = np.random.rand(*w_shape).astype(np.float32)
    graph = helper.make_graph(
        nodes, "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y_shape)], [onnx.numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would spin while the other runs
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(np.random.rand(*x_shape).astype(np.float32)))
    binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_numpy(np.zeros(y_shape, np.float32)))
    return lambda: session.run_with_iobinding(binding)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=31)
    parser.add_argument("--only", default="", help="cases that contain this")
    options = parser.parse_args()
    server = subprocess.Popen([options.bench, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    clock = time.process_time if options.threads == 1 else time.perf_counter

    def ours(case):
        server.stdin.write(f"{options.threads} {case}\n")
        server.stdin.flush()
        wall, cpu = map(float, server.stdout.readline().split())
        return cpu if options.threads == 1 else wall

    cases = subprocess.run([options.bench, "--cases"], stdout=subprocess.PIPE, text=True, check=True).stdout
    print(f"{'':28} {'solder':>9} {'onnxruntime':>11} ms  {'solder':>7} {'onnxruntime':>11} GFLOP/s   ratio  "
          "10%  50%  90%")
    for case in cases.splitlines():
        if options.only not in case:
            continue
        run = peer(case, options.threads)
        kind, n, c, h, k, r, stride = fields(case)
        p = (h + 2 * (r // 2) - r) // stride + 1
        flops = 2 * n * k * p * p * (1 if kind == "depthwise" else c) * r * r
        times = []
        for i in range(options.runs + 2):
            mine = ours(case)
            start = clock()
            run()
            theirs = (clock() - start) * 1e3
            if i >= 2:
                times.append((mine, theirs))
        times = np.array(times)
        (mine, theirs), ratios = times.min(axis=0), np.percentile(times[:, 1] / times[:, 0], [10, 50, 90])
        print(f"{case:28} {mine:9.3f} {theirs:11.3f}     {flops / mine * 1e-6:7.1f} {flops / theirs * 1e-6:11.1f} "
              f"        {theirs / mine:7.2f}  {' '.join(f'{r:.2f}' for r in ratios)}", flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""check_solder_run.py SOLDER_RUN: what the program writes, parsed by somebody else: JSON, XML, .npy, exit statuses,
what goes to stdout, to stderr and to a terminal. The standard library alone."""
import array
import collections
import itertools
import json
import math
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

PROGRAM = os.path.abspath(sys.argv[1])
DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
SMALL = ["residual", "--shape", "x=2,64,9,9"]


def run(*arguments, status=0, **more):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, **more)
    assert done.returncode == status, f"{arguments}: exit status {done.returncode}, not {status}\n{done.stderr}"
    return done


def write_safetensors(path, tensors):
    """`tensors`: name -> (dtype, shape), of zeros."""
    header, size = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = size + math.prod(shape) * {"F64": 8, "I64": 8, "F32": 4}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    return str(path)


def write_npy(path, shape):
    """float32 zeros."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)}, }}\n".encode()
    pathlib.Path(path).write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + bytes(4 * math.prod(shape)))
    return str(path)


def read_npy(path):
    data = pathlib.Path(path).read_bytes()
    end = 10 + struct.unpack("<H", data[8:10])[0]
    assert b"'descr': '<f4'" in data[:end], data[:end]
    return array.array("f", data[end:])


def onnx_message(*fields):
    """A protocol-buffers message of (number, int, str or bytes)."""
    def varint(number):
        return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)
    message = b""
    for number, value in fields:
        if isinstance(value, int):
            message += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            message += varint(number << 3 | 2) + varint(len(value)) + value
    return message


def write_onnx(path, last_op="Reshape"):
    """y = reshape(max(x w, -inf), s) with x [N, 3], N open, and s an input of two integers."""
    def info(name, dtype, *dims):
        shape = onnx_message(*((1, onnx_message((2, dim) if isinstance(dim, str) else (1, dim))) for dim in dims))
        return onnx_message((1, name), (2, onnx_message((1, onnx_message((1, dtype), (2, shape))))))

    def node(op, inputs, output):
        return onnx_message(*((1, name) for name in inputs), (2, output), (4, op))
    tensors = {"w": ([3, 4], [i / 8 for i in range(12)]), "low": ([], [-math.inf])}
    graph = [(1, node("MatMul", ["x", "w"], "a 1")), (1, node("Max", ["a 1", "low"], "2")), (1, node(last_op, ["2", "s"], "y"))]
    for name, (dims, values) in tensors.items():
        graph.append((5, onnx_message(*((1, dim) for dim in dims), (2, 1), (8, name), (9, array.array("f", values).tobytes()))))
    graph += [(11, info("x", 1, "N", 3)), (11, info("s", 7, 2)), (12, info("y", 1, "P", "Q"))]
    path.write_bytes(onnx_message((1, 8), (8, onnx_message((2, 17))), (7, onnx_message(*graph))))


def check_onnx(folder):
    """A model's shapes and values; the text it is shown as and its weights give the same bits."""
    model, shown, weights = folder / "model.onnx", folder / "shown.txt", folder / "shown.safetensors"
    write_onnx(model)
    assert "--shape x=" in run(str(model), status=1).stderr
    arguments = ["--shape", "x=2,3", "--device", "cpu"]
    assert "--value" in run(str(model), *arguments, status=1).stderr
    assert "--value: " in run(str(model), *arguments, "--value", "t=8,1", status=1).stderr
    assert "--shape: " in run(str(model), *arguments, "--shape", "t=8,1", status=1).stderr
    for wrong in ("8,one", "8,,1.5", ""):
        assert "takes numbers" in run(str(model), *arguments, "--value", f"s={wrong}", status=2).stderr
    arguments += ["--value", "s=1,-1"]
    results = [folder / "first.npy", folder / "second.npy"]
    run(str(model), *arguments, "--output", str(results[0]))
    shown.write_text(run(str(model), *arguments, "--show", "--save-weights", str(weights)).stdout)
    run(str(shown), "--weights", str(weights), "--device", "cpu", "--output", str(results[1]))
    assert results[0].read_bytes() == results[1].read_bytes()
    assert re.search("shape.*1, 8", repr(results[0].read_bytes())), "y is [1, 8]"
    # What cannot run is described all the same.
    write_onnx(model, "Frobnicate")
    done = run(str(model), *arguments, "--describe", status=1)
    assert "x: float32 [N, 3]" in done.stdout and "Frobnicate 1 MatMul 1 Max 1" in done.stdout, done.stdout
    assert '"Frobnicate", 1 time' in done.stderr


def check_help():
    text = run("--help").stdout
    source = (DATA.parent.parent / "examples/solder_run/options.cpp").read_text()
    options = set(re.findall(r'\{"(--[a-z-]+)"', source))
    assert len(options) > 15
    for option in options:
        assert option in text, f"--help does not say {option}"
    assert "conv2d" in run("--help-graph").stdout
    names = [line.split()[0] for line in run("--list").stdout.splitlines()]
    assert "headline" in names and "residual" in names
    for name in names:
        run(name, "--no-run", "--device", "cpu")


def check_statuses(folder):
    done = run("no/such/graph", status=1)
    assert "no/such/graph" in done.stderr and "--list" in done.stderr and done.stdout == ""
    done = run("--nope", status=2)
    assert "--help" in done.stderr and done.stdout == ""
    assert "cuda:99" in run("chain", "--device", "cuda:99", status=1).stderr
    headline = os.path.join(os.path.dirname(PROGRAM), "conv_double_mish")
    for device, status in (("tpu", 2), ("cuda:x", 2), ("cuda:99", 1)):  # one way to name devices in all programs
        said = "takes cpu, cuda, cuda:N or best" if status == 2 else "cuda:99 cannot be used"
        assert said in run("gated", "--device", device, status=status).stderr
        done = subprocess.run([headline, "--device", device], capture_output=True, text=True, check=False)
        assert done.returncode == status and said in done.stderr, f"conv_double_mish --device {device}: {done.stderr}"
    bad = folder / "bad.txt"
    bad.write_text("input x 4\ny = mosh x\n")
    assert f"{bad}:2: " in run(str(bad), status=1).stderr
    done = run(*SMALL, "--device", "cpu", "--weights", str(DATA / "headline_small.safetensors"), status=1)
    assert "conv1.weight" in done.stderr
    done = run(*SMALL, "--device", "cpu", "--output", str(folder / "none/y.npy"), status=1)
    assert "none/y.npy" in done.stderr
    run(*SMALL, "--device", "cpu", "--output", "z=y.npy", status=2)
    run("gated", "--shape", "x=1,32,4,4", "--device", "cpu", "--output", "y.npy", status=2)
    with open("/dev/full", "w") as full:
        assert subprocess.run([PROGRAM, "--list"], stdout=full, stderr=subprocess.DEVNULL, check=False).returncode == 1


def check_no_graph(folder):
    """Whatever is given as GRAPH: a message, and no signal."""
    (folder / "dir.txt").mkdir()
    os.mkfifo(folder / "fifo")
    for path, said in ((".", "Is a directory"), (folder / "dir.txt", "Is a directory"), (folder / "fifo", "no nodes"),
                       ("/dev/null", "no nodes"), ("/dev/zero", "is not text"), (PROGRAM, "is not text"),
                       (DATA / "headline_small.safetensors", "is not text"), ("", "no graph"), ("headlin", '"headline"?')):
        done = run(str(path), "--device", "cpu", status=2 if path == "" else 1)
        assert said in done.stderr and done.stdout == "", done.stderr
    with subprocess.Popen([PROGRAM, "gated", "--show"], stdout=subprocess.PIPE) as shown:
        run("/dev/stdin", "--device", "cpu", "--no-run", stdin=shown.stdout)


def check_tensors(folder):
    """Weights and inputs that do not fit: what is missing, all of it, and what is there instead."""
    graph = folder / "conv.txt"
    graph.write_text("input x 1,3,8,8\nparameter 0.weight 4,3,3,3\nparameter 0.bias 4\n"
                     "y = conv2d x 0.weight 0.bias\noutput y\n")
    net = [str(graph), "--device", "cpu"]
    weight, bias = {"0.weight": ("F32", [4, 3, 3, 3])}, {"0.bias": ("F32", [4])}
    w, b = write_safetensors(folder / "w.safetensors", weight), write_safetensors(folder / "b.safetensors", bias)
    double = write_safetensors(folder / "f64.safetensors", {"0.weight": ("F64", [4, 3, 3, 3]), "n": ("I64", []), **bias})
    prefixed = write_safetensors(folder / "prefixed.safetensors", {f"net.{name}": t for name, t in {**weight, **bias}.items()})

    def refused(*arguments, said, status=1):
        done = run(*net, *arguments, status=status)
        for word in said:
            assert word in done.stderr, f"{arguments}: no {word} in {done.stderr}"
    run(*net, "--weights", w, "--weights", b)
    run(*net, "--weights", prefixed, "--strip-prefix", "net.")
    refused("--weights", w, said=["of 2 weights 1 cannot be used", 'no weight "0.bias"', "as float32 [4]"])
    refused("--weights", double, said=['"0.weight" is there, as F64', "F32, F16 and BF16"])
    refused("--weights", prefixed, said=["of 2 weights 2 ", 'closest is "net.0.weight"', 'behind "net."'])
    refused("--weights", w, "--weights", prefixed, "--weights", w, said=[w, 'given twice: "0.weight"'])
    refused("--weights", w, "--weights", double, said=[double, 'given twice: "0.weight"'])
    refused("--weights", str(folder / "none.safetensors"), said=["none.safetensors"])

    x, two = write_npy(folder / "x.npy", (1, 3, 8, 8)), write_npy(folder / "two.npy", (2, 3, 8, 8))
    run(*net, "--input", two, "--shape", "x=2,3,8,8")
    refused("--input", two, said=["two.npy holds float32 [2, 3, 8, 8]", "[1, 3, 8, 8]", "--shape"])
    refused("--input", f"z={x}", said=['no input "z"', 'it has "x"'], status=2)
    refused("--input", x, "--input", f"x={x}", said=['twice for "x"'], status=2)


def check_show(folder):
    """What is shown runs, on the weights saved with it, to the same bits; random weights and another shape too."""
    shown, weights = folder / "shown.txt", folder / "shown.safetensors"
    results = [folder / "first.npy", folder / "second.npy"]
    for shape in ([], ["--shape", "x=2,784"]):
        run("mlp", *shape, "--device", "cpu", "--output", str(results[0]))
        shown.write_text(run("mlp", *shape, "--show", "--save-weights", str(weights)).stdout)
        run(str(shown), "--weights", str(weights), "--device", "cpu", "--output", str(results[1]))
        assert results[0].read_bytes() == results[1].read_bytes()
    assert "input x 2,784" in run("mlp", *shape, "--show").stdout


def check_long_run():
    """A run of minutes says so before it starts, in a pipe too; the first result is there long before the last."""
    with subprocess.Popen([PROGRAM, *SMALL, "--device", "cpu", "--iters", "100000000"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        while not process.stdout.readline().startswith("y float32"):
            assert process.poll() is None, process.stderr.read()
        process.kill()
        said = process.stderr.read()
    assert re.search(r"this takes about [\d.]+ s on the CPU: [\d.]+ GFLOP a run, [\d.]+ GFLOP/s, 100000001 runs", said), said


def check_version():
    said = run("--version").stdout
    assert re.fullmatch(r"solder \d+\.\d+\.\d+, (CPU only|CUDA \d+\.\d+, architectures [0-9a-f ]+)\n", said), said


def check_progress():
    done = run(*SMALL, "--device", "cpu", "--iters", "2")
    assert done.stderr == "" and "\r" not in done.stdout, "progress in a pipe"
    ours, theirs = pty.openpty()
    subprocess.run([PROGRAM, *SMALL, "--device", "cpu", "--iters", "2"], stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):  # a terminal gives what it likes at a time, and EIO at the end
            shown += piece
    except OSError:
        pass
    shown = shown.decode()
    os.close(ours)
    for words in ("weights 1 of ", "timed run 1 of 2"):
        assert words in shown, f"no progress on a terminal: {shown!r}"
    # What stays on the screen is what a pipe gets.
    left = [line.rsplit("\r\033[K", 1)[-1] for line in shown.replace("\r\n", "\n").split("\n")]
    timeless = [[line for line in lines if not line.startswith("time:")] for lines in (left, done.stdout.splitlines())]
    assert [line for line in timeless[0] if line] == timeless[1], f"{left} on a terminal, {done.stdout} in a pipe"


def check_files(folder):
    graph = folder / "net.txt"
    with open(DATA / "headline_small.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    shape = {name: ",".join(map(str, header[name]["shape"])) for name in ("conv.weight", "conv.bias")}
    x_header = (DATA / "headline_small_x.npy").read_bytes()[:128].decode("latin1")
    x_shape = re.search(r"'shape': \(([^)]*)\)", x_header)[1].replace(" ", "")
    graph.write_text(f"input x {x_shape}\nparameter conv.weight {shape['conv.weight']}\n"
                     f"parameter conv.bias {shape['conv.bias']}\n"
                     "a = conv2d x conv.weight conv.bias\nb = mish a\nc = mish b\noutput c\n")
    result = folder / "y.npy"
    run(str(graph), "--weights", str(DATA / "headline_small.safetensors"), "--input", str(DATA / "headline_small_x.npy"),
        "--output", f"c={result}")
    ours, theirs = read_npy(result), read_npy(DATA / "headline_small_y.npy")
    assert len(ours) == len(theirs) > 0
    error = sum((a - b) ** 2 for a, b in zip(ours, theirs)) / sum(b * b for b in theirs)
    assert error ** 0.5 < 1e-6, f"differs from PyTorch's result by {error ** 0.5}"

    def bits(*more):
        run(*SMALL, "--device", "cpu", "--output", str(result), *more)
        return result.read_bytes()
    first = bits()
    assert bits() == first and bits("--no-fuse") == first and bits("--seed", "2") != first

    shown = folder / "shown.txt"
    shown.write_text(run("gated", "--show").stdout)
    arguments = ["--shape", "x=1,32,6,6", "--device", "cpu"]
    assert run(str(shown), *arguments).stdout == run("gated", *arguments).stdout


def trace_events(text):
    """The events of a trace in Chrome's JSON object format, each checked against "Trace Event Format"."""
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")
    document = json.loads(text, parse_constant=refuse)
    assert document["displayTimeUnit"] in ("ms", "ns")
    events = document["traceEvents"]
    named = collections.Counter()
    for event in events:
        assert isinstance(event["name"], str) and event["name"], event
        assert type(event["pid"]) is int and type(event["tid"]) is int, event
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name"), event
            assert set(event) == {"name", "ph", "pid", "tid", "args"} and set(event["args"]) == {"name"}, event
            assert isinstance(event["args"]["name"], str) and event["args"]["name"], event
            named[event["name"], event["pid"], event["tid"] if event["name"] == "thread_name" else None] += 1
        else:
            assert event["ph"] == "X", event
            assert set(event) - {"args"} == {"name", "cat", "ph", "pid", "tid", "ts", "dur"}, event
            assert isinstance(event["cat"], str) and isinstance(event.get("args", {}), dict), event
            for key in ("ts", "dur"):
                assert type(event[key]) in (int, float) and event[key] >= 0, event
    spans = [e for e in events if e["ph"] == "X"]
    tracks = {("thread_name", s["pid"], s["tid"]) for s in spans} | {("process_name", s["pid"], None) for s in spans}
    assert named == collections.Counter(tracks), f"{named} named, {tracks} used"
    for _, pid, tid in tracks:
        track = [s for s in spans if s["pid"] == pid and s["tid"] == tid]
        for a, b in itertools.pairwise(track):  # in order, and no two at a time; three decimals are written
            assert a["ts"] + a["dur"] <= b["ts"] + 0.01, f"{a} and {b} overlap"
    return events


def check_trace(folder):
    trace = folder / "trace.json"
    table = run(*SMALL, "--profile", "--trace", str(trace), "--iters", "3").stdout
    for word in ("conv1", "conv2", "TFLOP/s", "% of bound", "time: median"):
        assert word in table, f"no {word} in\n{table}"
    events = trace_events(trace.read_text())
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert set(tracks) == {0, 1} and tracks[0] == "host" and tracks[1].endswith("stream")
    spans = [e for e in events if e["ph"] == "X"]
    assert {"weights", "compile", "session", "run", "profile"} <= {s["name"] for s in spans if s["tid"] == 0}
    runs = [(s["args"]["run"], s["name"]) for s in spans if s["tid"] == 1]
    assert runs == [(r, name) for r in range(3) for name in ("conv1", "conv2")], runs
    whole = next(s for s in spans if s["name"] == "profile")
    inside = [s for s in spans if s["tid"] == 1]
    assert all(whole["ts"] <= s["ts"] and s["ts"] + s["dur"] <= whole["ts"] + whole["dur"] + 1 for s in inside)


def check_memory_picture(folder):
    for graph, shape in (("residual", "x=2,64,9,9"), ("gated", "x=2,32,16,16"), ("mlp", "x=8,784")):
        for more in ([], ["--no-fuse"]):
            picture = folder / "memory.svg"
            text = run(graph, "--shape", shape, "--no-run", "--describe", "--memory", str(picture), *more).stdout
            boxes = []
            for box in xml.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}rect"):
                if (title := box.find("{http://www.w3.org/2000/svg}title")) is not None:
                    x, y, w, h = (float(box.get(k)) for k in ("x", "y", "width", "height"))
                    boxes.append((title.text, x, x + w, y, y + h))
            values = re.findall(r"^  (\S+) at \d+, \d+ B, nodes", text, re.MULTILINE)
            drawn = [name.rsplit(" ", 2)[0] for name, *_ in boxes]
            assert [n for n in drawn if n != "workspace"] == values, f"{drawn} drawn of {values}"
            for a, b in itertools.combinations(boxes, 2):
                apart = min(a[2], b[2]) - max(a[1], b[1]) < 0.2 or min(a[4], b[4]) - max(a[3], b[3]) < 2
                assert apart, f"{graph} {more}: {a} and {b} overlap"


def check_graph_picture(folder):
    picture = folder / "graph.dot"
    run(*SMALL, "--no-run", "--graph", str(picture))
    text = picture.read_text()
    assert text.count("{") == text.count("}") and "64×64×3×3" in text
    assert "as written: 7 operations" in text and "as run: 2 nodes" in text
    assert len(re.findall("subgraph cluster_run[0-9]", text)) == 2
    svg = folder / "graph.svg"
    done = run(*SMALL, "--no-run", "--graph", str(svg), status=1, env={**os.environ, "PATH": str(folder)})
    assert "install the package graphviz" in done.stderr and not svg.exists()
    if shutil.which("dot"):
        run(*SMALL, "--no-run", "--graph", str(svg))
        assert "conv2d 3×3" in "".join(xml.parse(svg).getroot().itertext())


def check_network(folder, name, num_launches, block, last_block, times):
    """A whole network by name: its values are in range, and what repeats is shown once."""
    dot, svg = folder / "network.dot", folder / "network.svg"
    lines = run(name, "--shape", "x=2,3,32,32", "--device", "cpu", "--profile", "--iters", "1", "--graph", str(dot),
                "--memory", str(svg)).stdout.splitlines()
    logits = next(line for line in lines if line.startswith("logits float32 [2, 1000]: "))
    low, high = (float(re.search(f"{word} (\\S+)[,;]", logits)[1]) for word in ("min", "max"))
    assert -1e5 < low < -1 and 1 < high < 1e5 and "not finite" not in logits, logits
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("node ")) + 1:]
    kinds = table.index("by kind:")
    table, kinds = table[:kinds], table[kinds + 1:]
    assert len(table) <= 45, f"{len(table)} lines:\n" + "\n".join(table)
    counts = [re.match(r"x(\d+) +\w+ +\d", line)[1] for line in kinds]
    assert sum(map(int, counts)) == num_launches, f"kinds: {counts}"
    rows = [re.match(r"(\S+)(?: x(\d+))? +(\S+) +(\S+) +(\S+)", line).groups() for line in table[:-1]]
    nodes = sum(int(number or 1) for _, number, *_ in rows)
    assert nodes == num_launches, f"{nodes} nodes in the table"
    text = dot.read_text()
    assert 99 < sum(float(share) for *_, share in rows) < 101 and re.match(r"all +\d", table[-1]), table[-1]
    folded = next(number for pattern, number, *_ in rows if pattern.startswith(block.rsplit(".", 1)[0] + ".*.conv1"))
    assert int(folded) == times, rows
    assert text.count(f"{times} times: {block} to {last_block}") == 2, "not folded twice, as written and as run"
    assert f"{block}.conv1" in text and f"{last_block}.conv1" not in text
    defined = set(re.findall(r"^\s+(\w*\d\w*) \[", text, re.MULTILINE))
    edges = re.findall(r"^\s+(\w+) -> (\w+)", text, re.MULTILINE)
    assert defined == {end for edge in edges for end in edge}, "nodes without edges, or edges without nodes"
    xml.parse(svg)


def check_networks(folder):
    check_network(folder, "resnet50", 56, "layer3.1", "layer3.5", 5)
    check_network(folder, "cspdarknet53-mish", 69, "stages.2.blocks.0", "stages.2.blocks.7", 8)
    assert " = conv2d x conv1.weight stride=2,2 " in run("resnet50", "--show").stdout
    assert 'its input is "x"' in run("resnet50", "--shape", "z=1,3,32,32", status=1).stderr
    assert "must be [N,C,H,W]" in run("resnet50", "--shape", "x=3,32,32", status=1).stderr
    assert '"resnet50"?' in run("resnet5", status=1).stderr
    done = run("resnet50", "--device", "cpu", "--weights", str(DATA / "headline_small.safetensors"), status=1)
    assert "of 267 weights 267 cannot be used" in done.stderr, done.stderr


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_help()
        check_statuses(folder)
        check_no_graph(folder)
        check_tensors(folder)
        check_show(folder)
        check_long_run()
        check_version()
        check_progress()
        check_files(folder)
        check_trace(folder)
        check_memory_picture(folder)
        check_graph_picture(folder)
        check_networks(folder)
        check_onnx(folder)
    print("solder-run: ok")


main()

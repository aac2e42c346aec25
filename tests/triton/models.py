"""Models for the server, and what solder-run says of each row of theirs."""
import json
import math
import os
import pathlib
import random
import struct
import subprocess

TYPES = {"FP32": ("F32", "<f4", "f", 4), "FP16": ("F16", "<f2", "e", 2)}  # in safetensors, in .npy, in struct, bytes

TEXT = """
input x 1,4,6,7 float16
input s 1,4,1,1 float16
parameter w 8,4,3,3 float16
parameter b 8 float16
scaled = mul x s
c = conv2d scaled w b padding=1
y = mish c
z = mean y axes=2,3
output y
output z
"""


def random_bytes(rng, datatype, shape):
    return struct.pack(f"<{math.prod(shape)}{TYPES[datatype][2]}", *(rng.uniform(-2, 2) for _ in range(math.prod(shape))))


def replace(path, data):
    """Never half a file: the server may read it."""
    beside = path.with_name("new")
    beside.write_bytes(data)
    os.replace(beside, path)


def safetensors(tensors):
    """`tensors`: name -> (datatype, shape, bytes)."""
    header, size = {}, 0
    for name, (datatype, shape, data) in tensors.items():
        header[name] = {"dtype": TYPES[datatype][0], "shape": shape, "data_offsets": [size, size + len(data)]}
        size += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def npy(datatype, shape, data):
    text = f"{{'descr': '{TYPES[datatype][1]}', 'fortran_order': False, 'shape': {tuple(shape)}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def npy_data(path):
    data = path.read_bytes()
    return data[10 + struct.unpack("<H", data[8:10])[0]:]


def varint(value):
    more = b""
    while value >= 128:
        more += bytes([value % 128 + 128])
        value //= 128
    return more + bytes([value])


def field(number, *values):
    """Of a protocol buffer: integers, texts, bytes or messages."""
    data = b""
    for value in values:
        if isinstance(value, int):
            data += varint(number << 3) + varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            data += varint(number << 3 | 2) + varint(len(value)) + value
    return data


def onnx_port(name, dims):
    shape = b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


def onnx(weights):
    """x [N,3,10,9] -> y = relu(conv2d(x, w, padding 1)) and its average over the image; N is open."""
    pads = field(1, "pads") + field(8, 1, 1, 1, 1) + field(20, 7)
    graph = field(1, field(1, "x", "w") + field(2, "c") + field(3, "conv") + field(4, "Conv") + field(5, pads),
                  field(1, "c") + field(2, "y") + field(3, "relu") + field(4, "Relu"),
                  field(1, "y") + field(2, "z") + field(3, "pool") + field(4, "GlobalAveragePool"))
    graph += field(2, "net") + field(5, field(1, 5, 3, 3, 3) + field(2, 1) + field(8, "w") + field(9, weights))
    graph += field(11, onnx_port("x", ["N", 3, 10, 9]))
    graph += field(12, onnx_port("y", ["N", 5, 10, 9]), onnx_port("z", ["N", 5, 1, 1]))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


class Place:
    """Where instances run. On GPUs, on each of which there is one, models have one compiled batch: a row's bits do not
    depend on the rows beside it, but kernels are chosen by the batch."""

    def __init__(self, is_gpu):
        self.is_gpu = is_gpu
        self.device, self.kind = ("cuda:0", "KIND_GPU") if is_gpu else ("cpu", "KIND_CPU")
        self.batch = 6 if is_gpu else None

    def config(self, cpu_count, batches=""):
        """Of the instances, and of the sizes of batches where they are said."""
        batches = self.batch or batches
        group = f"instance_group [ {{ kind: {self.kind} count: {1 if self.is_gpu else cpu_count} }} ]\n"
        return group + (f'parameters {{ key: "batches" value {{ string_value: "{batches}" }} }}\n' if batches else "")


class Model:
    """A folder of the repository, sample rows, and their results by version of the weights."""

    def __init__(self, repository, name, config, inputs, outputs, backend="solder", num_rows=12):
        rng = random.Random(name)
        self.name, self.inputs, self.outputs = name, inputs, outputs  # name -> (datatype, shape of a row)
        self.folder = repository / name / "1"
        self.folder.mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f'backend: "{backend}"\n{config}')
        self.rows = [{key: random_bytes(rng, *type) for key, type in inputs.items()} for _ in range(num_rows)]
        self.results = {}  # version -> per row: output -> bytes

    def run_alone(self, solder_run, work, version, place):
        """The rows through solder-run, with the weights that are there now: each by itself, or in the place's batch."""
        results = []
        file = self.folder / "model.onnx"
        options = [] if file.exists() else ["--weights", self.folder / "model.safetensors"]
        batch = place.batch or 1
        for begin in range(0, len(self.rows), batch):
            rows = [self.rows[i % len(self.rows)] for i in range(begin, begin + batch)]
            command = [solder_run, file if file.exists() else self.folder / "model.txt", "--device", place.device, *options]
            for name, (datatype, shape) in self.inputs.items():
                whole = [batch, *shape]
                (work / f"{name}.npy").write_bytes(npy(datatype, whole, b"".join(row[name] for row in rows)))
                command += ["--input", f"{name}={work / name}.npy", "--shape", f"{name}={','.join(map(str, whole))}"]
            for name in self.outputs:
                command += ["--output", f"{name}={work / name}.out.npy"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            outputs = {name: npy_data(work / f"{name}.out.npy") for name in self.outputs}
            for i in range(min(batch, len(self.rows) - begin)):
                part = lambda data: data[i * len(data) // batch:(i + 1) * len(data) // batch]
                results.append({name: part(data) for name, data in outputs.items()})
        self.results[version] = results

    def request(self, picked):
        """The inputs of a request of these rows."""
        return {name: (datatype, [len(picked), *shape], b"".join(self.rows[i][name] for i in picked))
                for name, (datatype, shape) in self.inputs.items()}

    def is_right(self, answer, picked, versions):
        """Whether an answer, all of it, is what one of these versions gives."""
        return any(answer == {name: (datatype, [len(picked), *shape], b"".join(results[i][name] for i in picked))
                              for name, (datatype, shape) in self.outputs.items()}
                   for results in (self.results[version] for version in versions))


TEXT_INPUTS = {"x": ("FP16", [4, 6, 7]), "s": ("FP16", [4, 1, 1])}
TEXT_OUTPUTS = {"y": ("FP16", [8, 6, 7]), "z": ("FP16", [8])}


def ports(kind, types):
    return "".join(f'{kind} {{ name: "{name}" data_type: TYPE_{datatype} dims: {shape} }}\n'
                   for name, (datatype, shape) in types.items())


def batched_config(inputs, outputs, place):
    return f"""max_batch_size: 8
dynamic_batching {{ max_queue_delay_microseconds: 300 }}
{place.config(2)}{ports("input", inputs)}{ports("output", outputs)}"""


def make_text_model(repository, place):
    """float16, two inputs and outputs, all in the config, two instances."""
    config = batched_config(TEXT_INPUTS, TEXT_OUTPUTS, place) + 'parameters { key: "threads" value { string_value: "1" } }'
    return Model(repository, "text", config, TEXT_INPUTS, TEXT_OUTPUTS)


def make_identity_model(repository):
    """The text model's inputs through the server alone."""
    config = batched_config(TEXT_INPUTS, TEXT_INPUTS, Place(is_gpu=False))
    model = Model(repository, "identity", config, TEXT_INPUTS, TEXT_INPUTS, "identity")
    model.results = {"old": model.rows, "new": model.rows}
    return model


def write_text_weights(model, seed):
    rng = random.Random(seed)
    replace(model.folder / "model.txt", TEXT.encode())
    replace(model.folder / "model.safetensors", safetensors({
        name: ("FP16", shape, random_bytes(rng, "FP16", shape)) for name, shape in (("w", [8, 4, 3, 3]), ("b", [8]))}))


def make_onnx_model(repository, place):
    """float32; the server learns the ports from the graph, and the batches are others than the default."""
    model = Model(repository, "onnx", f"""max_batch_size: 6
dynamic_batching {{ max_queue_delay_microseconds: 300 }}
{place.config(1, "2,3,6")}parameters {{ key: "shape.x" value {{ string_value: "1,3,10,9" }} }}
""", {"x": ("FP32", [3, 10, 9])}, {"y": ("FP32", [5, 10, 9]), "z": ("FP32", [5, 1, 1])})
    replace(model.folder / "model.onnx", onnx(random_bytes(random.Random(3), "FP32", [5, 3, 3, 3])))
    return model

#!/usr/bin/env python3
"""check_triton.py BUILD REQUESTS [--gpu]: the backend in the real server, over HTTP, against what solder-run says bit for bit,
on the CPU or on all GPUs. REQUESTS are those of the load in which models are reloaded and clients die. The standard library
alone."""
import json
import os
import pathlib
import signal
import struct
import sys
import tempfile
import time

from client import Client, Refused
from load import Load, lose_clients
from models import Place, make_identity_model, make_onnx_model, make_text_model, replace, write_text_weights
from server import NoServer, Server, fetch

BUILD = pathlib.Path(sys.argv[1]).resolve()
REQUESTS = int(sys.argv[2])
PLACE = Place(is_gpu="--gpu" in sys.argv[3:])


def refused(wanted, ask, *arguments):
    """`ask` must fail with a text that has all of `wanted`."""
    try:
        ask(*arguments)
    except Refused as error:
        for words in wanted:
            assert words in str(error), f"the server says {str(error)!r}, without {words!r}"
        return
    raise AssertionError(f"nothing is refused where {wanted} was expected")


class Checks:
    def __init__(self, program, work):
        self.program, self.work, self.repository, self.backends = program, work, work / "models", work / "backends"
        for name in ("solder", "identity"):
            (self.backends / name).mkdir(parents=True)
            (self.backends / name / f"libtriton_{name}.so").symlink_to(BUILD / f"libtriton_{name}.so")
        self.text, self.onnx = make_text_model(self.repository, PLACE), make_onnx_model(self.repository, PLACE)
        for version in ("new", "old"):
            write_text_weights(self.text, version)
            self.text.run_alone(BUILD / "solder-run", work, version, PLACE)
        self.onnx.run_alone(BUILD / "solder-run", work, "old", PLACE)
        self.text.results = {version: self.text.results[version] for version in ("old", "new")}
        self.server = self.start("text", "onnx")

    def start(self, *models, port=0):
        return Server(self.program, self.repository, self.backends, models, port)

    def client(self):
        return Client(self.server.port)

    def is_right(self, model, picked):
        return model.is_right(self.client().infer(model.name, model.request(picked)), picked, {"old"})

    # ---- what is checked, in this order ----

    def check_ports(self):
        """The server's metadata is the graph's, where the config leaves it out too."""
        for model in (self.text, self.onnx):
            said = self.client().get(f"/v2/models/{model.name}")
            ports = lambda kind: {port["name"]: (port["datatype"], port["shape"]) for port in said[kind]}
            assert ports("inputs") == {name: (type, [-1, *shape]) for name, (type, shape) in model.inputs.items()}
            assert ports("outputs") == {name: (type, [-1, *shape]) for name, (type, shape) in model.outputs.items()}

    def check_every_batch(self):
        for model, most in ((self.text, 8), (self.onnx, 6)):
            for rows in range(1, most + 1):
                assert self.is_right(model, [(3 * rows + i) % len(model.rows) for i in range(rows)]), f"{rows} rows"

    def check_one_output(self):
        answer = self.client().infer("text", self.text.request([5]), ["z"])
        assert answer == {"z": ("FP16", [1, 8], self.text.results["old"][5]["z"])}

    def check_json(self):
        data = struct.unpack("<270f", self.onnx.rows[0]["x"])
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3, 10, 9], "data": data}]})
        answer = json.loads(self.client().call("/v2/models/onnx/infer", body.encode())[1])
        got = {output["name"]: struct.pack(f"<{len(output['data'])}f", *output["data"]) for output in answer["outputs"]}
        assert got == self.onnx.results["old"][0]

    def write_model(self, name, config, text):
        """A text graph, or the bytes of an ONNX file."""
        folder = self.repository / name / "1"
        folder.mkdir(parents=True)
        kind = "" if "instance_group" in config else f"instance_group [ {{ kind: {PLACE.kind} }} ]"
        (folder.parent / "config.pbtxt").write_text(f'backend: "solder"\n{kind}\n{config}\n')
        if isinstance(text, str):
            (folder / "model.txt").write_text(text)
        elif text is not None:
            (folder / "model.onnx").write_bytes(text)

    def check_without_batching(self):
        parameters = "".join(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n' for key, value in (
            ("math", "tf32"), ("workspace_bytes", 1 << 20), ("capture", 0)))
        self.write_model("alone", parameters, "input x 2,5 bfloat16\nd = mul x 2\ny = cast d dtype=float32\noutput d\noutput y\n")
        client = self.client()
        client.load("alone")
        halves = [0x3f80 + 7 * i for i in range(10)]  # bfloat16; twice as much is one more in the exponent
        answer = client.infer("alone", {"x": ("BF16", [2, 5], struct.pack("<10H", *halves))})
        assert answer == {"d": ("BF16", [2, 5], struct.pack("<10H", *(h + 0x80 for h in halves))),
                          "y": ("FP32", [2, 5], struct.pack("<10I", *(h + 0x80 << 16 for h in halves)))}

    def check_one_number_a_row(self):
        """Behind the batch there are no dims, which Triton spells as one, reshaped; and names that JSON escapes."""
        graph = 'input a"b\\c 1\ny = neg a"b\\c\noutput y\n'
        port = ' [ { name: "%s" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]'
        said = f"input{port} output{port}" % (r'a\"b\\c', "y")
        client = self.client()
        for name, config in (("numbers", ""), ("said_numbers", said)):
            self.write_model(name, f"max_batch_size: 4 {config}", graph)
            client.load(name)
            answer = client.infer(name, {'a"b\\c': ("FP32", [3, 1], struct.pack("<3f", 1, 2, 3))})
            assert answer == {"y": ("FP32", [3, 1], struct.pack("<3f", -1, -2, -3))}

    def check_large(self):
        """What comes over the network in pieces."""
        self.write_model("large", "max_batch_size: 4", "input x 1,200000\ny = neg x\noutput y\n")
        client = self.client()
        client.load("large")
        for rows in (1, 3):
            values = [i + 0.5 for i in range(rows * 200000)]
            answer = client.infer("large", {"x": ("FP32", [rows, 200000], struct.pack(f"<{len(values)}f", *values))})
            assert answer == {"y": ("FP32", [rows, 200000], struct.pack(f"<{len(values)}f", *(-v for v in values)))}

    def check_wrong_requests(self):
        request, client = self.text.request([1, 2]), self.client()
        x, s = request["x"], request["s"]
        for inputs, wanted in (
                ({"x": x}, ["expected 2 inputs but got 1"]),
                ({"x": x, "q": s}, ["unexpected inference input 'q'"]),
                ({"x": ("FP16", [2, 4, 7, 6], x[2]), "s": s}, ["unexpected shape for input 'x'", "Expected [-1,4,6,7]"]),
                ({"x": ("FP16", [1, 4, 6, 7], x[2][:336]), "s": s}, ["batch"]),
                ({"x": ("FP32", [2, 4, 6, 7], x[2] * 2), "s": s}, ["data-type is 'FP32'", "expects 'FP16'"]),
                ({"x": ("FP16", [2, 4, 6, 7], x[2][:-2]), "s": s}, ["670"]),
                (self.text.request([0] * 9), ["batch-size must be <= 8"])):
            refused(wanted, client.infer, "text", inputs)
            assert self.is_right(self.text, [1, 2])
        refused(["unexpected inference output 'q'"], client.infer, "text", request, ["q"])
        refused(["unknown model"], client.infer, "nope", request)

    def check_wrong_models(self):
        text = "input x 1,3\ny = mish x\nz = mean x axes=0,1\noutput y\n"
        port = 'name: "%s" data_type: TYPE_%s dims: [ %s ]'
        config = lambda x, y: f"input [ {{ {port % x} }} ] output [ {{ {port % y} }} ]"
        x, y = ("x", "FP32", "1, 3"), ("y", "FP32", "1, 3")
        parameter = lambda name, value: f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'
        # Of 400 GB, which no card has; a host may promise them.
        huge = f"input x 100000,100000,{10 if PLACE.is_gpu else 10000000}\ny = mish x\noutput y\n"
        for number, (config, text, wanted) in enumerate((
                (config(("q", "FP32", "1, 3"), y), text, ['it has no input "q"', 'input "x", TYPE_FP32 [1, 3], is missing']),
                (config(("x", "FP16", "1, 3"), y), text, ['input "x" is TYPE_FP32 [1, 3], not TYPE_FP16 [1, 3]']),
                (config(("x", "FP32", "3, 1"), ("y", "FP32", "3")), text,
                 ['"x" is TYPE_FP32 [1, 3], not TYPE_FP32 [3, 1]', '"y" is TYPE_FP32 [1, 3], not TYPE_FP32 [3]']),
                (config(x, ("z", "FP32", "1")), text, ['it has no output "z"']),
                ("max_batch_size: 4", text + "output z\n", ['first extent', '"z" is float32 []', "max_batch_size: 0"]),
                ("max_batch_size: 4 " + parameter("batches", "1,5"), text, ["from 1 to max_batch_size, 4"]),
                (parameter("math", "fast"), text, ['math takes fp32, tf32, fp16 or bf16, not "fast"']),
                (parameter("meth", "fp32"), text, ['no parameter "meth"', "workspace_bytes"]),
                (parameter("threads", "-1"), text, ["threads takes a whole number from 0"]),
                (parameter("shape.x", "1,,3"), text, ["shape.x takes extents"]),
                (parameter("shape.q", "1,3"), text, ['"q"']),
                ("", text + "w = add y\n", ["model.txt:5: "]),
                ("", "input x 1,3\nparameter w 3\ny = add x w\noutput y\n", ["w"]),
                ("", None, ["model.txt: No such file", "model.onnx"]),
                ("", b"\x08\x08\x3a\xff", ["model.onnx"]),
                ("instance_group [ { kind: KIND_GPU gpus: [ 9 ] } ]", text, ["gpu"]),
                ("", huge, ["out of memory"]))):
            name = f"wrong_{number}"
            self.write_model(name, config, text)
            refused(wanted, self.client().load, name)
            assert self.is_right(self.text, [number % 12])

    def check_batches_form(self):
        """Requests that wait together run together, cut and padded to the batches that there are."""
        load = Load(self.server.port, [self.onnx], 200)
        before = self.client().get("/v2/models/onnx/stats")["model_stats"][0]
        load.start()
        load.finish()
        after = self.client().get("/v2/models/onnx/stats")["model_stats"][0]
        rows, runs = (after[key] - before[key] for key in ("inference_count", "execution_count"))
        assert runs < 200 < rows, f"{rows} rows in {runs} runs"

    def check_load(self):
        """Nothing is lost and no byte is wrong, and memory drifts as much as the server's own, and 1 MiB."""
        solder = self.drift_under_load(self.server, [self.text, self.onnx], write_text_weights)
        identity = make_identity_model(self.repository)
        write = lambda model, version: replace(model.folder / "model", version.encode())
        write(identity, "old")
        server = self.start("identity")
        alone = self.drift_under_load(server, [identity], write)
        server.kill()
        print(f"triton: {REQUESTS} requests, memory drifts by {solder} KiB, an identity model's server by {alone} KiB")
        assert solder <= max(alone, 0) + 1024

    def drift_under_load(self, server, models, write):
        """KiB between the same loads, the first of which has taken what it needs for good."""
        resident = []
        for share in (REQUESTS // 3, REQUESTS - REQUESTS // 3):
            load = Load(server.port, models, share)
            load.start()
            for quarter, version in ((1, "new"), (3, "old")):
                load.wait_for(share * quarter // 4)
                load.reload(models[0], version, lambda: write(models[0], version))
                if quarter == 1:
                    load.wait_for(share // 2)
                    lose_clients(server.port, models[0])
            load.finish()
            assert load.right == share
            time.sleep(1)  # for the version that was replaced to go
            resident.append(server.resident_kib())
        return resident[1] - resident[0]

    def check_restart(self):
        """The server is killed under load: no client has a wrong byte. A new one on the same port serves them all."""
        load = Load(self.server.port, [self.text, self.onnx], 10**9)
        load.dies = True
        load.start()
        load.wait_for(100)
        self.server.kill()
        load.finish()
        self.server = self.start("text", "onnx", port=self.server.port)
        load = Load(self.server.port, [self.text, self.onnx], 100)
        load.start()
        load.finish()

    def check_end(self):
        status = self.server.kill(signal.SIGTERM)
        assert status == 0, f"exit status {status}:\n{self.server.log.read_text()[-2000:]}"


def main():
    names = [name for name in vars(Checks) if name.startswith("check_")]
    try:
        program = fetch(BUILD / "triton_server")
    except NoServer as why:
        print(f"triton: 0 passed, 0 failed, {len(names)} skipped: {why}")
        return
    with tempfile.TemporaryDirectory() as work:
        checks = Checks(program, pathlib.Path(work))
        try:
            for name in names:
                begin = time.monotonic()
                getattr(checks, name)()
                if os.environ.get("V"):
                    print(f"triton: {name}, {time.monotonic() - begin:.1f} s")
        finally:
            checks.server.kill()
    print(f"triton: {len(names)} passed, 0 failed, 0 skipped")


if __name__ == "__main__":
    main()

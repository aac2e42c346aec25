#!/usr/bin/env python3
"""bench_gpus.py BUILD MODEL.bin.gz [--devices 1 2] [--each 2] [--cpu] [--math tf32] [--seconds 10] [--processes 16] [--threads 32]
[--http-threads 16]: KataGo's positions a second through the server, one position (32 KB) a request, with one GPU and with two,
and whether every answer has the bits of the first one. `each`: instances of a GPU; processes x threads of clients should be
twice the batches that these can run at once, or GPUs wait for requests. Needs numpy, for the weights. With --cpu there is one
device."""
import argparse
import multiprocessing
import pathlib
import random
import socket
import struct
import sys
import tempfile
import threading
import time

import katago_text
from client import Client, infer_request
from server import Server, fetch

BATCH = 64


def sample_request():
    rng = random.Random(1)
    spatial = [float(rng.random() < 0.2) for _ in range(22 * 361)]
    return {"spatial": ("FP32", [1, 22, 19, 19], struct.pack(f"<{len(spatial)}f", *spatial)),
            "global": ("FP32", [1, 19], struct.pack("<19f", *(rng.uniform(-1, 1) for _ in range(19))))}


class Connection:
    """One request over and over: http.client would take longer over it than the server."""

    def __init__(self, port):
        path, body, headers = infer_request("katago", sample_request())
        head = "".join(f"{key}: {value}\r\n" for key, value in {**headers, "Host": "x", "Content-Length": len(body)}.items())
        self.request = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self):
        """The body of the answer."""
        self.socket.sendall(self.request)
        data = bytearray()
        while b"\r\n\r\n" not in data:
            data += self.receive()
        begin = data.index(b"\r\n\r\n") + 4
        head = bytes(data[:begin]).lower()
        if not head.startswith(b"http/1.1 200"):
            raise AssertionError(bytes(data))
        end = begin + int(head.split(b"content-length:")[1].split()[0])
        while len(data) < end:
            data += self.receive()
        return bytes(data[begin:end])

    def receive(self):
        part = self.socket.recv(1 << 16)
        if not part:
            raise AssertionError("the server hangs up")
        return part


def ask_until(port, begin, end, expected, num_threads, result):
    """Answers between two times of the clock, in one process; -1 where one was wrong."""
    counts = [0] * num_threads

    def work(idx):
        connection = Connection(port)
        while time.time() < end:
            if connection.ask() != expected:
                counts[idx] = -1 << 40
                return
            counts[idx] += begin < time.time() < end

    threads = [threading.Thread(target=work, args=(idx,)) for idx in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.put(max(sum(counts), -1))


def measure(port, options, expected):
    begin = time.time() + 3  # the first seconds fill the queues
    result = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=ask_until, args=(
        port, begin, begin + options.seconds, expected, options.threads, result)) for _ in range(options.processes)]
    for process in processes:
        process.start()
    counts = [result.get() for _ in processes]
    for process in processes:
        process.join()
    assert min(counts) >= 0, "an answer has other bits"
    return sum(counts) / options.seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("model")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--math", default="tf32")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--http-threads", type=int, default=16, help="of the server")
    options = parser.parse_args()
    program = fetch(options.build.resolve() / "triton_server")
    rates, expected = {}, None
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "backends/solder").mkdir(parents=True)
        (work / "backends/solder/libtriton_solder.so").symlink_to(options.build.resolve() / "libtriton_solder.so")
        katago_text.write(options.model, work / "models/katago/1")
        for count in options.devices:
            group = "KIND_CPU" if options.cpu else f"KIND_GPU gpus: {list(range(count))}"
            # One compiled batch: what a position's results are does not depend on how many ran with it.
            (work / "models/katago/config.pbtxt").write_text(f"""backend: "solder"
max_batch_size: {BATCH}
dynamic_batching {{ preferred_batch_size: [ {BATCH} ] max_queue_delay_microseconds: 3000 }}
instance_group [ {{ count: {options.each} kind: {group} }} ]
parameters {{ key: "math" value {{ string_value: "{options.math}" }} }}
parameters {{ key: "batches" value {{ string_value: "{BATCH}" }} }}
""")
            server = Server(program, work / "models", work / "backends", ["katago"], one_heap=False,
                            http_threads=options.http_threads)
            try:
                expected = expected or Connection(server.port).ask()
                rates[count] = measure(server.port, options, expected)
                stats = Client(server.port).get("/v2/models/katago/stats")["model_stats"][0]
            finally:
                server.kill()
            run = stats["inference_stats"]["compute_infer"]
            print(f"{count} {'CPU' if options.cpu else 'GPUs'}: {rates[count]:.1f} positions a second, "
                  f"{stats['inference_count'] / stats['execution_count']:.1f} a batch, "
                  f"{run['ns'] / run['count'] / 1e6:.2f} ms a run, all with the same bits", flush=True)
    first, last = options.devices[0], options.devices[-1]
    print(f"{last} : {first} devices: {rates[last] / rates[first]:.2f} times")


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""bench_processes.py SOLDER_RUN [--devices cuda:0 cuda:1] [--work FOLDER]: images a second by one process of
solder-run, then by one a device at the same time, for the headline graph and ResNet-50; and whether all outputs have
the same bits. Each process is stopped once it has written its output, until all have: their runs begin together, and
the rate is that of all images until the last one is done. FOLDER has room for the outputs, 6 GB with two devices."""
import argparse
import filecmp
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

CASES = (  # name, images, runs, output, arguments
    ("headline, tf32", 64, 4000, "y", ["headline", "--math", "tf32"]),
    ("ResNet-50, fp16", 64, 2200, "logits", ["resnet50", "--shape", "x=64,3,224,224", "--math", "fp16"]),
    ("ResNet-50, tf32", 64, 1000, "logits", ["resnet50", "--shape", "x=64,3,224,224", "--math", "tf32"]))


class Process:
    def __init__(self, solder_run, device, runs, output, file, arguments):
        self.lines, self.end, self.is_ready = [], None, threading.Event()
        self.process = subprocess.Popen(
            [solder_run, *arguments, "--device", device, "--iters", str(runs), "--output", f"{output}={file}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("wrote "):
                self.process.send_signal(signal.SIGSTOP)
                self.is_ready.set()
            elif line.startswith("time: "):
                self.end = time.monotonic()
        self.is_ready.set()

    def finish(self):
        self.thread.join()
        if self.process.wait() != 0 or self.end is None:
            sys.exit("solder-run fails:\n" + "".join(self.lines[-5:]))


def measure(solder_run, devices, files, case):
    name, images, runs, output, arguments = case
    processes = [Process(solder_run, device, runs, output, file, arguments) for device, file in zip(devices, files)]
    for process in processes:
        process.is_ready.wait()
    begin = time.monotonic()
    for process in processes:
        process.process.send_signal(signal.SIGCONT)
    for process in processes:
        process.finish()
    seconds = max(process.end for process in processes) - begin
    rate = len(devices) * images * runs / seconds
    print(f"{name}, {' and '.join(devices)}: {rate:.1f} images a second over {seconds:.2f} s", flush=True)
    for process in processes:
        print(f"  {process.lines[-1].strip()}", flush=True)
    return rate


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("solder_run", type=pathlib.Path)
    parser.add_argument("--devices", nargs="+", default=["cuda:0", "cuda:1"])
    parser.add_argument("--work", help="a folder for the outputs")
    parser.add_argument("--runs", type=int, help="instead of those that take some seconds on an H200")
    options = parser.parse_args()
    program, devices, is_same = options.solder_run.resolve(), options.devices, True
    for case in CASES:
        case = (*case[:2], options.runs or case[2], *case[3:])
        with tempfile.TemporaryDirectory(dir=options.work) as work:
            first, *files = (pathlib.Path(work) / f"{i}.npy" for i in range(len(devices) + 1))
            one = measure(program, devices[:1], [first], case)
            all_of_them = measure(program, devices, files, case)
            differ = [device for device, file in zip(devices, files) if not filecmp.cmp(first, file, shallow=False)]
        is_same = is_same and not differ
        print(f"{case[0]}: {len(devices)} processes : 1 process: {all_of_them / one:.3f} times, "
              f"{'other bits on ' + ' and '.join(differ) if differ else 'the same bits'}", flush=True)
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())

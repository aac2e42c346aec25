"""The real server, from the wheel nvidia-pytriton, as a child on a loopback port."""
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

WHEEL = "nvidia-pytriton==0.7.0"  # 55 MB, with Triton 2.51


class NoServer(Exception):
    pass


def fetch(folder):
    """Downloads and unpacks the wheel into `folder`, once; NoServer with the reason where it cannot be had."""
    server = folder / "pytriton/tritonserver/bin/tritonserver"
    if not server.exists():
        with tempfile.TemporaryDirectory() as part:
            got = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                                  "--disable-pip-version-check", "--dest", part, WHEEL], capture_output=True, text=True)
            if got.returncode:
                raise NoServer(f"{WHEEL} cannot be had: {(got.stderr.strip() or 'pip says nothing').splitlines()[-1]}")
            wheel, = pathlib.Path(part).glob("*.whl")
            unpacked = folder.with_name(folder.name + ".part")
            shutil.rmtree(unpacked, ignore_errors=True)
            with zipfile.ZipFile(wheel) as file:
                file.extractall(unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    server.chmod(0o755)
    said = subprocess.run([server, "--help"], capture_output=True, text=True)
    if "--model-repository" not in said.stdout + said.stderr:
        raise NoServer(f"{WHEEL} does not run here: {said.stderr.strip()[-300:]}")
    return server


class Server:
    """Loads `models` of the folder `repository`, and others when it is asked to. `one_heap`: what memory it holds does not
    depend on which thread freed what."""

    def __init__(self, program, repository, backends, models, port=0, one_heap=True, http_threads=8):
        self.port = port or free_port()
        self.log = pathlib.Path(repository).with_suffix(".log")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program, "--model-repository", repository, "--backend-directory", backends, "--model-control-mode",
                 "explicit", *(f"--load-model={name}" for name in models), "--http-address", "127.0.0.1", "--http-port",
                 str(self.port), f"--http-thread-count={http_threads}", "--allow-grpc=false", "--allow-metrics=false",
                 "--pinned-memory-pool-byte-size=0"],
                stdout=log, stderr=log, env={**os.environ, **({"MALLOC_ARENA_MAX": "1"} if one_heap else {})})
        for _ in range(1200):
            if self.process.poll() is not None:
                break
            if self.is_ready():
                return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(f"the server does not start:\n{self.log.read_text()[-8000:]}")

    def is_ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def resident_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
        raise AssertionError("the server is gone")

    def kill(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

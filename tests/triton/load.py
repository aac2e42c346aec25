"""A load of many clients on a server, while models are reloaded and a client dies."""
import multiprocessing
import os
import random
import signal
import socket
import threading
import time

from client import Client, infer_request

CLIENTS = 16


class Load:
    """Threads that share `total` requests for `models`; every answer is compared with what the versions of the weights
    that were there meanwhile give. Where `dies` is set, a lost connection is no failure."""

    def __init__(self, port, models, total):
        self.port, self.models, self.total = port, models, total
        self.versions = {model.name: {next(iter(model.results))} for model in models}
        self.lock, self.begun, self.right, self.failures = threading.Lock(), 0, 0, []
        self.dies = False
        self.threads = [threading.Thread(target=self.work, args=(seed,)) for seed in range(CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def wait_for(self, begun):
        while self.begun < begun and not self.failures:
            time.sleep(0.002)

    def finish(self):
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures[0]

    def work(self, seed):
        rng = random.Random(seed)
        client = Client(self.port)
        while not self.failures:
            with self.lock:
                if self.begun == self.total:
                    return
                self.begun += 1
            model = rng.choice(self.models)
            picked = [rng.randrange(len(model.rows)) for _ in range(rng.randint(1, 4))]
            versions = set(self.versions[model.name])
            try:
                answer = client.infer(model.name, model.request(picked))
                if not model.is_right(answer, picked, versions | self.versions[model.name]):
                    self.failures.append(f"{model.name}: wrong bytes for {len(picked)} rows")
                self.right += 1
            except Exception as error:  # whatever it is, the thread has something to report
                if not self.dies:
                    self.failures.append(f"{model.name}: {error!r}")
                return

    def reload(self, model, version, write):
        """Changes the weights under load; from then on only the new ones may answer."""
        with self.lock:
            self.versions[model.name] = self.versions[model.name] | {version}
        write()
        Client(self.port).load(model.name)
        self.versions[model.name] = {version}


def lose_clients(port, model):
    """One client is killed with requests under way, another hangs up in the middle of one."""
    context = multiprocessing.get_context("spawn")  # a fork would have this process's locks, held by threads that it has not
    is_answered = context.Event()
    client = context.Process(target=ask_forever, args=(port, model, is_answered), daemon=True)
    client.start()
    assert is_answered.wait(60), "a client does not get on"
    os.kill(client.pid, signal.SIGKILL)
    client.join()
    path, body, headers = infer_request(model.name, model.request([0, 1]))
    head = "".join(f"{key}: {value}\r\n" for key, value in {**headers, "Host": "x", "Content-Length": len(body)}.items())
    for size in (len(body) // 2, len(body)):  # the second one never reads its answer
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body[:size])


def ask_forever(port, model, is_answered):
    client = Client(port)
    while True:
        client.infer(model.name, model.request([0, 1, 2]))
        is_answered.set()

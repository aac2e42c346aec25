"""Requests in the v2 protocol, tensors as bytes behind the JSON, by the standard library alone."""
import http.client
import json


class Refused(Exception):
    """The server's error text."""


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def call(self, path, body=b"", headers=None, method="POST"):
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise Refused(json.loads(data)["error"] if data else f"status {answer.status}")
        return answer, data

    def get(self, path):
        return json.loads(self.call(path, method="GET")[1])

    def load(self, model):
        self.call(f"/v2/repository/models/{model}/load", b"{}")

    def infer(self, model, inputs, outputs=()):
        """`inputs`: name -> (datatype, shape, bytes). Returns name -> (datatype, shape, bytes)."""
        path, body, headers = infer_request(model, inputs, outputs)
        answer, data = self.call(path, body, headers)
        header_bytes = int(answer.getheader("Inference-Header-Content-Length"))
        tensors, at = {}, header_bytes
        for output in json.loads(data[:header_bytes])["outputs"]:
            end = at + output["parameters"]["binary_data_size"]
            tensors[output["name"]] = (output["datatype"], output["shape"], data[at:end])
            at = end
        assert at == len(data), f"{len(data) - at} bytes behind the outputs"
        return tensors


def infer_request(model, inputs, outputs=()):
    header = {"parameters": {"binary_data_output": True},
              "inputs": [{"name": name, "datatype": datatype, "shape": shape,
                          "parameters": {"binary_data_size": len(data)}} for name, (datatype, shape, data) in inputs.items()]}
    if outputs:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    text = json.dumps(header).encode()
    body = text + b"".join(data for _, _, data in inputs.values())
    return f"/v2/models/{model}/infer", body, {"Inference-Header-Content-Length": str(len(text))}

#!/usr/bin/env python3
"""One window through the shipped anomaly model, with the standard library and nothing else.

python3 examples/infer.py /run/edge-agent/agent.sock
"""

import http.client
import json
import socket
import sys


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket. Keep it: a connection serves any number of requests."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def infer(connection: UnixConnection, window: list[int]) -> list[int]:
    """The model's evidence for three sensors' 32 newest readings, as stored integers."""
    tensor = {"name": "window", "datatype": "INT8", "shape": [1, 3, 32], "data": window}
    body = json.dumps({"inputs": [tensor]})
    connection.request("POST", "/v2/models/pump-anomaly/infer", body)
    response = connection.getresponse()
    answer = json.load(response)
    if response.status != 200:
        sys.exit(f"{answer['code']}: {answer['error']}")
    evidence: list[int] = answer["outputs"][0]["data"]
    return evidence


if __name__ == "__main__":
    print("evidence", *infer(UnixConnection(sys.argv[1]), list(range(96))))

"""A gRPC client that costs next to nothing: frames made beforehand, so that the server is measured."""

import socket
from collections.abc import Sequence

import hpack

from agent.api.grpc import frames as f
from agent.api.grpc import schema

PATH = "/inference.GRPCInferenceService/ModelInfer"
HEADERS = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "bench"),
)


def infer_request(
    model: str, name: str, datatype: str, shape: Sequence[int], values: bytes
) -> bytes:
    """A ModelInferRequest with its length before it."""
    request = schema.message("ModelInferRequest")(model_name=model, raw_input_contents=[values])
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    data: bytes = request.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


class RawClient:
    """One connection that asks the same again and again.

    Args:
        connection: connected.
        message: with its length before it.
    """

    def __init__(self, connection: socket.socket, message: bytes) -> None:
        self._connection = connection
        self._message = message
        self._stream = -1
        self._buffer = b""
        encoder = hpack.Encoder()
        connection.sendall(f.PREFACE + f.settings({}) + f.window_update(0, f.LARGEST_WINDOW // 2))
        self._ask(encoder.encode(HEADERS))
        self._await()
        self._block = encoder.encode(HEADERS)  # by now all of them are in the table

    def exchange(self) -> None:
        """One call, from its first byte to the last of its answer."""
        self._ask(self._block)
        self._await()

    def _ask(self, block: bytes) -> None:
        self._stream = number = self._stream + 2
        self._connection.sendall(
            f.frame(f.HEADERS, f.END_HEADERS, number, block)
            + f.frame(f.DATA, f.END_STREAM, number, self._message)
        )

    def _await(self) -> None:
        """Read until the answer's last frame, which a successful call ends with grpc-status 0."""
        while True:
            at, buffer = 0, self._buffer
            while len(buffer) - at >= f.HEADER:
                end = at + f.HEADER + int.from_bytes(buffer[at : at + 3], "big")
                if len(buffer) < end:
                    break
                kind, flags = buffer[at + 3], buffer[at + 4]
                if kind == f.HEADERS and flags & f.END_STREAM:
                    if b"grpc-status\x010" not in buffer[at:end]:
                        raise RuntimeError(buffer[at:end].decode(errors="replace"))
                    self._buffer = buffer[end:]
                    return
                at = end
            self._buffer = buffer[at:] + self._connection.recv(65536)

"""ONNX files written by hand: a graph of one node, in the wire format of protocol buffers."""

FLOAT, INT8, DOUBLE = 1, 3, 11  # TensorProto.DataType
EXTERNAL = 1  # TensorProto.DataLocation


def onnx_model(
    operator: str = "Neg",
    *,
    domain: str = "",
    shape: tuple[int, ...] = (-1, 4),
    dtype: int = FLOAT,
    initializers: bytes = b"",
    inputs: tuple[str, ...] = ("x",),
) -> bytes:
    """The bytes of a model that computes ``y = operator(inputs)``; -1 is a free size."""
    node = b"".join(_text(1, name) for name in inputs) + _text(2, "y") + _text(4, operator)
    node += _text(7, domain)
    value = _tensor_type(dtype, shape)
    graph = _message(1, node) + _text(2, "graph") + initializers
    graph += _message(11, _text(1, "x") + value) + _message(12, _text(1, "y") + value)
    opset = _message(8, _text(1, domain) + _number(2, 1 if domain else 17))
    standard = _message(8, _text(1, "") + _number(2, 17)) if domain else b""
    return _number(1, 8) + opset + standard + _message(7, graph)


def weights(name: str, dims: tuple[int, ...], data: bytes) -> bytes:
    """A float initializer, for `onnx_model(initializers=…)`."""
    tensor = b"".join(_number(1, size) for size in dims) + _number(2, FLOAT) + _text(8, name)
    return _message(5, tensor + _message(9, data))


def external_weights(name: str, dims: tuple[int, ...], location: str) -> bytes:
    """A float initializer whose bytes are in another file."""
    tensor = b"".join(_number(1, size) for size in dims) + _number(2, FLOAT) + _text(8, name)
    entry = _message(13, _text(1, "location") + _text(2, location))
    return _message(5, tensor + entry + _number(14, EXTERNAL))


def _tensor_type(dtype: int, shape: tuple[int, ...]) -> bytes:
    sizes = (_text(2, f"free{i}") if n == -1 else _number(1, n) for i, n in enumerate(shape))
    dimensions = b"".join(_message(1, size) for size in sizes)
    return _message(2, _message(1, _number(1, dtype) + _message(2, dimensions)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())

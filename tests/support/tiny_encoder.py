"""An encoder of a few kilobytes: a table of vectors, and a tokenizer of words."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from agent.types import Array

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "pump", "leaks", "gauge")
WIDTH = 4
TABLE = np.random.default_rng(3).standard_normal((len(WORDS), WIDTH)).astype(np.float32)
MANIFEST = """
format = 1
name = "{name}"
version = "1.0.0"
task = "embedding"
engine = "onnx"
license = "Apache-2.0"
files = [
    {{ path = "model.onnx", role = "model", sha256 = "{model}", size = {model_size} }},
    {{ path = "tokenizer.json", role = "data", sha256 = "{tokenizer}", size = {tokenizer_size} }},
    {{ path = "golden.npz", role = "golden", sha256 = "{golden}", size = {golden_size} }},
]
inputs = [
    {{ name = "input_ids", dtype = "INT64", shape = [-1, -1] }},
    {{ name = "attention_mask", dtype = "INT64", shape = [-1, -1] }},
]
outputs = [{{ name = "last_hidden_state", dtype = "FP32", shape = [-1, -1, 4] }}]
resources = {{ memory_mib = 8, threads = 1 }}
golden = [{{ name = "pump", file = "golden.npz", tolerance = 0.001 }}]
"""


def package(directory: Path, name: str = "encoder") -> Path:
    """Write a package of it, with a golden case."""
    place = directory / name
    place.mkdir(parents=True)
    ids = np.array([[2, 6, 3]])
    golden = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    np.savez(
        place / "golden.npz",
        **{f"pump/in/{name}": array for name, array in golden.items()},
        **{"pump/out/last_hidden_state": TABLE[ids]},
    )
    (place / "model.onnx").write_bytes(model())
    (place / "tokenizer.json").write_bytes(tokenizer())
    told: dict[str, object] = {"name": name}
    for file in ("model.onnx", "tokenizer.json", "golden.npz"):
        data = (place / file).read_bytes()
        key = file.partition(".")[0]
        told |= {key: sha256(data).hexdigest(), f"{key}_size": len(data)}
    (place / "model.toml").write_text(MANIFEST.format(**told))
    return place


def tokenizer() -> bytes:
    """A `tokenizer.json`: words in lower case, between [CLS] and [SEP]."""
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    return made.to_str().encode()


def model() -> bytes:
    """input_ids and attention_mask to last_hidden_state, the row of the table for each token.

    Where there is padding, it is 1000: a pooling that reads it is found out.
    """
    free = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, free)
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*free, WIDTH])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.BOOL),
        helper.make_node("Unsqueeze", ["there", "last"], ["there3"]),
        helper.make_node("Where", ["there3", "rows", "far"], ["last_hidden_state"]),
    ]
    constants = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array(1000, np.float32), "far"),
    ]
    graph = helper.make_graph(nodes, "encoder", inputs, [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def vector(*words: str) -> Array:
    """What the mean of a text's tokens is, at length 1."""
    rows = TABLE[[WORDS.index(word) for word in ("[CLS]", *words, "[SEP]")]]
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)

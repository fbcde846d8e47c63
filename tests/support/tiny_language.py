"""A language model of a few kilobytes, with random weights, that the real runtime loads.

A Llama of two layers over single bytes: it writes nonsense, but it reads, remembers, rewinds, samples
and follows grammars as a large one does. The same in every run.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

LAYERS, HEADS, HEAD, HIDDEN, INNER = 2, 2, 16, 32, 64
WINDOW = 512
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VOCABULARY = 256 + len(SPECIAL)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def files() -> dict[str, bytes]:
    """The model's files by name."""
    config = {"chat_template": TEMPLATE, "tokenizer_class": "PreTrainedTokenizerFast"}
    config |= {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "unk_token": SPECIAL[0]}
    return {
        "model.onnx": _graph().SerializeToString(),
        "genai_config.json": json.dumps(_genai_config()).encode(),
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }


def package(directory: Path, name: str = "tiny-language", **parameters: Any) -> Path:
    """Write a package of it."""
    place = directory / name
    place.mkdir(parents=True)
    listed = ""
    for path, data in files().items():
        (place / path).write_bytes(data)
        role = "model" if path == "model.onnx" else "data"
        listed += f'[[files]]\npath = "{path}"\nrole = "{role}"\nsize = {len(data)}\n'
        listed += f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
    (place / "model.toml").write_text(_manifest(name, parameters) + listed)
    return place


def _manifest(name: str, parameters: Mapping[str, Any]) -> str:
    head = {"name": name, "version": "1.0.0", "task": "text-generation", "engine": "genai"}
    lines = ["format = 1", *(f"{k} = {json.dumps(v)}" for k, v in head.items())]
    lines += ['license = "Apache-2.0"', "[parameters]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in parameters.items()]
    lines += ['[[inputs]]\nname = "tokens"\ndtype = "INT32"\nshape = [-1]']
    lines += [f'[[outputs]]\nname = "logits"\ndtype = "FP32"\nshape = [{VOCABULARY}]']
    return "\n".join(lines) + "\n"


def _tokenizer() -> bytes:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer.to_str().encode()


def _genai_config() -> dict[str, Any]:
    decoder = {
        "session_options": {"provider_options": []},
        "filename": "model.onnx",
        "head_size": HEAD,
        "hidden_size": HIDDEN,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": HEADS,
    }
    model = {"bos_token_id": 256, "eos_token_id": 258, "pad_token_id": 258, "type": "llama"}
    model |= {"context_length": WINDOW, "vocab_size": VOCABULARY, "decoder": decoder}
    return {"model": model, "search": {"max_length": WINDOW, "past_present_share_buffer": True}}


class _Builder:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(7)

    def add(self, operator: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        node = helper.make_node(
            operator, inputs, list(outputs), name=f"/{outputs[0]}", **attributes
        )
        self.nodes.append(node)
        return outputs[0]

    def weight(self, name: str, values: Any) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def dense(self, source: str, name: str, rows: int, columns: int) -> str:
        values = self.random.normal(0, 1.2 / rows**0.5, (rows, columns)).astype(np.float32)
        return self.add("MatMul", [source, self.weight(f"{name}.w", values)], name)

    def norm(self, source: str, name: str) -> str:
        scale = self.weight(f"{name}.w", np.ones(HIDDEN, np.float32))
        return self.add(
            "SimplifiedLayerNormalization", [source, scale], name, axis=-1, epsilon=1e-5
        )


def _graph() -> onnx.ModelProto:
    b = _Builder()
    table = b.random.normal(0, 1, (VOCABULARY, HIDDEN)).astype(np.float32)
    hidden = b.add(
        "Gather", [b.weight("embedding", table), "input_ids"], "model/embed_tokens/Gather"
    )
    _lengths(b)
    angles = np.arange(WINDOW)[:, None] / 10_000 ** (np.arange(HEAD // 2) / (HEAD // 2))
    b.weight("cos", np.cos(angles).astype(np.float32))
    b.weight("sin", np.sin(angles).astype(np.float32))
    for layer in range(LAYERS):
        hidden = _layer(b, hidden, layer)
    b.dense(b.norm(hidden, "norm"), "logits", HIDDEN, VOCABULARY)
    graph = helper.make_graph(b.nodes, "tiny", _inputs(), _outputs(), b.weights)
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def _lengths(b: _Builder) -> None:
    """Of the sequence so far, as attention wants them."""
    total = b.add(
        "ReduceSum", ["attention_mask", b.weight("axis", np.array([1]))], "sum", keepdims=0
    )
    last = b.add("Sub", [total, b.weight("one", np.array(1))], "last")
    b.add("Cast", [last], "seqlens", to=TensorProto.INT32)
    shape = b.add("Shape", ["attention_mask"], "shape")
    whole = b.add("Gather", [shape, b.weight("second", np.array(1))], "whole")
    b.add("Cast", [whole], "total", to=TensorProto.INT32)


def _layer(b: _Builder, hidden: str, n: int) -> str:
    normed = b.norm(hidden, f"{n}.norm1")
    query, key, value = (b.dense(normed, f"{n}.{part}", HIDDEN, HEADS * HEAD) for part in "qkv")
    past = [f"past_key_values.{n}.key", f"past_key_values.{n}.value"]
    present = [f"present.{n}.key", f"present.{n}.value"]
    inputs = [query, key, value, *past, "seqlens", "total", "cos", "sin"]
    sizes = {"num_heads": HEADS, "kv_num_heads": HEADS, "do_rotary": 1}
    b.add("GroupQueryAttention", inputs, f"{n}.attended", *present, domain="com.microsoft", **sizes)
    attended = b.dense(f"{n}.attended", f"{n}.o", HEADS * HEAD, HIDDEN)
    hidden = b.add("Add", [hidden, attended], f"{n}.h1")
    normed = b.norm(hidden, f"{n}.norm2")
    gate = b.dense(normed, f"{n}.gate", HIDDEN, INNER)
    gate = b.add("Mul", [gate, b.add("Sigmoid", [gate], f"{n}.sigmoid")], f"{n}.silu")
    inner = b.add("Mul", [gate, b.dense(normed, f"{n}.up", HIDDEN, INNER)], f"{n}.inner")
    return b.add("Add", [hidden, b.dense(inner, f"{n}.down", INNER, HIDDEN)], f"{n}.h2")


def _inputs() -> list[onnx.ValueInfoProto]:
    ids = [("input_ids", ["b", "s"]), ("attention_mask", ["b", "t"])]
    found = [helper.make_tensor_value_info(n, TensorProto.INT64, s) for n, s in ids]
    return found + _memory("past_key_values", "p")


def _outputs() -> list[onnx.ValueInfoProto]:
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", VOCABULARY])
    return [logits, *_memory("present", "t")]


def _memory(prefix: str, length: str) -> list[onnx.ValueInfoProto]:
    shape = ["b", HEADS, length, HEAD]
    return [
        helper.make_tensor_value_info(f"{prefix}.{n}.{kind}", TensorProto.FLOAT, shape)
        for n in range(LAYERS)
        for kind in ("key", "value")
    ]

"""How much each input of a matrix matters, by what the model itself writes.

No data set is needed: the float model answers requests and goes on with beginnings, and the inputs of
its matrices while it reads that are what the weights are fitted to.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.engines.genai import GenAiSession
from agent.engines.generation import ChatMessage, GenerationRequest, Piece, Sampling
from agent.registry.layout import write_atomically
from tools.quantize.family import Artifact, Progress
from tools.quantize.language.evaluation import opened
from tools.quantize.language.graph import matrices
from tools.quantize.language.texts import calibration_beginnings, calibration_prompts

TEXTS = "calibration.json"  # token ids beside the float graph
ANSWER = 96  # tokens that the model writes to each request
SEED = 11

Curvatures = Mapping[str, NDArray[np.float32]]


def texts(original: Artifact, progress: Progress) -> list[list[int]]:
    """What the float model wrote, token ids; it writes when they are asked for first, in minutes."""
    path = original.directory / TEXTS
    if not path.exists():
        session = opened(original)
        try:
            write_atomically(path, msgspec.json.encode(written(session, progress)))
        finally:
            session.close()
    return msgspec.json.decode(path.read_bytes(), type=list[list[int]])


def written(session: GenAiSession, progress: Progress) -> list[list[int]]:
    """Token ids of conversations and texts that the model wrote."""
    requests = [
        *(((ChatMessage("user", prompt),), "") for prompt in calibration_prompts()),
        *(((), beginning) for beginning in calibration_beginnings()),
    ]
    found = []
    for number, (messages, text) in enumerate(requests):
        progress("Writing what the model is calibrated with", number / len(requests))
        sampling = Sampling(temperature=0.8, top_p=0.95, seed=SEED + number)
        request = GenerationRequest(messages, text, ANSWER, sampling=sampling)
        answer = "".join(p.text for p in session.generate(request) if isinstance(p, Piece))
        tokens = session.tokens(request).tolist()
        found.append(
            tokens + (session.tokens(GenerationRequest(text=answer)).tolist() if answer else [])
        )
    return found


def curvatures(folder: Path, texts: Sequence[Sequence[int]], progress: Progress) -> Curvatures:
    """The sum of x xT over the inputs of each matrix, float32 [K, K], by the input's name."""
    session, names, past = _observed(folder)
    sums: dict[str, NDArray[np.float32]] = {}
    for number, tokens in enumerate(texts):
        progress("Reading it", number / len(texts))
        for name, found in _inputs(session, names, past, tokens):
            product = found.T @ found
            sums[name] = sums[name] + product if name in sums else product
    return sums


def input_names(folder: Path) -> dict[str, str]:
    """The name of what each matrix's node is given."""
    import onnx

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    nodes = {node.name: node for node in model.graph.node}
    return {matrix.node: nodes[matrix.node].input[0] for matrix in matrices(model)}


def _observed(folder: Path) -> tuple[Any, list[str], dict[str, NDArray[np.float32]]]:
    """A session that also gives what its matrices are given, and an empty past for it."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnx
    import onnxruntime

    model = onnx.load(folder / "model.onnx", load_external_data=False)
    names = sorted(set(input_names(folder).values()))
    for name in names:
        model.graph.output.add(name=name)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    past = {
        i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
        for i in session.get_inputs()
        if i.name.startswith("past")
    }
    return session, names, past


def _inputs(
    session: Any, names: Sequence[str], past: Mapping[str, Any], tokens: Sequence[int]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    ids = np.array([tokens], np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), **past}
    for name, found in zip(names, session.run(list(names), feed), strict=True):
        yield name, found.reshape(-1, found.shape[-1])

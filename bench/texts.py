"""Questions to the shipped classifier through the socket, beside bare onnxruntime and tokenizers."""

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np

from bench.inference import connect, exchange
from bench.report import Row, Table
from tests.support.device import ROOT, device, install_models

PACKAGE = ROOT / "models" / "intent"
QUESTION = "where can I leave my suitcase until six"
MANY = 64


def run(quick: bool) -> Table:
    """Medians of 2,000 turns for one question, 200 for many; a tenth of them when `quick`."""
    share = 10 if quick else 1
    with tempfile.TemporaryDirectory(prefix="bench-texts-") as name:
        place = Path(name)
        models = install_models(place / "m", [PACKAGE])
        with device(place / "d", "", models) as found:
            path = found.start().socket
            with closing(connect(path)) as client:
                rows = [
                    _row("one question", client, 1, 2000 // share),
                    _row(f"{MANY} questions in a request", client, MANY, 200 // share),
                ]
    return Table("Text classification: the intent model, one thread", rows)


def _row(name: str, client: socket.socket, count: int, rounds: int) -> Row:
    texts = [QUESTION] * count
    body = json.dumps({"model": "intent", "input": texts}).encode()
    head = f"POST /api/classify HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
    request, bare = head.encode() + body, _bare()
    exchange(client, request)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_timed(lambda: exchange(client, request)))
        theirs.append(_timed(lambda: bare(texts)))
    served, inside = median(ours) * 1e3, median(theirs) * 1e3
    limit = "bare tokenizers and onnxruntime"
    return Row(f"{name}, p50", served, "ms", limit, inside, served / inside)


def _bare() -> Callable[[list[str]], object]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(PACKAGE / "model.onnx"), options)
    tokenizer = Tokenizer.from_file(str(PACKAGE / "tokenizer.json"))
    tokenizer.no_padding()

    def ask(texts: list[str]) -> object:
        ids = np.array([encoding.ids for encoding in tokenizer.encode_batch_fast(texts)], np.int64)
        return session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})

    return ask


def _timed(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun

"""Texts to labels and to vectors through the socket, beside bare onnxruntime and tokenizers."""

import json
import os
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from agent.trust.manifest import Manifest, parse_manifest
from bench.inference import connect, exchange
from bench.report import Row, Table
from tests.support.device import ROOT, device, install_models

INTENT = ROOT / "models" / "intent"
ENCODER = "EDGE_AGENT_ENCODER"  # a folder: the package that `edge-agent models add minilm` makes
QUESTION = "where can I leave my suitcase until six"
MANY = 64


class Work(NamedTuple):
    """A package, the path that is asked, and rounds for one text and for many."""

    name: str
    package: Path
    path: str
    rounds: tuple[int, int]


def run(quick: bool) -> Table:
    """Medians of 2,000 turns for one question, 200 for many; a tenth of them when `quick`.

    Vectors take longer: 400 and 20 turns, and only where EDGE_AGENT_ENCODER names a package.
    """
    works = [Work("labels", INTENT, "/api/classify", (2000, 200))]
    if ENCODER in os.environ:
        works.append(Work("vectors", Path(os.environ[ENCODER]), "/v1/embeddings", (400, 20)))
    with tempfile.TemporaryDirectory(prefix="bench-texts-") as name:
        place = Path(name)
        models = install_models(place / "m", [work.package for work in works])
        with device(place / "d", "", models) as found:
            path = found.start().socket
            with closing(connect(path)) as client:
                rows = [row for work in works for row in _rows(work, client, quick)]
    return Table("Texts: the intent model and an encoder, one thread", rows)


def _rows(work: Work, client: socket.socket, quick: bool) -> list[Row]:
    share = 10 if quick else 1
    one, many = (rounds // share for rounds in work.rounds)
    return [
        _row(f"{work.name}: one text", work, client, 1, one),
        _row(f"{work.name}: {MANY} texts in a request", work, client, MANY, many),
    ]


def _row(name: str, work: Work, client: socket.socket, count: int, rounds: int) -> Row:
    texts = [QUESTION] * count
    manifest = parse_manifest((work.package / "model.toml").read_bytes())
    body = json.dumps({"model": manifest.name, "input": texts}).encode()
    head = f"POST {work.path} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
    request, bare = head.encode() + body, _bare(work.package, manifest)
    exchange(client, request)
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_timed(lambda: exchange(client, request)))
        theirs.append(_timed(lambda: bare(texts)))
    served, inside = median(ours) * 1e3, median(theirs) * 1e3
    limit = "bare tokenizers and onnxruntime"
    return Row(f"{name}, p50", served, "ms", limit, inside, served / inside)


def _bare(package: Path, manifest: Manifest) -> Callable[[list[str]], object]:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(package / "model.onnx"), options)
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))
    tokenizer.no_padding()
    names = [spec.name for spec in manifest.inputs]

    def ask(texts: list[str]) -> object:
        ids = np.array([encoding.ids for encoding in tokenizer.encode_batch_fast(texts)], np.int64)
        made = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        given = {name: made.get(name, np.zeros_like(ids)) for name in names}
        return session.run(None, given)

    return ask


def _timed(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun

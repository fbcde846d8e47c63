"""A classifier's labels are its logits', or the package is not installed."""

from typing import Any

import msgspec
import pytest

from agent.errors import BadModel
from agent.trust.manifest import Manifest, parse_manifest
from agent.trust.policy import check_labels

MANIFEST = """
format = 1
name = "tiny"
version = "1.0.0"
task = "{task}"
engine = "onnx"
license = "Apache-2.0"
files = [{{ path = "model.onnx", role = "model", sha256 = "{digest}", size = 1 }}]
inputs = [{{ name = "input_ids", dtype = "INT64", shape = [-1, -1] }}]
outputs = [{{ name = "logits", dtype = "FP32", shape = [-1, {width}] }}]
resources = {{ memory_mib = 8, threads = 1 }}
{labels}
"""


def manifest(labels: Any, width: int = 3, task: str = "text-classification") -> Manifest:
    told = (
        ""
        if labels is None
        else f"parameters = {{ labels = {msgspec.json.encode(labels).decode()} }}"
    )
    text = MANIFEST.format(task=task, digest="0" * 64, width=width, labels=told)
    return parse_manifest(text.encode())


@pytest.mark.parametrize("width", [3, -1])
def test_as_many_labels_as_logits_are_taken(width: int) -> None:
    check_labels(manifest(["a", "b", "c"], width))


@pytest.mark.parametrize(
    "labels", [None, "abc", ["a", "b"], ["a", "b", "c", "d"], ["a", "b", "b"], [1, 2, 3]]
)
def test_other_labels_are_refused(labels: Any) -> None:
    with pytest.raises(BadModel, match="label"):
        check_labels(manifest(labels))


def test_labels_of_other_tasks_are_their_own_affair() -> None:
    check_labels(manifest(["a"], task="tensor"))

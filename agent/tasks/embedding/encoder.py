"""An encoder: what its manifest says, and texts through it in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta, Struct

from agent.errors import BadModel
from agent.tasks.embedding.pooling import Pooling, normalized, pooled
from agent.tasks.embedding.tokens import Tokenizer
from agent.types import Array, Tensors, TensorSpec

TOKENIZER = "tokenizer.json"
BATCH_TOKENS = 4096  # of one run of the model, padding counted
MAX_WINDOW = 8192  # tokens of a text

#: A text, or token ids that the caller made of one.
Text: TypeAlias = str | Sequence[int]

Run: TypeAlias = Callable[[Tensors], Mapping[str, Array]]


class EncoderManifest(Protocol):
    """What an encoder's manifest says."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def parameters(self) -> Mapping[str, object]: ...


class EncoderParameters(Struct, frozen=True):
    """`[parameters]` of an encoder; unknown ones belong to others."""

    pooling: Pooling = "mean"
    normalize: bool = True
    max_tokens: Annotated[int, Meta(ge=2, le=MAX_WINDOW)] = 256


class Embedded(NamedTuple):
    """Vectors, float32 [texts, width], and how many tokens were read for them."""

    vectors: Array
    tokens: int


class Encoder:
    """Texts to vectors. Safe to call from several threads; the model is lent for each call.

    Args:
        manifest: of the model.
        files: verified ones of the package, among them the tokenizer.

    Raises:
        BadModel: the package is no encoder's; says what is missing or wrong.
        EngineMissing: the tokenizer's library is not installed.
    """

    def __init__(self, manifest: EncoderManifest, files: Mapping[str, bytes]) -> None:
        if TOKENIZER not in files:
            raise BadModel("the package holds no tokenizer", where=TOKENIZER)
        self._parameters = _parameters(manifest.parameters)
        self._inputs = manifest.inputs
        self._output = _output(manifest.outputs, self._parameters.pooling)
        check_inputs(self._inputs)
        self._tokenizer = Tokenizer(files[TOKENIZER], self._parameters.max_tokens)

    def embed(self, run: Run, texts: Sequence[Text]) -> Embedded:
        """One vector for each text, in their order.

        Raises:
            BadPayload: a text is too long, or a token id unknown.
            EngineFailed: as the model's run.
        """
        ids = self._ids(texts)
        rows: list[Array] = [np.empty(0)] * len(ids)
        for batch in batches([len(tokens) for tokens in ids]):
            tensors, mask = padded([ids[n] for n in batch], self._inputs)
            vectors = pooled(run(tensors)[self._output], mask, self._parameters.pooling)
            if self._parameters.normalize:
                vectors = normalized(vectors)
            for number, vector in zip(batch, vectors, strict=True):
                rows[number] = vector
        return Embedded(np.stack(rows), sum(map(len, ids)))

    def _ids(self, texts: Sequence[Text]) -> list[list[int]]:
        written = {n: text for n, text in enumerate(texts) if isinstance(text, str)}
        read = dict(zip(written, self._tokenizer.ids(list(written.values())), strict=True))
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                read[number] = self._tokenizer.checked(text, f"input[{number}]")
        return [read[number] for number in range(len(texts))]


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of texts that go through the model together: like lengths, so that padding is little."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[number] * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


_FILL = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def check_inputs(inputs: Sequence[TensorSpec]) -> None:
    """See that `padded` can fill a model's inputs. Raises BadModel."""
    for spec in inputs:
        if spec.name not in _FILL or spec.dtype != "INT64":
            raise BadModel("an encoder has no such input", where=spec.name)


def padded(
    ids: Sequence[Sequence[int]], inputs: Sequence[TensorSpec]
) -> tuple[dict[str, Array], Array]:
    """The tensors that a model asks for, INT64 [texts, longest], and the mask among them."""
    shape = (len(ids), max(1, *map(len, ids)) if ids else 1)
    found = {name: np.zeros(shape, np.int64) for name in _FILL}
    for row, tokens in enumerate(ids):
        found["input_ids"][row, : len(tokens)] = tokens
        found["attention_mask"][row, : len(tokens)] = 1
    return {spec.name: found[spec.name] for spec in inputs}, found["attention_mask"]


def _parameters(given: Mapping[str, object]) -> EncoderParameters:
    try:
        return msgspec.convert(given, EncoderParameters)
    except msgspec.ValidationError as error:
        raise BadModel(str(error)[:300], where="model.toml: parameters") from None


def _output(outputs: Sequence[TensorSpec], pooling: Pooling) -> str:
    dimensions = 2 if pooling == "none" else 3
    for spec in outputs:
        if len(spec.shape) == dimensions and spec.dtype in {"FP32", "FP16"}:
            return spec.name
    message = f'pooling = "{pooling}" needs an output of {dimensions} dimensions'
    raise BadModel(message, where="model.toml: outputs")

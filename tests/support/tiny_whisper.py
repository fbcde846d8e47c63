"""A Whisper of some hundred kilobytes, with random weights, that the real runtime loads.

One layer of each kind over single bytes: it writes nonsense, but it hears, detects languages, says
times and ends as a large one does. The same in every run.
"""

import hashlib
import io
import json
import tempfile
import wave
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

MELS, POSITIONS, HIDDEN, INNER, HEADS, TEXT = 80, 1500, 32, 64, 2, 448
LANGUAGES = ("en", "de", "fr")
RATE = 16_000
TIMES = 1501
CONTROLS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    *(f"<|{code}|>" for code in LANGUAGES),
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


@cache
def files(*, multilingual: bool = False) -> Mapping[str, bytes]:
    """The model's files by name."""
    tokenizer = _tokenizer(multilingual=multilingual)
    spec = _spec(tokenizer)
    with tempfile.TemporaryDirectory() as place:
        spec.save(place)
        made = {path.name: path.read_bytes() for path in Path(place).iterdir()}
    preprocessor = {"feature_size": MELS, "n_fft": 400, "hop_length": 160, "chunk_length": 30}
    return {
        **made,
        "tokenizer.json": tokenizer.to_str().encode(),
        "preprocessor_config.json": json.dumps({**preprocessor, "sampling_rate": RATE}).encode(),
    }


def package(
    directory: Path, name: str = "tiny-whisper", *, multilingual: bool = False, **parameters: Any
) -> Path:
    """Write a package of it."""
    place = directory / name
    place.mkdir(parents=True)
    head = {"name": name, "version": "1.0.0", "task": "speech-recognition", "engine": "whisper"}
    lines = ["format = 1", *(f"{k} = {json.dumps(v)}" for k, v in head.items())]
    lines += ['license = "Apache-2.0"', "[parameters]"]
    lines += [f"{k} = {json.dumps(v)}" for k, v in parameters.items()]
    lines += ['[[inputs]]\nname = "audio"\ndtype = "FP32"\nshape = [-1]']
    lines += ['[[outputs]]\nname = "tokens"\ndtype = "INT32"\nshape = [-1]']
    for path, data in files(multilingual=multilingual).items():
        (place / path).write_bytes(data)
        role = "model" if path == "model.bin" else "data"
        lines += [f'[[files]]\npath = "{path}"\nrole = "{role}"\nsize = {len(data)}']
        lines += [f'sha256 = "{hashlib.sha256(data).hexdigest()}"']
    (place / "model.toml").write_text("\n".join(lines) + "\n")
    return place


def sound(seconds: float = 2.0, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Tones that change five times a second, float32 [samples]."""
    random = np.random.default_rng(seed)
    pitches = np.repeat(random.uniform(200, 2000, int(seconds * 5) + 1), RATE // 5)
    samples = np.sin(2 * np.pi * np.cumsum(pitches[: int(seconds * RATE)]) / RATE)
    return (0.3 * samples).astype(np.float32)


def wav(samples: np.ndarray[Any, Any], rate: int = RATE, channels: int = 1) -> bytes:
    """A wave file of 16 bits."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        levels = np.rint(samples * 32767).astype("<i2")
        file.writeframes(np.repeat(levels[:, None], channels, axis=1).tobytes())
    return held.getvalue()


def _tokenizer(*, multilingual: bool) -> Tokenizer:
    # The runtime takes a model for one of several languages when its vocabulary has an empty token.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) + [""] * multilingual
    made = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(CONTROLS))
    made.add_tokens([AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(TIMES)])
    return made


def _spec(tokenizer: Tokenizer) -> Any:
    spec = ctranslate2.specs.WhisperSpec(1, HEADS, 1, HEADS)
    random = np.random.default_rng(11)

    def linear(target: Any, rows: int, columns: int) -> None:
        target.weight = random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        target.bias = np.zeros(rows, np.float32)

    def norm(target: Any) -> None:
        target.gamma, target.beta = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)

    def attention(target: Any, *, over_sound: bool = False) -> None:
        norm(target.layer_norm)
        shapes = [HIDDEN, 2 * HIDDEN, HIDDEN] if over_sound else [3 * HIDDEN, HIDDEN]
        for layer, rows in zip(target.linear, shapes, strict=True):
            linear(layer, rows, HIDDEN)

    def inner(target: Any) -> None:
        norm(target.layer_norm)
        linear(target.linear_0, INNER, HIDDEN)
        linear(target.linear_1, HIDDEN, INNER)

    encoder, decoder = spec.encoder, spec.decoder
    for conv, channels in ((encoder.conv1, MELS), (encoder.conv2, HIDDEN)):
        scale = (3 * channels) ** -0.5
        conv.weight = random.normal(0, scale, (HIDDEN, channels, 3)).astype(np.float32)
        conv.bias = np.zeros(HIDDEN, np.float32)
    for part, length in ((encoder, POSITIONS), (decoder, TEXT)):
        places = random.normal(0, 0.3, (length, HIDDEN)).astype(np.float32)
        part.position_encodings.encodings = places
        norm(part.layer_norm)
        attention(part.layer[0].self_attention)
        inner(part.layer[0].ffn)
    attention(decoder.layer[0].attention, over_sound=True)
    size = tokenizer.get_vocab_size()
    decoder.embeddings.weight = random.normal(0, 1, (size, HIDDEN)).astype(np.float32)
    linear(decoder.projection, size, HIDDEN)
    decoder.projection.weight = 4 * decoder.projection.weight  # sure of itself
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    spec.register_vocabulary([text for text, _ in vocabulary])
    at = tokenizer.token_to_id
    decoder.projection.bias[at("<|endoftext|>")] = 6.0  # ends before it is cut
    spec.config.suppress_ids = [at(text) for text in CONTROLS[1:-1]]
    spec.config.suppress_ids_begin = [at("<|endoftext|>")]
    spec.config.lang_ids = [at(f"<|{code}|>") for code in LANGUAGES]
    spec.config.alignment_heads = [[0, 0]]
    spec.validate()
    spec.optimize(quantization="int8")
    return spec

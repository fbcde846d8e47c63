"""A Whisper, with what is needed to judge what is made of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from agent.types import TensorSpec
from tools.quantize.family import (
    Artifact,
    Description,
    GoldenInput,
    LayerError,
    Probe,
    Progress,
    Recipe,
    Score,
)
from tools.quantize.package import digest
from tools.quantize.whisper import conversion, proof, source
from tools.quantize.whisper.evaluation import Transcriber, word_errors
from tools.quantize.whisper.recordings import Recordings, Samples
from tools.quantize.work import work_key

VERSION = 2  # of what is built here: work that was kept from another one is of no use
RUNTIME = 2**30  # bytes that torch and the other libraries take
COPIES = 4  # of the weights at the peak: as loaded, in float32, as converted, and as written
PROVED = 4  # recordings whose transcripts are compared with transformers'
LIMITS = (
    "Writes words where there are none: in noise, music or silence. Judge it on recordings of your own "
    "place and people."
)


class WhisperFamily:
    """See `tools.quantize.family.Family`.

    Args:
        folder: a Hugging Face folder.
        heard: what it is judged on.
        language: of what is said; empty detects it.
        golden: a sound for the golden case, float32 [samples]; a generated one where None is given.
        data: what the recordings are, for the card; their file's name where it is empty.
        limits: where the model must not be used.
    """

    comparable = True

    def __init__(
        self,
        folder: Path,
        heard: Recordings,
        language: str = "",
        *,
        golden: Samples | None = None,
        data: str = "",
        limits: str = LIMITS,
    ) -> None:
        """Raises BadModel: it is no Whisper. BadRequest: nor is the language one of its own."""
        source.check(folder)
        source.check_language(folder, language)
        self._folder, self._heard, self._language = folder, heard, language
        self._golden = generated() if golden is None else golden
        self._data, self._limits = data or heard.about, limits

    @property
    def key(self) -> str:
        files = [path for path in sorted(self._folder.iterdir()) if path.is_file()]
        known = [(file.name, digest(file)) for file in files]
        return work_key("whisper", VERSION, known, self._heard.digest, self._language)

    def needs_bytes(self) -> int:
        return RUNTIME + COPIES * 4 * source.count(self._folder)

    def original(self, directory: Path, progress: Progress) -> Artifact:
        notes = proof.tokenizer(self._folder)
        made = conversion.converted(self._folder, directory, "float32", self._language, progress)
        progress("Comparing with transformers", 0.6)
        sounds = [recording.samples() for recording in self._heard.each[:PROVED]]
        proof.transcripts(self._folder, Transcriber(directory, self._language), sounds)
        return replace(made, notes=notes)

    def recipes(self) -> Sequence[Recipe]:
        return conversion.recipes(self._folder, self._language)

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        del original
        return word_errors(artifact, self._heard, progress)

    def parameters(self, original: Artifact) -> int:
        del original  # conversion leaves none out
        return source.count(self._folder)

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        del original
        path = made.directory / conversion.LAYERS
        return msgspec.json.decode(path.read_bytes(), type=list[LayerError])

    def probe(self, artifact: Artifact) -> Probe:
        place = artifact.directory.parent / f"{artifact.directory.name}.probe.npy"
        np.save(place, self._heard.each[0].samples())
        target = "tools.quantize.whisper.evaluation:transcribing"
        return Probe(target, {"sound": str(place)}, "transcript")

    def describe(self, artifact: Artifact) -> Description:
        del artifact
        return Description(
            task="speech-recognition",
            inputs=[TensorSpec("audio", "FP32", (-1,))],
            outputs=[TensorSpec("tokens", "INT32", (-1,))],
            golden=[GoldenInput("sound", {"audio": self._golden}, 0.0)],
            data=self._data,
            limits=self._limits,
        )


def generated() -> Samples:
    """A sound of two seconds that is no one's: gliding tones of a voice, float32 [32,000]."""
    at = np.arange(2 * source.RATE) / source.RATE
    along = 2 * np.pi * (120 * at + 15 * np.sin(2 * np.pi * at))
    tones = sum(np.sin(k * along) / k for k in range(1, 20))
    made = tones * np.abs(np.sin(2 * np.pi * 1.5 * at))
    return np.asarray(0.5 * made / np.abs(made).max(), np.float32)

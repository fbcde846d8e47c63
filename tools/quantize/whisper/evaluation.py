"""A converted Whisper that writes down what it hears, and how many words of it are wrong."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from agent.engines.whisper import MODEL, Whisper
from agent.errors import BadModel
from tools.quantize.family import Artifact, Progress, Score
from tools.quantize.libraries import installed
from tools.quantize.whisper.recordings import Recordings, Samples
from tools.quantize.whisper.words import errors, words

METRIC = "word error rate"


class Transcriber:
    """One model on one thread, heard by the device's own engine.

    Args:
        folder: CTranslate2's files.
        language: of what is said; empty detects it, where the model knows several.
    """

    def __init__(self, folder: Path, language: str = "") -> None:
        """Raises BadModel: the engine cannot load it. EngineMissing: a library is missing."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        try:
            with installed():
                self._whisper = Whisper(files.get(MODEL, b""), files, threads=1)
        except BadModel as error:
            raise BadModel(error.message, where=str(folder), hint=error.hint) from error
        self._language = language
        self.end = self._whisper.end
        self.spectrum = self._whisper.spectrum
        self.written = self._whisper.written

    def prompt(self, spectrum: Samples) -> list[int]:
        """What every transcript begins with: the language, the task, and no times."""
        return self._whisper.prompt(spectrum, self._language)

    def tokens(self, audio: Samples) -> list[int]:
        """The transcript's ids, without control tokens."""
        return self._whisper.tokens(audio, self._language)

    def text(self, tokens: list[int]) -> str:
        """The transcript."""
        return self._whisper.text(tokens).strip()


def word_errors(artifact: Artifact, heard: Recordings, progress: Progress) -> list[Score]:
    """Wrong words as a share of those said, over the whole set and by slice; lower is better."""
    model = Transcriber(artifact.directory, str(artifact.parameters.get("language", "")))
    wrong: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for number, recording in enumerate(heard.each):
        progress("Listening", number / len(heard.each))
        wanted = words(recording.text)
        lost = errors(wanted, words(model.text(model.tokens(recording.samples()))))
        for name in {"all": None, **dict.fromkeys(recording.slices)}:
            wrong[name] += lost
            said[name] += len(wanted)
    return list(_scores(wrong, said))


def _scores(wrong: Counter[str], said: Counter[str]) -> Iterator[Score]:
    for name in said:
        yield Score(METRIC, wrong[name] / said[name], name, said[name], higher_is_better=False)


def transcribing(artifact: Artifact, sound: str) -> Callable[[], object]:
    """One transcript, for the stopwatch.

    Args:
        artifact: the model.
        sound: path of a `.npy` file, float32 [samples].
    """
    model = Transcriber(artifact.directory, str(artifact.parameters.get("language", "")))
    audio = np.load(sound, allow_pickle=False)
    return lambda: model.tokens(audio)


def prepare(artifact: Artifact) -> None:
    """Load the libraries, so that their memory is not counted as the model's."""
    del artifact
    with installed():
        import ctranslate2  # noqa: F401
        import faster_whisper.feature_extractor  # noqa: F401
        import tokenizers  # noqa: F401

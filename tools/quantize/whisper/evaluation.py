"""A converted Whisper that writes down what it hears, and how many words of it are wrong."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import BadModel
from tools.quantize.family import Artifact, Progress, Score
from tools.quantize.whisper.conversion import libraries
from tools.quantize.whisper.recordings import Recordings, Samples
from tools.quantize.whisper.source import PREPROCESSOR, TOKENIZER
from tools.quantize.whisper.words import errors, words

METRIC = "word error rate"
MOST_TOKENS = 448  # of a window, the prompt among them


class Transcriber:
    """One model, on one thread.

    Args:
        folder: CTranslate2's files.
        language: of what is said; empty detects it, where the model knows several.
    """

    def __init__(self, folder: Path, language: str = "") -> None:
        """Raises BadModel: CTranslate2 cannot load it. EngineMissing: a library is missing."""
        with libraries():
            import ctranslate2
            from faster_whisper.feature_extractor import FeatureExtractor
            from tokenizers import Tokenizer
        ctranslate2.set_log_level(
            logging.ERROR
        )  # it warns of each type that it computes in another
        try:
            self.model = ctranslate2.models.Whisper(str(folder), device="cpu", intra_threads=1)
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"CTranslate2 cannot load it: {error}", where=str(folder)) from error
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._features = FeatureExtractor(**_feature_settings(folder))
        self._language = language
        self.end = self._id("<|endoftext|>")

    def spectrum(self, audio: Samples) -> Samples:
        """Log-mel, float32 [1, mels, frames], padded as faster-whisper pads it."""
        made = self._features(audio)[:, : self._features.nb_max_frames]
        short = self._features.nb_max_frames - made.shape[1]
        return np.ascontiguousarray(np.pad(made, ((0, 0), (0, short)))[None], np.float32)

    def prompt(self, spectrum: Samples) -> list[int]:
        """What every transcript begins with: the language, the task, and no times."""
        begin = [self._id("<|startoftranscript|>")]
        if self.model.is_multilingual:
            language = f"<|{self._language}|>" if self._language else self._detected(spectrum)
            begin += [self._id(language), self._id("<|transcribe|>")]
        return [*begin, self._id("<|notimestamps|>")]

    def tokens(self, audio: Samples) -> list[int]:
        """The transcript's ids, without control tokens."""
        spectrum = self.spectrum(audio)
        written = self.written(spectrum, self.prompt(spectrum))
        return [token for token in written if token < self.end]

    def written(self, spectrum: Samples, prompt: list[int]) -> list[int]:
        """The likeliest token each time, as it came, up to the end and without it."""
        sound = _storage(spectrum)
        found = self.model.generate(sound, [prompt], beam_size=1, max_length=MOST_TOKENS)
        return list(found[0].sequences_ids[0])

    def text(self, tokens: list[int]) -> str:
        """The transcript."""
        return str(self._tokenizer.decode(tokens)).strip()

    def _detected(self, spectrum: Samples) -> str:
        token: str = self.model.detect_language(_storage(spectrum))[0][0][0]
        return token

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise BadModel(f"the tokenizer lacks {token}", where=TOKENIZER)
        return int(found)


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
    with libraries():
        import ctranslate2  # noqa: F401
        import faster_whisper.feature_extractor  # noqa: F401
        import tokenizers  # noqa: F401


def _storage(spectrum: Samples) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(spectrum)


def _feature_settings(folder: Path) -> dict[str, int]:
    import json

    found = json.loads((folder / PREPROCESSOR).read_bytes())
    names = ("feature_size", "sampling_rate", "hop_length", "chunk_length", "n_fft")
    return {name: int(found[name]) for name in names if name in found}

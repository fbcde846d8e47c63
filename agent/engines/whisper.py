"""faster-whisper: Whisper models in CTranslate2's form. The only file that imports either.

The library takes the model's files as bytes, so what is loaded is what was verified. What it would
fetch or find by itself it is not let to: a tokenizer of a model hub, files beside the working
directory, and the voice detector that is part of its installation and that nobody signed.
"""

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from agent.engines import audio
from agent.engines.audio import RATE, Sound
from agent.engines.base import EngineOptions, first_line, translated
from agent.engines.generation import not_cancelled
from agent.engines.speech import Heard, Passage, Segment, SpeechSession, TranscriptionRequest, Word
from agent.errors import BadModel, BadPayload, NotReady
from agent.types import Array, TensorSpec

MODEL, CONFIG, TOKENIZER = "model.bin", "config.json", "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")

WINDOW = 30 * RATE  # samples that the model hears at once
STRETCH = 300 * RATE  # samples that are heard in one go; bounds what a long recording takes
BEAM = 5  # transcripts that are followed at once, when the manifest does not say
MOST_BEAM = 16
MOST_TOKENS = 448  # of a window, the prompt among them

#: Where the library would look for files that it was not given: there can be none.
_NOWHERE = "/dev/null/whisper"
_CONTROLS = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|notimestamps|>"),
)


class Whisper:
    """A model's files, loaded.

    Attributes:
        multilingual: it knows several languages, and translates.
        end: the token that ends a transcript; those from it on are no text.
    """

    def __init__(self, model: bytes, files: Mapping[str, bytes], threads: int) -> None:
        """Raises BadModel: a file is missing, or the runtime cannot load it."""
        taken = _taken(model, files)
        library = _library()
        try:
            self.library = library(_NOWHERE, device="cpu", cpu_threads=threads, files=taken)
        except Exception as error:  # the runtime raises no narrower class
            raise BadModel(f"CTranslate2 cannot load the model: {first_line(error)}") from error
        for token in _CONTROLS:
            self.token(token)
        self.multilingual = bool(self.library.model.is_multilingual)
        self.end = self.token("<|endoftext|>")

    def token(self, text: str) -> int:
        """The id of a control token. Raises BadModel: there is none."""
        found = self.library.hf_tokenizer.token_to_id(text)
        if found is None:
            raise BadModel(f"the tokenizer lacks {text}", where=TOKENIZER)
        return int(found)

    @property
    def times(self) -> range:
        """Ids of the tokens that say when."""
        return range(self.token("<|notimestamps|>") + 1, self.library.hf_tokenizer.get_vocab_size())

    @cached_property
    def languages(self) -> frozenset[str]:
        """Codes of the languages that it knows; none where there is only one."""
        if not self.multilingual:
            return frozenset()
        known = self.library.supported_languages
        exists = self.library.hf_tokenizer.token_to_id
        return frozenset(code for code in known if exists(f"<|{code}|>") is not None)

    def spectrum(self, sound: Sound) -> Sound:
        """Log-mel of one window, float32 [1, mels, frames]; what is missing of it is zeros."""
        extract = self.library.feature_extractor
        made = extract(sound)[:, : extract.nb_max_frames]
        short = extract.nb_max_frames - made.shape[1]
        return np.ascontiguousarray(np.pad(made, ((0, 0), (0, short)))[None], np.float32)

    def prompt(self, spectrum: Sound, language: str) -> list[int]:
        """What every transcript without times begins with; an empty language is detected."""
        begin = [self.token("<|startoftranscript|>")]
        if self.multilingual:
            spoken = f"<|{language}|>" if language else self._detected(spectrum)
            begin += [self.token(spoken), self.token("<|transcribe|>")]
        return [*begin, self.token("<|notimestamps|>")]

    def written(self, spectrum: Sound, prompt: list[int]) -> list[int]:
        """The likeliest token each time, up to the end and without it."""
        found = self.library.model.generate(
            _storage(spectrum), [prompt], beam_size=1, max_length=MOST_TOKENS
        )
        return list(found[0].sequences_ids[0])

    def tokens(self, sound: Sound, language: str) -> list[int]:
        """The likeliest transcript of one window, ids without control tokens."""
        spectrum = self.spectrum(sound)
        written = self.written(spectrum, self.prompt(spectrum, language))
        return [token for token in written if token < self.end]

    def text(self, tokens: Sequence[int]) -> str:
        """A transcript's words."""
        return str(self.library.hf_tokenizer.decode(list(tokens)))

    def _detected(self, spectrum: Sound) -> str:
        token: str = self.library.model.detect_language(_storage(spectrum))[0][0][0]
        return token


class WhisperSession(SpeechSession):
    """A Whisper on the processor.

    Manifest parameters: ``language``, code of what is spoken, when a request does not say;
    ``beam``, transcripts that are followed at once; ``timestamps``, false for a model that was not
    trained to say when: its segments are windows of 30 s.
    """

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        """Raises BadModel: a file is missing or a parameter wrong, or the runtime cannot load it."""
        super().__init__(
            [TensorSpec("audio", "FP32", (-1,))], [TensorSpec("tokens", "INT32", (-1,))]
        )
        self._beam = _beam(options.parameters)
        self._times = options.parameters.get("timestamps", True) is not False
        self._whisper = Whisper(model, options.files, options.usable_threads)
        self._language = str(options.parameters.get("language", ""))

    def transcribe(
        self,
        recording: Array,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = not_cancelled,
    ) -> Generator[Passage, None, None]:
        if self._closed:
            raise NotReady("the model is being unloaded")
        language, sure = self._spoken(request), 1.0
        stretches = _Stretches(audio.blocks(recording))
        with translated():
            for sound in stretches:
                if cancelled():
                    return
                found, about = self._begun(sound, request, language)
                if not language:
                    language, sure = about.language, float(about.language_probability)
                for segment in stretches.within(map(_segment, found)):
                    if cancelled():
                        return
                    yield segment
            yield Heard(language, sure, stretches.heard / RATE)

    def _begun(
        self, sound: Sound, request: TranscriptionRequest, language: str
    ) -> tuple[Iterator[Any], Any]:
        # A transcript that is fed with itself repeats itself: each window begins afresh.
        more: dict[str, Any] = (
            {} if request.temperature == 0 else {"temperature": request.temperature}
        )
        if not self._times:
            more |= {"without_timestamps": True, "suppress_tokens": [-1, *self._whisper.times]}
        segments, about = self._whisper.library.transcribe(
            sound,
            language=language or None,
            task="translate" if request.translate else "transcribe",
            beam_size=self._beam,
            initial_prompt=request.prompt or None,
            condition_on_previous_text=False,
            word_timestamps=request.words,
            **more,
        )
        return iter(segments), about

    def _spoken(self, request: TranscriptionRequest) -> str:
        """The language that is expected; empty where it is to be detected. Raises BadPayload."""
        known = self._whisper.languages or {self._language or "en"}
        if request.translate and not self._whisper.multilingual:
            raise BadPayload("this model does not translate", where="model")
        if request.language and request.language not in known:
            hint = f"It knows: {', '.join(sorted(known))}"
            message = f"the model does not know {request.language!r}"
            raise BadPayload(message, where="language", hint=hint)
        return request.language or self._language or ("" if self._whisper.multilingual else "en")

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        sound = arrays[0]
        if not 0 < len(sound) <= WINDOW or not np.isfinite(sound).all():
            raise BadPayload(f"expected 1 to {WINDOW} finite samples at {RATE} Hz", where="audio")
        return [np.asarray(self._whisper.tokens(sound, self._language), np.int32)]

    def _close(self) -> None:
        self._whisper.library.model.unload_model()


class _Stretches:
    """A recording in stretches that overlap where a segment would be cut.

    Attributes:
        heard: samples of the recording that have been decoded.
    """

    def __init__(self, blocks: Iterator[Sound]) -> None:
        self._blocks = blocks
        self._kept = np.empty(0, np.float32)
        self._first = 0  # sample of the recording with which the stretch begins
        self._ended = False
        self._cut = 0
        self.heard = 0

    def __iter__(self) -> Iterator[Sound]:
        while not self._ended:
            self._kept = self._kept[self._cut :]
            self._first += self._cut
            self._fill()
            self._cut = len(self._kept) - WINDOW
            yield self._kept

    def within(self, segments: Iterator[Segment]) -> Iterator[Segment]:
        """The stretch's segments, timed from the recording's beginning.

        One that reaches into the last window of a stretch that is not the last may go on after it:
        the next stretch begins with that one.
        """
        certain_s = np.inf if self._ended else self._cut / RATE
        for segment in segments:
            if segment.end_s > certain_s:
                begins = max(int(segment.start_s * RATE), WINDOW)  # never where it already was
                self._cut = min(self._cut, begins)
                return
            yield _later(segment, self._first / RATE)

    def _fill(self) -> None:
        have, taken = len(self._kept), [self._kept]
        while have < STRETCH:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
                break
            taken.append(block)
            have += len(block)
            self.heard += len(block)
        self._kept = np.concatenate(taken)


def _segment(found: Any) -> Segment:
    words = [
        Word(w.word, float(w.start), float(w.end), float(w.probability)) for w in found.words or ()
    ]
    return Segment(
        start_s=float(found.start),
        end_s=float(found.end),
        text=found.text,
        tokens=tuple(map(int, found.tokens)),
        temperature=float(found.temperature),
        avg_logprob=float(found.avg_logprob),
        compression_ratio=float(found.compression_ratio),
        no_speech_prob=float(found.no_speech_prob),
        words=tuple(words),
    )


def _later(segment: Segment, by_s: float) -> Segment:
    if not by_s:
        return segment
    words = [Word(w.text, w.start_s + by_s, w.end_s + by_s, w.probability) for w in segment.words]
    times = {"start_s": segment.start_s + by_s, "end_s": segment.end_s + by_s}
    return msgspec.structs.replace(segment, words=tuple(words), **times)


def _taken(model: bytes, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files that the library reads. Raises BadModel: one is missing."""
    vocabulary = next((name for name in VOCABULARIES if name in files), VOCABULARIES[0])
    wanted = {name: _file(files, name) for name in (CONFIG, TOKENIZER, vocabulary)}
    more = {PREPROCESSOR: files[PREPROCESSOR]} if PREPROCESSOR in files else {}
    return {MODEL: model, **wanted, **more}


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    found = files.get(name)
    if not found:
        hint = 'Package it with the role "data", as edge-quantize whisper does'
        raise BadModel("the package lacks the file", where=name, hint=hint)
    return found


def _beam(parameters: Mapping[str, Any]) -> int:
    beam = parameters.get("beam", BEAM)
    if not isinstance(beam, int) or not 1 <= beam <= MOST_BEAM:
        raise BadModel(f"expected 1 to {MOST_BEAM}, got {beam!r}", where="parameters.beam")
    return beam


def _library() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import ctranslate2
    import faster_whisper

    ctranslate2.set_log_level(logging.ERROR)  # it warns of each type that it computes in another
    logging.getLogger("faster_whisper").setLevel(logging.ERROR)
    return faster_whisper.WhisperModel


def _storage(spectrum: Sound) -> Any:
    import ctranslate2

    return ctranslate2.StorageView.from_array(spectrum)

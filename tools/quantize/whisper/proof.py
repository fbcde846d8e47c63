"""The proofs that what is packaged is the original: its tokenizer's ids, and its transcripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.engines.whisper import MOST_TOKENS
from agent.errors import BadModel
from tools.quantize.encoder.proof import slow_tokenizer
from tools.quantize.folder import TOKENIZER
from tools.quantize.libraries import quiet, reading
from tools.quantize.proof import EDGES, ITSELF, TEXTS, prove
from tools.quantize.whisper.evaluation import Transcriber
from tools.quantize.whisper.recordings import Samples

#: The likeliest token of one runtime may be this far below that of the other, in logits: float32 sums
#: in another order.
ROUNDING = 1e-2


def tokenizer(folder: Path) -> tuple[str, ...]:
    """See that `tokenizer.json` reads texts as transformers' own tokenizer does.

    Returns:
        What could not be proved, for the report.

    Raises:
        BadModel: it reads one differently; says which.
        EngineMissing: a library is not installed.
    """
    path = folder / TOKENIZER
    with reading(path):
        from tokenizers import Tokenizer

        packaged = Tokenizer.from_file(str(path))
    own = slow_tokenizer(folder)
    if own is None:
        return (ITSELF,)
    prove(
        lambda text: own(text, add_special_tokens=False).input_ids,
        lambda text: packaged.encode(text, add_special_tokens=False).ids,
        (*TEXTS, *EDGES),
        str(path),
    )
    return ()


def transcripts(folder: Path, model: Transcriber, sounds: Sequence[Samples]) -> None:
    """See that every token that the conversion writes is transformers' likeliest, up to rounding.

    The transcript is given to the original as a whole, so that one tie does not change what follows.

    Raises:
        BadModel: one is not; says which.
        EngineMissing: a library is not installed.
    """
    with reading(folder), quiet():
        import torch
        from transformers import WhisperForConditionalGeneration

        original = WhisperForConditionalGeneration.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
    for number, audio in enumerate(sounds, 1):
        spectrum = model.spectrum(audio)
        prompt = model.prompt(spectrum)
        written = model.written(spectrum, prompt)
        if len(prompt) + len(written) < MOST_TOKENS // 2:
            written = [*written, model.end]
        with torch.no_grad():
            given = torch.tensor([[*prompt, *written][:-1]])
            sound = torch.from_numpy(spectrum)
            logits = original(input_features=sound, decoder_input_ids=given).logits[0].float()
        found = logits[len(prompt) - 1 :]
        _silence(found, original.generation_config)
        short = found.max(dim=1).values - found[torch.arange(len(written)), torch.tensor(written)]
        if written and float(short.max()) > ROUNDING:
            message = (
                f"transcript {number} is not that of transformers: token {int(short.argmax())}"
            )
            raise BadModel(message, where=str(folder), hint="Another version of ctranslate2 may do")


def _silence(logits: Any, settings: Any) -> None:
    """Take out what neither runtime may write, at all or first."""
    logits[:, list(settings.suppress_tokens or [])] = float("-inf")
    logits[0, list(settings.begin_suppress_tokens or [])] = float("-inf")

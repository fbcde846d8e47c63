"""A tokenizer with the layout of Whisper's: bytes and words, then control tokens, then times."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import WhisperTokenizerFast
from voices import DIGITS

CONTROL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
TIMES = 1501  # 0 to 30 s by 20 ms


def tokenizer() -> WhisperTokenizerFast:
    """Byte-level pairs (Sennrich and others 2016) that make one token of each digit's word."""
    pairs = Tokenizer(BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pairs.train_from_iterator([f"{w} {w}" for w in DIGITS for _ in range(10)], trainer)
    pairs.add_special_tokens(list(CONTROL))
    times = [AddedToken(f"<|{n * 0.02:.2f}|>", normalized=False) for n in range(TIMES)]
    pairs.add_tokens(times)
    return WhisperTokenizerFast(
        tokenizer_object=pairs,
        unk_token=CONTROL[0],
        bos_token=CONTROL[0],
        eos_token=CONTROL[0],
        additional_special_tokens=list(CONTROL[1:]),
    )


def save(folder: Path, made: WhisperTokenizerFast) -> None:
    made.save_pretrained(folder)

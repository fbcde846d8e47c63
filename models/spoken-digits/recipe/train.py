"""A Whisper of under a million weights, and how it learns."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray
from speech import Bank, Utterance
from tokens import CONTROL
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperTokenizerFast,
)
from voices import DIGITS

WIDTH = 96
FRAMES = 3000  # of 10 ms: the window that every runtime pads to
PEAK = 2e-3  # learning rate
#: Steps, batch, most digits, and frames of the window: alignment is learnt on short ones.
STAGES = ((400, 16, 2, 0), (4000, 16, 5, 0), (200, 8, 5, FRAMES))
PLACED = 1.0  # weight of what the encoder alone must know
STEP = 320  # samples of a position of the encoder


def network(tokens: WhisperTokenizerFast) -> WhisperForConditionalGeneration:
    """Untrained, two layers and two."""
    first = tokens.convert_tokens_to_ids(CONTROL[0])
    start, silent = (tokens.convert_tokens_to_ids(CONTROL[i]) for i in (1, 8))
    config = WhisperConfig(
        vocab_size=len(tokens),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_target_positions=448,
        pad_token_id=first,
        bos_token_id=first,
        eos_token_id=first,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=first,
        eos_token_id=first,
        pad_token_id=first,
        decoder_start_token_id=start,
        suppress_tokens=[],
        begin_suppress_tokens=[first],
        no_timestamps_token_id=silent,
        is_multilingual=False,
        max_length=448,
        alignment_heads=[[1, head] for head in range(4)],
    )
    return model


def train(
    tokens: WhisperTokenizerFast,
    bank: Bank,
    seed: int,
    stages: Sequence[tuple[int, int, int, int]] = STAGES,
    say: Callable[[str], None] = print,
) -> WhisperForConditionalGeneration:
    """Learn from endless utterances of a bank.

    Beside what the decoder writes, the encoder is asked at every moment which word it hears: the voices
    are made, so that this is known. A decoder alone finds out late where to listen.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = network(tokens)
    model.train()
    placer = torch.nn.Linear(WIDTH, 1 + len(DIGITS))  # dropped afterwards
    parameters = [*model.parameters(), *placer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK, weight_decay=0.01)
    total = sum(stage[0] for stage in stages)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=total, pct_start=0.15
    )
    extractor = FeatureExtractor()
    step = 0
    for count, batch, most, frames in stages:
        for _ in range(count):
            heard = [bank.utterance(most) for _ in range(batch)]
            loss = _loss(model, placer, tokens, extractor, heard, bank.rng, frames)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0:
                say(f"step {step} of {total}: loss {loss.item():.4f}")
    return model.eval()


def _loss(
    model: WhisperForConditionalGeneration,
    placer: torch.nn.Linear,
    tokens: WhisperTokenizerFast,
    extractor: FeatureExtractor,
    heard: Sequence[Utterance],
    rng: np.random.Generator,
    frames: int,
) -> Tensor:
    sound = torch.from_numpy(features([u.audio for u in heard], extractor, rng, frames))
    given, wanted = targets([u.text for u in heard], tokens)
    encoded = encode(model, sound)
    logits = model(encoder_outputs=(encoded,), decoder_input_ids=given).logits
    attention = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), label_smoothing=0.02
    )
    return attention + PLACED * _placing(placer(encoded), heard)


def _placing(shares: Tensor, heard: Sequence[Utterance]) -> Tensor:
    """That the encoder knows at every moment which word it hears, or none."""
    said = torch.zeros(shares.shape[:2], dtype=torch.int64)
    for row, utterance in zip(said, heard, strict=True):
        for place, word in zip(utterance.places, utterance.text.split(), strict=True):
            row[place.start // STEP : -(-place.stop // STEP)] = 1 + list(DIGITS).index(word)
    return torch.nn.functional.cross_entropy(shares.flatten(0, 1), said.flatten())


def features(
    audios: Sequence[NDArray[np.float32]],
    extractor: FeatureExtractor,
    rng: np.random.Generator,
    frames: int,
) -> NDArray[np.float32]:
    """Log-mel spectra, float32 [batch, 80, frames], padded as runtimes pad.

    Some pad the sound with silence, others the spectrum with zeros: both are learnt.
    """
    spectra = [extractor(audio) for audio in audios]
    longest = max(s.shape[1] for s in spectra)
    count = frames or 2 * ((longest + int(rng.integers(1, 200))) // 2 + 1)
    made = np.zeros((len(spectra), 80, count), np.float32)
    for row, spectrum in zip(made, spectra, strict=True):
        if rng.random() < 0.3:
            row[:] = spectrum.min()
        row[:, : spectrum.shape[1]] = spectrum
    return made


def targets(texts: Sequence[str], tokens: WhisperTokenizerFast) -> tuple[Tensor, Tensor]:
    """What the decoder is given and what it is to write, int64 [batch, tokens]; -100 counts not."""
    prompt = [tokens.convert_tokens_to_ids(CONTROL[i]) for i in (1, 8)]
    end = tokens.convert_tokens_to_ids(CONTROL[0])
    rows = [[*prompt, *tokens(f" {t}", add_special_tokens=False).input_ids, end] for t in texts]
    width = max(map(len, rows)) - 1
    given = torch.full((len(rows), width), end)
    wanted = torch.full((len(rows), width), -100)
    for number, row in enumerate(rows):
        given[number, : len(row) - 1] = torch.tensor(row[:-1])
        wanted[number, 1 : len(row) - 1] = torch.tensor(row[2:])
    return given, wanted


def encode(model: WhisperForConditionalGeneration, sound: Tensor) -> Tensor:
    """The encoder on a window of any length: its positions are fixed sinusoids."""
    encoder = model.model.encoder
    hidden = torch.nn.functional.gelu(encoder.conv1(sound))
    hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    for layer in encoder.layers:
        hidden = layer(hidden, None, None)[0]
    return encoder.layer_norm(hidden)

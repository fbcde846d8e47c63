"""Recordings as people send them, and as attackers do."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engines import audio
from agent.errors import BadPayload, TooLarge
from tests.support.recordings import FORMS, encoded, picture
from tests.support.tiny_whisper import wav

RATE = audio.RATE


def tone(seconds: float, rate: int, hertz: float = 440.0) -> audio.Sound:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(
        np.float32
    )


def heard(data: bytes) -> audio.Sound:
    return np.concatenate(list(audio.blocks(data)))


def pitch(sound: audio.Sound) -> float:
    """The loudest frequency, Hz."""
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * RATE / len(sound))


@pytest.mark.parametrize("ending", sorted(FORMS))
def test_every_form_is_heard_at_its_pitch_and_length(ending: str) -> None:
    sound = heard(encoded(ending, tone(2.0, 48_000)))
    assert sound.dtype == np.float32
    assert len(sound) / RATE == pytest.approx(2.0, abs=0.1)
    assert pitch(sound) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16_000, 2), (44_100, 2), (96_000, 1)])
def test_any_rate_and_channels_become_16_khz_mono(rate: int, channels: int) -> None:
    sound = heard(wav(tone(1.0, rate), rate, channels))
    assert len(sound) == pytest.approx(RATE, abs=32)
    assert pitch(sound) == pytest.approx(440, abs=2)
    assert 0.45 < np.abs(sound).max() < 0.55


def test_a_wave_file_of_the_models_rate_arrives_sample_by_sample() -> None:
    wanted = tone(1.0, RATE)
    np.testing.assert_allclose(heard(wav(wanted)), wanted, atol=2 / 32768)


@pytest.mark.parametrize(
    "playlist",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile {}\n",
        b"<?xml version='1.0'?><MPD><BaseURL>file://{}</BaseURL></MPD>",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=audio 5004 RTP/AVP 0\r\n",
    ],
)
def test_a_playlist_that_leads_to_a_file_of_the_device_is_refused(
    playlist: bytes, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tone(1.0, RATE)))
    with pytest.raises(BadPayload, match="known form"):
        heard(playlist.replace(b"{}", str(secret).encode()))


def test_a_playlist_behind_a_mark_of_another_form_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(tone(1.0, RATE)))
    for mark in (b"ID3\n", b"OggS\n", b"fLaC\n", b"\xff\xf1\n", b"RIFF____WAVE\n"):
        with pytest.raises(BadPayload):
            heard(mark + b"#EXTM3U\n#EXTINF:1,\nfile://" + str(secret).encode())


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"MZ" + b"\0" * 100, b"not a recording"])
def test_what_is_no_recording_says_what_is_taken(data: bytes) -> None:
    with pytest.raises(BadPayload, match="Send wav, flac"):
        heard(data)


def test_a_recording_without_sound_says_so() -> None:
    with pytest.raises(BadPayload, match="no sound"):
        heard(picture())
    with pytest.raises(BadPayload, match="no sound"):
        heard(wav(np.empty(0, np.float32)))


def test_a_damaged_stretch_in_the_middle_costs_no_more_than_itself() -> None:
    whole = bytearray(encoded("mp3", tone(4.0, 48_000)))
    middle = len(whole) // 2
    whole[middle : middle + 400] = b"\x55" * 400
    assert len(heard(bytes(whole))) / RATE == pytest.approx(4.0, abs=0.3)


def test_a_recording_over_the_bound_is_refused_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audio, "MAX_SECONDS", 3600)
    bound = encoded("flac", np.zeros(3600 * 8000, np.float32), 8000)
    assert len(heard(bound)) == 3600 * RATE
    with pytest.raises(TooLarge, match="more than 1 hours"):
        heard(encoded("flac", np.zeros(3600 * 8000 + 8000, np.float32), 8000))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_no_mutation_does_more_than_be_refused(ending: str, data: st.DataObject) -> None:
    whole = bytearray(_SHORT[ending])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        sound = heard(bytes(whole[:cut]))
    except (BadPayload, TooLarge):
        return
    assert sound.ndim == 1
    assert len(sound) > 0


_SHORT = {ending: encoded(ending, tone(0.3, 48_000)) for ending in FORMS}


def test_a_title_in_another_alphabet_than_unicode_does_not_matter() -> None:
    """Recorders write the names of their places as they please; every release of the library is to pass them."""
    plain = wav(tone(0.5, RATE))
    title = b"Caf\xe9 \xff\xfe."
    told = b"INFOINAM" + len(title).to_bytes(4, "little") + title
    listed = b"LIST" + len(told).to_bytes(4, "little") + told
    size = len(plain) - 8 + len(listed)
    recording = b"RIFF" + size.to_bytes(4, "little") + plain[8:12] + listed + plain[12:]
    np.testing.assert_array_equal(heard(recording), heard(plain))

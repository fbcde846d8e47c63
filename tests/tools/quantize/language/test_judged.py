"""What a language model is judged on: the project's texts, or a person's own."""

from pathlib import Path

import pytest

from agent.errors import BadPayload
from tools.quantize.language.judged import MAX_FILE, projects, read

TEXT = "The pump in the yard hums, and the valve is open."


def written(folder: Path, content: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_text(content)
    return path


def test_without_a_file_it_is_200_questions_and_a_story() -> None:
    found = read(None)
    assert len(found.prompts) == 200
    assert len(found.passages) == 7
    assert found == projects()


def test_a_persons_texts_and_questions_come_with_their_slices(tmp_path: Path) -> None:
    lines = f'{{"text": "{TEXT}", "slice": "yard"}}\n\n{{"prompt": "Why?"}}\n'
    found = read(written(tmp_path, lines))
    assert [(p.kind, p.text) for p in found.passages] == [("yard", TEXT)]
    assert [(p.kind, p.text) for p in found.prompts] == [("prompts", "Why?")]
    assert found.about == "1 texts and 1 questions of mine.jsonl"


def test_what_a_file_does_not_have_is_the_projects_and_said(tmp_path: Path) -> None:
    found = read(written(tmp_path, '{"prompt": "Why?"}'))
    assert found.passages == projects().passages
    assert len(found.prompts) == 1
    assert "texts of the project's own" in found.about


@pytest.mark.parametrize(
    "content",
    [
        "Why?",
        '{"question": "Why?"}',
        "{}",
        f'{{"text": "{TEXT}", "prompt": "Why?"}}',
        '{"prompt": ""}',
        '{"text": "short"}',
    ],
)
def test_a_line_that_is_neither_is_named(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, f'{{"prompt": "Why?"}}\n{content}\n')
    with pytest.raises(BadPayload, match="line 2"):
        read(path)


def test_an_empty_a_missing_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPayload, match="no text and no prompt"):
        read(written(tmp_path, "\n"))
    with pytest.raises(BadPayload, match="cannot be read"):
        read(tmp_path / "nowhere.jsonl")
    with pytest.raises(BadPayload, match="at most 1 MiB"):
        read(written(tmp_path, "\n" * (MAX_FILE + 1)))


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b'{"prompt": "\xff\xfe"}')
    with pytest.raises(BadPayload, match="line 1"):
        read(path)

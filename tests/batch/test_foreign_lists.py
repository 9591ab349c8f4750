"""Files that people take for lists of prompts, and lists with numbers or bullets."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.foreign_lists import without_marks
from linfusion_cli.batch.prompt_files import read_rows
from linfusion_cli.errors import UsageError

RUN = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["6", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle\nat dusk"}},
}
EDITED = {
    "last_node_id": 9,
    "nodes": [{"id": 7, "type": "CLIPTextEncode", "widgets_values": ["a castle at dusk"]}],
    "links": [],
    "version": 0.4,
}


def read(path: Path) -> tuple[list[object], list[str], list[str]]:
    problems: list[str] = []
    notes: list[str] = []
    rows = read_rows(str(path), problems, notes)
    return [row.values.get("prompt") for row in rows], problems, notes


@pytest.mark.parametrize("ending", ["txt", "json", "jsonl", "yaml"])
@pytest.mark.parametrize("data", [RUN, EDITED, list(RUN.values()), {"prompt": RUN}])
def test_a_workflow_of_comfyui_is_named_with_its_texts(tmp_path: Path, ending: str, data: object) -> None:
    path = tmp_path / f"workflow.{ending}"
    path.write_text(json.dumps(data))
    try:
        prompts, problems, _ = read(path)
    except UsageError as error:
        prompts, problems = [], [str(error)]
    assert prompts == []
    (problem,) = problems
    assert 'a workflow of ComfyUI, not a list of prompts (it holds "a castle at dusk")' in problem
    assert "one on each line" in problem
    assert len(problem) <= 400


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ('["a castle", "a lake"]', ".json"),
        ('[\n  {"prompt": "a castle"}\n]', ".json"),
        ('{"prompt": "a castle"}\n{"prompt": "a lake"}\n', ".jsonl"),
    ],
)
def test_json_in_a_text_is_told_its_ending(tmp_path: Path, text: str, ending: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UsageError, match=f"Name it {ending},"):
        read(tmp_path / "a.txt")
    (tmp_path / f"a{ending}").write_text(text)
    prompts, problems, _ = read(tmp_path / f"a{ending}")
    assert prompts[0] == "a castle"
    assert not problems


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("\n<!DOCTYPE html>\n<title>x</title>", "web page"),
        ("<html><body>a castle</body>", "web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_what_was_saved_in_place_of_a_list_is_told(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UsageError, match=what):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("text", ["[red|blue] house", "{a|b} house\n{c|d} lake", "[a castle]", "[1, 2]", "{}", "[]"])
def test_brackets_of_prompts_are_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    assert read(tmp_path / "a.txt")[0][0] == text.split("\n")[0]


@pytest.mark.parametrize(
    "marks",
    [("1. ", "2. ", "3. "), ("1) ", "2) ", "3) "), ("0. ", "1. ", "2. "), ("- ",) * 3, ("* ",) * 3, ("• ",) * 3],
)
def test_numbers_and_bullets_are_taken_off_with_a_note(tmp_path: Path, marks: tuple[str, ...]) -> None:
    prompts = ["a castle", "2. of 3 lakes -w 64", "3 trees"]
    lines = [f"{mark}{prompt}" for mark, prompt in zip(marks, prompts, strict=True)]
    (tmp_path / "a.txt").write_text(f"# a comment\n\n{lines[0]}\r\n  {lines[1]}\n\n{lines[2]}")
    found, problems, notes = read(tmp_path / "a.txt")
    assert found == prompts
    assert not problems
    (note,) = notes
    assert "at the start of its lines" in note
    assert lines[0] in note


@pytest.mark.parametrize(
    "text",
    [
        "2. a castle\n3. a lake",
        "1. a castle\na lake",
        "1. a castle\n3. a lake",
        "3 trees\n4 trees",
        "1girl\n2girls",
        "1.5 castles\n2.5 lakes",
        "- a castle\n* a lake and more\nno bullet",
        "-5 degrees\n-6 degrees",
    ],
)
def test_what_may_be_part_of_the_prompts_stays(text: str) -> None:
    assert without_marks(text) == (text, "")


@pytest.mark.slow
@given(st.text())
def test_any_text_keeps_its_lines(text: str) -> None:
    found, note = without_marks(text)
    assert (found == text) or note
    assert len(found) <= len(text)

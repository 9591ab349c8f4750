"""Lists in five formats say the same, and what is wrong in them is said with file and line, all of it at once."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.prompt_files import READERS, _words, read_rows
from linfusion_cli.errors import UsageError

SAME = {
    "a.txt": '\ufeff# a list\na lake, at dawn\n\n  "quoted" hills --seed 7 --size 64x64 --negative "people, cars"\n'
    '--prompt "a b" --steps=5\r\n',
    "a.jsonl": '{"prompt": "a lake, at dawn"}\n\n'
    '{"prompt": "\\"quoted\\" hills", "seed": "7", "size": "64x64", "negative": "people, cars"}\n'
    '{"prompt": "a b", "steps": "5"}\n',
    "a.csv": 'prompt,seed,size,negative,steps\n"a lake, at dawn",,,,\n"""quoted"" hills",7,64x64,"people, cars",\n'
    "a b,,,,5\n",
    "a.toml": '[[jobs]]\nprompt = "a lake, at dawn"\n[[jobs]]\nprompt = \'"quoted" hills\'\n'
    'seed = "7"\nsize = "64x64"\nnegative = "people, cars"\n'
    '[[jobs]]\nprompt = "a b"\nsteps = "5"\n',
    "a.yaml": '- a lake, at dawn\n- prompt: \'"quoted" hills\'\n  seed: "7"\n  size: 64x64\n'
    '  negative: people, cars\n- {prompt: a b, steps: "5"}\n',
}


@pytest.mark.parametrize("name", SAME)
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    path, problems = tmp_path / name, []
    path.write_text(SAME[name], encoding="utf-8", newline="")
    rows = read_rows(str(path), problems)
    assert problems == []
    assert [dict(row.values) for row in rows] == [
        {"prompt": "a lake, at dawn"},
        {"prompt": '"quoted" hills', "seed": "7", "size": "64x64", "negative": "people, cars"},
        {"prompt": "a b", "steps": "5"},
    ]
    lines = {"a.txt": [2, 4, 5], "a.jsonl": [1, 3, 4], "a.csv": [2, 3, 4], "a.toml": [1, 3, 8], "a.yaml": [1, 2, 6]}
    assert [row.place for row in rows] == [f"{path}:{line}" for line in lines[name]]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a lake -n people -p landscape", {"prompt": "a lake", "negative": "people", "preset": "landscape"}),
        ("a lake --prompt-weights --seed 7", {"prompt": "a lake", "prompt-weights": "true", "seed": "7"}),
        ("a lake --seed 7 --no-keep-projections", {"prompt": "a lake", "seed": "7", "keep-projections": "false"}),
        ("a lake --prompt-weights false", {"prompt": "a lake", "prompt-weights": "false"}),
        ("the well-known, -n- and - a - lake", {"prompt": "the well-known, -n- and - a - lake"}),
    ],
)
def test_flags_are_written_as_on_the_command_line(tmp_path: Path, line: str, values: dict[str, str]) -> None:
    path, problems = tmp_path / "a.txt", []
    path.write_text(line)
    assert [dict(row.values) for row in read_rows(str(path), problems)] == [values]
    assert problems == []


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.txt", "a --seed", ":1: seed lacks its value"),
        ("a.txt", "a --seed 1 --seed 2", ":1: seed is given twice"),
        ("a.txt", "ok\na --negative no cars", ':2: "cars" belongs to no flag'),
        ("a.txt", "ok\na --negative 'open", ":2: No closing quotation"),
        ("a.jsonl", "{}\n[1]", ':2: no JSON object: write {"prompt": "..."}'),
        ("a.jsonl", '{"prompt": NaN}', ":1: no JSON object: the line can't be used: NaN is no number"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "the name prompt stands twice"),
        ("a.jsonl", "[" * 100_000, ":1: no JSON object: the line can't be used: it is nested more than 100 deep"),
        ("a.jsonl", '{"prompt": "a", "seed": ' + "9" * 5000 + "}", "has 5000 digits, at most 20 are read"),
        ("a.jsonl", '{"prompt": "a", "guidance": 1e999}', "the number 1e999 is out of range"),
        (
            "a.csv",
            "text\na",
            ':1: the first line must name the columns, each once, one of them "prompt", '
            'with commas between them. Found: "text"',
        ),
        ("a.csv", "prompt\na,b", ":2: 2 cells, but 1 column. Put quotes"),
        ("a.csv", 'prompt\n"a', ":2: no CSV"),
        ("a.toml", "jobs = [", ":1: broken TOML"),
        ("a.toml", "[[job]]\nprompt = 'a'", ':1: unknown key "job". Allowed: jobs, defaults'),
        ("a.toml", "jobs = 3", ":1: write a list `jobs`"),
        ("a.yaml", "- a\n- [b]\n", ":2: write {"),
        ("a.yaml", "a: &x [1]\nb: *x", ":1: aliases"),
        ("a.yaml", "- a\n- {b", ":2: broken YAML"),
        ("a.yaml", "- !!python/object/apply:os.system [id]", "broken YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path, problems = tmp_path / name, []
    path.write_text(text, encoding="utf-8")
    read_rows(str(path), problems)
    assert len(problems) == 1
    assert problems[0].startswith(str(path))
    assert problem in problems[0]


def test_defaults_hold_for_all_jobs(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('jobs = ["a", "b"]\n[defaults]\nsize = "4k"\n')
    assert [dict(row.values) for row in read_rows(str(tmp_path / "a.toml"), [])] == [
        {"size": "4k", "prompt": "a"},
        {"size": "4k", "prompt": "b"},
    ]


def test_files_that_can_not_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_rows(str(tmp_path / "none.txt"), [])
    with pytest.raises(UsageError, match=r"Allowed: \.txt"):
        read_rows("list.docx", [])
    (tmp_path / "latin.txt").write_bytes(b"ok\ncaf\xe9\n")
    with pytest.raises(UsageError, match=r"latin\.txt:2: not a text in UTF-8"):
        read_rows(str(tmp_path / "latin.txt"), [])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\n".encode())))
    assert [(row.place, row.values) for row in read_rows("-", [])] == [("stdin:1", {"prompt": "é"})]


@given(st.text(max_size=200), st.sampled_from(sorted(READERS)))
def test_no_text_breaks_a_reader(text: str, suffix: str) -> None:
    for line, found in READERS[suffix](text):
        assert line >= 1
        assert isinstance(found, str | dict)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_prompt_survives_jsonl(prompt: str) -> None:
    assert [found for _, found in READERS[".jsonl"](json.dumps({"prompt": prompt}, ensure_ascii=False))] == [
        {"prompt": prompt}
    ]


@given(st.text(st.sampled_from(list("a=-é\"' \t\r\n\x0b\xa0\\#")), max_size=16))
def test_words_are_those_of_a_shell(text: str) -> None:
    try:
        asked: list[str] | str = shlex.split(text)
    except ValueError:
        asked = "refused"
    try:
        found: list[str] | str = _words(text)
    except UsageError:
        found = "refused"
    assert found == asked

"""Lists in five formats say the same, and what is wrong in them is said with file and line, all of it at once."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.prompt_files import READERS, _entry_starts, read_rows
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


SAME["a.tsv"] = SAME["a.csv"].replace(",", "\t").replace("lake\t", "lake,").replace("people\t", "people,")
SAME["a.json"] = (
    '[\n"a lake, at dawn",\n\n{"prompt": "\\"quoted\\" hills", "seed": "7",\n"size": "64x64", '
    '"negative": "people, cars"},\n{"prompt": "a b", "steps": "5"}]'
)


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
    lines |= {"a.tsv": [2, 3, 4], "a.json": [2, 4, 6]}
    assert [row.place for row in rows] == [f"{path}:{line}" for line in lines[name]]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.txt", "a --seed", ":1: seed lacks its value"),
        ("a.txt", "a --seed 1 --seed 2", ":1: seed is given twice"),
        ("a.txt", "ok\na --seed 7 cars", ':2: "cars" belongs to no flag'),
        ("a.json", '["a",\n\n "b"', ":3: broken JSON: the file is not JSON at line 3"),
        ("a.json", '["a",\n 3]', ":2: write {"),
        ("a.json", '{"job": []}', ':1: unknown key "job". Allowed: jobs, defaults'),
        ("a.tsv", "prompt\tseed\na\t1\tb", ":2: 3 cells, but 2 columns"),
        ("a.txt", "ok\na --negative 'open", ":2: No closing quotation"),
        ("a.jsonl", "{}\n[1]", ':2: not a JSON object: write {"prompt": "..."}'),
        ("a.jsonl", '{"prompt": NaN}', ":1: not a JSON object: the line can't be used: NaN is not a number"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "the name prompt stands twice"),
        ("a.jsonl", "[" * 100_000, ":1: not a JSON object: the line can't be used: it is nested more than 100 deep"),
        ("a.jsonl", '{"prompt": "a", "seed": ' + "9" * 5000 + "}", "has 5000 digits, at most 20 are read"),
        ("a.jsonl", '{"prompt": "a", "guidance": 1e999}', "the number 1e999 is out of range"),
        (
            "a.csv",
            "words\na",
            ':1: the first line must name the columns, each once, one of them "prompt", '
            'with commas between them. Found: "words"',
        ),
        ("a.csv", "prompt\na,b", ":2: 2 cells, but 1 column. Put quotes"),
        ("a.csv", 'prompt\n"a', ":2: not CSV"),
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


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAME))
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_line_ends_and_encodings_change_nothing(tmp_path: Path, name: str, line_end: str, encoding: str) -> None:
    text = SAME[name].removeprefix("\ufeff").replace("\r\n", "\n")
    plain, other = tmp_path / "plain" / name, tmp_path / "other" / name
    for path, data in ((plain, text.encode()), (other, text.replace("\n", line_end).encode(encoding))):
        path.parent.mkdir()
        path.write_bytes(data)
    problems: list[str] = []
    asked = [(row.place.rpartition(":")[2], row.values) for row in read_rows(str(plain), problems)]
    assert [(row.place.rpartition(":")[2], row.values) for row in read_rows(str(other), problems)] == asked
    assert len(asked) == 3
    assert problems == []


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("a.csv", 'prompt;seed\n"a lake; at dawn";7\n', {"prompt": "a lake; at dawn", "seed": "7"}),
        (
            "a.csv",
            'Prompt, "CFG Scale",\n "a lake, at dawn",7,,,\n',
            {"Prompt": "a lake, at dawn", "CFG Scale": "7"},
        ),
        ("a.csv", "prompt\tseed\na lake, at dawn\t\n", {"prompt": "a lake, at dawn"}),
        ("a.json", '{"prompt": "a"}\n', {"prompt": "a"}),
        ("a.json", '{"prompt": "a"}\n\n', {"prompt": "a"}),
        ("a.yaml", "jobs: ['\"a b\"']\ndefaults: {seed: 7}", {"prompt": "a b", "seed": 7}),
    ],
)
def test_tables_and_lists_as_people_save_them(tmp_path: Path, name: str, text: str, values: dict[str, object]) -> None:
    (tmp_path / name).write_text(text)
    problems: list[str] = []
    assert [dict(row.values) for row in read_rows(str(tmp_path / name), problems)] == [values]
    assert problems == []


def test_json_lines_in_a_json_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    assert [row.place.rpartition(":")[2] for row in read_rows(str(tmp_path / "a.json"), [])] == ["1", "2"]


def test_what_of_pasted_settings_is_not_used_is_noted(tmp_path: Path) -> None:
    path, notes = tmp_path / "a.txt", []
    path.write_text("a lake\nNegative prompt: people\nSteps: 20, Seed: 7, Model: dream, Hires steps: 3\n")
    rows = read_rows(str(path), [], notes)
    assert [dict(row.values) for row in rows] == [
        {"prompt": "a lake", "negative_prompt": "people", "steps": "20", "seed": "7"}
    ]
    assert notes == [f"{path}:1: not used of the pasted settings: Model: dream, Hires steps: 3"]


@pytest.mark.slow
@given(st.lists(st.sampled_from(['"a, {b"', '{"jobs": 1}', '{"prompt": ["x", "y"]}', "3"]), max_size=6), st.booleans())
def test_entries_of_json_have_their_own_lines(entries: list[str], in_object: bool) -> None:
    text = ",\n".join(entries)
    text = f'{{"defaults": {{"jobs": [1, [2]]}}, "jobs": [\n{text}], "x": [1, 2]}}' if in_object else f"[\n{text}]"
    json.loads(text)
    starts = _entry_starts(text, in_object=in_object)
    assert [text.count("\n", 0, start) for start in starts[: len(entries)]] == list(range(1, len(entries) + 1))


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

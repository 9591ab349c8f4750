"""Tasks of a list: choices, lists and seeds multiplied out, ids without a place in them, names inside the folder."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.messages import Order
from linfusion_cli.batch.prompt_choices import chosen
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.row_values import row_types
from linfusion_cli.batch.task_list import NAME_TEMPLATE, Task, make_tasks, shard_of
from linfusion_cli.batch.wildcards import Wildcards
from linfusion_cli.cli.app import app
from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.kind import Kind
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve


def tasks_of(
    *rows: Mapping[str, object], template: str = NAME_TEMPLATE, **common: object
) -> tuple[list[Task], list[str]]:
    problems: list[str] = []
    made = make_tasks(
        [Row(f"list:{i}", row) for i, row in enumerate(rows, 1)],
        common,
        template,
        Journal(Path("/nonexistent")).numbers,
        problems,
    )
    return made, problems


def test_ids_and_names_are_those_of_the_job_itself() -> None:
    ((task,), problems) = tasks_of({"prompt": "a lake", "seed": 7, "size": "64x64", "steps": "5", "cfg_scale": 3})
    job = resolve(task.request(Path("out"), overwrite=False))
    assert problems == []
    assert (job_hash(job), job.output.name) == (task.id, task.name)
    assert task.name == f"a-lake-7-{task.id[:8]}.png"
    assert (job.settings.sampling.steps, job.settings.sampling.guidance_scale, str(job.size)) == (5, 3.0, "64x64")


def test_choices_lists_and_seeds_are_multiplied_out() -> None:
    made, problems = tasks_of({"prompt": "a {red|blue} {lake|hill}", "size": ["64x64", "128x64"]}, seed="1..3")
    assert problems == []
    assert len({task.id for task in made}) == len(made) == 2 * 2 * 2 * 3
    assert {task.prompt for task in made} == {"a red lake", "a red hill", "a blue lake", "a blue hill"}
    assert list(chosen("{a|b{c|d}} {e} {|f}")) == ["a {e} ", "a {e} f", "bc {e} ", "bc {e} f", "bd {e} ", "bd {e} f"]
    assert list(chosen("a {red|{green|blue}} lake {x} }{ {|")) == [
        f"a {colour} lake {{x}} }}{{ {{|" for colour in ("red", "green", "blue")
    ]


BATCHS_OWN = {"--prompt-file", "--dry-run", "--json", "--quiet", "--log-file", "--yes"}


def test_every_flag_of_generate_is_a_key() -> None:
    """Under the names that --help shows; where an image goes and how it is worked on is not a row's to say."""
    command = typer.main.get_command(app).commands["generate"]  # type: ignore[attr-defined]
    flags = {
        option for parameter in command.params for option in parameter.opts if option.startswith("--")
    } - BATCHS_OWN
    assert len(flags) > 35
    for flag in flags:
        _, problems = tasks_of({"prompt": "a lake", flag.removeprefix("--"): object()})
        assert not any("unknown key" in problem and "a row says neither" not in problem for problem in problems), (
            problems
        )


@pytest.mark.slow
def test_braces_that_would_make_too_many_or_go_too_deep_are_refused() -> None:
    for prompt, problem in (("{a|b}" * 40, "more than 1,000,000 images"), ("{a|" * 5000 + "}" * 5000, "too deep")):
        made, problems = tasks_of({"prompt": prompt})
        assert made == []
        assert len(problems) == 1
        assert problem in told(problems[0])


def test_rows_without_a_seed_get_one_from_their_words() -> None:
    first, _ = tasks_of({"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"})
    second, _ = tasks_of({"prompt": "new"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": "a"})
    assert len(first) == 3
    assert {task.id for task in first} <= {task.id for task in second}
    same, _ = tasks_of({"prompt": "a", "seed": 1}, {"prompt": "a", "seed": 1})
    assert len(same) == 1


def noted(*rows: Row, **common: object) -> tuple[list[Task], list[str]]:
    problems: list[str] = []
    notes: list[str] = []
    made = make_tasks(rows, common, NAME_TEMPLATE, Journal(Path("/nonexistent")).numbers, problems, notes)
    assert problems == []
    return made, notes


def test_one_side_alone_keeps_the_usual_other_one() -> None:
    made, notes = noted(Row("l:1", {"prompt": "a", "width": "640"}), Row("l:2", {"prompt": "a", "Height": 64}))
    assert [str(task.kind.job.size) for task in made] == ["640x2160", "3840x64"]
    assert notes == [
        "l:1: 640x2160: the height is the usual one, as only the other side is given",
        "l:2: 3840x64: the width is the usual one, as only the other side is given",
    ]
    made, _ = noted(Row("l:1", {"prompt": "a", "width": 640}), size="128x96")
    assert [str(task.kind.job.size) for task in made] == ["640x96"]


def test_columns_that_are_no_options_are_noted_once() -> None:
    rows = [Row(f"a.csv:{i}", {"prompt": f"{i}", "sede": "7", "Name": "x"}, "a.csv:1") for i in (2, 3)]
    made, notes = noted(*rows)
    assert len(made) == 2
    assert notes == [
        'a.csv:1: the column "sede" is not an option and is not used. Did you mean "seed"?',
        'a.csv:1: the column "Name" is not an option and is not used',
    ]


def test_names_of_keys_may_have_blanks_and_capitals() -> None:
    made, _ = noted(Row("l:1", {" Prompt ": "a", "CFG Scale": "3", "Negative prompt": "b", "Seed": None}), size="64x64")
    assert made[0].kind.request.guidance == 3
    assert made[0].kind.request.negative_prompt == "b"
    assert made[0].seed == noted(Row("l:9", {"prompt": "a"}), size="64x64", guidance=3, negative_prompt="b")[0][0].seed


@pytest.mark.parametrize("seed", [-1, "-1", -1.0, "random", " -1 "])
def test_seed_minus_one_is_a_seed_that_is_not_given(seed: object) -> None:
    (asked,), _ = tasks_of({"prompt": "a"})
    (made,), problems = tasks_of({"prompt": "a", "seed": seed})
    assert problems == []
    assert made.id == asked.id


def test_counts_give_following_seeds_or_seeds_of_the_words() -> None:
    made, _ = tasks_of({"prompt": "a", "seed": 7, "n_iter": 2, "batch_size": 2})
    assert [task.seed for task in made] == [7, 8, 9, 10]
    made, _ = tasks_of({"prompt": "a", "count": 3})
    asked, _ = tasks_of(*[{"prompt": "a"}] * 3)
    assert [task.id for task in made] == [task.id for task in asked]


def test_weights_of_choices_are_noted() -> None:
    made, notes = noted(Row("l:1", {"prompt": "{0.5::a|b}"}))
    assert [task.prompt for task in made] == ["a", "b"]
    assert notes == ["l:1: {0.5::...}: every choice is made, so weights above 0 change nothing"]


def test_models_are_loaded_once_per_group() -> None:
    made, _ = tasks_of(*[{"prompt": "a", "seed": i, "attention": ("linear", "softmax")[i % 2]} for i in range(6)])
    assert [task.kind.job.settings.model.attention for task in made] == ["linear"] * 3 + ["softmax"] * 3


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({}, "there is no prompt"),
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "a", "sede": 1}, 'unknown key "sede". Did you mean "seed'),
        ({"prompt": "a", "output": "/etc/passwd"}, 'unknown key "output"'),
        ({"prompt": "a", "overwrite": True}, 'unknown key "overwrite"'),
        ({"prompt": "a", "seed": "x"}, 'seed = "x": write numbers and ranges'),
        ({"prompt": "a", "seed": "9..1"}, "write them upwards"),
        ({"prompt": "a", "seed": -2}, "--seed -2: write a whole number"),
        ({"prompt": "a", "count": 0}, "count = 0: write a whole number from 1"),
        ({"prompt": "a", "n_iter": 2, "count": 2}, '"count" is given twice'),
        ({"prompt": "{3$$a|b}"}, '"{3$$a|b}": it has 2 choices to take'),
        ({"prompt": "a", "count": "fog"}, 'count = "fog": write a whole number; what not to draw is --negative-prompt'),
        ({"prompt": "a", "seed": 1.5}, "seed = 1.5: write a whole number"),
        ({"prompt": "a", "seed": True}, "seed = true: write a whole number"),
        ({"prompt": "a", "seed": []}, "an empty list"),
        ({"prompt": "a", "steps": "many"}, 'steps = "many": write a whole number'),
        ({"prompt": "a", "steps": 1e400}, "write a whole number"),
        ({"prompt": {"a": 1}}, 'prompt = {"a": 1}: write a text'),
        ({"prompt": "a", "size": "9x9"}, "--size 9x9"),
        ({"prompt": "a", "width": 64, "size": "64x64"}, "--size and --width both say how large the image is"),
        ({"prompt": "a", "width": 64, "preset": ["landscape", "lcm"]}, "give the whole size"),
        ({"prompt": "a", "width": [64, 72], "height": 64}, "give a list of sizes"),
        ({"prompt": "a", "width": 9}, "--width 9: write a multiple of 8 from 8 to 1048576. Nearest: 8"),
        ({"prompt": "a", "aspect": "wide"}, '--aspect "wide": write W:H'),
        ({"prompt": "a", "strength": 0.5}, "--strength wants --init-image"),
        ({"prompt": "a", "negative": "b", "negative_prompt": "c"}, "is given twice"),
        ({"prompt": "a", "preset": "landscpe"}, 'Did you mean "landscape"'),
        ({"prompt": "a", "seed": "0..999999", "size": ["64x64", "64x128"]}, "more than 1,000,000 images"),
    ],
)
def test_a_row_that_can_not_be_is_a_problem(row: dict[str, object], problem: str) -> None:
    made, problems = tasks_of({"prompt": "good", "seed": 1}, row)
    assert [task.prompt for task in made] == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith("list:2: ")
    assert problem in told(problems[0])


@pytest.mark.parametrize("template", ["{slug}", "image", "{slug}-{size}"])
def test_two_images_never_share_a_name(template: str) -> None:
    rows = {"prompt": "É lake", "seed": 1}, {"prompt": "é lake", "seed": 2}
    _, problems = tasks_of(*rows, template=template)
    assert (found := re.search(r"is the name of list:1 too\. Put (\{\w+\}) into ", told(problems[0])))
    assert tasks_of(*rows, template=f"{template}-{found[1]}")[1] == []


def test_ids_that_share_their_first_digits_are_told_apart_by_another_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some pairs of a million prompts do."""
    monkeypatch.setattr(Kind, "name_of", lambda kind, *_: "173a8b60.png")
    rows = {"prompt": "a lake", "seed": 1}, {"prompt": "a hill", "seed": 2}
    for template, field in ("{id}", "{seed}"), ("{id}-{seed}", "{index}"):
        assert f"Put {field} into" in told(tasks_of(*rows, template=template)[1][0])


@pytest.mark.parametrize(
    "template", ["../{slug}", "/etc/x", "{slug.__class__}", "{0}", "a/b", "", "x" * 300, "..", "{prompt}", "a\x1b[31m"]
)
def test_templates_that_lead_elsewhere_are_refused(template: str) -> None:
    made, problems = tasks_of({"prompt": "a lake", "seed": 1}, template=template)
    assert made == []
    assert len(problems) == 1


NASTY = st.sampled_from(
    [
        "/",
        "..",
        "\\",
        "~",
        "-rf",
        "\x1b[31m",
        "\x1b]8;;http://x\x07",
        "\u202e",
        "[/b]",
        "%n",
        "🏔" * 63,
        "CON",
        "\n",
        "é",
        ".",
    ]
)


@pytest.mark.slow
@given(
    st.lists(
        st.one_of(NASTY, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)),
        min_size=1,
        max_size=30,
    )
)
def test_a_name_is_one_part_of_a_path_whatever_the_prompt(parts: list[str]) -> None:
    prompt = "".join(parts)
    made, problems = tasks_of({"prompt": prompt, "seed": 1})
    for task in made:
        assert Path(task.name).name == task.name
        assert not task.name.startswith(("-", "."))
        assert task.name.isprintable()
        assert len(task.name.encode()) <= 240
        assert "\x1b" not in task.name
    assert len(made) + len(problems) >= 1


def test_shards_are_a_partition_however_they_are_counted() -> None:
    made, _ = tasks_of(*[{"prompt": "a", "seed": i} for i in range(40)])
    parts = [{task.id for task in shard_of(made, i, 3)} for i in range(4)]
    assert parts[0] == parts[3]
    assert sorted(parts[0] | parts[1] | parts[2]) == sorted(task.id for task in made)
    assert sum(len(part) for part in parts[:3]) == 40


def test_requests_go_to_the_child_and_back() -> None:
    request = Request(
        prompt="a\n\u202e", seed=3, output=Path("x/y.png"), stages_folder=Path("s"), steps=4, guidance=2.5
    )
    order = Order(id="a" * 64, request=request, less_bytes=5)
    assert Order.from_json(json.loads(json.dumps(order.as_json()))) == order
    assert {field.name for field in dataclasses.fields(Request)} > set(row_types())


def test_a_flag_that_can_not_be_meant_is_said_once() -> None:
    made, problems = tasks_of({"prompt": "a"}, {"prompt": "b"}, seed="9..1")
    assert made == []
    assert len(problems) == 1
    assert "write them upwards" in problems[0]


def test_values_that_python_calls_equal_are_not_taken_for_each_other() -> None:
    made, problems = tasks_of(
        {"prompt": "a", "steps": 1}, {"prompt": "a", "steps": True}, {"prompt": "a", "steps": 1.0}, size="64x64"
    )
    assert [(task.place, type(task.kind.request.steps)) for task in made] == [("list:1", int), ("list:3", int)]
    assert problems == ["list:2: steps = true: write a whole number"]


@pytest.fixture
def armour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LoRA in the configured folder of models."""
    path = tmp_path / "loras" / "armour.safetensors"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setenv("LINFUSION_MODELS", str(tmp_path))
    return path


def test_a_lora_in_a_prompt_is_the_rows_lora(armour: Path) -> None:
    made, problems = tasks_of(
        {"prompt": "a {knight|queen} <lora:armour:0.8>"}, {"prompt": "a {knight|queen}", "lora": "armour:0.8"}
    )
    assert problems == []
    assert [task.prompt for task in made] == ["a knight", "a queen"]  # the rows ask for the same images
    for task in made:
        job = resolve(task.request(Path("out"), overwrite=False))
        assert (job_hash(job), job.output.name) == (task.id, task.name)
        assert job.settings.extras.loras == (f"{armour}:0.8",)


def test_a_lora_in_a_wildcards_line_is_drawn_with_it(armour: Path, tmp_path: Path) -> None:
    (tmp_path / "style.txt").write_text("in steel <lora:armour:0.2:0.7>\n")
    problems: list[str] = []
    notes: list[str] = []
    rows = [Row("list:1", {"prompt": "a knight, __style__"})]
    (task,) = make_tasks(
        rows, {}, NAME_TEMPLATE, Journal(Path("/nonexistent")).numbers, problems, notes, Wildcards(tmp_path)
    )
    job = resolve(task.request(Path("out"), overwrite=False))
    assert (task.prompt, job_hash(job)) == ("a knight, in steel", task.id)
    assert job.settings.extras.loras == (f"{armour}:0.7:0.2",)
    assert (problems, ["0.7 for the UNet" in note for note in notes]) == ([], [True])


def test_an_unknown_lora_in_a_prompt_is_wrong_in_its_row(armour: Path) -> None:
    made, problems = tasks_of({"prompt": "a lake"}, {"prompt": "a knight <lora:armor:1>"})
    assert len(made) == 1
    assert len(problems) == 1
    assert problems[0].startswith("list:2: ")
    assert 'Did you mean "armour"' in problems[0]


def test_a_list_of_many_configurations_looks_at_files_as_one_of_few_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are opened and folders listed for the first configuration alone: seconds for 20,000, not minutes."""
    (mine := tmp_path / "mine.toml").write_text('extends = "landscape"\n[sampling]\nsteps = 3\n')
    looked: list[str] = []
    for call in ("open", "listdir", "scandir"):
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, call=call, real=real, **k: looked.append(call) or real(*a, **k))

    def looks(count: int, **common: object) -> int:
        looked.clear()
        rows = [{"prompt": "a lake", "guidance": 1 + i / 1000} for i in range(count)]
        made, problems = tasks_of(*rows, **common)
        assert (problems, len({task.kind for task in made})) == ([], count)
        return len(looked)

    for common in ({}, {"preset": str(mine)}, {"model": "builtin:landscape"}):
        looks(1, **common)  # imports
        few, many = looks(3, **common), looks(30, **common)
        assert few > 0
        assert many == few, common

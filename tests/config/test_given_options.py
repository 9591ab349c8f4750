"""Options beat presets, and what decides pixels is in the record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.batch.row_values import row_types
from linfusion_cli.cli.reference import reference
from linfusion_cli.config import options
from linfusion_cli.config.given_options import given_options, overrides
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError

ASKED = Request(prompt="a")
EXAMPLES: dict[type, Any] = {str: "x", int: 1, float: 0.5, bool: True, Path: Path("folder/x")}


def example(row: OptionRow) -> Any:
    value = row.choices[-1] if row.choices else EXAMPLES[row.kind]
    return (value,) if row.repeatable else value


@pytest.mark.parametrize("row", options.OPTIONS, ids=lambda row: row.key)
def test_an_option_is_recorded_exactly_if_it_decides_pixels(row: OptionRow) -> None:
    asked = replace(ASKED, **{row.key: example(row)})
    recorded = overrides(asked)
    if row.decides_pixels and not row.record_key:
        assert list(recorded) == [f"--{row.name}"]
    else:
        assert recorded == {}


@pytest.mark.parametrize("row", options.OPTIONS, ids=lambda row: row.key)
def test_an_option_beats_its_preset_key_and_no_other(row: OptionRow) -> None:
    given = given_options(replace(ASKED, **{row.key: example(row)}))
    expected = {row.preset_key} - {""} | ({"model.base_attention"} if row.key == "attention" else set())
    assert set(given) == expected
    assert all(one.option in (row.key, "attention") for one in given.values())


def test_no_linfusion_is_softmax_everywhere() -> None:
    given = given_options(replace(ASKED, linfusion="none"))
    assert {key: one.value for key, one in given.items()} == {
        "model.attention": "softmax",
        "model.base_attention": "softmax",
    }
    assert overrides(replace(ASKED, linfusion="none")) == {"--linfusion": "none"}


def test_the_record_names_no_folder_of_a_local_file(tmp_path: Path) -> None:
    local = tmp_path / "private" / "x.safetensors"
    local.parent.mkdir()
    local.touch()
    for row in options.OPTIONS:
        if row.is_location and not row.record_key:
            value: Any = local if row.kind is Path else str(local)
            asked = replace(ASKED, **{row.key: (value,) if row.repeatable else value})
            assert "private" not in str(overrides(asked)), row.key
            assert "x.safetensors" in str(overrides(asked)), row.key


def test_an_upscaled_image_beats_one_to_start_from() -> None:
    assert overrides(replace(ASKED, init_image=Path("a.png"), upscale_image=Path("b.png"))) == {}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest(Request):
    """A request with the field of a new row."""

    growth: float | None = None


def test_a_new_row_is_flag_batch_key_preset_key_record_and_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OptionRow(key="growth", kind=float, metavar="X", help="How much a stage grows.", preset_key="upscale.factor")
    monkeypatch.setattr(options, "OPTIONS", (*options.OPTIONS, row))
    job = resolve(NewRequest(prompt="a", growth=3.0))
    assert job.settings.upscale.factor == 3.0
    assert job.overrides == {"--growth": 3.0}
    assert row_types()["growth"] == float | None
    assert "| `--growth` X | `growth` | `upscale.factor` | `growth` |" in reference()


def test_a_count_from_1_is_kept_from_0_under_the_old_keys() -> None:
    job = resolve(replace(ASKED, clip_skip=2))
    assert (job.settings.extras.clip_skip, job.overrides) == (1, {"--clip-skip": 1})
    for wrong in (0, 13):
        with pytest.raises(UsageError, match=f"clip_skip {wrong}: write a whole number from 1 to 12"):
            resolve(replace(ASKED, clip_skip=wrong))

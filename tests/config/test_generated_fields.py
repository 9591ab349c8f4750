"""A row of the tables is enough: `make reference` writes the fields and the default that follow from it."""

from pathlib import Path

import pytest

from linfusion_cli.config import options, preset_keys
from linfusion_cli.config.generated_fields import with_defaults, with_preset_fields, with_request_fields
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.preset_key import PresetKey
from linfusion_cli.config.value_range import Range

CONFIG = Path(options.__file__).parent
DEFAULTS = Path(__file__).parents[2] / "presets" / "defaults.toml"
REQUEST, SCHEMA = ((CONFIG / name).read_text() for name in ("request.py", "preset_schema.py"))
SHARPNESS = OptionRow(
    key="sharpness", kind=float, help="How sharp.", preset_key="sampling.sharpness", range=Range(0, 1), neutral=0.0
)
RESIZE = PresetKey(
    key="upscale.resize_masks", kind=str, help="x", choices=("lanczos", "bicubic", "bilinear"), neutral="lanczos"
)
MODE = PresetKey(key="output.mode", kind=str, help="x", choices=("plain", "odd"), neutral="plain")


def test_nothing_is_to_be_written_now() -> None:
    assert with_request_fields(REQUEST) == REQUEST
    assert with_preset_fields(SCHEMA) == SCHEMA
    assert with_defaults(DEFAULTS.read_text()) == DEFAULTS.read_text()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (SHARPNESS, "sharpness: float | None = None"),
        (OptionRow(key="masks", kind=Path, help="x", repeatable=True), "masks: tuple[Path, ...] = ()"),
        (OptionRow(key="mode", kind=str, help="x", default="plain"), 'mode: str = "plain"'),
        (OptionRow(key="quick", kind=bool, help="x", default=False), "quick: bool = False"),
    ],
)
def test_an_option_becomes_a_field_of_request(row: OptionRow, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "OPTIONS", (*options.OPTIONS, row))
    made = with_request_fields(REQUEST)
    assert f"    {field}\n    index: int = 0" in made
    assert with_request_fields(made) == made
    compile(made, "request.py", "exec")


def test_a_key_becomes_a_field_of_its_section_and_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "OPTIONS", (*options.OPTIONS, SHARPNESS))
    monkeypatch.setattr(preset_keys, "FILE_ONLY", (*preset_keys.FILE_ONLY, RESIZE, MODE))
    made = with_preset_fields(SCHEMA)
    assert made != SCHEMA
    section = made.partition("class SamplingSettings(")[2].partition("class ")[0]
    assert '    sharpness: float = _key("sampling.sharpness")\n' in section
    assert "    resize_masks: Resize\n" in made.partition("class UpscaleSettings(")[2].partition("class ")[0]
    assert '    mode: Literal["plain", "odd"]\n' in made.partition("class OutputSettings(")[2].partition("class ")[0]
    compile(made, "preset_schema.py", "exec")
    text = with_defaults(DEFAULTS.read_text())
    assert "sharpness = 0.0\n" in text.partition("[sampling]")[2].partition("\n[")[0]
    assert 'resize_masks = "lanczos"\n' in text.partition("[upscale]")[2].partition("\n[")[0]
    assert with_defaults(text) == text

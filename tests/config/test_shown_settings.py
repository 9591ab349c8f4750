"""A record names no folder of the machine that made the image."""

import json
from pathlib import Path

from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.shown_settings import shown_settings


def test_locations_are_shown_by_their_names_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    weights = tmp_path / "secret" / "style.safetensors"
    weights.write_bytes(b"")
    preset = tmp_path / "own.toml"
    preset.write_text(f'[extras]\nloras = ["{weights}", "someone/repository"]\n')
    settings = load_preset(str(preset)).settings
    shown = shown_settings(settings)
    assert "secret" not in json.dumps(shown)
    assert shown["extras"]["loras"] == ["style.safetensors", "someone/repository"]
    assert shown["sampling"] == settings.model_dump(mode="json")["sampling"]

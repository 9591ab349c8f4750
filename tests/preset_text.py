"""Presets that tests write, and the refusals of those that can't be used."""

from pathlib import Path

import pytest

from linfusion_cli.config.presets import load_preset
from linfusion_cli.errors import UsageError


def written(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def refusal(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_preset(name)
    return str(caught.value)

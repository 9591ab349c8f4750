"""Shared by the tests of presets."""

from pathlib import Path

import pytest

from linfusion_cli.config import preset_files as files_of_presets


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's own presets."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setattr(files_of_presets, "user_folder", lambda: folder)
    return folder

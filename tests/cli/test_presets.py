"""`linfusion presets`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.config import preset_files as files_of_presets
from linfusion_cli.config.preset_files import shipped_folder
from linfusion_cli.config.preset_schema import schema
from linfusion_cli.config.presets import load_preset


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's own presets."""
    monkeypatch.setattr(files_of_presets, "user_folder", lambda: tmp_path)
    return tmp_path


def test_list_names_every_preset_with_its_size(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert main(["presets", "list"]) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    for path in shipped_folder().glob("*.toml"):
        assert (path.stem in rows) == (path.stem != "defaults")
    assert "16k" in rows["sdxl-16k"]
    assert str(own_folder) in text


def test_list_shows_the_user_s_own_and_survives_a_broken_one(
    capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    (own_folder / "mine.toml").write_text(
        "# Lakes only.\n# Measured: 3 s, 1 GB, 2026-01-01, a laptop\n", encoding="utf-8"
    )
    (own_folder / "bad.toml").write_text("[", encoding="utf-8")
    assert main(["presets", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert all(words in rows["mine"] for words in ("you", "3 s, 1 GB, 2026-01-01, a laptop", "Lakes only."))
    assert "broken: " in rows["bad"]


def test_show_is_toml_that_gives_the_same_settings(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    assert main(["presets", "show", "sdxl-16k"]) == 0
    text = capsys.readouterr().out
    assert "# preset sdxl-4k" in text
    assert "# defaults.toml" in text
    tomllib.loads(text)
    (own_folder / "copy.toml").write_text(text, encoding="utf-8")
    assert load_preset("copy").settings == load_preset("sdxl-16k").settings


def test_check_accepts_a_good_file_and_names_the_line_of_a_bad_one(
    capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    file = own_folder / "mine.toml"
    file.write_text("[sampling]\nsteps = 30\n", encoding="utf-8")
    assert main(["presets", "check", str(file)]) == 0
    assert f"good. 1 of {len(schema())} settings" in capsys.readouterr().out
    file.write_text('[output]\n\nname = "{sed}.png"\n', encoding="utf-8")
    assert main(["presets", "check", str(file)]) == 2
    assert 'mine.toml, line 3: output.name "{sed}.png": unknown field' in capsys.readouterr().err


def test_check_follows_every_location(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    """All that lead nowhere are named at once; what can be fetched is a note with one command."""
    file = own_folder / "mine.toml"
    lost = (
        "nix/",
        "./vae",
        "./unet.safetensors",
        "./lora.safetensors",
        "./words.safetensors",
        "./net",
        "./ip",
        "./enc",
    )
    model = f'linfusion = ["{lost[0]}", "builtin:landscape"]\nvae = "{lost[1]}"\nunet = "{lost[2]}"\n'
    extras = (
        f'loras = ["{lost[3]}:0.5"]\ntextual_inversions = ["{lost[4]}"]\ncontrolnets = ["{lost[5]}"]\n'
        f'ip_adapter = "{lost[6]}"\nip_encoder = "{lost[7]}"\n'
    )
    file.write_text(f"[model]\n{model}[extras]\n{extras}", encoding="utf-8")
    assert main(["presets", "check", str(file)]) == 66
    told = capsys.readouterr().err
    assert [place for place in lost if f"{place}: there is no such file or folder" not in told] == []
    away = {place: f"owner/{number}" for number, place in enumerate(lost)}
    text = file.read_text()
    for place, on_hub in away.items():
        text = text.replace(f'"{place}', f'"{on_hub}')
    file.write_text(text)
    assert main(["presets", "check", str(file)]) == 0
    out = capsys.readouterr().out
    assert ": good. " in out
    assert out.count("linfusion fetch") == 1
    assert all(on_hub in out for on_hub in away.values() if on_hub != "owner/0"), "LinFusion is here already"


def test_check_reads_the_weights_that_are_here(capsys: pytest.CaptureFixture[str], own_folder: Path) -> None:
    (own_folder / "lora.safetensors").write_bytes(b"<html>")
    file = own_folder / "mine.toml"
    file.write_text(f'[extras]\nloras = ["{own_folder / "lora.safetensors"}"]\n')
    assert main(["presets", "check", str(file)]) == 66
    assert "lora.safetensors" in capsys.readouterr().err

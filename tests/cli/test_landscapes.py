"""`linfusion landscapes`: scenes on disk with their captions, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.cli.app import main


def test_render_writes_images_and_captions(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert (
            main(["landscapes", "render", "--count", "2", "--size", "64x32", "--seed", "5", "-o", str(tmp_path / name)])
            == 0
        )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["0000.png", "0000.txt", "0001.png", "0001.txt"]
    images = [np.asarray(Image.open(tmp_path / name / "0001.png")) for name in ("a", "b")]
    assert images[0].shape == (32, 64, 3)
    assert np.array_equal(*images)
    assert "," in (tmp_path / "a" / "0000.txt").read_text()


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, lines in (((), 1), (("--quiet",), 0)):
        assert (
            main(
                ["landscapes", "render", "--count", "1", "--size", "64x32", "--overwrite", "-o", str(tmp_path), *words]
            )
            == 0
        )
        captured = capsys.readouterr()
        assert (len(captured.out.splitlines()), captured.err) == (lines, "")


def test_a_folder_that_can_not_be_made_is_an_output_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["landscapes", "render", "-o", str(tmp_path / "file" / "deeper")]) == 74
    assert "can't make the folder" in capsys.readouterr().err


def test_training_an_unknown_part_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["landscapes", "train", "everything"]) == 2
    assert "autoencoder" in capsys.readouterr().err


def test_scenes_that_are_there_are_not_replaced_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "0001.txt").write_text("mine")
    words = ["landscapes", "render", "--count", "2", "--size", "64x32", "-o", str(tmp_path)]
    assert main(words) == 74
    assert "0001.txt exists. Give another folder with -o, or --overwrite" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    assert main([*words, "--overwrite"]) == 0


@pytest.mark.parametrize(("part", "first"), [("denoiser", "autoencoder"), ("export", "autoencoder")])
def test_a_part_before_its_turn_names_the_one_that_is_first(
    tmp_path: Path, part: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["landscapes", "train", part, "--folder", str(tmp_path / "runs")]) == 2
    assert f"First: linfusion landscapes train {first} --folder {tmp_path / 'runs'}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["autoencoder"], ["denoiser", "--from", "builtin:landscape"]])
def test_a_decoder_alone_needs_a_trained_autoencoder(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["landscapes", "train", *words, "--decoder-only"]) == 2
    assert "--from builtin:landscape" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["denoiser"], ["autoencoder", "--from", "builtin:landscape"]])
def test_only_a_denoiser_that_is_trained_further_keeps_how_it_composes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["landscapes", "train", *words, "--keep-composition"]) == 2
    assert "denoiser --from builtin:landscape" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["autoencoder", "--window-share", "0.5"], ["export", "--linear-share", "0"]])
def test_the_denoisers_shares_are_refused_for_other_parts(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["landscapes", "train", *words]) == 2
    assert "are of the denoiser" in capsys.readouterr().err

"""Weights are found on this machine alone; a location that is not here is told with what to do."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.locate import (
    HubLocation,
    cache_folder,
    find,
    fingerprint,
    local_path,
    missing,
    nowhere,
    stamp,
)
from linfusion_cli.weights.safetensors_header import read_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"a": torch.randn(4, 5)}, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository owner/name in the hub's cache, whose main is the commit c0."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "models--owner--name"
    (folder / "snapshots" / "c0" / "unet").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0")
    return folder / "snapshots" / "c0"


def test_places_on_the_hub() -> None:
    assert HubLocation.parse("a/b") == HubLocation("a/b", "", "")
    assert HubLocation.parse("a/b@v1", "other") == HubLocation("a/b", "v1", "")
    assert HubLocation.parse("a/b/c/d.safetensors", "main") == HubLocation("a/b", "main", "c/d.safetensors")
    for bad in ("a", "", "/etc/passwd", "../x", "a/..", "a/b@../../x", "a/b/../c", "~/x"):
        assert HubLocation.parse(bad) is None


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (":0.5", "has a weight and no location before it"),
        (":", "names no weights"),
        ("", "names no weights"),
        ("nofile", "looked up in a folder of models"),
        ("builtin:nothing", "Allowed: builtin:landscape"),
        ("a" * 300, "a name of 300 bytes"),
        ("é" * 200, "a name of 400 bytes"),
        ("owner/" + "a" * 300, "a name of 300 bytes"),
        ("owner/" + "a" * 100, "is written OWNER/NAME"),
        ("owner/name/" + "a" * 300 + ".safetensors", "a name of 312 bytes"),
    ],
)
def test_a_location_that_can_lead_nowhere_is_told_so_and_not_to_be_fetched(location: str, reason: str) -> None:
    assert find(location) is None
    assert local_path(location) is None
    error = nowhere((location,), "lora")
    assert error is not None
    assert reason in str(error)
    assert error.parameter == "lora"
    assert len(str(error)) <= 400


@given(st.text(max_size=400))
def test_no_location_raises_what_is_not_of_its_own(location: str) -> None:
    """A name on the hub is one that can be fetched; all others are told why not."""
    try:
        found = find(location)
    except WeightsError:
        return
    if found is None:
        assert (nowhere((location,), "lora") is None) == (HubLocation.parse(location) is not None)


def test_fingerprints_change_with_the_contents(file: Path) -> None:
    before = fingerprint(file)
    assert fingerprint(file) == before
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert fingerprint(file) != before


WORD = st.text("aZ0_.-", min_size=1, max_size=5)


@given(st.lists(WORD, min_size=2, max_size=4), WORD | st.just(""))
def test_a_location_on_the_hub_is_written_as_it_is_read(parts: list[str], revision: str) -> None:
    text = "/".join(parts) + (f"@{revision}" if revision else "")
    location = HubLocation.parse(text)
    hidden = any(part[0] in ".-" for part in [*parts, *([revision] if revision else [])])
    assert (location is None) == hidden
    assert hidden or str(location) == text


def test_files_folders_and_built_in_models_are_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(str(file)) == file
    assert find(str(file.parent)) == file.parent
    assert find("builtin:landscape") == builtin_folder("builtin:landscape")
    monkeypatch.setenv("HOME", str(file.parent))
    assert find("~/x.safetensors") == file


@pytest.mark.parametrize(
    "location", ["", " ", "nothing.safetensors", "owner/other", "builtin:nothing", "~nobody-has-this-name/x", "a\0b"]
)
def test_what_is_not_here_is_nothing_and_told(location: str) -> None:
    assert find(location) is None
    assert local_path(location) is None
    assert isinstance(missing((location,), "", "model"), WeightsError)


def test_the_hubs_cache_is_read_by_revision_and_path(snapshot: Path) -> None:
    assert cache_folder() == snapshot.parents[2]
    assert find("owner/name") == snapshot
    assert find("owner/name/unet") == snapshot / "unet"
    assert find("https://huggingface.co/owner/name/tree/main/unet") == snapshot / "unet"
    assert find("owner/name@c0") == snapshot
    assert find("owner/name", "c0") == snapshot
    assert find("owner/name@v2") is None
    assert find("owner/name/vae") is None


def test_weights_of_the_package_and_of_the_cache_are_not_the_users_own(file: Path, snapshot: Path) -> None:
    assert local_path(str(file)) == file
    assert find("owner/name") == snapshot
    assert local_path("owner/name") is local_path("builtin:landscape") is None


def test_a_device_is_no_file_of_weights() -> None:
    with pytest.raises(WeightsError, match="pipe, a device or a socket"):
        find(os.devnull)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("", "names no weights"),
        ("/nowhere/x.safetensors", "no such file or folder"),
        ("./x", "no such file or folder"),
        ("models/x.safetensors", "no such file or folder"),
        ("x.safetensors", "no such file or folder"),
        ("owner/name/x.safetensors", "linfusion fetch lora=.owner/name/x.safetensors"),
        ("owner/name", "linfusion fetch lora=.owner/name"),
    ],
)
def test_a_path_is_missing_and_a_repository_is_fetched(location: str, said: str) -> None:
    with pytest.raises(WeightsError, match=said) as caught:
        raise missing((location,), "", "lora")
    assert "fetch" in str(caught.value) or caught.value.parameter == "lora"


def test_a_preset_is_fetched_whole_and_a_revision_is_named_once() -> None:
    assert str(missing(("owner/name",), "v2", "model", preset="sd15-4k")).endswith("linfusion fetch sd15-4k")
    assert "owner/name@v2" in str(missing(("owner/name",), "v2", "model"))
    assert "@v1@" not in str(missing(("owner/name@v1",), "v2", "model"))


def test_a_fingerprint_is_of_contents_and_a_stamp_of_times_too(file: Path) -> None:
    header = read_header(file)
    before = fingerprint(file), stamp(file, [header])
    os.utime(file, ns=(1, 1))
    assert fingerprint(file) == before[0]
    assert stamp(file, [header]) != before[1]


def test_the_fingerprint_of_a_folder_counts_its_weights_and_configs_alone(file: Path) -> None:
    before = fingerprint(file.parent)
    (file.parent / "README.md").write_text("x")
    assert fingerprint(file.parent) == before
    (file.parent / "config.json").write_text("{}")
    changed = fingerprint(file.parent)
    assert changed != before
    (file.parent / "config.json").rename(file.parent / "other.json")
    assert fingerprint(file.parent) not in (before, changed)


def test_the_samples_of_a_large_file_reach_its_last_part(tmp_path: Path) -> None:
    """Other weights of the same size differ everywhere; one of the blocks that are read shows it."""
    path = tmp_path / "x.safetensors"
    path.write_bytes(bytes(4 << 20))
    before = fingerprint(path)
    with path.open("r+b") as opened:
        opened.seek((4 << 20) * 15 // 16)
        opened.write(b"\1")
    assert fingerprint(path) != before


def test_the_stamp_of_a_file_that_is_gone_is_another(file: Path) -> None:
    header = read_header(file)
    before = stamp(file.parent, [header])
    file.unlink()
    assert stamp(file.parent, [header]) != before

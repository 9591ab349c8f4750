"""What a preset needs: whether it is here and whole, and which files of a repository are fetched for it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.requirements import Kind, Requirement, encoder_weights, files_of, missing_parts

STEM = "diffusion_pytorch_model"
MODEL = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    f"unet/{STEM}.safetensors",
    f"unet/{STEM}.fp16.safetensors",
    "unet/config.json",
    f"vae/{STEM}.safetensors",
    "vae/config.json",
)
NOT_NEEDED = (
    "README.md",
    "model.ckpt",
    "v1-5-pruned.safetensors",
    f"unet/{STEM}.bin",
    "safety_checker/model.safetensors",
    "unet/deeper/config.json",
)


def requirement(kind: Kind, *locations: str, variant: str = "", family: str = "sd15") -> Requirement:
    return Requirement(kind, locations or ("owner/name",), "", variant, family)


def weights(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(1)}, path)
    return path


def part(folder: Path) -> Path:
    weights(folder / f"{STEM}.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name in ("unet", "vae"):
        part(folder / name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    index = {name: ["diffusers", "X"] for name in ("unet", "vae", "scheduler")} | {"safety_checker": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_model_is_fetched_in_one_variant_and_without_what_nobody_reads() -> None:
    plain = files_of(requirement("model"), "", [*MODEL, *NOT_NEEDED])
    assert set(plain) == {name for name in MODEL if ".fp16." not in name}
    half = files_of(requirement("model", variant="fp16"), "", [*MODEL, *NOT_NEEDED])
    assert f"unet/{STEM}.fp16.safetensors" in half
    assert f"unet/{STEM}.safetensors" not in half
    assert f"vae/{STEM}.safetensors" in half, "a part without the variant is taken as it is"


def test_of_a_part_that_is_replaced_only_the_config_is_fetched() -> None:
    replaced = Requirement("model", ("owner/name",), "", "", "sd15", ("unet",))
    found = files_of(replaced, "", MODEL)
    assert "unet/config.json" in found
    assert not any(name.startswith("unet/") and name.endswith(".safetensors") for name in found)
    assert f"vae/{STEM}.safetensors" in found


def test_a_model_without_the_weights_of_a_replaced_part_is_whole(model: Path) -> None:
    for path in (model / "unet").glob("*.safetensors"):
        path.unlink()
    assert missing_parts(model, "model", "") == ["unet"]
    assert missing_parts(model, "model", "", ("unet",)) == []
    for path in (model / "unet").iterdir():
        path.unlink()
    assert missing_parts(model, "model", "", ("unet",)) == ["unet"]


def test_what_is_in_the_hubs_cache_in_part_is_fetched(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = requirement("model", str(model))
    assert not cached.to_fetch()
    for path in (model / "unet").glob("*.safetensors"):
        path.unlink()
    assert not cached.to_fetch()  # a folder of the user's own: what it lacks is told by name
    monkeypatch.setattr("linfusion_cli.weights.requirements.cache_folder", lambda: model.parent)
    assert cached.to_fetch()
    assert requirement("model", "owner/nowhere").to_fetch()


def test_shards_come_with_the_index_that_names_them() -> None:
    shards = [f"unet/{STEM}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = f"unet/{STEM}.safetensors.index.json"
    found = files_of(requirement("model"), "", ["model_index.json", "unet/config.json", index, *shards])
    assert {index, *shards} <= set(found)


@given(st.lists(st.sampled_from([*MODEL, *NOT_NEEDED]), unique=True), st.sampled_from(["", "fp16"]))
def test_nothing_but_safetensors_and_configs_is_ever_fetched(names: list[str], variant: str) -> None:
    try:
        found = files_of(requirement("model", variant=variant), "", names)
    except WeightsError:
        return
    assert set(found) <= set(names)
    assert all(name.endswith((".safetensors", ".json", ".txt")) for name in found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("kind", "inside", "names", "expected"),
    [
        ("lora", "", ["a.safetensors", "b/c.safetensors", "x.bin"], ["a.safetensors"]),
        ("lora", "b/c.safetensors", ["a.safetensors", "b/c.safetensors"], ["b/c.safetensors"]),
        ("lora", "b", ["a.safetensors", "b/c.safetensors"], ["b/c.safetensors"]),
        ("vae", "", [f"{STEM}.safetensors", "config.json", "x.bin"], ["config.json", f"{STEM}.safetensors"]),
        ("unet", "", list(MODEL), ["unet/config.json", f"unet/{STEM}.safetensors"]),
        ("unet", "", [f"{STEM}.safetensors", "config.json"], ["config.json", f"{STEM}.safetensors"]),
        (
            "ip-adapter",
            "models/x.safetensors",
            ["models/x.safetensors", "models/image_encoder/config.json"],
            ["models/x.safetensors", "models/image_encoder/config.json"],
        ),
    ],
)
def test_the_files_of_each_kind(kind: Kind, inside: str, names: list[str], expected: list[str]) -> None:
    assert list(files_of(requirement(kind), inside, names)) == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.ckpt", "x.md"], r"only pickles such as a\.ckpt.*linfusion convert"),
        (["x.md"], "no such file"),
        ([], "no such"),
    ],
)
def test_a_repository_that_holds_none_is_refused_with_its_name(names: list[str], said: str) -> None:
    with pytest.raises(WeightsError, match=f"owner/name: holds {said}"):
        files_of(requirement("lora"), "", names)


def test_a_single_file_that_is_not_there_is_not_replaced_by_another() -> None:
    with pytest.raises(WeightsError, match="no such file"):
        files_of(requirement("lora"), "b.safetensors", ["a.safetensors"])


def test_the_weights_of_an_image_encoder_are_those_of_its_folder() -> None:
    names = ["models/image_encoder/model.safetensors", "image_encoder/model.safetensors", "image_encoder/model.bin"]
    assert encoder_weights("image_encoder", names) == ["image_encoder/model.safetensors"]


def test_a_model_lacks_the_parts_that_its_index_names(model: Path) -> None:
    assert missing_parts(model, "model", "") == []
    (model / "vae" / f"{STEM}.safetensors").unlink()
    (model / "scheduler" / "scheduler_config.json").unlink()
    assert missing_parts(model, "model", "") == ["scheduler", "vae"]
    (model / "model_index.json").write_text("{")
    assert missing_parts(model, "model", "") == ["model_index.json"]


def test_the_first_location_that_is_whole_is_the_one(model: Path, tmp_path: Path) -> None:
    torn = part(tmp_path / "torn" / "unet").parent
    (torn / "model_index.json").write_text('{"unet": ["a", "b"], "vae": ["a", "b"]}')
    wanted = requirement("model", "owner/missing", str(torn), str(model))
    assert wanted.here() == model
    assert wanted.found() == torn
    assert requirement("model", "owner/missing").here() is None
    assert requirement("model", "builtin:landscape").here() == builtin_folder("builtin:landscape")


@pytest.mark.parametrize("kind", ["lora", "textual-inversion", "ip-adapter"])
def test_files_with_names_of_their_own_are_here_with_any(tmp_path: Path, kind: Kind) -> None:
    wanted = requirement(kind, str(tmp_path))
    assert wanted.here() is None
    weights(tmp_path / "anything.safetensors")
    assert wanted.here() == tmp_path


def test_the_official_adapter_of_the_family_is_looked_for(tmp_path: Path) -> None:
    weights(tmp_path / "models" / "ip-adapter_sd15.safetensors")
    assert requirement("ip-adapter", str(tmp_path)).here() == tmp_path
    assert requirement("ip-adapter", str(tmp_path), family="sdxl").here() is None


@pytest.mark.parametrize("inside", ["", "vae"])
def test_a_part_is_here_alone_or_inside_a_model(tmp_path: Path, inside: str) -> None:
    part(tmp_path / inside)
    assert requirement("vae", str(tmp_path)).here() == tmp_path


def test_an_option_is_named_with_underscores() -> None:
    assert requirement("textual-inversion").parameter == "textual_inversion"

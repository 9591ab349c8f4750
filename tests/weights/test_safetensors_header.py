"""Safetensors headers and families: what is torn or damaged or foreign is named before anything is read."""

import os
import time
from pathlib import Path

import pytest
import torch
from families import FAMILIES, tiny_unet, tiny_vae
from original_layout import ldm_unet
from safetensors.torch import save_file

from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.locate import HubLocation, find, fingerprint
from linfusion_cli.weights.model_family import check_kind, family_of, family_of_model, kind_of
from linfusion_cli.weights.requirements import Requirement, files_of
from linfusion_cli.weights.safetensors_header import read_header, weight_files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {
        "a": torch.randn(4, 5),
        "b": torch.randn(7).half(),
        "c": torch.arange(3),
        "d": torch.randn(2, 2).bfloat16(),
    }
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    return tmp_path / "x.safetensors"


def test_reads_what_safetensors_wrote(file: Path) -> None:
    from safetensors.torch import load_file

    theirs, ours = load_file(file), read_tensors(read_header(file), None)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    converted = read_tensors(read_header(file), torch.float16)
    assert [converted[name].dtype for name in "abcd"] == [torch.float16, torch.float16, torch.int64, torch.float16]
    assert read_header(file).parameters == 20 + 7 + 3 + 4


@pytest.mark.parametrize("kept", [0, 5, 8, 20, 100, -1])
def test_a_cut_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="cut off"):
        read_header(file)


def test_a_damaged_header_is_refused(file: Path) -> None:
    data = file.read_bytes()
    for old, new in ((b'"F32"', b'"F99"'), (b"[4,5]", b"[4,9]"), (b'{"', b"{x")):
        assert old in data
        file.write_bytes(data.replace(old, new, 1))
        with pytest.raises(WeightsError, match="damaged"):
            read_header(file)


@pytest.mark.parametrize("name", ["model.ckpt", "a.bin", "b.pt"])
def test_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04evil")
    with pytest.raises(WeightsError, match=r"run any code .*\.safetensors"):
        find(str(tmp_path / name))
    with pytest.raises(WeightsError, match="run any code"):
        weight_files(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_told_by_the_tensors_in_both_layouts(family: str, tmp_path: Path) -> None:
    unet = tiny_unet(family)
    save_file(dict(unet.state_dict()), tmp_path / "a.safetensors")
    save_file(
        {f"model.diffusion_model.{k}": v.contiguous() for k, v in ldm_unet(unet).items()}, tmp_path / "b.safetensors"
    )
    kinds = []
    for name in ("a", "b"):
        tensors = read_header(tmp_path / f"{name}.safetensors").tensors
        assert family_of(tensors, tmp_path) == family
        kinds.append(kind_of(tensors))
    assert kinds == ["unet", "checkpoint"]


def test_inpainting_models_and_other_files_are_refused(tmp_path: Path) -> None:
    tensors = dict(tiny_unet("sd15").state_dict())
    tensors["conv_in.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"9 channels .*inpainting"):
        family_of(read_header(tmp_path / "a.safetensors").tensors, tmp_path)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 3)}, tmp_path / "b.safetensors")
    tensors_of_lora = read_header(tmp_path / "b.safetensors").tensors
    with pytest.raises(WeightsError, match="Did you mean lora"):
        family_of(tensors_of_lora, tmp_path)
    with pytest.raises(WeightsError, match=r"controlnet .*looks like: lora.*Did you mean lora"):
        check_kind(tensors_of_lora, "controlnet", tmp_path, "controlnet")


def test_places_on_the_hub() -> None:
    assert HubLocation.parse("a/b") == HubLocation("a/b", "", "")
    assert HubLocation.parse("a/b@v1", "other") == HubLocation("a/b", "v1", "")
    assert HubLocation.parse("a/b/c/d.safetensors", "main") == HubLocation("a/b", "main", "c/d.safetensors")
    for bad in ("a", "", "/etc/passwd", "../x", "a/..", "a/b@../../x", "a/b/../c", "~/x"):
        assert HubLocation.parse(bad) is None


def test_fingerprints_change_with_the_contents(file: Path) -> None:
    before = fingerprint(file)
    assert fingerprint(file) == before
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert fingerprint(file) != before


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize("given", ["", "fp16"])
@pytest.mark.parametrize("shard", ["10GB", "2KB"])
def test_variants_and_shards_as_diffusers_writes_them(tmp_path: Path, variant: str, given: str, shard: str) -> None:
    tiny_vae().save_pretrained(tmp_path, variant=variant or None, max_shard_size=shard)
    found = weight_files(tmp_path, given)
    assert sorted(found) == sorted(tmp_path.glob("*.safetensors"))
    assert (len(found) > 1) == (shard == "2KB")
    names = [f"vae/{path.name}" for path in sorted(tmp_path.iterdir())]
    requirement = Requirement("model", ("owner/name",), "", given, "sd15")
    assert {name for name in names if "safetensors" in name} <= set(
        files_of(requirement, "", ["model_index.json", *names])
    )


def test_the_variant_asked_for_is_taken_before_the_others(tmp_path: Path) -> None:
    vae = tiny_vae()
    vae.save_pretrained(tmp_path)
    vae.save_pretrained(tmp_path, variant="fp16", max_shard_size="2KB")
    assert [path.name for path in weight_files(tmp_path)] == ["diffusion_pytorch_model.safetensors"]
    assert all(".fp16-" in path.name for path in weight_files(tmp_path, "fp16"))


@pytest.mark.parametrize(
    ("start", "named"),
    [(b"GGUF\3\0\0\0", "GGUF"), (b"<!DOCTYPE html>", "a web page"), (b"version https://git-lfs", "LFS pointer")],
)
def test_files_of_another_format_are_named(tmp_path: Path, start: bytes, named: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(start + b" " * 200)
    with pytest.raises(WeightsError, match=named) as caught:
        read_header(tmp_path / "model.safetensors")
    assert "Remove" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn.proj.weight", "Flux"),
        ("adapter.body.0.block1.weight", "a T2I-Adapter"),
        ("lllite_unet_input_blocks_4_1.down.0.weight", "a ControlNet-LLLite"),
    ],
)
def test_models_of_other_architectures_are_named(tmp_path: Path, name: str, named: str) -> None:
    save_file({name: torch.ones(2, 2, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=named):
        family_of_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}',
        '{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999999]}',
        '{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,4]}',
        '{"dtype":"F32","shape":[' + ",".join(["1152921504606846976"] * 100_000) + '],"data_offsets":[0,4]}',
    ],
)
def test_numbers_beyond_all_files_are_refused_soon(entry: str, tmp_path: Path) -> None:
    text = f'{{"a":{entry}}}'.encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"0000")
    started = time.process_time()
    with pytest.raises(WeightsError, match="header is damaged"):
        read_header(path)
    assert time.process_time() - started < 2


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="pipe"):
        read_header(tmp_path / "x.safetensors")

"""Safetensors headers: what is torn or damaged or foreign is named before anything is read."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from families import tiny_vae
from safetensors.torch import save_file

from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.locate import find
from linfusion_cli.weights.requirements import Requirement, files_of
from linfusion_cli.weights.safetensors_header import read_header, refuse_broken_index, weight_files


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
@pytest.mark.covers("truncated files", "refused")
def test_a_cut_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut off|: an empty file") as caught:
        read_header(file)
    assert f"Remove {file.name} and get it again" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"F32"', b'"F99"', "holds numbers as F99, which linfusion can't read"),
        (b'"F32"', b'"f32"', "header is damaged"),
        (b"[4,5]", b"[4,9]", "has other bytes than its shape"),
        (b'{"', b"{x", "header is damaged"),
    ],
)
def test_a_header_that_is_wrong_says_why_and_not_to_get_it_again(file: Path, old: bytes, new: bytes, said: str) -> None:
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, 1))
    with pytest.raises(WeightsError) as caught:
        read_header(file)
    assert said in str(caught.value)
    assert "again" not in str(caught.value).replace("save it again", "")


def test_bytes_behind_the_last_tensor_are_told(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x" * 7)
    with pytest.raises(WeightsError, match=r"has 7 bytes behind its last tensor.*get it again"):
        read_header(file)


@pytest.mark.parametrize("name", ["model.ckpt", "a.bin", "b.pt"])
@pytest.mark.covers("pickles (`.ckpt`, `.pt`, `.pth`, `.bin`)", "refused")
def test_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04evil")
    with pytest.raises(WeightsError, match=r"run any code .*\.safetensors"):
        find(str(tmp_path / name))
    with pytest.raises(WeightsError, match="run any code"):
        weight_files(tmp_path)


@pytest.mark.parametrize("variant", ["", "fp16"])
@pytest.mark.parametrize("given", ["", "fp16"])
@pytest.mark.parametrize("shard", ["10GB", "2KB"])
@pytest.mark.covers("model folder: fp16 variants, shards, one variant alone", "used")
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


@pytest.mark.parametrize("place", [[0, 80], [8, 88], [88, 168]])
def test_tensors_that_share_bytes_or_leave_some_out_are_refused(tmp_path: Path, place: list[int]) -> None:
    """The format forbids both; the library of its authors reads no such file either."""
    entry = {"dtype": "F32", "shape": [20]}
    text = json.dumps({"a": entry | {"data_offsets": [0, 80]}, "b": entry | {"data_offsets": place}}).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(place[1]))
    with pytest.raises(WeightsError, match=r"tensor b does not begin where the one before it ends"):
        read_header(file)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", 5, None, ["a"], "absent.safetensors"])
def test_an_index_names_files_beside_it(tmp_path: Path, name: object) -> None:
    index = tmp_path / "model.safetensors.index.fp16.json"
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": name}}))
    for refuse in (refuse_broken_index, lambda folder: weight_files(folder, "fp16")):
        with pytest.raises(WeightsError, match=r"index\.fp16\.json: names .*, which is (no file beside it|not there)"):
            refuse(tmp_path)


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(WeightsError, match=r"its file model\.safetensors is a link to a file that is not there"):
        weight_files(tmp_path)


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs", "LFS pointer"),
        (b"\x80\x02}q\x00(X\x0b", "a pickle"),
        (b'{"a": 1, "b": 2}', "a JSON text"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"no weights at all", "no safetensors file"),
    ],
)
@pytest.mark.covers("GGUF, web pages, Git LFS pointers", "refused")
def test_files_of_another_format_are_named(tmp_path: Path, start: bytes, named: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(start + b" " * 200)
    with pytest.raises(WeightsError, match=named) as caught:
        read_header(tmp_path / "model.safetensors")
    assert "Remove" not in str(caught.value)


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

"""Pickles as people have them become files that linfusion loads; what is no weights is refused by name."""

import argparse
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from families import FAMILIES, tiny_unet, tiny_vae
from safetensors.torch import load_file

from linfusion_cli.cli.app import main
from linfusion_cli.convert.convert import Converted, convert, pickles_in, target_of
from linfusion_cli.errors import OutputError, UsageError, WeightsError
from linfusion_cli.weights.safetensors_header import read_header


def converted(path: Path) -> Converted:
    return convert(path, target_of(path), lambda done, total: None)


def save(value: object, path: Path, **options: object) -> Path:
    torch.save(value, path, **options)
    return path


class Evil:
    def __reduce__(self) -> object:
        return os.system, ("touch /tmp/evil-was-run",)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_an_autoencoder_in_both_formats_of_torch(tmp_path: Path, zipped: bool) -> None:
    tensors = tiny_vae().state_dict()
    path = save({"state_dict": tensors, "epoch": 2}, tmp_path / "vae.pt", _use_new_zipfile_serialization=zipped)
    done = converted(path)
    assert done.kind == "vae"
    back = load_file(done.path)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    assert read_header(done.path).metadata == {"epoch": "2"}


@pytest.mark.slow
def test_half_and_shared_tensors(tmp_path: Path) -> None:
    whole = torch.randn(8, 8)
    tensors = OrderedDict(a=whole, b=whole.T, c=torch.nn.Parameter(torch.randn(3).half()), d=torch.tensor(3))
    back = load_file(converted(save(tensors, tmp_path / "x.bin")).path)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.mark.slow
def test_an_ip_adapter_and_an_embedding(tmp_path: Path) -> None:
    table = {"image_proj": {"proj.weight": torch.ones(2, 2)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2, 2)}}
    assert converted(save(table, tmp_path / "ip.bin")).kind == "ip-adapter"
    old = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.randn(2, 16))})
    for number, params in enumerate(({"*": torch.randn(2, 16)}, old)):
        done = converted(save({"string_to_token": {"*": 1}, "string_to_param": params}, tmp_path / f"e{number}.pt"))
        assert done.kind == "embedding"
        assert torch.equal(load_file(done.path)["emb_params"], params["*"].data)


@pytest.mark.slow
def test_a_checkpoint_of_lightning_with_its_callbacks(tmp_path: Path) -> None:
    import sys
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    sys.modules |= {module.__name__: module}
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        sys.modules[name] = types.ModuleType(name)
    try:
        weights = {f"model.diffusion_model.input_blocks.{i}": torch.ones(2) for i in range(2)}
        path = save({"state_dict": weights, "callbacks": {module.ModelCheckpoint: {"best": 1}}}, tmp_path / "m.ckpt")
    finally:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
            del sys.modules[name]
    done = converted(path)
    assert done.ignored == ("callbacks",)
    assert set(load_file(done.path)) == set(weights)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = save({"a": torch.ones(2), "b": Evil()}, tmp_path / "evil.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"evil\.ckpt: .*(posix|nt|os)\.system.*not run"):
        converted(path)
    assert not Path("/tmp/evil-was-run").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.slow
def test_what_is_no_weights(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    (tmp_path / "text.pt").write_text("<html>")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "empty.bin").write_bytes(b"")
    whole = save({"a": torch.ones(2000)}, tmp_path / "whole.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: len(whole) // 2])
    save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    save({"a": argparse.Namespace(b=1)}, tmp_path / "names.pt")
    for name in ("script.pt", "text.pt", "plain.bin", "empty.bin", "cut.bin", "module.pth", "names.pt"):
        with pytest.raises(WeightsError) as caught:
            converted(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert len(str(caught.value)) <= 400
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.slow
def test_a_small_file_that_would_grow_large_is_refused(tmp_path: Path) -> None:
    path = save({"a": torch.ones(1).expand(1 << 28)}, tmp_path / "bomb.pt")
    with pytest.raises(WeightsError, match="would grow"):
        converted(path)


@pytest.mark.slow
def test_names_and_refusals(tmp_path: Path) -> None:
    assert target_of(Path("a/pytorch_model.fp16.bin")) == Path("a/model.fp16.safetensors")
    assert target_of(Path("a/diffusion_pytorch_model.bin")) == Path("a/diffusion_pytorch_model.safetensors")
    path = save({"a": torch.ones(2)}, tmp_path / "x.pt")
    converted(path)
    with pytest.raises(OutputError, match="already exists"):
        converted(path)
    with pytest.raises(UsageError, match="safetensors file already"):
        converted(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=r"Nearest: .*x\.safetensors"):
        convert(path, tmp_path / "x.bin", lambda done, total: None)
    with pytest.raises(UsageError, match="converted already"):
        pickles_in(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.covers("pickles, after `linfusion convert`", "used")
def test_a_folder_of_diffusers_loads_after_it(family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers import UNet2DConditionModel

    unet = tiny_unet(family)
    unet.save_pretrained(tmp_path / "model" / "unet", safe_serialization=False)
    assert main(["convert", str(tmp_path / "model"), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["kind"] == "unet"
    assert said["path"].endswith("unet/diffusion_pytorch_model.safetensors")
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "model" / "unet", use_safetensors=True)
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), unet.state_dict().values(), strict=True))


def test_a_pickle_as_an_input_says_what_to_run(tmp_path: Path) -> None:
    path = save({"a": torch.ones(2)}, tmp_path / "x.ckpt")
    with pytest.raises(WeightsError, match=r"linfusion convert .*x\.ckpt$"):
        read_header(path)

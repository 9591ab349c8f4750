"""--quiet is quiet: a process of the command, on tiny models with everything mounted, writes nothing to stderr."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from families import Family, loaded_pipeline, make_family
from PIL import Image
from safetensors.torch import save_file
from tiny_adapters import save_controlnet, save_ip_adapter, save_loras

LOUD = {"TRANSFORMERS_VERBOSITY": "info", "DIFFUSERS_VERBOSITY": "info", "PYTHONWARNINGS": "always"}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sdxl", tmp_path_factory.mktemp("sdxl") / "all")


@pytest.mark.parametrize("file", [False, True])
def test_nothing_but_the_image_is_said(family: Family, tmp_path: Path, file: bool) -> None:
    pipeline = loaded_pipeline(family)
    loras = save_loras(pipeline, tmp_path)
    save_file({"clip_l": torch.randn(2, 16), "clip_g": torch.randn(2, 24)}, tmp_path / "moody.safetensors")
    Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)).save(tmp_path / "edges.png")
    words = ["generate", "a moody lake", "--preset", family.preset(file=file), "--size", "64x64", "--seed", "1"]
    words += ["--attention", "softmax", "--quiet", "-o", str(tmp_path / "x.png"), "--log-file", str(tmp_path / "log")]
    words += ["--controlnet", str(save_controlnet(pipeline, tmp_path / "net"))]
    words += ["--control-image", str(tmp_path / "edges.png"), "--ip-image", str(tmp_path / "edges.png")]
    words += ["--ip-adapter", str(save_ip_adapter(pipeline, tmp_path / "ip"))]
    words += ["--textual-inversion", str(tmp_path / "moody.safetensors")]
    for lora in loras:
        words += ["--lora", str(lora)]
    done = subprocess.run(
        [sys.executable, "-m", "linfusion_cli", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | LOUD,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "x.png").exists()
    assert max(map(len, (tmp_path / "log").read_text().splitlines())) < 600

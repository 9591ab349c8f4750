"""Images made many at once are those that the tool makes one by one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.distill.variants import save_variant, varied
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.pipeline import images
from linfusion_cli.evaluate.samples import Maker, Way, image_path, keep, lanczos, read_image
from linfusion_cli.geometry import Size
from linfusion_cli.models import builtin_folder
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow

PROMPTS = ["red hills at dawn, sun", "gray dunes at night, full moon, stars", "teal forest at noon"]
CPU = find_machine("cpu")


def by_the_tool(preset: str, prompt: str, seed: int, size: str, attention: str) -> torch.Tensor:
    plan = make_plan(resolve(Request(prompt=prompt, preset=preset, seed=seed, size=size, attention=attention)), CPU)
    made = [list(image.rows) for image in images(plan, lambda _: None)][-1]
    return torch.from_numpy(np.concatenate(made)).permute(2, 0, 1)


@pytest.mark.parametrize("attention", ["linear", "softmax"])
def test_many_at_once_are_the_tools_own(quick: str, attention: str) -> None:
    made = list(Maker(quick, Way(attention=attention), CPU).make(PROMPTS, [3, 4, 5], Size(128, 128)))
    for index, image in enumerate(made):
        difference = (image.int() - by_the_tool(quick, PROMPTS[index], 3 + index, "128x128", attention).int()).abs()
        assert difference.float().mean() < 0.05
        assert difference.max() <= 3


def test_schedulers_that_draw_noise_draw_it_for_each_image(tmp_path: Path) -> None:
    (tmp_path / "noisy.toml").write_text(
        'extends = "landscape"\n[sampling]\nscheduler = "euler_ancestral"\nsteps = 5\n'
    )
    preset = str(tmp_path / "noisy.toml")
    made = list(Maker(preset, Way(), CPU).make(PROMPTS, [3, 4, 5], Size(128, 128)))
    alone = by_the_tool(preset, PROMPTS[2], 5, "128x128", "linear")
    assert (made[2].int() - alone.int()).abs().max() <= 3


def test_a_latent_consistency_model_is_told_its_guidance(tmp_path: Path) -> None:
    model = Path(shutil.copytree(builtin_folder("builtin:landscape") or Path(), tmp_path / "model"))
    (model / "SHA256SUMS").unlink()
    config = model / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"time_cond_proj_dim": 8}))
    (path,) = (model / "unet").glob("*.safetensors")
    tensors = load_file(path)
    channels = tensors["conv_in.weight"].shape[0]
    torch.manual_seed(0)
    save_file(tensors | {"time_embedding.cond_proj.weight": torch.randn(channels, 8) * 0.1}, path)
    (tmp_path / "lcm.toml").write_text(
        f'extends = "landscape"\n[model]\nrepositories = ["{model}"]\n[sampling]\nsteps = 4\nguidance_scale = 4.0\n'
    )
    preset = str(tmp_path / "lcm.toml")
    made = list(Maker(preset, Way(attention="softmax"), CPU).make(PROMPTS, [3, 4, 5], Size(128, 128)))
    alone = by_the_tool(preset, PROMPTS[2], 5, "128x128", "softmax")
    assert (made[2].int() - alone.int()).abs().max() <= 3


def test_a_progressive_image_is_the_tools_own(quick: str) -> None:
    made = next(iter(Maker(quick, Way(), CPU).make(PROMPTS[:1], [3], Size(256, 128))))
    assert torch.equal(made, by_the_tool(quick, PROMPTS[0], 3, "256x128", "linear"))


def test_ways_differ() -> None:
    size = Size(256, 256)
    ways = (
        Way(),
        Way(direct=True),
        Way(lanczos=True),
        Way(upscale={"skip_exponent": 1e9}),
        Way(upscale={"dilated_cutoff": 2.0}),
    )
    plans = [Maker("landscape", way, CPU).plan(PROMPTS[0], 3, size) for way in ways]
    assert [len(plan.stages) for plan in plans] == [2, 1, 2, 2, 2]
    assert plans[0].stages[1].dilated_steps > 0 == plans[4].stages[1].dilated_steps
    made = [next(iter(Maker("landscape", way, CPU).make(PROMPTS[:1], [3], size))) for way in ways]
    assert all(image.shape == (3, 256, 256) for image in made)
    assert all((made[i].int() - made[j].int()).abs().float().mean() > 0.005 for i in range(5) for j in range(i))


def test_a_variant_draws_other_images(quick: str, tmp_path: Path) -> None:
    unet = Teacher.load("builtin:landscape", torch.device("cpu")).pipeline.unet
    save_variant(varied(LinFusion.like(unet), "causal", unet), "causal", tmp_path)
    made = next(
        iter(Maker(quick, Way(attention="variant", weights=str(tmp_path)), CPU).make(PROMPTS[:1], [3], Size(256, 128)))
    )
    assert (made.int() - by_the_tool(quick, PROMPTS[0], 3, "256x128", "linear").int()).abs().float().mean() > 1


def test_what_is_there_is_kept(quick: str, tmp_path: Path) -> None:
    maker = Maker(quick, Way(), CPU)
    Image.fromarray(np.zeros((128, 128, 3), np.uint8)).save(image_path(tmp_path, 1))
    assert list(keep(tmp_path, maker, PROMPTS, [3, 4, 5], Size(128, 128))) == [2, 3]
    assert read_image(image_path(tmp_path, 1)).max() == 0
    alone = next(iter(maker.make(PROMPTS[2:], [5], Size(128, 128))))
    assert (read_image(image_path(tmp_path, 2)).int() - alone.int()).abs().max() <= 3  # another batch, another rounding
    assert list(keep(tmp_path, maker, PROMPTS, [3, 4, 5], Size(128, 128))) == []
    assert not list(tmp_path.glob("*.part"))


def test_lanczos_keeps_what_an_image_shows() -> None:
    image = torch.zeros(3, 16, 16, dtype=torch.uint8)
    image[:, :8] = 200
    assert lanczos(image, Size(64, 64))[:, :24].float().mean() > 190

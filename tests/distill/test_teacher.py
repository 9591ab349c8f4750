"""A teacher is loaded whole or refused by the file's and the tensor's name, and shows the student what it sees."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from linfusion_cli.distill.loss import Batch
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.errors import WeightsError

pytestmark = pytest.mark.slow  # all of them together

CPU = torch.device("cpu")
Tensors = dict[str, Tensor]


def make_batch(teacher: Teacher, seed: int = 1) -> Batch:
    torch.manual_seed(3)
    ids = torch.tensor([[64, 64, 0, 0, 64, 64]] * 2)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    return teacher.batch(images, ["red hills", ""], ids, torch.Generator().manual_seed(seed))


@pytest.fixture
def copy(teachers: dict[str, Path], tmp_path: Path) -> Path:
    """An SD-v1.5 teacher that a test may break."""
    return Path(shutil.copytree(teachers["sd15"], tmp_path / "teacher"))


def refusal(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        Teacher.load(str(folder), CPU)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    path = next(folder.glob("*.safetensors"))
    save_file(change(load_file(path)), path, {"format": "pt"})


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_a_teacher_is_frozen_float32_and_knows_its_sizes(family: str, teachers: dict[str, Path]) -> None:
    teacher = Teacher.load(str(teachers[family]), CPU)
    parts = [teacher.pipeline.unet, teacher.pipeline.vae, teacher.pipeline.text_encoder]
    parts += [teacher.pipeline.text_encoder_2] if family == "sdxl" else []
    for part in parts:
        assert not part.training
        assert all(not parameter.requires_grad for parameter in part.parameters())
        assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}
    assert (teacher.pixels_per_latent, teacher.train_size_px) == (8, 64)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_batch_depends_on_its_draw_alone(family: str, teachers: dict[str, Path]) -> None:
    teacher = Teacher.load(str(teachers[family]), CPU)
    first, again, other = (make_batch(teacher, seed) for seed in (1, 1, 2))
    assert torch.equal(first.noisy, again.noisy)
    assert torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.noisy, other.noisy)
    assert first.noisy.shape == first.target.shape == (2, 4, 8, 8)
    assert set(first.added) == ({"text_embeds", "time_ids"} if family == "sdxl" else set())


def test_noise_and_velocity_targets(teachers: dict[str, Path]) -> None:
    for family in ("sd15", "sd21"):
        teacher = Teacher.load(str(teachers[family]), CPU)
        batch, scheduler = make_batch(teacher), teacher.pipeline.scheduler
        signal, amount = teacher._levels(batch.timesteps)
        if family == "sd15":
            clean, noise = (batch.noisy - amount * batch.target) / signal, batch.target
        else:
            clean, noise = signal * batch.noisy - amount * batch.target, amount * batch.noisy + signal * batch.target
            assert torch.allclose(scheduler.get_velocity(clean, noise, batch.timesteps), batch.target, atol=1e-5)
        assert torch.allclose(scheduler.add_noise(clean, noise, batch.timesteps), batch.noisy, atol=1e-5)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_tensor_that_is_missing_is_named_and_never_made_up(copy: Path, part: str) -> None:
    """Both libraries would draw it at random."""
    name = sorted(load_file(next((copy / part).glob("*.safetensors"))))[0]
    rewrite(copy / part, lambda tensors: {key: value for key, value in tensors.items() if key != name})
    assert f"{part}: lacks {name}" in refusal(copy)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_tensor_that_nothing_reads_is_named(copy: Path, part: str) -> None:
    rewrite(copy / part, lambda tensors: tensors | {"odd": torch.ones(1)})
    assert "unknown tensor odd" in refusal(copy)


def test_names_of_older_libraries_are_read(copy: Path, teachers: dict[str, Path]) -> None:
    rewrite(
        copy / "text_encoder",
        lambda tensors: (
            {f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors.items()}
            | {"text_model.embeddings.position_ids": torch.arange(48)[None]}
        ),
    )
    older = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def renamed(tensors: Tensors) -> Tensors:
        for new, old in older.items():
            tensors = {name.replace(new, old): value for name, value in tensors.items()}
        return tensors

    rewrite(copy / "vae", renamed)
    first, second = (make_batch(Teacher.load(str(folder), CPU)) for folder in (copy, teachers["sd15"]))
    assert torch.equal(first.noisy, second.noisy)
    assert torch.equal(first.embeddings, second.embeddings)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_torn_file_is_named(copy: Path, part: str) -> None:
    path = next((copy / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}: the file is cut off" in refusal(copy)


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "FluxPipeline"),
        ("model_index.json", {"_class_name": ["x"]}, "unknown to linfusion"),
        ("model_index.json", {"unet": ["diffusers", "Nothing"]}, "the class of its unet is Nothing"),
        ("model_index.json", {"unet": "x"}, "its unet is x"),
        ("unet/config.json", {"block_out_channels": [16, 32]}, "unet: can't be loaded"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, 'predicts "sample"'),
    ],
)
def test_what_can_not_teach_is_refused_when_it_is_loaded(
    copy: Path, file: str, values: dict[str, Any], said: str
) -> None:
    edit(copy / file, **values)
    assert said in refusal(copy)


def test_a_folder_or_a_file_that_is_no_pipeline_is_told(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    assert "vae: no .safetensors file in it" in refusal(copy)
    (copy / "model_index.json").unlink()
    assert "model_index.json: can't be read" in refusal(copy)
    assert "model_index.json" in refusal(next((copy / "unet").glob("*.safetensors")))
    with pytest.raises(WeightsError, match="no such file"):
        Teacher.load(str(copy / "nothing"), CPU)


def test_a_unet_without_self_attention_has_nothing_to_distill(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linfusion_cli.distill.teacher.self_attentions", lambda unet: {})
    assert "no self-attention to replace" in refusal(copy)

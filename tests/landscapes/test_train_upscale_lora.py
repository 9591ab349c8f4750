"""A LoRA of an upscale: nothing but its factors learns, its file is one that the engine mounts to the same effect."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor

from linfusion_cli.engine.adapters.lora import Lora
from linfusion_cli.landscapes import train_upscale_lora as subject
from linfusion_cli.landscapes.data import Bucket, Effort
from linfusion_cli.landscapes.train_denoiser import Student, build_scheduler
from linfusion_cli.models import builtin_folder
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Path:
    found = builtin_folder("builtin:landscape")
    assert found is not None
    return found


def predicted(student: Student, *, linear: bool = True) -> Tensor:
    torch.manual_seed(3)
    noisy, tokens = torch.randn(2, 4, 8, 8), torch.ones(2, 5, dtype=torch.long)
    with torch.no_grad():
        return student.predict(noisy, torch.tensor([5, 400]), tokens, linear=linear)


def test_a_weight_plus_the_product_of_its_factors() -> None:
    torch.manual_seed(0)
    for weight in (torch.randn(6, 5, 3, 3), torch.randn(6, 5)):
        low = subject.LowRank(weight, 2)
        assert torch.equal(low(weight), weight)
        torch.nn.init.normal_(low.lora_B)
        for out in range(6):
            added = sum(low.lora_B[out, rank].sum() * low.lora_A[rank] for rank in range(2))
            assert torch.allclose(low(weight)[out], weight[out] + added, atol=1e-5)


def test_the_factors_alone_learn_and_change_nothing_before(model: Path) -> None:
    plain, student = Student.of(model), Student.of(model)
    added = subject.add_low_rank(student)
    assert torch.allclose(predicted(student), predicted(plain), atol=1e-6)
    learned = {id(parameter) for parameter in student.parameters() if parameter.requires_grad}
    assert learned == {id(parameter) for low in added.values() for parameter in low.parameters()}
    assert not any("to_q_" in name or "to_k_" in name for name in added)
    assert "conv_in" in added
    assert sum(name.endswith("attn1.to_q") for name in added) == len(student.attentions)


def test_latents_drawn_again_at_no_noise_are_the_same(model: Path) -> None:
    """The first timestep is each image's own: the higher, the further the result may go."""
    torch.manual_seed(1)
    latents, tokens = torch.randn(2, 4, 8, 8), torch.ones(2, 5, dtype=torch.long)
    alphas = build_scheduler().alphas_cumprod
    redraw = subject.Redrawing(Student.of(model).frozen(torch.device("cpu")), alphas, torch.Generator().manual_seed(2))
    found = redraw(latents, tokens)
    assert found.shape == latents.shape
    assert found.isfinite().all()
    assert not torch.allclose(found, latents, atol=1e-2)
    clean = subject.Redrawing(redraw.model, torch.ones(1000), torch.Generator().manual_seed(2))
    assert torch.allclose(clean(latents, tokens), latents, atol=1e-5)


def test_the_nearest_product_of_a_rank() -> None:
    torch.manual_seed(0)
    for down, up in (
        (torch.randn(6, 5, 3, 3), torch.randn(9, 6, 1, 1)),
        (torch.randn(6, 12), torch.randn(9, 6)),
        (torch.randn(6, 4), torch.randn(3, 6)),
    ):
        whole = up.flatten(1) @ down.flatten(1)
        sizes = torch.linalg.svdvals(whole)
        for rank in (1, 3, 6, 8):
            lower, upper = subject.reduced(down, up, rank)
            assert lower.shape[1:] == down.shape[1:]
            assert upper.shape[2:] == up.shape[2:]
            assert lower.shape[0] == upper.shape[1] == min(rank, len(sizes))
            lost = (upper.flatten(1) @ lower.flatten(1) - whole).norm()
            assert torch.allclose(lost, sizes[rank:].norm(), atol=1e-4)


def test_the_file_gives_what_was_trained(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(64, 64, 4, windows=True, halves=True)
    monkeypatch.setattr(subject, "BUCKETS", (bucket,))
    monkeypatch.setattr(subject, "SHARES", (1.0,))
    effort = Effort(Accelerator(cpu=True), seed=3)
    notes = list(subject.train(tmp_path / "run", Schedule(2, 1e-2, warmup=1), effort, model))
    assert notes[0] == "rendering and encoding 4 images of 64x64"
    target = tmp_path / "lora.safetensors"
    assert subject.export(tmp_path / "run", target, model) == target.stat().st_size
    tensors = load_file(target)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}

    student = Student.of(model)
    added = subject.add_low_rank(student)
    for name, low in added.items():
        for factor in subject.FACTORS:
            getattr(low, factor).data = tensors[f"unet.{name}.{factor}.weight"].float()
    other = Student.of(model)
    other.linfusion.mount(other.unet)
    lora = Lora.load(WeightFile.resolve((str(target),), "", "lora"), 1.0, 0.0, SimpleNamespace(unet=other.unet), "base")
    lora.mount(other.unet, 0)
    other.linfusion.unmount(other.unet)
    wanted = predicted(student)
    assert not torch.allclose(wanted, predicted(Student.of(model)), atol=1e-4)
    assert torch.allclose(predicted(other), wanted, atol=1e-4)

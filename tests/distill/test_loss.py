"""The loss equals its formula written out slowly, and the teacher stays as it was."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from linfusion_cli.distill.loss import Batch, Distiller, Recorder, Weights
from linfusion_cli.distill.teacher import Teacher
from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions

CPU = torch.device("cpu")
FAMILIES = ("sd15", "sd21", "sdxl")


def make_batch(teacher: Teacher) -> Batch:
    torch.manual_seed(3)
    ids = torch.tensor([[64, 64, 0, 0, 64, 64]] * 2)
    return teacher.batch(torch.rand(2, 3, 64, 64) * 2 - 1, ["red hills", ""], ids, torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_papers(family: str, teachers: dict[str, Path]) -> None:
    teacher = Teacher.load(str(teachers[family]), CPU)
    batch, unet = make_batch(teacher), teacher.pipeline.unet

    def predict() -> tuple[Tensor, list[Tensor]]:
        with Recorder(self_attentions(unet).values()) as recorder:
            return unet(
                batch.noisy, batch.timesteps, batch.embeddings, added_cond_kwargs=batch.added or None
            ).sample, recorder.outputs()

    torch.manual_seed(5)
    linfusion = LinFusion.like(unet)
    with torch.no_grad():
        expected, expected_features = predict()
        linfusion.mount(unet)
        prediction, features = predict()
        linfusion.unmount(unet)
    noise = ((prediction - batch.target) ** 2).mean()
    distance = ((prediction - expected) ** 2).mean()
    feature = sum(((a - b) ** 2).mean() for a, b in zip(features, expected_features, strict=True)) / len(features)
    loss, terms = Distiller(unet, linfusion, Weights()).loss(batch)
    assert torch.allclose(loss, noise + 0.5 * distance + 0.5 * feature, atol=1e-6)
    assert len(features) == 4
    assert distance > 0
    assert terms["feature"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_gradient_checkpointing_changes_no_gradient(family: str, teachers: dict[str, Path]) -> None:
    gradients = []
    for checkpointing in (False, True):
        teacher = Teacher.load(str(teachers[family]), CPU)
        batch, unet = make_batch(teacher), teacher.pipeline.unet
        if checkpointing:
            unet.enable_gradient_checkpointing()
        torch.manual_seed(5)
        linfusion = LinFusion.like(unet)
        torch.autograd.backward(Distiller(unet, linfusion).loss(batch)[0])
        gradients.append([parameter.grad for parameter in linfusion.attentions.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-7)


@pytest.mark.slow
def test_only_the_student_learns(teachers: dict[str, Path]) -> None:
    teacher = Teacher.load(str(teachers["sd15"]), CPU)
    unet = teacher.pipeline.unet
    originals = {name: value.clone() for name, value in unet.state_dict().items()}
    distiller = Distiller(unet, LinFusion.like(unet))
    loss, _ = distiller.loss(make_batch(teacher))
    torch.autograd.backward(loss)
    students = {id(parameter) for parameter in distiller.linfusion.attentions.parameters()}
    for parameter in unet.parameters():
        assert (parameter.grad is not None) == (id(parameter) in students)
    distiller.linfusion.unmount(unet)
    assert all(torch.equal(value, originals[name]) for name, value in unet.state_dict().items())

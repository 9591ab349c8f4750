"""What is on the card, and when: text encoders and the UNet are never there together."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_up import job, machine
from tiny import tiny_vae
from torch import nn

from linfusion_cli.engine.components import unet_and_vae
from linfusion_cli.engine.components.text_encoders import TextEncoders, load_text_encoders
from linfusion_cli.engine.components.unet_and_vae import Components, load
from linfusion_cli.engine.memory.weight_offload import Arenas, Weights
from linfusion_cli.planning.planner import make_plan

CARD = torch.device("cuda:0")


class Movable(nn.Module):
    """A network that knows where it is; nothing is moved, so no card is needed. It is its own only weight."""

    ndim = 1

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.device("cpu")
        self.data = self

    def to(self, device: torch.device | str, **_: object) -> "Movable":  # type: ignore[override]
        self.place = torch.device(device)
        return self

    @property
    def device(self) -> torch.device:
        return self.place

    def copy_(self, other: "Movable") -> "Movable":
        return self.to("cpu")

    def buffers(self, *_: object) -> "list[Movable]":  # type: ignore[override]
        return []

    def untyped_storage(self) -> SimpleNamespace:
        return SimpleNamespace(resizable=lambda: True)

    def named_parameters(self, *_: object) -> "list[tuple[str, Movable]]":  # type: ignore[override]
        return [("weight", self)]

    def parameters(self, *_: object) -> "list[Movable]":  # type: ignore[override]
        return [self]


def test_text_encoders_and_the_rest_are_never_on_the_card_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arenas, "placed", lambda self, data: data.to("cpu"))  # page-locked RAM needs a card
    text, unet, vae, linear, control = (Movable() for _ in range(5))
    mounted = SimpleNamespace(unet=unet, modules=(linear,), attend=lambda attention: None)
    models = Components(mounted, vae, {}, (SimpleNamespace(model=control),))  # type: ignore[arg-type]
    nothing, pipeline = SimpleNamespace(), SimpleNamespace(text_encoder=text)
    text_encoders = TextEncoders(nothing, nothing, pipeline)  # type: ignore[arg-type]
    for _ in range(2):  # the second image of a batch finds the rest on the card
        models.leave_device()
        with text_encoders.on(CARD):
            assert text.place == CARD
            assert all(module.place.type == "cpu" for module in (unet, vae, linear, control))
        assert text.place.type == "cpu"
        models.move(Weights(CARD, resident=True))
        assert all(module.place == CARD for module in (unet, vae, control))


def test_a_prompt_that_fails_leaves_the_card_free() -> None:
    text = Movable()
    nothing, pipeline = SimpleNamespace(), SimpleNamespace(text_encoder=text)
    text_encoders = TextEncoders(nothing, nothing, pipeline)  # type: ignore[arg-type]
    try:
        with text_encoders.on(CARD):
            raise ValueError
    except ValueError:
        assert text.place.type == "cpu"


def test_kernels_that_do_not_run_are_told_and_left_out() -> None:
    plan = make_plan(job("128x128"), machine("cpu", 8))
    told: list[Any] = []
    components = load(replace(plan, kernels="fused"), load_text_encoders(plan), told.append)
    assert sum("kernels" in note.text for note in told) == 1, "said once, of attention, norms and GEGLU together"
    assert any("fused kernels do not run on cpu" in note.text for note in told)
    assert not components.fused
    attentions = components.mounted.modules[0]
    assert {attention.kernels for attention in attentions} == {None}


@pytest.mark.parametrize(
    ("attends", "dtype", "told"), [(True, "float16", 1), (False, "float16", 0), (True, "float32", 0)]
)
def test_an_autoencoder_whose_attention_has_no_kernel_is_told_once(
    attends: bool, dtype: str, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other kernels still run; in float32 its attention has none, and none is missed."""
    monkeypatch.setattr(unet_and_vae, "fault_of", lambda device, dtype: "")
    plan = replace(make_plan(job("128x128"), machine("cpu", 8)), kernels="fused")
    vae = tiny_vae(attention=attends).to(getattr(torch, dtype))
    notes: list[Any] = []
    assert unet_and_vae.fuse(plan, None, vae, notes.append)
    assert [str(note.text) for note in notes] == [
        "the fused kernels of the autoencoder's attention do not run on cpu (no Triton): the plain ones are used"
    ] * told

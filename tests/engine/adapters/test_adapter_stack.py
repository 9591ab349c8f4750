"""LinFusion goes on first and LoRA on top of it, whatever attention a stage asks for, and all comes off again."""

from typing import Any

import pytest
import torch
from families import tiny_unet
from torch import Tensor

from linfusion_cli.engine.adapters.adapter_stack import Mounted
from linfusion_cli.engine.adapters.lycoris import Update
from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions


class Recorder:
    """A LoRA or IP-Adapter that notes when it goes on and off, and whether the attention was linear then."""

    def __init__(self, name: str, notes: list[str], stages: str = "") -> None:
        self.name, self.notes, self.stages = name, notes, stages
        part = torch.full((2,), float(len(name)))
        self.updates = (Update("unet", "a", "full", {"diff": part}),)

    def _note(self, unet: Any, what: str) -> None:
        linear = any("to_q_" in name for name, _ in unet.named_parameters())
        self.notes.append(f"{what} {self.name} {'linear' if linear else 'softmax'}")

    def mount(self, unet: Any, number: int = 0) -> None:
        self._note(unet, f"+{number}")

    def unmount(self, unet: Any, number: int = 0) -> None:
        self._note(unet, f"-{number}")


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(0)
    return tiny_unet("sd15")


def predicted(unet: Any) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        found: Tensor = unet(torch.randn(1, 4, 8, 8), 5, torch.randn(1, 3, 16), return_dict=False)[0]
    return found


def stack(unet: Any, notes: list[str]) -> Mounted:
    loras: Any = (Recorder("a", notes), Recorder("b", notes))
    adapter: Any = Recorder("ip", notes)
    return Mounted(unet, LinFusion.like(unet), loras, adapter)


def test_loras_move_along_with_the_attention(unet: Any) -> None:
    notes: list[str] = []
    mounted = stack(unet, notes)
    assert notes == ["+0 a softmax", "+1 b softmax", "+0 ip softmax"]
    notes.clear()
    assert mounted.attend("linear") is unet
    assert notes == ["-1 b softmax", "-0 a softmax", "+0 a linear", "+1 b linear"]
    notes.clear()
    mounted.attend("linear")
    assert notes == [], "nothing moves where nothing changes"
    mounted.unmount()
    assert notes == [
        *("-1 b linear", "-0 a linear", "+0 a softmax", "+1 b softmax"),
        *("-1 b softmax", "-0 a softmax", "-0 ip softmax"),
    ]


def test_loras_of_some_stages_come_and_go_with_them(unet: Any) -> None:
    notes: list[str] = []
    loras: Any = (Recorder("all", notes), Recorder("first", notes, "base"), Recorder("later", notes, "upscale"))
    mounted = Mounted(unet, LinFusion.like(unet), loras)
    assert notes == ["+0 all softmax", "+1 first softmax"]
    assert [part.tolist() for part in mounted.waiting_updates] == [[5, 5], 1]
    notes.clear()
    mounted.attend("softmax", "upscale")
    assert notes == ["-1 first softmax", "-0 all softmax", "+0 all softmax", "+2 later softmax"]
    notes.clear()
    mounted.attend("linear", "upscale")
    assert notes == ["-2 later softmax", "-0 all softmax", "+0 all linear", "+2 later linear"]
    notes.clear()
    mounted.attend("linear", "upscale")
    assert notes == []
    mounted.unmount()
    assert notes[-2:] == ["-1 first softmax", "-0 all softmax"]


def test_without_loras_of_some_stages_nothing_moves_between_them(unet: Any) -> None:
    notes: list[str] = []
    mounted = stack(unet, notes)
    notes.clear()
    mounted.attend("softmax", "upscale")
    assert notes == []
    assert mounted.waiting_updates == ()


def test_the_unet_is_as_it_was_after_any_change_of_attention(unet: Any) -> None:
    before, printed = predicted(unet), repr(unet)
    mounted = Mounted(unet, LinFusion.like(unet))
    for attention in ("linear", "softmax", "linear"):
        changed = not torch.equal(predicted(mounted.attend(attention)), before)
        assert changed == (attention == "linear")
    mounted.unmount()
    assert repr(unet) == printed
    assert torch.equal(predicted(unet), before)


def test_the_networks_of_linfusion_are_those_to_move(unet: Any) -> None:
    linfusion = LinFusion.like(unet)
    assert Mounted(unet, linfusion).modules == (linfusion.attentions,)
    assert len(linfusion.attentions) == len(self_attentions(unet))


def test_without_linfusion_there_is_softmax_alone(unet: Any) -> None:
    mounted = Mounted(unet, None)
    assert mounted.modules == ()
    assert mounted.attend("softmax") is unet
    with pytest.raises(RuntimeError, match="no LinFusion weights"):
        mounted.attend("linear")
    mounted.unmount()

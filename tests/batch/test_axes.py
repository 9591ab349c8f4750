from __future__ import annotations

import pytest

from linfusion_cli.batch.axes import axis_of
from linfusion_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("seed=1..3", "seed", (1, 2, 3)),
        ("guidance=3, 5,7.5", "guidance", ("3", "5", "7.5")),
        ("cfg=3", "guidance", ("3",)),
        ("num-inference-steps=10..12,20", "steps", (10, 11, 12, "20")),
        ("preset=landscape,mine.toml", "preset", ("landscape", "mine.toml")),
        ("lora=a.safetensors:0.5,b", "loras", ("a.safetensors:0.5", "b")),
    ],
)
def test_an_axis_is_an_option_and_its_values(text: str, key: str, values: tuple[object, ...]) -> None:
    axis = axis_of(text, ())
    assert (axis.key, axis.values) == (key, values)
    assert axis.row(0, ()) == {key: values[0]}


def test_labels_name_option_and_value() -> None:
    assert axis_of("guidance=3,5", ()).labels == ("guidance 3", "guidance 5")
    assert axis_of(f"model={'x' * 80}", ()).labels == (f"model ...{'x' * 37}",)
    assert axis_of("guidance=3,5", ()).plain_labels == ("guidance 3", "guidance 5")
    assert axis_of("negative=fog,rain", ()).plain_labels == ("negative prompt 1", "negative prompt 2")


def test_the_weight_of_the_loras_is_replaced() -> None:
    axis = axis_of("lora-weight=0,0.5", ("a.safetensors:2", "b", "c:1@upscale"))
    given = {"loras": ["a.safetensors:0.5", "b:0.5", "c:0.5@upscale"]}
    assert axis.row(1, ("a.safetensors:2", "b", "c:1@upscale")) == given


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "write an option and its values"),
        ("seed=", "write an option and its values"),
        ("guidanc=3", 'Did you mean "guidance"?'),
        ("prompt=a,b", "unknown option"),
        ("output=a.png", "unknown option"),
        ("lora-weight=1", "there is no LoRA"),
        ("seed=0..100", "101 values are too many"),
        ("seed=-4", "write numbers and ranges"),
    ],
)
def test_an_axis_that_can_not_be(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        axis_of(text, ())

"""A LoRA's location, its weights and its stages in one text; what can't be is refused with the nearest that can."""

import pytest

from linfusion_cli.config.weighted_lora import STAGES, WeightedLora, lora_text, split_stages
from linfusion_cli.errors import UsageError

SPELLINGS = [
    ("a", ("a", 1, 1, "")),
    ("a:0.8", ("a", 0.8, 0.8, "")),
    ("a:0.8:0.5", ("a", 0.8, 0.5, "")),
    ("a:-1:.5", ("a", -1, 0.5, "")),
    ("a:b:2", ("a:b", 2, 2, "")),
    ("a@upscale", ("a", 1, 0, "upscale")),
    ("a:0.8@base", ("a", 0.8, 0.8, "base")),
    ("a:0.8:0.5@upscale", ("a", 0.8, 0, "upscale")),
    ("builtin:b/c.safetensors@upscale", ("builtin:b/c.safetensors", 1, 0, "upscale")),
    ("owner/name@v1.0", ("owner/name@v1.0", 1, 1, "")),
    ("owner/name@v1.0:0.5@base", ("owner/name@v1.0", 0.5, 0.5, "base")),
    ("@upscale", ("@upscale", 1, 1, "")),
]


@pytest.mark.parametrize(("text", "expected"), SPELLINGS)
def test_weights_and_stages_behind_a_location(text: str, expected: tuple[str, float, float, str]) -> None:
    found = WeightedLora.parse(text)
    assert (found.location, found.weight, found.text_weight, found.stages) == expected


@pytest.mark.parametrize("text", ["a:9", "a:-8.5", "a:0:100", "a:1:9", "a:9@base", "a:0.5:-9@upscale"])
def test_the_nearest_weight_is_accepted(text: str) -> None:
    with pytest.raises(UsageError, match="from -8 to 8") as caught:
        WeightedLora.parse(text)
    assert caught.value.parameter == "loras"
    nearest = WeightedLora.parse(str(caught.value).split("Nearest: ")[1])
    assert nearest.stages == split_stages(text)[1]
    assert max(abs(nearest.weight), abs(nearest.text_weight)) == 8 or nearest.stages == "upscale"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("a.safetensors@hires", "a.safetensors@upscale"),
        ("a:0.8@lowres", "a:0.8@base"),
        ("a:0.8@Upscale", "a:0.8@upscale"),
        ("a:0.8@upscaling", "a:0.8@upscale"),
        ("a.safetensors@", "a.safetensors@upscale"),
        ("a.safetensors:1:2@2", "a.safetensors:1:2@upscale"),
    ],
)
def test_other_stages_are_refused_with_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=r"base or upscale") as caught:
        WeightedLora.parse(text)
    assert str(caught.value).split("Nearest: ")[1] == nearest
    WeightedLora.parse(nearest)


@pytest.mark.parametrize("stages", ["", *STAGES])
def test_a_lora_written_out_is_read_back(stages: str) -> None:
    for weights in ((1.0, 1.0), (0.25, -3.0)):
        found = WeightedLora.parse(lora_text("x/y", weights, stages))
        assert (found.location, found.weight, found.stages) == ("x/y", weights[0], stages)
        assert WeightedLora.parse(found.with_weight(0.5)).weight == 0.5
        assert WeightedLora.parse(found.with_weight(0.5)).stages == stages

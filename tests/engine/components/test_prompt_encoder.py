"""What a prompt becomes for the UNet, and what of it is told: words beyond the last that are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.prompt_encoder import encode
from linfusion_cli.engine.components.text_encoders import TextEncoders, load_text_encoders
from linfusion_cli.errors import Message
from linfusion_cli.events import Event, Note
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.render_plan import ConditioningInputs, RenderPlan
from linfusion_cli.system.device import find_machine

CPU = torch.device("cpu")
PLAIN = ConditioningInputs(
    prompt="a lake",
    negative_prompt="",
    fragments=None,
    negative_fragments=None,
    clip_skip=0,
    images=(),
)


def plan_for(prompt: str, **changes: Any) -> RenderPlan:
    request = Request(**{"prompt": prompt, "size": "64x64", "seed": 1, "output": Path("x.png"), **changes})
    return make_plan(resolve(request), find_machine("cpu"))


@pytest.fixture(scope="module")
def landscape() -> TextEncoders:
    return load_text_encoders(plan_for("a lake"))


def notes_of(text_encoders: TextEncoders, prompt: str, **changes: Any) -> list[str]:
    told: list[Event] = []
    encode(text_encoders, plan_for(prompt, **changes).conditioning, told.append, CPU)
    assert all(isinstance(note, Note) and isinstance(note.text, Message) for note in told)
    return [str(note.text) for note in told if isinstance(note, Note)]


def silent(event: Event) -> None:
    raise AssertionError(event)


def test_prompt_and_negative_prompt_become_embeddings_of_their_own(landscape: TextEncoders) -> None:
    first = encode(landscape, plan_for("red hills", negative_prompt="fog").conditioning, silent, CPU)
    swapped = encode(landscape, plan_for("fog", negative_prompt="red hills").conditioning, silent, CPU)
    assert first.embeddings.shape == first.negative_embeddings.shape
    assert first.embeddings.shape[0] == 1
    assert torch.equal(first.embeddings, swapped.negative_embeddings)
    assert torch.equal(first.negative_embeddings, swapped.embeddings)
    assert not torch.equal(first.embeddings, first.negative_embeddings)
    assert first.pooled.numel() == first.negative_pooled.numel() == 0
    assert not first.embeddings.requires_grad


def test_words_beyond_the_last_token_are_told_with_the_option_that_reads_them(landscape: TextEncoders) -> None:
    limit = landscape.pipeline.tokenizer.model_max_length - 2
    assert notes_of(landscape, "red " * limit) == []
    (note,) = notes_of(landscape, "red " * (limit + 3))
    assert f"the prompt has {limit + 3} tokens, the model reads the first {limit}" in note
    assert "prompt_weights" in note
    (note,) = notes_of(landscape, "red", negative_prompt="fog " * (limit + 1))
    assert f"the negative prompt has {limit + 1} tokens" in note
    assert notes_of(landscape, "red " * (limit + 3), prompt_weights=True) == []


class Pipeline:
    """A pipeline that reads as SD-XL does, or as the others: each prompt as its length."""

    def __init__(self, *, xl: bool, zeros: bool) -> None:
        self.xl, self.config = xl, {"force_zeros_for_empty_prompt": zeros} if xl else {}
        self.config = SimpleNamespace(**self.config)
        self.text_encoder = SimpleNamespace(text_model=None)
        self.tokenizer = lambda text: SimpleNamespace(input_ids=[0, *text, 0])
        self.tokenizer.model_max_length = 77  # type: ignore[attr-defined]

    def maybe_convert_prompt(self, prompt: str, tokenizer: object) -> str:
        return prompt

    def encode_prompt(self, prompt: str, **options: Any) -> tuple[Tensor | None, ...]:
        assert options["do_classifier_free_guidance"]
        both = [torch.full((1, 2, 3), 1.0 + len(text)) for text in (prompt, options["negative_prompt"])]
        return (*both, *(embedding[:, 0] for embedding in both)) if self.xl else tuple(both)


class Encoders:
    """What encode() needs of TextEncoders; notes whether they were on the device while they read."""

    def __init__(self, pipeline: Pipeline, adapter: Any = None) -> None:
        self.pipeline, self.ip_adapter, self.visited = pipeline, adapter, False

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        yield
        self.visited = True


@pytest.mark.parametrize(
    ("xl", "zeros", "negative", "zeroed"),
    [
        (True, True, "", True),
        (True, True, "  ", True),
        (True, True, "fog", False),
        (True, False, "", False),
        (False, False, "", False),
    ],
)
def test_an_empty_negative_prompt_is_zeros_where_the_model_was_trained_so(
    xl: bool, zeros: bool, negative: str, zeroed: bool
) -> None:
    encoders: Any = Encoders(Pipeline(xl=xl, zeros=zeros))
    found = encode(encoders, replace(PLAIN, negative_prompt=negative), silent, CPU)
    assert encoders.visited
    assert found.negative_embeddings.any() != zeroed
    assert found.embeddings.all()
    if xl:
        assert found.pooled.all()
        assert found.negative_pooled.any() != zeroed


def test_images_are_embedded_by_the_adapter_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from linfusion_cli.engine.components import prompt_encoder

    monkeypatch.setattr(prompt_encoder, "read_pixels", lambda image, parameter: f"{image} of {parameter}")
    adapter = SimpleNamespace(
        embed=lambda pipeline, pixels, device: (torch.tensor([len(list(pixels))]), torch.zeros(1))
    )
    images: Any = ("one", "two")
    encoders: Any = Encoders(Pipeline(xl=False, zeros=False), adapter)
    with_images, without = (encode(encoders, replace(PLAIN, images=given), silent, CPU) for given in (images, ()))
    assert with_images.images.tolist() == [2]
    assert without.images.numel() == without.negative_images.numel() == 0

"""Prompt weights on three families: weight 1 changes nothing, others change the image, long prompts are read whole."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family, loaded_pipeline, make_family
from safetensors.torch import save_file

from linfusion_cli.config.prompt_weighting import parse_weights
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.components.prompt_encoder import encode
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.engine.components.weighted_embeddings import encode_weighted, encoders
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.events import Event, Note
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.system.device import find_machine

CPU = torch.device("cpu")
LONG = ", ".join(f"a house by lake {number}" for number in range(30))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(request.param, tmp_path_factory.mktemp(request.param) / "all")


def plan_for(family: Family, prompt: str, *, weights: bool = True, **changes: Any) -> Plan:
    fixed = {"preset": family.preset(), "size": "64x64", "seed": 3, "output": Path("x.png"), "negative_prompt": "fog"}
    return make_plan(
        resolve(Request(**{"prompt": prompt, "prompt_weights": weights, **fixed, **changes})), find_machine("cpu")
    )


def quiet(event: Event) -> None:
    assert event is not None


def encoded(family: Family, prompt: str, **changes: Any) -> Conditioning:
    plan = plan_for(family, prompt, **changes)
    return encode(load_text_encoders(plan), plan.conditioning, quiet, CPU)


def same(one: Conditioning, other: Conditioning) -> bool:
    names = ("embeddings", "negative_embeddings", "pooled", "negative_pooled")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def make(plan: Plan) -> np.ndarray:
    *_, last = (np.concatenate(list(image.rows)) for image in images(plan, quiet))
    return last.astype(float)


@pytest.mark.slow
def test_without_weights_the_embeddings_are_what_they_were(family: Family) -> None:
    plain = encoded(family, "a red house (old)", weights=False)
    for prompt in (r"a red house \(old\)", r"a (red:1.0) house \(old\)", r"a ([red]:1.1) house \(old\)"):
        assert same(encoded(family, prompt), plain), prompt


@pytest.mark.slow
@pytest.mark.parametrize("clip_skip", [0, 1])
def test_its_own_way_gives_what_diffusers_gives_where_nothing_is_weighted(family: Family, clip_skip: int) -> None:
    plan = plan_for(family, "a red house", clip_skip=clip_skip + 1)
    text_encoders = load_text_encoders(plan)
    wanted = encode(text_encoders, plan.conditioning, quiet, CPU)
    words = (parse_weights("a red house").fragments, parse_weights("fog").fragments)
    with torch.inference_mode():
        found = encode_weighted(text_encoders.pipeline, *words, clip_skip)
    assert len(found) == (4 if family.name == "sdxl" else 2)
    for ours, theirs in zip(
        found, (wanted.embeddings, wanted.negative_embeddings, wanted.pooled, wanted.negative_pooled), strict=False
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_a_weight_moves_its_tokens_away_from_the_empty_prompt(family: Family) -> None:
    plain, empty = (
        encoded(family, "a red house", weights=False),
        encoded(family, "", weights=False, size="128x128", upscale_image=image_for(family)),
    )
    for prompt, weight in (("a (red:1.5) house", 1.5), ("a [red] house", 1 / 1.1), ("a (red:0) house", 0.0)):
        found = encoded(family, prompt)
        wanted = plain.embeddings.clone()
        wanted[:, 2] = empty.embeddings[:, 2] + weight * (
            plain.embeddings[:, 2] - empty.embeddings[:, 2]
        )  # after the start and "a"
        assert torch.allclose(found.embeddings, wanted, atol=1e-5)
        assert torch.equal(found.embeddings[:, :2], plain.embeddings[:, :2])
        assert torch.equal(found.pooled, plain.pooled)
        assert torch.equal(found.negative_embeddings, plain.negative_embeddings)


def image_for(family: Family) -> Path:
    """Any image: only an upscale may have no prompt."""
    from PIL import Image

    path = family.presets / "any.png"
    Image.new("RGB", (64, 64)).save(path)
    return path


@pytest.mark.slow
@pytest.mark.covers("`--prompt-weights`", "changes")
def test_weights_change_the_image_and_upscale_reads_them_too(family: Family) -> None:
    plain = make(plan_for(family, "a red house"))
    assert np.array_equal(make(plan_for(family, "a (red:1) house")), plain)
    assert not np.array_equal(make(plan_for(family, "a (red:4) house")), plain)
    assert not np.array_equal(make(plan_for(family, "a red house", negative_prompt="(fog:4)")), plain)
    photo = {"upscale_image": image_for(family), "size": "128x128", "upscale_strength": 1.0}
    assert not np.array_equal(
        make(plan_for(family, "a (red:4) house", **photo)), make(plan_for(family, "a red house", **photo))
    )


@pytest.mark.slow
def test_long_prompts_are_read_whole_in_chunks_that_end_between_words(family: Family) -> None:
    found = encoded(family, LONG)
    cut = encoded(family, LONG, weights=False)
    assert cut.embeddings.shape[1] == 77
    assert found.embeddings.shape[1] == found.negative_embeddings.shape[1] == 77 * 3
    assert torch.equal(found.negative_embeddings[:, :77], cut.negative_embeddings)
    pipeline = loaded_pipeline(family)
    for encoder in encoders(pipeline, 0):
        chunks = encoder.chunks(parse_weights(LONG).fragments)
        texts = [encoder.tokenizer.decode(chunk.tokens).strip() for chunk in chunks]
        assert all(len(chunk.tokens) <= 75 for chunk in chunks)
        assert re.sub(r"\W", "", " ".join(texts)) == re.sub(r"\W", "", LONG)
        assert all(text.split()[-1].strip(",") in LONG.replace(",", " ").split() for text in texts)
    assert not np.array_equal(make(plan_for(family, LONG)), make(plan_for(family, LONG, weights=False)))


@pytest.mark.slow
def test_a_chunk_by_itself_is_the_prompt_by_itself(family: Family) -> None:
    encoder = encoders(loaded_pipeline(family), 0)[0]
    first, second, *_ = encoder.chunks(parse_weights(LONG).fragments)
    alone = encoded(family, encoder.tokenizer.decode(second.tokens), weights=False).embeddings
    assert torch.allclose(encoded(family, LONG).embeddings[:, 77:154], alone, atol=1e-6)
    assert len(first.tokens) > 60


@pytest.mark.slow
def test_words_of_a_users_own_with_weights(family: Family, tmp_path: Path) -> None:
    pipeline = loaded_pipeline(family)
    parts = (
        {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
        if family.name == "sdxl"
        else {"emb_params": "text_encoder"}
    )
    vectors = {
        name: torch.randn(2, getattr(pipeline, part).get_input_embeddings().weight.shape[1])
        for name, part in parts.items()
    }
    save_file(vectors, tmp_path / "moody.safetensors")
    own = {"textual_inversions": (f"{tmp_path / 'moody.safetensors'}:<moody>",)}
    plain = encoded(family, "a <moody> lake", weights=False, **own).embeddings
    found = encoded(family, "a (<moody>:2) lake", **own).embeddings
    changed = [place for place in range(77) if not torch.equal(found[:, place], plain[:, place])]
    assert changed == [2, 3]  # both vectors, and nothing else


@pytest.mark.slow
def test_a_weight_that_is_not_read_is_told_with_the_plan_and_not_again(family: Family) -> None:
    told: list[Event] = []
    plan = plan_for(family, "a (red:1.3) house", weights=False, negative_prompt="(fog:1.2)")
    assert [note for note in plan.notes if "(red:1.3)" in note]
    assert [note for note in plan.notes if "(fog:1.2)" in note]
    encode(load_text_encoders(plan), plan.conditioning, told.append, CPU)
    assert [event.text for event in told if isinstance(event, Note)] == []


@pytest.mark.slow
def test_break_starts_a_chunk(family: Family) -> None:
    apart = encoded(family, "a red house BREAK a lake BREAK (fog:1.5) BREAK").embeddings
    assert apart.shape[1] == 77 * 3
    for number, prompt in enumerate(("a red house", "a lake", "(fog:1.5)")):
        alone = encoded(family, prompt).embeddings
        assert torch.allclose(apart[:, 77 * number : 77 * (number + 1)], alone, atol=1e-6), prompt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [
        ("a BREAK b", [1, 1]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK b", [1, 0, 1]),
        ("a BREAK BREAK", [1, 0]),
    ],
)
def test_a_break_ends_even_an_empty_chunk_as_in_a1111(prompt: str, lengths: list[int], family: Family) -> None:
    for encoder in encoders(loaded_pipeline(family), 0):
        chunks = encoder.chunks(parse_weights(prompt).fragments)
        assert [len(chunk.tokens) for chunk in chunks] == lengths

"""The table of layouts: how the tensors of each part are named in one file."""

import pytest
from families import FAMILIES, tiny_pipeline
from original_layout import ldm_unet, ldm_vae

from linfusion_cli.weights.single_file_layouts import (
    LAYOUTS,
    MARKS,
    Layout,
    Named,
    encoder_parts,
    named,
    prefixes,
    ways,
)

pytestmark = pytest.mark.slow  # all of them together

WHOLE = [layout for layout in LAYOUTS.values() if layout.unet.prefix]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_part_is_told_in_each_layout(family: str) -> None:
    pipeline = tiny_pipeline(family)
    original = {"unet": list(ldm_unet(pipeline.unet)), "vae": list(ldm_vae(pipeline.vae))}
    diffusers = {part: list(getattr(pipeline, part).state_dict()) for part in ("unet", "vae")}
    for layout in LAYOUTS.values():
        for part in ("unet", "vae"):
            (way,) = layout.of(part)
            names = (diffusers if way.naming == "diffusers" else original)[part]
            assert named([way.prefix + name for name in names], part) == way
    assert named(original["vae"], "unet") is named(diffusers["vae"], "unet") is None


def test_a_text_encoder_is_told_by_its_prefix() -> None:
    for part in ("text_encoder", "text_encoder_2"):
        for way in ways(part):
            assert named([f"{way.prefix}x"], part) == way
        assert named(["x"], part) is None


def test_parts_of_a_whole_model_have_prefixes_of_their_own() -> None:
    """No prefix begins another one: a tensor is of one part, however its file is laid out."""
    all_prefixes = prefixes("unet", "vae", "text_encoder", "text_encoder_2")
    assert len(set(all_prefixes)) == len(all_prefixes) >= 2 * len(WHOLE)
    assert not any(a != b and b.startswith(a) for a in all_prefixes for b in all_prefixes)


def test_every_unet_and_autoencoder_has_a_mark() -> None:
    assert {(part, way.naming) for part in ("unet", "vae") for way in ways(part)} == MARKS.keys()
    assert Layout(unet=Named("a.", "diffusers"), vae=Named("b.", "diffusers")).of("text_encoder") == ()


def test_each_text_encoder_has_its_tokenizer() -> None:
    assert encoder_parts(two=False) == (("text_encoder", "tokenizer"),)
    assert encoder_parts(two=True) == (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))

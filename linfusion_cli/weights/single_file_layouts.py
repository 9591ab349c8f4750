"""The table of layouts of one file: how the tensors of a model's parts are named in it. A new layout is a row here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

# How a part's tensors are named behind the prefix; engine/loading/conversions.py has a function for each.
Naming = Literal["diffusers", "ldm_unet", "ldm_vae", "clip", "open_clip"]
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
TOKENIZER_OF = dict(zip(TEXT_ENCODERS, TOKENIZERS, strict=True))


def encoder_parts(*, two: bool) -> tuple[tuple[str, str], ...]:
    """The names of a model's text encoders, one or two, each with that of its tokenizer."""
    return tuple(TOKENIZER_OF.items())[: 2 if two else 1]


@dataclass(frozen=True, slots=True)
class Named:
    """The tensors of one part: those whose names begin with the prefix."""

    prefix: str
    naming: Naming


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one file names the tensors of each part; a text encoder may be named in several ways."""

    unet: Named
    vae: Named
    text_encoder: tuple[Named, ...] = ()
    text_encoder_2: tuple[Named, ...] = ()

    def of(self, part: str) -> tuple[Named, ...]:
        found: Named | tuple[Named, ...] = getattr(self, part)
        return found if isinstance(found, tuple) else (found,)


LAYOUTS = {
    "original": Layout(  # of CompVis and Stability
        unet=Named("model.diffusion_model.", "ldm_unet"),
        vae=Named("first_stage_model.", "ldm_vae"),
        text_encoder=(
            Named("cond_stage_model.transformer.", "clip"),
            Named("conditioner.embedders.0.transformer.", "clip"),
            Named("cond_stage_model.model.", "open_clip"),
            Named("conditioner.embedders.0.model.", "open_clip"),
        ),
        text_encoder_2=(Named("conditioner.embedders.1.model.", "open_clip"),),
    ),
    # A UNet or an autoencoder alone
    "original part": Layout(unet=Named("", "ldm_unet"), vae=Named("", "ldm_vae")),
    "diffusers part": Layout(unet=Named("", "diffusers"), vae=Named("", "diffusers")),
}
# Part and naming -> a tensor that such a part has and no other one, and the first convolution of a UNet.
MARKS = {("unet", "ldm_unet"): "input_blocks.", ("unet", "diffusers"): "conv_in.weight"}
MARKS |= {("vae", "ldm_vae"): "decoder.up.", ("vae", "diffusers"): "decoder.up_blocks."}
FIRST_OF_UNET: dict[Naming, str] = {"ldm_unet": "input_blocks.0.0.weight", "diffusers": "conv_in.weight"}


def named(tensors: Iterable[str], part: str) -> Named | None:
    """How a file names the tensors of a part: "unet", "vae", "text_encoder" or "text_encoder_2"; None without it."""
    names = list(tensors)
    for way in ways(part):
        if any(name.startswith(way.prefix + MARKS.get((part, way.naming), "")) for name in names):
            return way
    return None


def ways(part: str) -> Iterator[Named]:
    """All the ways in which the table names a part's tensors."""
    yield from (way for layout in LAYOUTS.values() for way in layout.of(part))


def prefixes(*parts: str) -> tuple[str, ...]:
    """What the names of these parts' tensors begin with in the file of a whole model."""
    return tuple(way.prefix for part in parts for way in ways(part) if way.prefix)

"""Textual inversion (arXiv 2208.01618): new words, each with a few vectors in the text encoder's vocabulary."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from linfusion_cli.engine.adapters.lora_layers import refuse_no_numbers
from linfusion_cli.engine.loading.safetensors_loader import read_tensors
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.render_plan import InversionInput
from linfusion_cli.weights.embedding_file import taken, vectors_of
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file_layouts import TOKENIZER_OF


def add_inversions(pipeline: Any, inversions: tuple[InversionInput, ...]) -> None:
    """Adds each token to the tokenizers and text encoders. Raises WeightsError if it is for another family."""
    for inversion in inversions:
        inversion.file.refuse_changed()
        token, path = inversion.token, inversion.file.header.path
        for part, vectors in _vectors(inversion.file.header, pipeline).items():
            encoder, tokenizer = getattr(pipeline, part), getattr(pipeline, TOKENIZER_OF[part])
            width = encoder.get_input_embeddings().weight.shape[1]
            if vectors.shape[1] != width:
                what = f"vectors of {vectors.shape[1]} numbers, the model's {part} has {width}: for another family"
                raise WeightsError(f"{path}: {what}", parameter="textual_inversions")
            if token in tokenizer.get_vocab():
                raise taken(token, inversion.file.header, inversion.file.locations[0])
            pipeline.load_textual_inversion(
                vectors.to(encoder.dtype), token=token, tokenizer=tokenizer, text_encoder=encoder
            )


def _vectors(header: Header, pipeline: Any) -> dict[str, Tensor]:
    """Text encoder -> vectors (count, width). Raises WeightsError for another layout, and for NaN and infinity."""
    names = vectors_of(header, two_encoders=getattr(pipeline, "text_encoder_2", None) is not None)
    tensors = read_tensors(header, None)
    refuse_no_numbers(tensors, header.path, "textual_inversions")
    found = {part: tensors[name] for part, name in names.items()}
    return {part: vectors if vectors.ndim == 2 else vectors[None] for part, vectors in found.items()}

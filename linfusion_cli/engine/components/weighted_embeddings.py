"""Embeddings of prompts with weights, and of prompts longer than the text encoder reads: in chunks in a row.

A weight w moves a token's embedding z along the line from e, the embedding of the empty prompt at the same position, to
z: e + w (z - e). This is what ComfyUI does by default, and compel for weights above 1. AUTOMATIC1111's w z, rescaled to
the mean of the embeddings, divides by a mean that is close to zero for SD-XL, where its own advice is to leave the
rescaling out. SD-XL's pooled embedding is that of the first chunk, without weights, as in all three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.planning.render_plan import Fragment
from linfusion_cli.weights.single_file_layouts import encoder_parts


@dataclass(frozen=True, slots=True)
class Chunk:
    """What the text encoder reads at once: up to `limit` tokens between start and end, and the weight of each."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Encoder:
    """One tokenizer and text encoder of a pipeline.

    clip_skip: how many of the last layers are left out, 0 for the layer that the family takes
    pooled: whether the encoder also gives the pooled embedding
    """

    texts: Any
    tokenizer: Any
    model: Any
    clip_skip: int
    penultimate: bool  # SD-XL's, without the last norm

    @property
    def limit(self) -> int:
        return int(self.tokenizer.model_max_length) - 2

    def chunks(self, fragments: tuple[Fragment, ...]) -> list[Chunk]:
        """The prompt in chunks that end between words and at each BREAK; at least one, which may be empty."""
        chunks: list[list[tuple[int, float]]] = [[]]
        for fragment in fragments:
            if fragment.starts_chunk:
                chunks.append([])
            for tokens in self._words(fragment.text):
                if chunks[-1] and len(chunks[-1]) + len(tokens) > self.limit:
                    chunks.append([])
                for token in tokens:
                    if len(chunks[-1]) == self.limit:
                        chunks.append([])
                    chunks[-1].append((token, fragment.weight))
        if len(chunks) > 1 and not chunks[-1]:  # nothing is behind the last BREAK
            chunks.pop()
        return [Chunk(tuple(token for token, _ in chunk), tuple(weight for _, weight in chunk)) for chunk in chunks]

    def _words(self, text: str) -> Iterator[list[int]]:
        """The tokens of each word; a word of a user's own becomes its vectors."""
        for word in text.split():
            converted = self.texts.maybe_convert_prompt(word, self.tokenizer)
            yield list(self.tokenizer(converted, add_special_tokens=False).input_ids)

    def embed(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """(1, model_max_length, width) with the weights in it, and the pooled embedding (1, width) without."""
        states, pooled = self._run(chunk.tokens)
        if all(weight == 1 for weight in chunk.weights):
            return states, pooled
        empty, _ = self._run(())
        rest = self.limit + 1 - len(chunk.weights)
        weights = states.new_tensor([1.0, *chunk.weights, *[1.0] * rest], dtype=torch.float32)[None, :, None]
        moved = (empty.float() + weights * (states.float() - empty.float())).to(states.dtype)
        return torch.where(weights == 1, states, moved), pooled

    def _run(self, tokens: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """One chunk through the encoder: hidden states, (1, tokens, width), and the pooled output, (1, width)."""
        tokenizer = self.tokenizer
        padding = [tokenizer.pad_token_id] * (self.limit - len(tokens))
        ids = torch.tensor(
            [[tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id, *padding]], device=self.model.device
        )
        mask = None
        if getattr(self.model.config, "use_attention_mask", False) and not self.penultimate:
            mask = (torch.arange(ids.shape[1], device=ids.device) < len(tokens) + 2).long()[None]
        out = self.model(ids, attention_mask=mask, output_hidden_states=True)
        if self.penultimate:
            return out.hidden_states[-2 - self.clip_skip], out[0]
        if not self.clip_skip:
            return out[0], out[1]
        norm = getattr(self.model, "text_model", self.model).final_layer_norm
        return norm(out.hidden_states[-1 - self.clip_skip]), out[1]


def encoders(texts: Any, clip_skip: int) -> list[Encoder]:
    """The text encoders of a pipeline of diffusers."""
    two = getattr(texts, "text_encoder_2", None) is not None
    return [
        Encoder(texts, getattr(texts, tokenizer), getattr(texts, model), clip_skip, two)
        for model, tokenizer in encoder_parts(two=two)
    ]


def needs_own_way(texts: Any, fragments: tuple[Fragment, ...]) -> bool:
    """Whether a prompt has weights, or more tokens than one chunk; without both, diffusers' own way gives the same."""
    weighted = any(fragment.weight != 1 for fragment in fragments)
    return weighted or any(len(encoder.chunks(fragments)) > 1 for encoder in encoders(texts, 0))


def encode_weighted(
    texts: Any, prompt: tuple[Fragment, ...], negative: tuple[Fragment, ...], clip_skip: int
) -> tuple[Tensor, ...]:
    """What diffusers' encode_prompt gives: embeddings and negative ones, each (1, chunks x model_max_length, width).

    For SD-XL the pooled embeddings follow. The shorter of the two prompts gets empty chunks at its end, so that both
    are of one length. As in diffusers, clip_skip acts on the prompt alone.
    """
    both = [(encoders(texts, clip_skip), prompt), (encoders(texts, 0), negative)]
    chunked = [[encoder.chunks(fragments) for encoder in found] for found, fragments in both]
    count = max(len(chunks) for each in chunked for chunks in each)
    embedded = [_embed(found, each, count) for (found, _), each in zip(both, chunked, strict=True)]
    embeddings, pooled = zip(*embedded, strict=True)
    return (*embeddings, *pooled) if len(both[0][0]) == 2 else tuple(embeddings)


def _embed(found: list[Encoder], chunked: list[list[Chunk]], count: int) -> tuple[Tensor, Tensor]:
    """The embeddings, chunks one after the other and encoders side by side, and the pooled one of the first chunk.

    Of two encoders the last one gives the pooled embedding.
    """
    widths, pooled = [], torch.empty(0)
    for encoder, chunks in zip(found, chunked, strict=True):
        parts = [encoder.embed(chunk) for chunk in [*chunks, *[Chunk((), ())] * (count - len(chunks))]]
        widths.append(torch.cat([states for states, _ in parts], dim=1))
        pooled = parts[0][1]
    return torch.cat(widths, dim=-1), pooled

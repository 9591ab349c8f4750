"""Signs in a prompt that mean something in other tools and are words here, and what to use in their place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from linfusion_cli.config.midjourney import IN_PROMPT, PARAMETERS
from linfusion_cli.errors import Message, Option, option

SHOWN_CHARACTERS = 40
NEGATIVE = "the negative prompt"


@dataclass(frozen=True, slots=True)
class _Sign:
    """A syntax of other tools. `use`: what does the same here."""

    pattern: re.Pattern[str]
    use: tuple[str | Option, ...]
    is_weight: bool = False  # understood with prompt weights
    negative: tuple[str | Option, ...] = ()  # `use` in a negative prompt, where it is another


SIGNS = (
    _Sign(
        re.compile(r"<(?:lora|lyco):[^<>\n]*>", re.IGNORECASE),
        ("use ", option("loras"), ", or name a folder of models: ", option("models")),
        negative=("a LoRA acts on both prompts. Write it in the prompt, or use ", option("loras")),
    ),
    _Sign(
        re.compile(r"<(?:lora|lyco):[^<>\n]*(?=[<\n]|\Z)", re.IGNORECASE),
        ("the tag of a LoRA ends with >, like <lora:NAME:0.8>",),
    ),
    _Sign(re.compile(r"<hypernet:[^<>\n]*>", re.IGNORECASE), ("hypernetworks are not supported",)),
    _Sign(
        re.compile(r"\bembedding:[\w.\-]+", re.IGNORECASE),
        ("use ", option("textual_inversion"), " and its word alone in the prompt"),
    ),
    _Sign(
        re.compile(r"\bBREAK\b"),
        ("leave it out, or use ", option("prompt_weights", True), ", where it starts a chunk"),
        is_weight=True,
    ),
    _Sign(re.compile(r"(?<!\S)AND(?!\S)"), ("prompts are not composed: make one prompt of them",)),
    _Sign(
        re.compile(r"__[^\W_](?:[\w\-/]*?[^\W_])?__"),
        ("a wildcard is filled in by batch, in the prompt, with its ", option("wildcards")),
    ),
    _Sign(
        re.compile(r"\[[^\[\]]*:[^\[\]]*:\s*\d*\.?\d+\s*\]|\[[^\[\]:]*:\s*\d*\.?\d+\s*\]"),
        ("words can't change between steps: write one of them",),
    ),
    _Sign(re.compile(r"\[[^\[\]|]+\|[^\[\]]*\]"), ("words can't alternate between steps: write one of them",)),
    _Sign(re.compile(r"\{[^{}]*\|[^{}]*\}"), ("batch makes an image of each choice, in the prompt of a list",)),
    _Sign(re.compile(r"\{[^{}]*\|[^{}]*\Z"), ("a choice ends with }, like {a|b}",)),
    _Sign(re.compile(r"\{prompt\}"), ("a style of A1111 has it where a prompt is put: write the prompt there",)),
    _Sign(re.compile(r"\bNegative prompt:"), ("give the rest as ", option("negative_prompt"))),
    _Sign(re.compile(r"(?:^|\s)Steps: ?\d+, ?\w"), ("batch reads pasted settings from a list",)),
    _Sign(
        re.compile(r"\([^()]*:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)"),
        ("use ", option("prompt_weights", True)),
        is_weight=True,
    ),
    _Sign(
        re.compile(r"\)(?:\++|-+|\d*\.?\d+)(?=[\s,.]|$)|\b[^\W\d_]{2,}\+{2,}(?=[\s,.]|$)"),
        ("of InvokeAI and compel; write (word:1.1), with ", option("prompt_weights", True)),
    ),
    _Sign(
        re.compile(r"(?<!\$)\{(?!prompt\}|%)[^{}|]{2,}\}"),
        ("for NovelAI's weights write (a:1.1), with ", option("prompt_weights", True), "; for choices {a|b} in batch"),
    ),
    _Sign(
        re.compile(r"(?:^|(?<=[\s,(]))[^\s{}|,:]+::"),
        ("weights of Midjourney or NovelAI; write (word:1.2), with ", option("prompt_weights", True)),
    ),
    _Sign(re.compile(r"\{%.*?%\}"), ("templates of Dynamic Prompts are not run: write the words",)),
    _Sign(re.compile(r"\$\{\w+[^{}]*\}?"), ("variables of Dynamic Prompts are not filled in: write the words",)),
    _Sign(re.compile(r"\.swap\("), ("of InvokeAI; words are not exchanged on the way: write one of them",)),
    _Sign(re.compile(r"\.(?:and|blend)\("), ("of InvokeAI; prompts are not composed: make one prompt of them",)),
    _Sign(re.compile(r"\.withLora\(\w*"), ("of InvokeAI; use ", option("loras"))),
    _Sign(
        re.compile(r"<(?:wildcard|wc)(?:\[[^\]]*\])?:[^<>\n]*>", re.IGNORECASE),
        ("of SwarmUI; batch fills in __NAME__, with its ", option("wildcards")),
    ),
    _Sign(
        re.compile(r"<(?:random|rnd)(?:\[[^\]]*\])?:[^<>\n]*>", re.IGNORECASE),
        ("of SwarmUI; batch makes an image of each of {a|b}",),
    ),
    _Sign(
        re.compile(r"<(?:alternate|alt|fromto)(?:\[[^\]]*\])?:[^<>\n]*>", re.IGNORECASE),
        ("of SwarmUI; words can't change between steps: write one of them",),
    ),
    _Sign(
        re.compile(r"<embed(?:ding)?:[^<>\n]*>", re.IGNORECASE),
        ("of SwarmUI; use ", option("textual_inversion"), " and its word alone in the prompt"),
    ),
    _Sign(
        re.compile(
            r"<(?:segment|object|region|clear|extend|refiner|base|video|preset|p|param|repeat|setvar|setmacro|var|macro"
            r"|trigger|comment|break)(?:\[[^\]]*\])?(?::[^<>\n]*)?>",
            re.IGNORECASE,
        ),
        ("of SwarmUI, and does nothing here: leave it out",),
    ),
    _Sign(
        re.compile(r"https?://\S+\.(?:png|jpe?g|webp|gif)\b", re.IGNORECASE),
        ("get the image, and use ", option("init_image"), " or ", option("ip_images")),
    ),
    _Sign(
        re.compile(rf"(?<!\S)--(?!(?:{'|'.join(PARAMETERS)})(?![\w-]))[a-z][\w-]+", re.IGNORECASE),
        ("options stand outside of the prompt and its quotes",),
    ),
    _Sign(
        re.compile(r"\(\([^()]+\)\)|(?<!\\)\[[^\[\]|:]+\](?!:[^<>\n]*>)"),
        ("use ", option("prompt_weights", True)),
        is_weight=True,
    ),
)


def foreign_syntax_notes(prompt: str, negative_prompt: str, *, weights: bool) -> tuple[Message, ...]:
    """A note for each kind of sign, in each of the two texts, that is read as words here.

    weights: whether weights like (word:1.3) are understood.
    """
    texts = (("the prompt", prompt), (NEGATIVE, negative_prompt))
    signs = tuple(
        Message(f'"{found[0].strip():.{SHOWN_CHARACTERS}}" in {name} is read as words: ', *use)
        for name, text in texts
        for sign in SIGNS
        if not (sign.is_weight and weights)
        for found in [sign.pattern.search(text)]
        if found
        for use in [sign.negative if sign.negative and name == NEGATIVE else sign.use]
    )
    return (*signs, *(note for name, text in texts for note in _midjourney_notes(name, text)))


def _midjourney_notes(name: str, text: str) -> Iterator[Message]:
    """A note for each parameter of Midjourney in a text, once."""
    for parameter, typed in {found[1]: found[0] for found in IN_PROMPT.finditer(text)}.items():
        yield Message(f'"{typed}" in {name} is read as words. In Midjourney: ', *PARAMETERS[parameter])

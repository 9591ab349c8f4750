"""Words of a prompt that the built-in model was never taught: it draws a landscape without them, and says nothing."""

from __future__ import annotations

import filecmp
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from linfusion_cli.config.extras import PRESET_OF, inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_schema import BUILTIN
from linfusion_cli.config.prompt_weighting import parse_weights, plain_text
from linfusion_cli.errors import Message, nearest_name, option
from linfusion_cli.models import builtin_folder
from linfusion_cli.models.landscape_words import CONNECTIVES, FILLERS, vocabulary
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.redaction import SECRET, redacted

TOKENIZER = Path("tokenizer") / "tokenizer.json"
SHOWN_WORDS, SHOWN_CHARACTERS = 6, 24
LEAST_LETTERS = 5  # of a word that may be a misspelled one: "frog" is not "fog"
# Words that show nothing by themselves. "no" and "without" are not among them: who writes them wants something else.
_FUNCTION_WORDS = (
    "a an the this that these those some any each every its it is are was were be being been has have had there here "
    "which who whose where when while as and or but so also in on at by of with from to into onto for over under above "
    "below beneath beside behind between among near next along across through toward towards against beyond inside "
    "outside within upon around up down off out i you he she we they my your his her our their me him us them"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
# foreign_syntax.py tells of these.
_SYNTAX = re.compile(r"<[^<>\n]*>|\bBREAK\b|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*(?=[)\]])")
_POSSESSIVE = re.compile(r"['\u2019]s\b")


def unknown_words_notes(job: Job, weights: JobWeights) -> tuple[Message, ...]:
    """A note for each of the two texts that holds words which the built-in model ignores; () for any other model."""
    if not reads_landscape_words(weights):
        return ()
    tokens = {inversion(text)[1].lower() for text in job.settings.extras.textual_inversions}
    texts = [
        plain_text(parse_weights(text).fragments) if job.settings.extras.prompt_weights else text
        for text in (job.prompt, job.negative_prompt)
    ]
    texts = [redacted(text).replace(SECRET, " ") for text in texts]  # no part of a token is a word to show
    prompt, negative = (list(unknown_words(text, tokens)) for text in texts)
    notes = []
    if prompt:
        first, *others = PRESET_OF.values()
        listed = f"{_listed(prompt)}. For any subject: "
        some = f"the built-in model draws landscapes alone and ignores {listed}"
        none = f"the built-in model draws landscapes alone and knows no word of the prompt. It ignores {listed}"
        known = not _drawn().isdisjoint(words_of(texts[0]))
        notes.append(Message(some if known else none, option("preset", first), f" or {' or '.join(others)}"))
    if negative:
        notes.append(Message(f"the built-in model ignores {_listed(negative)} in the negative prompt"))
    return tuple(notes)


def reads_landscape_words(weights: JobWeights) -> bool:
    """Whether the model is the built-in one, or one that was trained like it: its tokenizer is the same."""
    own, builtin = weights.model.path, builtin_folder(BUILTIN)
    if own is None or builtin is None or not (own / TOKENIZER).is_file():
        return False
    return filecmp.cmp(own / TOKENIZER, builtin / TOKENIZER, shallow=False)


def unknown_words(text: str, tokens: Iterable[str] = ()) -> Iterator[str]:
    """Each word of a text that is in no caption of the built-in model, once. tokens: words of a user's own."""
    known, own = _known(), set(tokens)
    return (word for word in dict.fromkeys(words_of(text)) if word not in known and word not in own)


def words_of(text: str) -> Iterator[str]:
    """The words of a text in lower case: letters, digits and signs like emoji, between blanks and punctuation."""
    plain = _POSSESSIVE.sub("", unicodedata.normalize("NFC", _SYNTAX.sub(" ", text)).lower())
    return iter("".join(letter if _is_of_word(letter) else " " for letter in plain).split())


def nearest_word(word: str) -> str:
    """The word that the model can draw and that was most likely meant; "" if none is close."""
    drawn = [one for one in sorted(_drawn()) if one[0] == word[0]]
    if len(word) >= LEAST_LETTERS:
        return nearest_name(word, drawn)
    return next((one for one in drawn if one in (f"{word}s", word.removesuffix("s"))), "")


def _is_of_word(letter: str) -> bool:
    kind = unicodedata.category(letter)
    return kind[0] in "LMN" or kind in ("So", "Co") or letter in "'\u2019"


@cache
def _known() -> frozenset[str]:
    return frozenset(vocabulary()) | FUNCTION_WORDS


@cache
def _drawn() -> frozenset[str]:
    """The words of the vocabulary that stand for something in the image."""
    fillers = {part for phrase in FILLERS for part in phrase.split()}
    return frozenset(word for word in vocabulary() if word.isalpha()) - fillers - {*CONNECTIVES}


def _listed(words: list[str]) -> str:
    shown = [_quoted(word) for word in words[:SHOWN_WORDS]]
    if len(words) > SHOWN_WORDS:
        shown.append(f"{len(words) - SHOWN_WORDS} other word{'s' if len(words) > SHOWN_WORDS + 1 else ''}")
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _quoted(word: str) -> str:
    near = nearest_word(word)
    return f'"{word:.{SHOWN_CHARACTERS}}"' + (f" (nearest: {near})" if near else "")

"""Midjourney's parameters (--ar 16:9, --no trees, --v 6): what does the same here, or why nothing does."""

from __future__ import annotations

import re
from collections.abc import Mapping

from linfusion_cli.errors import Message, Option, option

_MODEL = ("a version of its models. Use ", option("preset"), " or ", option("model"))
_STYLE = ("how strongly its own taste acts. Write the style's words; see ", option("guidance"))
_REFERENCE = ("images to be guided by. Use ", option("ip_images"), " with ", option("ip_adapter"))
_SERVICE = ("how its service works. Leave it out",)
_VARIETY = ("how much images of one prompt differ. Here each seed is another image: use ", option("seed"))
PARAMETERS: Mapping[str, tuple[str | Option, ...]] = {
    **dict.fromkeys(("ar", "aspect"), ("the shape. Use ", option("aspect"))),
    "no": ("what not to draw. Use ", option("negative_prompt")),
    **dict.fromkeys(("v", "version", "niji"), _MODEL),
    **dict.fromkeys(("stylize", "s", "style", "raw", "exp"), _STYLE),
    **dict.fromkeys(("chaos", "c", "weird", "w"), _VARIETY),
    **dict.fromkeys(("q", "quality"), ("how long to draw. Use ", option("steps"))),
    "iw": ("the weight of an image. Use ", option("ip_scale"), " or ", option("init_strength")),
    **dict.fromkeys(("sref", "cref", "oref"), _REFERENCE),
    **dict.fromkeys(("sw", "cw", "ow", "sv"), ("the weight of a reference. Use ", option("ip_scale"))),
    "tile": ("a pattern without seams, which is not made here. Leave it out",),
    "stop": ("an end before the last step. Use ", option("steps")),
    "seed": ("the noise. Use ", option("seed")),
    **dict.fromkeys(("repeat", "r"), ("several images. Use ", option("count"), " of generate, or a list")),
    **dict.fromkeys(("profile", "p", "personalize"), ("a taste that it has learned. Leave it out",)),
    **dict.fromkeys(("fast", "relax", "turbo", "draft", "hd", "video", "public", "stealth", "sameseed"), _SERVICE),
    **dict.fromkeys(("uplight", "upbeta", "upanime", "test", "testp", "creative"), _SERVICE),
}
# Of a list's keys these alone mean something else there, or nothing: the others are understood.
UNKNOWN_IN_LISTS = PARAMETERS.keys() - {"ar", "aspect", "no", "s", "w", "quality", "seed", "c", "r", "p"}
# As it is typed, too: phones make one dash of two.
IN_PROMPT = re.compile(rf"(?<!\S)(?:--|\N{{EM DASH}})({'|'.join(sorted(PARAMETERS, key=len, reverse=True))})(?![\w-])")


def midjourney_advice(name: str) -> Message | None:
    """What to use for a parameter of Midjourney, named without dashes; None for a name that it has not."""
    return Message("looks like Midjourney: ", *PARAMETERS[name]) if name in PARAMETERS else None

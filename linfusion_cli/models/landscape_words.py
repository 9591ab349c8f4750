"""The words that the built-in model was taught: what its captions are made of, and so all that it can draw.

The captions come from landscapes/scene.py, the tokenizer from landscapes/tokenizer.py.
"""

from __future__ import annotations

TIMES = {
    "dawn": ("dawn", "daybreak", "sunrise"),
    "morning": ("morning", "early morning"),
    "noon": ("noon", "midday"),
    "sunset": ("sunset", "sundown"),
    "dusk": ("dusk", "twilight"),
    "night": ("night", "midnight"),
}
TERRAINS = {
    "mountains": ("mountains", "peaks", "mountain range"),
    "hills": ("hills", "rolling hills"),
    "dunes": ("dunes", "sand dunes", "desert"),
    "islands": ("islands", "islands in the sea", "archipelago"),
    "forest": ("forest", "pine forest", "woods"),
}
TINTS = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "golden": ("golden", "amber", "yellow"),
    "gray": ("gray", "grey"),
    "teal": ("teal", "turquoise"),
}
SUN = ("sun", "a bright sun", "under the sun", "with a sun")
MOON = ("moon", "full moon", "under a full moon", "with a moon", "a bright moon")
LAKE = ("by a lake", "reflected in a lake", "a calm lake", "with a lake")
FOG = ("in fog", "misty", "foggy", "mist", "with fog")
SNOW = ("snowy", "covered in snow", "with snow", "snow on the ridges")
STARS = ("starry sky", "with stars", "stars")
CLEAR = ("empty sky", "clear sky")
FILLERS = (
    "minimalist",
    "flat style",
    "landscape",
    "wallpaper",
    "highly detailed",
    "painting",
    "a view of",
    "4k",
    "vector art",
    "beautiful",
)
CONNECTIVES = ("at", "over", "and", "of", "a", "the", "in", "on", "with", "under", "by")
PHRASES = (*TIMES.values(), *TERRAINS.values(), *TINTS.values(), SUN, MOON, LAKE, FOG, SNOW, STARS, CLEAR, FILLERS)


def vocabulary() -> list[str]:
    """Every word and mark that a caption can hold, for the tokenizer."""
    words = {word for phrases in PHRASES for phrase in phrases for word in phrase.split()}
    return sorted({*words, *CONNECTIVES, ",", "."})

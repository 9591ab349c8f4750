"""Every option has words for its default, and they are those of the preset that is used where none is named."""

from linfusion_cli.config import options
from linfusion_cli.config.default_words import default_words, value_words
from linfusion_cli.config.option_row import UPSCALE
from linfusion_cli.config.preset_files import DEFAULT_PRESET
from linfusion_cli.config.presets import load_preset


def test_every_option_says_what_it_is_where_nobody_gives_it() -> None:
    words = {row.key: default_words(row) for row in options.OPTIONS}
    assert all(words.values())
    assert words["steps"] == "as the preset says (landscape: `20`)"
    assert words["loras"] == "as the preset says (landscape: none)"
    assert (words["device"], words["overwrite"], words["prompt"]) == ("`auto`", "off", "required")
    assert words["max_memory"] == "what is free"


def test_the_size_of_an_upscale_is_not_the_preset_s() -> None:
    rows = {row.key: row for row in options.OPTIONS}
    assert default_words(rows["size"]) == "as the preset says (landscape: `4k`)"
    assert default_words(rows["size"], UPSCALE) == "that of the image, times the scale"


def test_a_default_in_words_is_that_of_the_preset() -> None:
    preset = load_preset(DEFAULT_PRESET).settings
    for row in options.OPTIONS:
        if row.preset_key:
            section, _, name = row.preset_key.partition(".")
            value = getattr(getattr(preset, section), name)
            value = value - row.preset_offset if row.preset_offset else value
            value = list(value) if isinstance(value, tuple) else value
            assert default_words(row) == f"as the preset says ({DEFAULT_PRESET}: {value_words(value)})", row.key

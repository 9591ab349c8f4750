"""Every option has words for its default, and they are those of presets/defaults.toml."""

from linfusion_cli.config import options
from linfusion_cli.config.default_words import default_words


def test_every_option_says_what_it_is_where_nobody_gives_it() -> None:
    words = {row.key: default_words(row) for row in options.OPTIONS}
    assert all(words.values())
    assert words["steps"] == "as the preset says: `25`"
    assert (words["device"], words["overwrite"], words["prompt"]) == ("`auto`", "off", "required")
    assert words["max_memory"] == "what is free"


def test_a_default_in_words_is_that_of_the_defaults() -> None:
    """--help reads no preset: where it names a preset's value, it has to be the one of presets/defaults.toml."""
    for row in options.OPTIONS:
        if row.preset_key and row.default_from and row.default_from != "as the preset says":
            shown = default_words(row).removeprefix("as the preset says: ").strip('`[]"')
            same = shown == row.default_from or float(shown) == float(row.default_from)
            assert same, row.key

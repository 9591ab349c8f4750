"""CLIP's words are those of its published vocabulary."""

from linfusion_cli.weights.clip_words import SPECIAL, byte_letters, clip_merges, clip_vocabulary


def test_every_byte_has_a_visible_letter_of_its_own() -> None:
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert all(letter.isprintable() and not letter.isspace() for letter in letters)
    assert letters[:3] == ["!", '"', "#"]


def test_the_words_have_the_numbers_of_clip() -> None:
    words = clip_vocabulary()
    assert len(words) == 2 * 256 + len(clip_merges()) + len(SPECIAL) == 49408
    assert [words[name] for name in ("!", "a</w>", *SPECIAL)] == [0, 320, 49406, 49407]

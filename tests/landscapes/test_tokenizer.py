"""Every word of a caption is one token."""

from linfusion_cli.landscapes.tokenizer import build_tokenizer
from linfusion_cli.models.landscape_words import vocabulary


def test_every_word_of_a_caption_is_one_token() -> None:
    tokenizer = build_tokenizer()
    words = [word for word in vocabulary() if word.isalpha()]
    assert all(len(tokenizer(word).input_ids) == 3 for word in words)
    assert len(tokenizer("zyxwv ☃").input_ids) > 3  # unknown words fall into pieces
    assert len(set(map(tuple, (tokenizer(word).input_ids for word in words)))) == len(words)

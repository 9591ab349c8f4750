from __future__ import annotations

import pytest

from linfusion_cli.config.options import by_preset_key
from linfusion_cli.config.preset_keys import FILE_ONLY, preset_key, preset_keys
from linfusion_cli.config.preset_schema import schema


def test_the_keys_are_those_of_the_schema_each_once() -> None:
    assert set(preset_keys()) == set(schema())
    assert len(preset_keys()) == len(FILE_ONLY) + len(by_preset_key())


def test_every_key_is_explained_in_sentences() -> None:
    assert all(row.comment.endswith(".") for row in preset_keys().values())


def test_an_unknown_key_has_no_row() -> None:
    with pytest.raises(KeyError):
        preset_key("sampling.stpes")

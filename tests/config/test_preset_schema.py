"""Types and limits of the schema are those of the tables."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, MultipleOf

from linfusion_cli.config.preset_keys import preset_keys
from linfusion_cli.config.preset_schema import schema


@pytest.mark.parametrize("key", schema())
def test_a_key_has_the_type_and_the_choices_of_its_row(key: str) -> None:
    row, annotation = preset_keys()[key], schema()[key].annotation
    if get_origin(annotation) is Literal:
        assert get_args(annotation) == row.choices
    else:
        assert row.choices == () or row.is_list  # whose words a validator checks
        assert annotation in ((tuple[row.kind, ...], tuple[row.kind, row.kind]) if row.is_list else (row.kind,))


@pytest.mark.parametrize("key", [key for key, row in preset_keys().items() if row.range and not row.is_list])
def test_a_key_has_the_limits_of_its_row(key: str) -> None:
    allowed, limits = preset_keys()[key].range, schema()[key].metadata
    assert allowed is not None
    assert (Gt(allowed.low) if allowed.above else Ge(allowed.low)) in limits
    assert Le(allowed.high) in limits
    assert (MultipleOf(allowed.multiple_of) in limits) == (allowed.multiple_of > 1)

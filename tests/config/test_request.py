import dataclasses

import pytest

from linfusion_cli.config.request import Request


def test_a_request_is_frozen_and_hashable() -> None:
    request = Request(prompt="a")
    assert {request: 1}[Request(prompt="a")] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.prompt = "b"  # type: ignore[misc]

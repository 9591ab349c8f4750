"""What people pickle, flattened to named tensors: nothing is dropped unsaid."""

import pytest
import torch

from linfusion_cli.convert.layouts import weights_of
from linfusion_cli.errors import WeightsError

A, B = torch.ones(2, 3), torch.zeros(4)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "params_ema", "params", "model"])
def test_weights_inside_a_trainers_table(key: str) -> None:
    found = weights_of({key: {"a.weight": A, "b": B}, "epoch": 3, "who": "me", "optimizer_states": [1], "none": None})
    assert set(found.tensors) == {"a.weight", "b"}
    assert found.metadata == {"epoch": "3", "who": "me"}
    assert found.ignored == ("optimizer_states",)


def test_averaged_weights_are_taken_before_the_last_ones_which_are_named() -> None:
    found = weights_of({"params": {"a": A}, "params_ema": {"a": B}})
    assert found.tensors["a"] is B
    assert found.ignored == ("params",)


def test_the_tables_of_an_ip_adapter_become_names() -> None:
    found = weights_of({"image_proj": {"proj.weight": A}, "ip_adapter": {"1.to_k_ip.weight": B}})
    assert set(found.tensors) == {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}


def test_a_textual_inversion_of_a1111() -> None:
    table = {"string_to_token": {"*": 265}, "string_to_param": {"*": A}, "name": "moody", "step": 10, "odd": [1]}
    found = weights_of(table)
    assert found.tensors["emb_params"] is A
    assert found.metadata == {"name": "moody", "step": "10"}
    assert found.ignored == ("odd",)


def test_plain_tables_keep_their_names_and_texts() -> None:
    found = weights_of({"<moody>": A, "note": "x"})
    assert set(found.tensors) == {"<moody>"}
    assert found.metadata == {"note": "x"}


@pytest.mark.parametrize("loaded", [[A], A, "text", {}, {"epoch": 1}, {"string_to_param": {"a": A, "b": B}}])
def test_what_holds_no_weights_is_refused(loaded: object) -> None:
    with pytest.raises(WeightsError, match=r"holds|words"):
        weights_of(loaded)


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"name a\.b"):
        weights_of({"a.b": A, "a": {"b": B}})

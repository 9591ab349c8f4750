"""New words: their vectors are those of the file, the words before stay, and what does not fit is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.adapters.textual_inversion import add_inversions
from linfusion_cli.engine.components.text_encoders import load_text_encoders
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.planning.render_plan import InversionInput
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.weight_file import WeightFile

WIDTH = 128  # of the built-in model's text encoder


@pytest.fixture
def pipeline() -> Any:
    request = Request(prompt="a lake", size="64x64", seed=1, output=Path("x.png"))
    return load_text_encoders(make_plan(resolve(request), find_machine("cpu"))).pipeline


def inversion(folder: Path, vectors: Tensor, token: str = "moody") -> InversionInput:
    path = folder / f"{len(list(folder.iterdir()))}.safetensors"
    save_file({"emb_params": vectors}, path)
    return InversionInput(WeightFile.resolve((str(path),), "", "textual_inversion"), token)


def read(pipeline: Any, prompt: str) -> Tensor:
    """The vectors of a prompt's words, without start and end."""
    ids = pipeline.tokenizer(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer)).input_ids[1:-1]
    found: Tensor = pipeline.text_encoder.get_input_embeddings().weight[ids].detach()
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_is_read_as_the_vectors_of_its_file(pipeline: Any, tmp_path: Path, count: int) -> None:
    before = read(pipeline, "a lake by hills")
    vectors = torch.randn(count, WIDTH)
    add_inversions(pipeline, (inversion(tmp_path, vectors),))
    assert torch.equal(read(pipeline, "moody"), vectors)
    assert read(pipeline, "a moody lake").shape == (count + 2, WIDTH)
    assert torch.equal(read(pipeline, "a lake by hills"), before)


def test_a_single_vector_without_a_list_is_one_word(pipeline: Any, tmp_path: Path) -> None:
    vector = torch.randn(WIDTH)
    add_inversions(pipeline, (inversion(tmp_path, vector),))
    assert torch.equal(read(pipeline, "moody"), vector[None])


def test_several_words_are_added_each(pipeline: Any, tmp_path: Path) -> None:
    one, two = torch.randn(1, WIDTH), torch.randn(2, WIDTH)
    add_inversions(pipeline, (inversion(tmp_path, one, "<one>"), inversion(tmp_path, two, "<two>")))
    assert torch.equal(read(pipeline, "<two> <one>"), torch.cat([two, one]))


def test_vectors_of_another_width_are_for_another_family(pipeline: Any, tmp_path: Path) -> None:
    given = inversion(tmp_path, torch.randn(2, 768))
    with pytest.raises(WeightsError, match=r"0\.safetensors: vectors of 768 numbers.*has 128") as caught:
        add_inversions(pipeline, (given,))
    assert caught.value.parameter == "textual_inversions"


def test_a_word_that_is_there_is_not_replaced(pipeline: Any, tmp_path: Path) -> None:
    first = inversion(tmp_path, torch.randn(1, WIDTH))
    add_inversions(pipeline, (first,))
    with pytest.raises(WeightsError, match=r'"moody" is in the vocabulary already\. Name another: .*0\.safetensors:'):
        add_inversions(pipeline, (first,))


def test_a_file_that_changed_since_the_plan_is_not_read(pipeline: Any, tmp_path: Path) -> None:
    given = inversion(tmp_path, torch.randn(1, WIDTH))
    save_file({"emb_params": torch.randn(2, WIDTH)}, given.file.open())
    with pytest.raises(WeightsError, match="changed since the plan"):
        add_inversions(pipeline, (given,))

"""A folder is of one study: more prompts of the same go on in it, anything else is refused."""

from pathlib import Path

import pytest

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.evaluate.study_folder import ASKED, claim_folder
from linfusion_cli.json_files import read_json


def test_a_study_grows_and_shrinks_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    for prompts in (["a", "b"], ["a", "b", "c"], ["a"]):
        claim_folder(folder, {"seed": 0, "prompts": prompts})
    assert read_json(folder / ASKED)["prompts"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("about", "named"), [({"seed": 1, "prompts": ["a"]}, "seed"), ({"seed": 0, "prompts": ["b"]}, "prompts")]
)
def test_another_study_is_refused_by_what_differs(tmp_path: Path, about: dict[str, object], named: str) -> None:
    claim_folder(tmp_path, {"seed": 0, "prompts": ["a"]})
    with pytest.raises(UsageError, match=f"another evaluation: {named} differs"):
        claim_folder(tmp_path, about)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ASKED).write_text("{")
    with pytest.raises(OutputError, match=f"{tmp_path}: can't be used"):
        claim_folder(tmp_path, {"seed": 0, "prompts": ["a"]})

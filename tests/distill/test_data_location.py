from pathlib import Path

import pytest

from linfusion_cli.distill.data_location import SCENES, existing_path
from linfusion_cli.errors import UsageError


def test_a_location_is_the_scenes_or_a_path_that_exists(tmp_path: Path) -> None:
    assert existing_path(SCENES) is None
    assert existing_path(str(tmp_path)) == tmp_path
    with pytest.raises(UsageError, match="there is no such file or folder") as caught:
        existing_path(str(tmp_path / "missing"))
    assert caught.value.parameter == "data"

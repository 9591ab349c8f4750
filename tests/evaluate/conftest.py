"""The built-in model in a few steps, and a tiny one: what is tested here is not how good their images are."""

import pytest
from families import Family, make_family


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a preset."""
    path = tmp_path_factory.mktemp("presets") / "quick.toml"
    path.write_text('extends = "landscape"\n[sampling]\nsteps = 5\n')
    return str(path)


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("sd15") / "all")

"""The built-in model in a few steps: what is tested here is not how good its images are."""

import pytest


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a preset."""
    path = tmp_path_factory.mktemp("presets") / "quick.toml"
    path.write_text('extends = "landscape"\n[sampling]\nsteps = 5\n')
    return str(path)

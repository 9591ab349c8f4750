"""What the engine is told of a job."""

from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.planning.engine_inputs import components, conditioning_inputs, preview_settings
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.weights.families import BUILTIN_COLORS, FAMILY_ROWS


def job_for(**changes: Any) -> Job:
    return resolve(
        Request(**{"prompt": "a (red:1.5) lake", "size": "64x64", "seed": 1, "output": Path("x.png")} | changes)
    )


def test_prompt_weighting_is_parsed_where_it_is_on() -> None:
    plain, weighted = conditioning_inputs(job_for()), conditioning_inputs(job_for(prompt_weights=True))
    assert (plain.prompt, plain.fragments) == ("a (red:1.5) lake", None)
    assert weighted.prompt == "a red lake"
    assert [fragment.weight for fragment in weighted.fragments or ()] == [1.0, 1.5, 1.0]


def test_the_cache_key_depends_on_what_is_loaded_and_on_nothing_else() -> None:
    def key(dtype: str = "float32", **changes: Any) -> str:
        return components(job_for(**changes), dtype, "cpu", (), JobWeights.of(job_for(**changes))).cache_key

    assert key() == key(prompt="a hill", seed=2, steps=3)
    assert key() != key("bfloat16")
    assert key() != key(keep_projections=True)


def test_previews_have_the_colours_of_the_model_s_latents() -> None:
    asked = {"preview": Path("p.jpg"), "preview_every": 5}
    own, sdxl = preview_settings(job_for(**asked)), preview_settings(job_for(preset="sdxl-4k", **asked))
    assert own is not None
    assert sdxl is not None
    assert (own.colors, own.every, sdxl.colors) == (BUILTIN_COLORS, 5, FAMILY_ROWS["sdxl"].colors)
    assert preview_settings(job_for()) is None


def test_the_folder_of_configs_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset may begin it with "~", and every part of the model is loaded with it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    preset = tmp_path / "own.toml"
    preset.write_text('[model]\nfamily = "sd15"\nrepositories = ["owner/name"]\nconfigs = "~/configs"\n')
    job = job_for(preset=str(preset))
    assert components(job, "float32", "cpu", (), JobWeights.of(job)).configs == tmp_path / "configs"
    plain = job_for()
    assert components(plain, "float32", "cpu", (), JobWeights.of(plain)).configs is None

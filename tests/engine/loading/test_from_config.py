"""A config that a library refuses becomes an error that names the config."""

import pytest
from diffusers import AutoencoderKL

from linfusion_cli.engine.loading.from_config import guarded, maker
from linfusion_cli.errors import WeightsError


def test_a_model_is_made_and_notes_of_diffusers_are_left_out() -> None:
    assert maker(AutoencoderKL, {"norm_num_groups": 8, "_diffusers_version": "?"}, "x")().config.norm_num_groups == 8


def test_refusals_of_the_library_name_the_file_in_short() -> None:
    with pytest.raises(WeightsError, match="folder/vae: its config makes no AutoencoderKL") as caught:
        maker(AutoencoderKL, {"block_out_channels": [7], "norm_num_groups": 8}, "folder/vae")()
    assert len(str(caught.value)) <= 400
    with pytest.raises(WeightsError, match="ZeroDivisionError"):
        guarded(lambda: 1 // 0, "number", "x")()

"""The options of ranks are no values of a list's rows, and decide no pixels."""

from linfusion_cli.config.option_row import PLAN
from linfusion_cli.config.options import by_key
from linfusion_cli.config.rank_rows import RANK_ROWS


def test_ranks_belong_to_a_run_and_not_to_an_image() -> None:
    for row in RANK_ROWS:
        assert by_key()[row.key].key == row.key
        assert not row.in_batch_rows
        assert not row.decides_pixels


def test_plan_has_a_number_of_ranks_of_its_own() -> None:
    assert {row.key for row in RANK_ROWS if PLAN not in row.commands} == {"ranks"}

from linfusion_cli.config.model_option_rows import MODEL_ROWS
from linfusion_cli.config.preset_schema import schema


def test_every_row_but_the_folders_of_names_decides_pixels_and_may_differ_within_a_batch() -> None:
    assert all(row.decides_pixels and row.in_batch_rows for row in MODEL_ROWS if row.key != "models")


def test_what_is_looked_for_on_disk_or_the_hub_is_a_location() -> None:
    assert {row.key for row in MODEL_ROWS if row.metavar.startswith(("LOCATION", "FILE"))} == {
        row.key for row in MODEL_ROWS if row.is_location
    }


def test_an_option_that_names_one_of_a_list_says_so() -> None:
    for row in MODEL_ROWS:
        if row.preset_key:
            takes_list = "tuple" in repr(schema()[row.preset_key].annotation)
            assert takes_list == (row.repeatable or row.preset_takes_list), row.key

from linfusion_cli.config.option_rows import IMAGE_ROWS, RUN_ROWS


def test_how_the_work_is_done_decides_no_pixel_but_for_the_arithmetic() -> None:
    assert {row.key for row in RUN_ROWS if row.decides_pixels} == {"device", "dtype"}


def test_where_the_image_goes_decides_no_pixel_and_is_no_row_s_choice() -> None:
    rows = {row.key: row for row in IMAGE_ROWS}
    for key in ("output", "overwrite"):
        assert not rows[key].decides_pixels
        assert not rows[key].in_batch_rows


def test_preset_names_complete() -> None:
    rows = {row.key: row for row in IMAGE_ROWS}
    assert "landscape" in rows["preset"].completions("land")
    assert rows["scheduler"].completions("dd") == ["ddim", "ddpm"]

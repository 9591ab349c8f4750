from pathlib import Path

from linfusion_cli.config.job_name import image_name, shared_fields
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import option

FIELDS = {"width": 8, "height": 16, "size": "8x16", "preset": "landscape"}


def test_every_field_is_filled_in() -> None:
    template = "{preset}-{seed}-{width}x{height}-{size}-{index:03d}-{slug}-{id}"
    name = image_name(template, option("name"), FIELDS, "A lake", 7, 4, lambda: "0123456789abcdef")
    assert name == "landscape-7-8x16-8x16-004-A-lake-01234567.png"


def test_the_id_is_not_worked_out_where_the_template_lacks_it() -> None:
    calls: list[str] = []
    assert image_name("x", option("name"), FIELDS, "", 0, 0, lambda: calls.append("id") or "id") == "x.png"
    assert calls == []


def test_the_preset_of_a_file_is_named_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "landscape"\n')
    job = resolve(Request(prompt="x", preset=str(path), size="256x128"))
    assert shared_fields(job) == {"width": 256, "height": 128, "size": "256x128", "preset": "mine"}

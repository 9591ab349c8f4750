from pathlib import PureWindowsPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linfusion_cli.config import filename_template
from linfusion_cli.config.filename_template import (
    LARGEST_NAME_BYTES,
    SLUG_BYTES,
    checked_name,
    expand,
    slug,
    windows_reason,
)
from linfusion_cli.errors import UsageError, option


@given(st.text())
@example("../../etc/passwd")
@example("con")
@example("-rf")
@example(".hidden\x1b[0m\u202e\x00")
@example("猫" * 100)
@settings(max_examples=60, deadline=None)
def test_a_slug_is_a_harmless_part_of_a_name(text: str) -> None:
    name = slug(text)
    assert name
    assert len(name.encode()) <= SLUG_BYTES
    assert all(letter.isalnum() or letter in "-_" for letter in name)
    assert name[0] not in "-."


def test_a_slug_is_nfc() -> None:
    assert slug("cafe\u0301") == slug("café") == "café"


@given(st.text(alphabet="{}:04dseediz.!abc", max_size=12))
@settings(max_examples=80, deadline=None)
def test_expand_fills_or_refuses_but_never_evaluates(template: str) -> None:
    try:
        text = expand(template, {"seed": 5}, "--output")
    except UsageError:
        return
    assert len(text) <= len(template) + 9


@pytest.mark.parametrize("name", ["", " ", "..", "a/b", "a\\b", "a\n", "a.gif", "x" * (LARGEST_NAME_BYTES + 1)])
def test_what_is_no_name_of_one_image_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^output "):
        checked_name(name, name, option("output"))


def test_a_name_gets_its_ending() -> None:
    assert checked_name("a", "a", option("output")) == "a.png"
    assert checked_name("a.jpg", "a.jpg", option("output")) == "a.jpg"
    assert checked_name("a", "a", option("output"), "tiff") == "a.tif"
    assert checked_name("a.png", "a.png", "preset landscape", "jpeg") == "a.jpg"
    with pytest.raises(UsageError, match=r'Nearest: "a\.jpg"'):
        checked_name("a.png", "a.png", option("output"), "jpeg")
    assert checked_name("a.PNG", "a.PNG", option("output")) == "a.PNG"


@given(st.text() | st.sampled_from(["con", "NUL", "com1", "com¹", "LPT9", "aux.", "a:b", "x. "]))
@settings(max_examples=200, deadline=None)
def test_a_name_made_of_a_prompt_is_one_on_windows_too(prompt: str) -> None:
    name = checked_name(expand("{slug}", {"slug": slug(prompt)}, "output"), "{slug}", "output")
    assert windows_reason(name) == ""
    path = PureWindowsPath("C:/images") / name
    assert not path.is_reserved()
    assert (path.name, path.parent, path.drive) == (name, PureWindowsPath("C:/images"), "C:")
    assert path.suffix == ".png"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("con.png", "con-.png"), ("Lpt1.x.png", "Lpt1-x.png"), ("a:b.png", "a-b.png"), ('say "x".png', "say-x.png")],
)
def test_what_is_no_name_on_windows_is_refused_there(name: str, nearest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_name(name, name, "output") == name
    monkeypatch.setattr(filename_template, "ON_WINDOWS", True)
    with pytest.raises(UsageError, match=f'Nearest: "{nearest}"$'):
        checked_name(name, name, "output")
    assert checked_name(nearest, nearest, "output") == nearest


@pytest.mark.parametrize("name", ["a.", "a ", "nul", "COM3.tar.gz", "a|b"])
def test_other_names_that_windows_refuses(name: str) -> None:
    assert windows_reason(name)

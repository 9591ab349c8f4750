"""docs/families.md is what the marks of the tests say, and so is the README's table."""

from pathlib import Path

import pytest
from covered_kinds import ALL, BEGIN, FILES, KINDS, OPTIONS, PAGE, ROOT, collected, covered, page, rows

FOUND = list(collected())


def test_the_page_is_what_the_script_makes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BEGIN in text
    assert text == page(text, FOUND), "run: make reference"


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_a_test(kind: str) -> None:
    assert any(one.kind == kind for one in FOUND)


def test_every_cell_of_the_readme_is_that_of_the_page() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = lines.index("| | SD 1.x | SD 2.x | SD-XL |") + 2
    table = [line.strip("|").split("|") for line in lines[first : first + len(OPTIONS)]]
    cells = rows(FOUND)
    assert {kind.strip(): tuple(cell.strip() for cell in rest) for kind, *rest in table} == {
        kind: cells[kind][: len(ALL)] for kind in OPTIONS
    }


def test_a_mark_is_read_from_its_line(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    kind = next(kind for kind, families in FILES.items() if families == ALL)
    given = (f"{kind!r}, 'used, equal', families=('sd15', 'sdxl')", f"{kind!r}, 'bands'")
    marks = "".join(f"@pytest.mark.covers({one})\n" for one in given)
    (tmp_path / "tests" / "test_x.py").write_text(f"{marks}def test_y(): pass\n")
    found = list(collected(tmp_path))
    assert [one.families for one in found] == [("sd15", "sdxl"), ALL]
    assert rows(found)[kind] == ("used, equal, bands", "bands", "used, equal, bands", "`tests/test_x.py::test_y`")


@pytest.mark.parametrize(
    ("kind", "outcome", "families"),
    [("no such row", "used", ALL), (next(iter(KINDS)), "works", ALL), (next(iter(KINDS)), "used", ("sd3",))],
)
def test_a_mark_that_the_page_has_no_place_for_is_refused(kind: str, outcome: str, families: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"no row|none of|no families"):
        covered(kind, outcome, families)

"""What the imports hold is measured once, kept for later plans, and never believed beyond what a build can have."""

from pathlib import Path

import pytest

from linfusion_cli.system import runtime_memory
from linfusion_cli.system.runtime_memory import imported_bytes, mapped_bytes, measure_imported, resident_bytes


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a new process of a new user: other tests of this process have measured."""
    monkeypatch.setattr(runtime_memory, "_MEASURED", {})
    monkeypatch.setattr(runtime_memory, "_file", lambda: tmp_path / "imports.json")


def test_nothing_is_known_before_the_first_import() -> None:
    assert imported_bytes() == 0
    assert resident_bytes() > 10e6


def test_a_later_process_knows_what_this_one_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_memory, "resident_bytes", lambda: 763_000_000)
    measure_imported()
    assert imported_bytes() == 763_000_000
    runtime_memory._MEASURED.clear()
    assert imported_bytes() == 763_000_000
    monkeypatch.setattr(runtime_memory, "_installation", lambda: "another torch")
    assert imported_bytes() == 0


def test_this_process_counts_before_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    for held in (763_000_000, 388_000_000, 389_000_000):
        monkeypatch.setattr(runtime_memory, "resident_bytes", lambda held=held: held)
        measure_imported()
        assert imported_bytes() == held
    runtime_memory._MEASURED.clear()
    assert imported_bytes() == 388_000_000, "a difference of a percent is not written again"


def test_address_space_without_ram_is_known_to_a_later_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mapped_bytes() == runtime_memory.MAPPED_BYTES
    monkeypatch.setattr(runtime_memory, "resident_bytes", lambda: 400_000_000)
    monkeypatch.setattr(runtime_memory, "address_space_bytes", lambda: 1_000_000_000)
    measure_imported()
    assert (imported_bytes(), mapped_bytes()) == (400_000_000, 600_000_000)
    runtime_memory._MEASURED.clear()
    assert (imported_bytes(), mapped_bytes()) == (400_000_000, 600_000_000)


@pytest.mark.parametrize("stored", ["", "[]", "{", '"x"', "0", "-5", "1e30", "true", "null", "763000000.5"])
def test_a_damaged_store_counts_as_none(stored: str) -> None:
    file = runtime_memory._file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'{{"{runtime_memory._installation()}": {stored}}}')
    assert imported_bytes() == 0
    file.write_text(stored)
    assert imported_bytes() == 0

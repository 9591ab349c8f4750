"""The processor's flags, as Linux lists them for its first core."""

from pathlib import Path

import pytest

from linfusion_cli.system.cpu_features import has_bfloat16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_bf16", True),
        ("fpu amx_tile amx_bf16", True),
        ("fpu avx2 avx512f avx512_vnni", False),
        ("", False),
    ],
)
def test_the_flags_of_the_first_core_tell(
    flags: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: A\nflags\t\t: {flags}\nbugs\t\t: avx512_bf16\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is expected


def test_elsewhere_nothing_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert has_bfloat16(tmp_path / "none") is None
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: bf16\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is None
    (tmp_path / "cpuinfo").write_text("flags: avx512_bf16\n")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert has_bfloat16(tmp_path / "cpuinfo") is None

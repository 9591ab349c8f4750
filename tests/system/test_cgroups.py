"""Control groups of both versions, in a container or a unit, with and without limits."""

from pathlib import Path

import pytest

from linfusion_cli.system import cgroups
from linfusion_cli.system.cgroups import memory_limits, oom_kills


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "root")
    monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def member(root: Path, *lines: str) -> None:
    (root.parent / "membership").write_text("".join(f"{line}\n" for line in lines))


def test_version_2_a_unit_and_the_slice_around_it(root: Path) -> None:
    member(root, "0::/user.slice/linfusion.service")
    group(root / "user.slice", memory__max="8000", memory__current="3000", memory__stat="anon 5\ninactive_file 1000")
    group(
        root / "user.slice" / "linfusion.service",
        memory__max="2000",
        memory__current="500",
        memory__events="oom 3\noom_kill 2",
    )
    assert list(memory_limits()) == [(2000, 500), (8000, 2000)]
    assert oom_kills() == 2


def test_version_1_beside_others(root: Path) -> None:
    member(root, "4:cpu,cpuacct:/jobs", "3:memory:/jobs/7", "1:name=systemd:/x", "0::/")
    files = {
        "memory__limit_in_bytes": "700",
        "memory__usage_in_bytes": "300",
        "memory__stat": "total_inactive_file 100",
    }
    group(root / "memory" / "jobs" / "7", **files, memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 5")
    assert list(memory_limits()) == [(700, 200)]
    assert oom_kills() == 5


def test_a_container_that_sees_its_own_group_at_the_top(root: Path) -> None:
    member(root, "0::/docker/0123")
    group(root, memory__max="900", memory__current="100")
    assert list(memory_limits()) == [(900, 100)]


def test_a_group_without_limit_says_nothing(root: Path) -> None:
    member(root, "0::/")
    group(root, memory__max="max", memory__current="5")
    assert list(memory_limits()) == []
    assert oom_kills() == 0


def test_a_path_that_leads_elsewhere_is_not_followed(root: Path) -> None:
    member(root, "0::/../..")
    group(root.parent, memory__max="1", memory__current="1")
    assert list(memory_limits()) == []


def test_a_system_without_groups(root: Path) -> None:
    assert list(memory_limits()) == []
    assert oom_kills() == 0

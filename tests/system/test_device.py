"""What the machine says, container limits included."""

import psutil
import pytest

from linfusion_cli.errors import UsageError
from linfusion_cli.system import device, speed
from linfusion_cli.system.device import find_machine, learn_speed
from linfusion_cli.system.work import Timed, Work


def test_the_cpu_is_found_and_says_why() -> None:
    found = find_machine("cpu")
    assert found.device == found.kind == "cpu"
    assert found.reason == "asked for"
    assert 0 < found.free_bytes <= found.total_bytes <= psutil.virtual_memory().total
    assert found.cores >= 1


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "may_have_accelerator", lambda: False)
    assert find_machine("auto").reason == "no GPU found"


def test_container_limits_beat_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "memory_limits", lambda: iter([(700 << 20, 100 << 20)]))
    monkeypatch.setattr(device, "_own_bytes", lambda: 0)
    found = device.find_machine("cpu")
    assert found.total_bytes == 700 << 20
    assert found.free_bytes <= 600 << 20


def test_what_the_process_holds_already_is_free_for_its_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a group of 700 MB a child with a loaded model uses 500 itself; its next plan counts these 500 again."""
    monkeypatch.setattr(device, "memory_limits", lambda: iter([(700 << 20, 550 << 20)]))
    monkeypatch.setattr(device, "_own_bytes", lambda: 500 << 20)
    assert device.find_machine("cpu").free_bytes == 650 << 20
    monkeypatch.setattr(device, "_own_bytes", lambda: 600 << 20)
    assert device.find_machine("cpu").free_bytes == 700 << 20


def test_own_memory_grows_with_what_is_held() -> None:
    before = device._own_bytes()
    held = bytearray(b"x" * (64 << 20))
    assert device._own_bytes() - before > 48 << 20
    assert len(held) == 64 << 20


@pytest.mark.slow
def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r'device cuda:3.*Nearest: device="cpu"'):
        find_machine("cuda:3")


def test_a_render_tells_the_speed_of_its_number_format() -> None:
    speed._speeds_file().unlink(missing_ok=True)
    found = find_machine("cpu")
    assumed = found.speed("float32")
    work = Work(macs=10 * assumed.macs_per_second, values=0, calls=0, link_bytes=0, file_bytes=0, overlapped=False)
    learn_speed(found, "float32", phases=[Timed((work,), 40.0)], start_seconds=4)
    learned = find_machine("cpu").speed("float32")
    assert learned.measured
    assert learned.macs_per_second == pytest.approx(assumed.macs_per_second / 4, rel=0.02)
    assert learned.call_seconds == assumed.call_seconds
    assert learned.start_seconds == 4
    assert find_machine("cpu").speed("bfloat16") == assumed
    # half way: either may have been a busy hour
    learn_speed(find_machine("cpu"), "float32", phases=[Timed((work,), 10.0)], start_seconds=9)
    again = find_machine("cpu").speed("float32")
    assert (again.macs_per_second, again.start_seconds) == (
        pytest.approx(learned.macs_per_second * 2, rel=0.02),
        pytest.approx(6),
    )
    speed._speeds_file().unlink()


@pytest.mark.parametrize("taken", [1.9, 0.0])
def test_what_took_no_time_says_nothing(taken: float) -> None:
    work = Work(macs=1e12, values=0, calls=0, link_bytes=0, file_bytes=0, overlapped=False)
    learn_speed(find_machine("cpu"), "float16", phases=[Timed((work,), taken)], start_seconds=1)
    assert not find_machine("cpu").speed("float16").measured

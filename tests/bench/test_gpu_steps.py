"""Every step for GPUs, with tiny networks on the CPU: each line runs, and what is broken is seen."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.gpu import environment, large, memory, official, parity, resume
from bench.gpu.case import Case, Setting
from bench.gpu.dispatches import Dispatches
from bench.gpu.shapes import Measured
from bench.gpu.steps import step_of
from linfusion_cli.engine.attention import linear_attention
from linfusion_cli.engine.attention.fused_attention import has_triton
from linfusion_cli.engine.streaming.row_source import Parked


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield Setting(device="cpu", quick=True, scratch=tmp_path)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


def cases(name: str, setting: Setting) -> dict[str, Case]:
    _, step = step_of(name)
    return {case.name: case for case in step(setting)}


def wrong(found: dict[str, Case]) -> list[Case]:
    return [case for case in found.values() if case.ok is False]


def test_environment(setting: Setting) -> None:
    found = cases("environment", setting)
    assert not wrong(found)
    assert found["packages"].found["torch"] == torch.__version__
    assert found["copies"].found["pageable_to_ram_gb_s"] > 0


def test_a_package_that_is_missing_comes_with_commands_for_a_machine_without_a_network(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "NEEDED", ("torch", "no-such-package"))
    *_, last = environment.cases(setting)
    assert last.ok is False
    said = last.found["error"]
    assert said.index(environment.WHEELS_MADE) < said.index(environment.WHEELS_USED)
    assert said.endswith("with a network: pip install no-such-package")
    assert "torch" not in said
    root = Path(environment.__file__).parents[2]
    assert environment.WHEELS_USED in (root / "docs" / "gpu.md").read_text()
    assert "\ngpu-wheels:" in (root / "Makefile").read_text()


def test_a_missing_torch_is_not_among_the_wheels() -> None:
    said = environment._missing(["torch", "diffusers"])
    assert said.startswith("torch is not installed: 2.10 or later")
    assert said.endswith("pip install diffusers")
    assert "wheels" not in environment._missing(["torch"])


@pytest.mark.parametrize(
    ("seen", "built_for", "said"),
    [
        (
            SimpleNamespace(driver="470.1", driver_cuda=(11, 4), gpus=()),
            "12.8",
            "470.1 is too old: it runs CUDA up to 11.4",
        ),
        (SimpleNamespace(driver="570", driver_cuda=(12, 8), gpus=(), complaint="no device"), "12.8", "no device"),
        (SimpleNamespace(driver="", driver_cuda=(0, 0), build="cpu", torch_version="2.13"), None, "a build for CPUs"),
        (SimpleNamespace(driver="570", driver_cuda=(12, 8), gpus=("one",)), "12.8", ""),
    ],
)
def test_why_no_card_can_be_used(seen: Any, built_for: str | None, said: str) -> None:
    told = environment._refused(seen, built_for)
    assert said in told
    assert bool(told) == bool(said)


@pytest.mark.slow
def test_parity(setting: Setting) -> None:
    found = cases("parity", setting)
    assert not wrong(found)
    assert len(found) == 3 * 4 + 2 * 4 + 4


@pytest.mark.slow
def test_parity_sees_a_wrong_feature_map(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = linear_attention.feature_map

    def in_float32_only(x: torch.Tensor) -> torch.Tensor:
        return plain(x) + (0.3 if x.dtype == torch.float32 else 0.0)

    monkeypatch.setattr(linear_attention, "feature_map", in_float32_only)
    case = parity._attention(torch.float32, setting)
    assert case.ok is False
    assert parity._unet("sd15", "sd15", torch.float32, setting).ok is False
    assert parity._unet("sd15", "sd15", torch.float16, setting).ok is True


def test_what_is_no_number_is_no_parity() -> None:
    truth = torch.ones(3)
    assert parity.error_of(truth * float("nan"), truth) > 1e9
    assert parity.error_of(truth, truth) == 0


@pytest.mark.long
def test_memory_that_runs_out(setting: Setting) -> None:
    found = cases("memory", setting)
    assert not wrong(found)
    assert found["an image although memory ran out"].found["times"] >= 1


def test_another_image_after_memory_ran_out_is_seen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    white = torch.full((128, 128, 3), 255, dtype=torch.uint8)
    monkeypatch.setattr(memory, "pixels", lambda *arguments, **more: white)
    assert memory._squeezed("less", setting, 128, torch.zeros_like(white), 0, 0.5).ok is False
    assert memory._squeezed("less", setting, 128, white, 0, 0.5).ok is True
    assert memory._refused(setting, 128).ok is False  # an image although there was no memory for one


def test_large(setting: Setting) -> None:
    assert not wrong(cases("large", setting))


def test_rows_that_lie_elsewhere_are_seen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an index that overflows reads them."""
    rows = Parked.rows
    monkeypatch.setattr(Parked, "rows", lambda self, band: rows(self, band).roll(1, dims=3))
    assert large._slab(setting, 64, 32).ok is False


@pytest.mark.parametrize("name", ["sdxl", "sdxl-8gb", "sd15", "sdxl-full"])
@pytest.mark.long
def test_whole_images(name: str, setting: Setting) -> None:
    found = cases(name, setting)
    assert not wrong(found)
    phases = [case for case in found.values() if ": denoise" in case.name]
    assert phases
    assert all(case.found["passes"] > 0 and case.found["seconds_per_pass"] > 0 for case in phases)
    assert {"encode", "decode", "load"} <= {
        case.name.split(": ")[1].split()[0] for case in found.values() if ": " in case.name
    }


@pytest.mark.long
def test_kernels(setting: Setting) -> None:
    found = cases("kernels", setting)
    assert not wrong(found)
    counted = [case.found for case in found.values() if case.name.endswith(": calls")]
    assert len(counted) == 3
    assert all(one["calls"] > 100 and one["waits"] == 0 for one in counted)


@pytest.mark.long
def test_fused_kernels(setting: Setting) -> None:
    found = cases("fused", setting)
    assert not wrong(found)
    if has_triton():
        assert sum(case.ok is True for case in found.values()) == 8  # four kinds, in two number formats
    else:
        assert found["Triton"].found == {"installed": False}


@pytest.mark.long
def test_a_killed_batch(setting: Setting) -> None:
    assert not wrong(cases("resume", setting))


def test_a_batch_that_loses_an_image_is_seen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last run says that it ended well, and left only two images."""
    folder = setting.scratch / "batch"

    def made(where: Path, count: int) -> None:
        from PIL import Image

        where.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(where / f"{number}.png")

    monkeypatch.setattr(resume, "_started", lambda at, out, *more: made(at / out, 3 if out == "whole" else 2))
    monkeypatch.setattr(resume, "_finished", lambda process: (0, [1.0], ""))
    monkeypatch.setattr(resume, "_killed_after_first", lambda process: 1)
    *_, last = resume.cases(setting)
    assert folder.is_dir()
    assert last.ok is False
    assert last.found["images as without the kill"] is False


@pytest.mark.long
def test_two_ranks(setting: Setting) -> None:
    found = cases("ranks", setting)
    assert not wrong(found)


OFFICIAL = """
import torch
from torch.nn import functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.models.attention_processor import Attention


def inner(dim, mid):
    layers = [torch.nn.Linear(dim, mid), torch.nn.LayerNorm(mid), torch.nn.LeakyReLU(), torch.nn.Linear(mid, dim)]
    return torch.nn.Sequential(*layers)


class GeneralizedLinearAttention(Attention):
    def __init__(self, *args, projection_mid_dim=None, **kwargs):
        super().__init__(*args, **kwargs)
        dim = self.to_q.weight.shape[0]
        self.to_q_, self.to_k_ = (inner(dim, projection_mid_dim or dim) for _ in range(2))

    def forward(self, x, encoder_hidden_states=None, attention_mask=None, **kwargs):
        query = F.elu(self.head_to_batch_dim(self.to_q(x + self.to_q_(x)))) + 1
        key = F.elu(self.head_to_batch_dim(self.to_k(x + self.to_k_(x)))) + 1
        value = self.head_to_batch_dim(self.to_v(x))
        weights = query @ key.transpose(1, 2) / x.shape[1]
        out = weights @ value / (weights.sum(-1, keepdim=True) + 1e-4)
        return self.to_out[0](self.batch_to_head_dim(out))


class LinFusion(ModelMixin, ConfigMixin):
    def __init__(self, modules_list):
        super().__init__()
        self.modules_dict = {}
        for number, one in enumerate(modules_list):
            module = GeneralizedLinearAttention(
                query_dim=one["dim_n"], out_dim=one["dim_n"], dim_head=one["dim_n"] // one["heads"],
                projection_mid_dim=one["projection_mid_dim"],
            )
            self.add_module(str(number), module)
            self.modules_dict[one["module_name"]] = module

    def mount_to(self, pipeline=None, unet=None):
        for name, module in self.modules_dict.items():
            parent, _, attribute = name.rpartition(".")
            setattr(unet.get_submodule(parent), attribute, module)
"""


@pytest.mark.slow
def test_beside_code_with_the_interface_of_the_official(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with its two modules, whose attention goes over every pair of tokens."""
    checkout = setting.scratch / "official"
    package = checkout / "src" / "linfusion"
    package.mkdir(parents=True)
    (package / "attention.py").write_text(OFFICIAL)
    (package / "linfusion.py").write_text(
        "from src.linfusion.attention import *\nfrom src.linfusion.attention import LinFusion\n"
    )
    monkeypatch.syspath_prepend(str(checkout))
    importlib.invalidate_caches()
    given = Setting(device="cpu", quick=True, scratch=setting.scratch, official=checkout)
    found = list(official.cases(given))
    assert [case.name for case in found if case.ok is False] == []
    assert sum(case.ok is True for case in found) == len(official.TINY_MODULES) + len(official.TINY_SIZES)
    assert found[-1].found["official_seconds"] > 0


def test_copies_are_summed_by_their_way() -> None:
    class At:
        def __init__(self, milliseconds: float) -> None:
            self.milliseconds = milliseconds

        def elapsed_time(self, later: "At") -> float:
            return later.milliseconds - self.milliseconds

    seen = Measured()
    seen.copies += [
        ("to_device", 10**9, At(0), At(100)),
        ("to_device", 10**9, At(200), At(250)),
        ("to_ram", 5, At(0), At(1)),
    ]
    assert seen.copied() == {"to_device_gb": 2.0, "to_device_seconds": 0.15, "to_ram_gb": 0.0, "to_ram_seconds": 0.001}


def test_the_counter_tells_views_from_work() -> None:
    x = torch.ones(4, 6)
    with Dispatches() as counted, torch.inference_mode():
        y = x.view(24).unsqueeze(0).expand(2, -1)  # three views
        z = y + 1  # one call: reads 2 x 24 values, one copy of which is memory
        z.mul_(2)
        z.to(torch.float64)
        z.reshape(48)
        z.sum().item()
    assert counted.waits == 1
    assert counted.calls == {"aten.add": 1, "aten.mul_": 1, "aten.to": 1, "aten.sum": 1}
    assert counted.views == 4
    assert counted.written_bytes == 4 * 48 * 2 + 8 * 48 + 4

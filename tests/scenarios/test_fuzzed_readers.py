"""Mutations of every file that the program reads but text lists: an error of its own soon, or the work goes on."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from format_samples import TEXTS, image_of, settings_of
from mutations import mutated, mutated_header, mutated_json, mutated_lines
from PIL import Image
from safetensors.torch import save_file
from small_training import loss_for, model_and_run
from tiny_adapters import save_controlnet, save_ip_adapter

from linfusion_cli.batch.journal import Flags, Journal
from linfusion_cli.cli.app import main
from linfusion_cli.engine.sampling.latent_checkpoint import pack, restore_scheduler, scheduler_state, unpack
from linfusion_cli.engine.sampling.schedulers import make_scheduler
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.geometry import Size
from linfusion_cli.images.icc import ADOBE, matrix_profile
from linfusion_cli.models import builtin_folder
from linfusion_cli.output.checkpoint_folder import CheckpointFolder, kept_seed, tidy
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.system.speed import Speed, remember_speed

DRY = ["generate", "x", "--size", "64x64", "--dry-run"]
OWN_CODES = (0, 2, 66, 74)
SECONDS, BYTES, HANG_SECONDS = 2.0, 300 << 20, 60
TIMES = int(os.environ.get("LINFUSION_FUZZ", "6"))
Mutate = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """A file that is mutated, in which ways, and the command that reads it."""

    path: Path
    ways: tuple[Mutate, ...]
    words: list[str]
    codes: tuple[int, ...] = OWN_CODES
    sound: int | None = None  # the exit code with the file as it is, where it is certain


@contextmanager
def bounded() -> Iterator[None]:
    """Fails beyond SECONDS of processor time and BYTES of new memory; a hang is ended."""

    def ended(number: int, frame: object) -> None:
        raise AssertionError("it hangs")

    signal.signal(signal.SIGALRM, ended)
    signal.alarm(HANG_SECONDS)
    held, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        yield
    finally:
        signal.alarm(0)
    assert time.process_time() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * 1024 < BYTES


def model_copy(folder: Path) -> Path:
    """The built-in model without the hashes that would tell every change."""
    source = builtin_folder("builtin:landscape")
    assert source is not None
    shutil.copytree(source, folder)
    (folder / "SHA256SUMS").unlink()
    return folder


def model_readers(folder: Path) -> dict[str, Reader]:
    model = model_copy(folder / "model")
    found = {}
    for path in sorted(model.rglob("*.*")):
        ways = (mutated, mutated_json) if path.suffix == ".json" else (mutated_header,)
        found[f"model/{path.relative_to(model)}"] = Reader(path, ways, [*DRY, "--model", str(model)])
    return found


def adapter_readers(folder: Path) -> dict[str, Reader]:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = {f"{layer}.lora_down.weight": torch.ones(2, 128), f"{layer}.lora_up.weight": torch.ones(96, 2)}
    save_file({**lora, f"{layer}.alpha": torch.tensor(2.0)}, folder / "lora.safetensors", {"ss_network_dim": "2"})
    save_file({"emb_params": torch.ones(2, 128)}, folder / "words.safetensors")
    both = (mutated, mutated_header)
    return {
        "lora": Reader(folder / "lora.safetensors", both, [*DRY, "--lora", str(folder / "lora.safetensors")]),
        "words": Reader(
            folder / "words.safetensors", both, [*DRY, "--textual-inversion", f"{folder / 'words.safetensors'}:<x>"]
        ),
    }


def mounted_readers(folder: Path) -> dict[str, Reader]:
    """A ControlNet and an IP-Adapter for the built-in model, with their configs, and the images that they take."""
    model = builtin_folder("builtin:landscape")
    assert model is not None
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    net = save_controlnet(SimpleNamespace(unet=unet), folder / "net")
    adapter = save_ip_adapter(SimpleNamespace(unet=unet), folder / "ip")
    image = folder / "image.png"
    Image.new("RGB", (64, 64)).save(image)
    wanted = {
        "controlnet": (net, [*DRY, "--controlnet", str(net), "--control-image", str(image)]),
        "ip-adapter": (adapter, [*DRY, "--ip-adapter", str(adapter), "--ip-image", str(image)]),
    }
    found = {}
    for name, (root, words) in wanted.items():
        for path in sorted(root.rglob("*.*")):
            ways = (mutated, mutated_json) if path.suffix == ".json" else (mutated, mutated_header)
            found[f"{name}/{path.relative_to(root)}"] = Reader(path, ways, words, sound=0)
    return found


def cache_readers(folder: Path) -> dict[str, Reader]:
    cache = folder / "cache" / "linfusion"
    os.environ["XDG_CACHE_HOME"] = str(cache.parent)
    remember_speed("CPU, 2 cores", "float32", Speed.assumed("cpu", 2))
    (cache / "imported.json").write_text(json.dumps({"2.13.0": 400_000_000}))
    (folder / "list.txt").write_text("a lake\n")
    out = folder / "out"
    out.mkdir()
    with Journal(out) as journal:
        journal.keep_flags(Flags({"size": "64x64", "seed": 3}, "{slug}", ""))
        journal.keep_numbers(journal.numbers(["x", "y"]))
        journal.add("failed", id="a", error="no")
        journal.add("done", id="b", name="b.png", size_bytes=3, modified_ns=4)
    both = (mutated, mutated_json)
    status = ["batch", str(folder / "list.txt"), "-o", str(out), "--status"]
    return {
        "speed.json": Reader(cache / "speed.json", both, DRY, (0,)),
        "imported.json": Reader(cache / "imported.json", both, DRY, (0,)),
        "journal": Reader(out / ".linfusion" / "journal.jsonl", (mutated, mutated_lines), status, (0, 1, 2, 74)),
    }


def image_readers(folder: Path) -> dict[str, Reader]:
    found, rows = {}, image_of(Size(64, 64))
    for name, ending in (("png", "png"), ("jpeg", "jpg"), ("tiff", "tif"), ("webp", "webp"), ("avif", "avif")):
        path, size = folder / f"a.{ending}", Size(64, 64)
        write_image(path, size, settings_of(name, size), TEXTS, iter([rows]), overwrite=False)
        found |= of_image(path)
    workflow = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2}}})
    for ending in ("gif", "bmp", "ppm", "tga", "ico"):
        path = folder / f"b.{ending}"
        Image.fromarray(rows.astype(np.uint8)).save(path)
        found |= of_image(path)
    for module, ending in (("pillow_heif", "heic"), ("pillow_jxl", "jxl")):
        if importlib.util.find_spec(module) is None:  # an extra
            continue
        plugin = importlib.import_module(module)
        if ending == "heic":
            plugin.register_heif_opener()
        path = folder / f"d.{ending}"
        Image.fromarray(rows.astype(np.uint8)).save(path)
        found |= of_image(path)
    for name, more in deep_tiffs(rows.astype(np.uint8)).items():
        path = folder / f"{name}.tif"
        path.write_bytes(more)
        found |= of_image(path)
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", workflow)
    info.add_itxt("parameters", TEXTS["parameters"])
    Image.fromarray(rows.astype(np.uint8)).save(folder / "c.png", pnginfo=info, icc_profile=b"\0" * 128, gamma=0.45)
    return found | of_image(folder / "c.png")


def deep_tiffs(rows: np.ndarray) -> dict[str, bytes]:
    """Float colours, which tifffile reads, and 16 bits with a profile."""
    tifffile = pytest.importorskip("tifffile")
    profile = matrix_profile(ADOBE, 563 / 256, "AdobeRGB")
    found = {}
    for name, data in (("float", (rows / 255).astype(np.float32)), ("deep", rows.astype(np.uint16) * 257)):
        sink = io.BytesIO()
        tifffile.imwrite(sink, data, photometric="rgb", iccprofile=profile, compression="zlib", metadata=None)
        found[name] = sink.getvalue()
    return found


def of_image(path: Path) -> dict[str, Reader]:
    ways: tuple[Mutate, ...] = (mutated,)
    return {
        f"inspect {path.name}": Reader(path, ways, ["inspect", str(path)]),
        f"start {path.name}": Reader(path, ways, [*DRY, "--init-image", str(path)]),
    }


MAKERS = (model_readers, adapter_readers, mounted_readers, cache_readers, image_readers)


@pytest.mark.parametrize("make", MAKERS)
def test_a_mutation_ends_in_an_exit_code_of_its_own(
    make: Callable[[Path], dict[str, Reader]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """LINFUSION_FUZZ names how many mutations of each file are tried; 6 make about 700 in all."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"])
    monkeypatch.chdir(tmp_path)
    faults, codes = [], Counter[str]()
    for name, reader in make(tmp_path).items():
        sound, chance = reader.path.read_bytes(), random.Random(name)
        code = main(reader.words)
        told = capsys.readouterr()
        assert code in ((*reader.codes, 1) if reader.sound is None else (reader.sound,)), (name, code, told.err)
        for _ in range(TIMES):
            odd = chance.choice(reader.ways)(sound, chance)
            reader.path.write_bytes(odd)
            result, fault = outcome(reader, capsys)
            codes[result] += 1
            if fault:
                faults.append(f"{name}: {fault}, see {keep(odd, f'{name} {len(faults)}')}")
        reader.path.write_bytes(sound)
    counted(codes)
    assert not faults, "\n".join(faults)


def outcome(reader: Reader, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The exit code of the reader's command, or what else its end was; and what is wrong with that, "" for nothing."""
    try:
        with bounded():
            code = main(reader.words)
    except (Exception, SystemExit) as error:
        capsys.readouterr()
        return "no exit code", repr(error)
    told = capsys.readouterr().err
    if "fault of linfusion" in told:
        return "a fault of linfusion", told
    return f"exit {code}", "" if code in reader.codes else f"exit {code}: {told}"


def counted(codes: Counter[str]) -> None:
    """Appends how many mutations ended in which way to the file LINFUSION_FUZZ_COUNTS, for the soak."""
    if path := os.environ.get("LINFUSION_FUZZ_COUNTS"):
        with open(path, "a") as file:
            file.write(json.dumps(codes) + "\n")


def keep(odd: bytes, name: str) -> Path:
    """The input that failed, where it can be looked at."""
    path = Path(f"fuzz-{name.replace('/', '-').replace(' ', '-')}").absolute()
    path.write_bytes(odd)
    return path


def test_a_mutated_checkpoint_of_a_render_is_damaged_or_restored() -> None:
    """Behind its checksum too: what a stranger packs is refused as ValueError, which is told and not used."""
    scheduler = make_scheduler(SchedulerChoice.of("dpmpp_2m"), {})
    scheduler.set_timesteps(6)
    scheduler.step(torch.ones(1, 4, 4, 4), scheduler.timesteps[0], torch.ones(1, 4, 4, 4))
    tensors, state = scheduler_state(scheduler)
    data, chance, cpu = pack(tensors, {"done": 3, "state": state}), random.Random(1), torch.device("cpu")
    for _ in range(10 * TIMES):
        with bounded(), suppress(ValueError):
            found, about = unpack(mutated(data, chance))
            restore_scheduler(make_scheduler(SchedulerChoice.of("dpmpp_2m"), {}), found, about.get("state"), cpu)
        odd = json.loads(mutated_json(json.dumps({"state": state}).encode(), chance))
        with bounded(), suppress(ValueError):
            other = make_scheduler(SchedulerChoice.of("dpmpp_2m"), {})
            restore_scheduler(other, dict(tensors), odd.get("state"), cpu)
    counted(Counter({"damaged or restored": 20 * TIMES}))


def test_a_mutated_about_of_checkpoints_is_not_used(tmp_path: Path) -> None:
    with CheckpointFolder(
        tmp_path / "x.png", "f" * 64, "id", 0.0, most_bytes=1 << 20, urgent=lambda: True, tell=print
    ) as keeper:
        keeper.remember_seed("unseeded", 5)
        keeper.keep("step", b"x")
    (path,) = tmp_path.rglob("about.json")
    sound, chance = path.read_bytes(), random.Random(2)
    assert kept_seed(tmp_path, "unseeded") == 5
    for _ in range(10 * TIMES):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.choice((mutated, mutated_json))(sound, chance))
        with bounded():
            assert (kept_seed(tmp_path, "unseeded") or 0) >= 0
            tidy(tmp_path)
    counted(Counter({"not used or used": 10 * TIMES}))


def test_a_mutated_checkpoint_of_training_is_refused_by_name(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, 4)
    list(run.train(loss_for(model)))
    (folder,) = tmp_path.glob("checkpoint-*")
    chance = random.Random(3)
    for path in sorted(folder.iterdir()):
        ways = {".json": (mutated, mutated_json), ".safetensors": (mutated, mutated_header)}
        sound = path.read_bytes()
        for _ in range(3 * TIMES):
            path.write_bytes(chance.choice(ways.get(path.suffix, (mutated,)))(sound, chance))
            with bounded(), suppress(WeightsError, UsageError):
                model_and_run(tmp_path, 4)
        path.write_bytes(sound)
    counted(Counter({"refused or read": 3 * TIMES * len(list(folder.iterdir()))}))

"""<lora:NAME:WEIGHT> in a prompt is the option NAME:WEIGHT, added to the others; what it can't be is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.job_hash import job_hash
from linfusion_cli.config.prompt_loras import read_tags, split_tags
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.weighted_lora import WeightedLora
from linfusion_cli.errors import LinfusionError
from linfusion_cli.weights.model_folders import ModelFolders, model_roots

pytestmark = pytest.mark.slow  # all of them together

ASKED = Request(prompt="a knight", seed=5, size="256x128")
NUMBERS = st.decimals(-8, 8, places=2).map(str)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("armour", "styles/ink", "my.v2"):
        path = root / "loras" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


@pytest.fixture(autouse=True)
def configured(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINFUSION_MODELS", str(models))


def refusal(tag: str) -> str:
    with pytest.raises(LinfusionError) as caught:
        resolve(replace(ASKED, prompt=f"a knight {tag}"))
    return told(caught.value)


@given(NUMBERS, st.sampled_from(["armour", "armour.safetensors", "styles/ink", "my.v2"]))
@pytest.mark.covers("`<lora:NAME:WEIGHT>` in the prompt, with a folder of models", "used")
def test_a_tag_is_the_option_with_its_weight(weight: str, name: str) -> None:
    tagged = resolve(replace(ASKED, prompt=f"a knight <lora:{name}:{weight}>"))
    same = resolve(replace(ASKED, loras=(f"{name}:{weight}",)))
    assert tagged.settings.extras.loras == same.settings.extras.loras
    assert (tagged.prompt, tagged.overrides, job_hash(tagged)) == (same.prompt, same.overrides, job_hash(same))
    assert tagged.prompt_notes == ()


@given(NUMBERS, NUMBERS)
def test_the_first_of_two_weights_is_for_the_text_encoders(text: str, unet: str) -> None:
    """As in A1111, while the option has the UNet's first; a note says so where they differ."""
    for tag in (f"<lora:armour:{text}:{unet}>", f"<lyco:armour:unet={unet}:te={text}>"):
        read = read_tags((tag,), ModelFolders(model_roots()))
        found = WeightedLora.parse(read.loras[0])
        assert (found.weight, found.text_weight) == (float(unet), float(text))
        assert len(read.notes) == (float(text) != float(unet))
        assert all(f"{unet} for the UNet and {text} for the text encoders" in note for note in read.notes)


@pytest.mark.parametrize(
    ("tag", "unet", "text"),
    [
        ("<lora:armour>", 1, 1),
        ("<lora:armour:te=0.5>", 0.5, 0.5),
        ("<lora:armour:unet=0.5>", 0.5, 1),
        ("<LORA: armour : +0.5 >", 0.5, 0.5),
    ],
)
def test_weights_that_are_not_said_are_as_in_a1111(tag: str, unet: float, text: float) -> None:
    found = WeightedLora.parse(read_tags((tag,), ModelFolders(model_roots())).loras[0])
    assert (found.weight, found.text_weight) == (unet, text)


def test_tags_are_added_to_the_options_or_the_presets_loras(models: Path, tmp_path: Path) -> None:
    armour, ink = (str(models / "loras" / f"{name}.safetensors") for name in ("armour", "styles/ink"))
    two = resolve(replace(ASKED, prompt="<lora:armour:0.8> a knight, <lora:ink:0.5> in ink", loras=("my.v2",)))
    assert two.settings.extras.loras[1:] == (f"{armour}:0.8", f"{ink}:0.5")
    assert two.settings.extras.loras[0].endswith("my.v2.safetensors")
    assert two.prompt == "a knight, in ink"
    assert two.overrides["--lora"] == ("my.v2.safetensors", "armour.safetensors:0.8", "ink.safetensors:0.5")
    preset = tmp_path / "own.toml"
    preset.write_text(f'extends = "landscape"\n[extras]\nloras = ["{armour}:0.3"]\n')
    tagged = resolve(replace(ASKED, prompt="a knight <lora:ink>", preset=str(preset)))
    assert tagged.settings.extras.loras == (f"{armour}:0.3", ink)


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("<lora:armor:0.8>", 'Did you mean "armour"'),
        ("<lora:styls/ink:0.8>", "there is none of that name"),
        ("<lora:/etc/passwd:1>", "there is none of that name"),
        ("<lora:owner/name:1>", "there is none of that name"),
        ("<lora::0.8>", "it names no file"),
        ("<lora:armour:much>", '"much" is not a weight'),
        ("<lora:armour:>", '"" is not a weight'),
        ("<lora:armour:nan>", '"nan" is not a weight'),
        ("<lora:armour:9>", "Nearest: 8"),
        ("<lora:armour:1:1:64>", '"64" is not used here'),
        ("<lora:armour:1:dyn=64>", '"dyn=64" is not used here'),
        ("<lora:armour:1:lbw=FACE>", '"lbw=FACE" is not used here'),
        ("<lora:armour:unt=1>", 'Did you mean "unet="'),
        ("<lora:armour:1:te=2>", "given twice"),
        (f"<lora:{'x' * 5000}:1>", "there is none of that name"),
    ],
)
def test_what_a_tag_can_not_be_is_refused(tag: str, words: str) -> None:
    message = refusal(tag)
    assert words in message
    assert len(message) <= 400


def test_a_prompt_of_tags_alone_is_empty() -> None:
    with pytest.raises(LinfusionError, match="the prompt is empty"):
        resolve(replace(ASKED, prompt="<lora:armour:0.8>"))


@pytest.mark.parametrize("text", ["a <lora:armour", "a <lora:armour <b>", "a < b > c", "<lora>", "<loras:armour:1> a"])
def test_what_is_no_tag_is_text(text: str) -> None:
    assert split_tags(text, ModelFolders(model_roots())) == (text, ())


def test_without_a_folder_a_tag_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINFUSION_MODELS")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    job = resolve(replace(ASKED, prompt="a knight <lora:armour:0.8>"))
    assert (job.prompt, job.settings.extras.loras) == ("a knight <lora:armour:0.8>", ())

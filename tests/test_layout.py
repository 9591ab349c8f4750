"""The rooms: who may import whom, how long files and functions are, and that asking for help stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "linfusion_cli"
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> rooms of ours that it may import. One way only: cli -> job -> plan -> engine -> rows -> output.
MAY_IMPORT = {
    "errors": set(),
    "folders": {"errors"},
    "geometry": {"errors"},
    "events": set(),
    "garbage": set(),
    "models": set(),
    "preset": {"errors"},
    "names": {"preset", "errors"},
    "emphasis": {"errors"},
    "architecture": {"geometry", "weights", "errors"},
    "control_groups": set(),
    "machine": {"control_groups", "errors"},
    "images": {"geometry", "errors"},
    "weights": {"weights", "models", "errors"},
    "extras": {"preset", "images", "weights", "geometry", "errors"},
    "costs": {"costs", "architecture", "geometry"},
    "stages": {"job", "extras", "costs", "geometry"},
    "phases": {"stages", "job", "machine", "architecture", "costs", "geometry", "images"},
    "job": {"preset", "emphasis", "names", "extras", "images", "geometry", "errors", ""},
    "plan": {"phases", "stages", "costs", "job", "machine", "architecture", "weights", "extras", "preset", "images", "geometry", "errors"},
    "engine": {"engine", "machine", "plan", "stages", "architecture", "costs", "job", "extras", "images", "weights", "models", "events", "geometry"}
    | {"emphasis", "errors"},
    "output": {"output", "geometry", "errors"},
    "stop": {"errors"},
    "run": {"stages", "machine", "costs", "job", "extras", "plan", "engine", "output", "events", "stop", "geometry", "errors", "", "wanted"}
    | {"garbage", "folders"},
    "training": {"training", "errors"},
    "landscapes": {"landscapes", "training", "engine", "geometry", "errors"},
    "distill": {"distill", "training", "landscapes", "engine", "weights", "errors"},
    "evaluate": {"evaluate", "training", "distill", "landscapes", "engine", "stages", "plan", "job", "machine", "models", "weights", "events"}
    | {"geometry", "errors"},
    "cli": {
        "cli",
        "job",
        "doctor",
        "extras",
        "images",
        "wanted",
        "weights",
        "preset",
        "plan",
        "machine",
        "run",
        "output",
        "events",
        "stop",
        "geometry",
        "errors",
        "",
    }
    | {"batch", "models", "landscapes", "training", "distill", "evaluate", "doctor", "extras", "images", "wanted", "weights", "garbage", "folders"},
    "batch": {"control_groups", "batch", "job", "machine", "plan", "run", "output", "events", "stop", "errors"},
    "wanted": {"extras", "preset", "weights", "errors"},
    "accelerators": set(),
    "doctor": {"accelerators", "job", "plan", "machine", "preset", "wanted", "weights", "errors"},
    "__main__": {"cli"},
    "": set(),
}
NO_TORCH = {
    "costs",
    "stages",
    "phases",
    "names",
    "emphasis",
    "batch",
    "errors",
    "stop",
    "images",
    "weights",
    "extras",
    "wanted",
    "doctor",
    "garbage",
    "folders",
    "geometry",
    "events",
    "models",
    "preset",
    "architecture",
    "job",
    "plan",
    "output",
    "run",
    "cli",
}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(path: Path) -> set[str]:
    """Full names of every module imported anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} if node.module != "linfusion_cli.cli" else {f"linfusion_cli.cli.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    room, imported = room_of(path), imports_of(path)
    ours = {name.partition(".")[2].partition(".")[0] for name in imported if name.split(".")[0] == "linfusion_cli"}
    assert ours <= MAY_IMPORT[room] | {room}, f"{room} must not import {ours - MAY_IMPORT[room] - {room}}"
    if room in NO_TORCH:
        assert not {name.split(".")[0] for name in imported} & {"torch", "diffusers", "transformers"}


def test_only_inspect_and_its_texts_know_the_output_in_cli() -> None:
    users = {path.stem for path in FILES if room_of(path) == "cli" and any(name.startswith("linfusion_cli.output") for name in imports_of(path))}
    assert users <= {"inspect", "text", "console", "generate"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "every module says in a sentence what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            documentation = (ast.get_docstring(node, clean=False) or "").count("\n")
            assert (node.end_lineno or 0) - node.lineno + 1 - documentation <= 60, node.name


def test_help_imports_no_torch() -> None:
    code = "import sys; from linfusion_cli.cli.app import main; main(['--help']); sys.exit(bool({'torch', 'diffusers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()

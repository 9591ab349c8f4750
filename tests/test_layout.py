"""The floors: which package may import which, how long files and functions are, and that --help stays cheap."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "linfusion_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

# From the top. A room imports rooms of lower floors only, never one of its own floor.
FLOORS = (
    "__main__ face",
    "cli",
    "evaluate",
    "distill api batch",
    "launched_ranks",
    "render_ranks",
    "landscapes render convert viewer rank_process",
    "engine_import",
    "engine engine.pipeline",
    "engine.stage",
    "engine.components",
    "engine.controlnet",
    "engine.sampling",
    "engine.distributed",
    "engine.streaming engine.adapters",
    "engine.attention",
    "engine.memory",
    "engine.loading",
    "engine.compat_diffusers",
    "system_check",
    "planning",
    "config output",
    "images",
    "weights system training file_formats",
    "geometry",
    "json_files",
    "models events errors version files toml_files redaction png_chunks flag_words",
    "platform_files",
)
# Room -> the rooms that it imports. A permission that nobody uses fails, as does an import that is not here.
IMPORTS = {
    "cli": "evaluate distill batch landscapes launched_ranks render_ranks render engine_import convert viewer "
    "system_check planning config output weights system training geometry models events errors version files "
    "redaction flag_words file_formats",
    "__main__": "cli",
    "face": "api",
    "api": "render engine.streaming engine.attention engine.pipeline planning config weights system events errors",
    "evaluate": "render distill landscapes engine.pipeline engine.components engine.sampling engine.streaming "
    "engine.adapters engine.attention engine.loading planning config weights system training geometry models events "
    "errors json_files files",
    "distill": "landscapes engine.attention weights training errors json_files files platform_files",
    "batch": "launched_ranks render_ranks rank_process render engine_import planning config output system geometry "
    "events errors version redaction json_files files toml_files flag_words platform_files",
    "landscapes": "engine.attention engine.streaming training models json_files files",
    "convert": "weights errors files",
    "viewer": "output images file_formats geometry errors files png_chunks",
    "launched_ranks": "render_ranks rank_process render engine_import engine.components engine.distributed planning "
    "system events errors version",
    "render_ranks": "rank_process render engine_import engine.components engine.distributed planning config system "
    "events errors",
    "rank_process": "engine_import engine.pipeline engine.components engine.distributed planning system errors files",
    "render": "engine_import engine.pipeline engine.distributed engine.components engine.memory planning config output "
    "system weights geometry events errors version",
    "engine_import": "engine.pipeline engine.components engine.streaming planning config system events",
    "engine.pipeline": "engine.stage engine.components engine.sampling engine.distributed engine.memory planning "
    "events",
    "engine.stage": "engine.attention engine.components engine.controlnet engine.sampling engine.distributed "
    "engine.streaming engine.memory planning geometry",
    "engine.components": "engine.controlnet engine.sampling engine.streaming engine.adapters engine.compat_diffusers "
    "engine.attention engine.memory engine.loading planning images weights models events errors",
    "engine.controlnet": "engine.sampling engine.streaming engine.compat_diffusers engine.attention engine.memory "
    "engine.loading planning weights geometry",
    "engine.sampling": "engine.distributed engine.streaming engine.compat_diffusers engine.memory engine.loading "
    "planning weights geometry events errors json_files",
    "engine.distributed": "engine.streaming engine.memory planning system geometry errors",
    "engine.streaming": "engine.compat_diffusers engine.attention engine.memory engine.loading planning images system "
    "geometry errors",
    "engine.adapters": "engine.compat_diffusers engine.attention engine.loading planning weights errors",
    "engine.attention": "engine.memory engine.loading planning weights errors json_files files",
    "engine.memory": "engine.loading planning geometry events errors system",
    "engine.loading": "engine.compat_diffusers weights models errors",
    "system_check": "planning config weights system errors files",
    "planning": "config images weights system geometry models errors redaction files json_files",
    "config": "flag_words images weights file_formats geometry errors files toml_files",
    "images": "geometry errors system png_chunks json_files platform_files",
    "output": "images file_formats geometry events errors json_files files png_chunks flag_words platform_files",
    "weights": "models errors files redaction json_files",
    "system": "errors json_files files",
    "training": "errors json_files files",
    "file_formats": "geometry errors",
    "geometry": "errors",
    "json_files": "errors files",
    "toml_files": "",
    "files": "platform_files",
    "platform_files": "",
    "redaction": "",
    "flag_words": "",
    "png_chunks": "",
    "models": "",
    "events": "",
    "errors": "",
    "": "",
}
TORCH_ROOMS = (
    "engine",
    "convert",
    "training",
    "distill",
    "landscapes",
    "evaluate",
    "system",
)  # system asks it for a GPU, lazily


def room_of(module: str) -> str:
    """The room of a module: "linfusion_cli.engine.memory.meter" -> "engine.memory"; the package itself is "version"."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[0] == "engine" else 1]) if parts else "version"


def room_of_file(path: Path) -> str:
    """The room of a file. The package's own __init__ is its face: it offers api's names; all may read its version."""
    return "face" if path == PACKAGE / "__init__.py" else room_of(module_of(path))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def names_defined_and_used(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The functions that a file defines, and every name in it."""
    nodes = list(ast.walk(tree_of(path)))
    return (
        frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef)),
        frozenset(node.id for node in nodes if isinstance(node, ast.Name)),
    )


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Full names of every module that a file imports anywhere: `from a import b`, `from . import b` and plain ones."""
    package = module_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            base = base if node.level else node.module or ""
            for alias in node.names:
                inner = ROOT / f"{base}.{alias.name}".replace(".", "/")
                names.add(f"{base}.{alias.name}" if inner.with_suffix(".py").exists() or inner.is_dir() else base)
    return frozenset(names)


def our_rooms(path: Path) -> set[str]:
    return {room_of(name) for name in imports_of(path) if name.split(".")[0] == "linfusion_cli"}


def test_imports_are_permitted() -> None:
    forbidden = {
        name: rooms
        for name, path in zip(IDS, FILES, strict=True)
        if (rooms := our_rooms(path) - {room := room_of_file(path)} - set(IMPORTS.get(room, "").split()))
    }
    assert forbidden == {}, "the module may not import these rooms"


@pytest.mark.parametrize("room", IMPORTS)
def test_every_permission_is_used(room: str) -> None:
    used = set().union(*(our_rooms(path) for path in FILES if room_of_file(path) == room))
    assert set(IMPORTS[room].split()) <= used


@pytest.mark.parametrize("room", IMPORTS)
def test_permissions_lead_down(room: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
    assert all(floor[other] > floor[room] for other in IMPORTS[room].split())


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too, but those of the package's face: all read its version."""
    modules = {module_of(path): path for path in FILES if room_of_file(path) != "face"}
    order = TopologicalSorter({name: (imports_of(path) & modules.keys()) - {name} for name, path in modules.items()})
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_torch_lives_in_the_engine_and_in_training() -> None:
    for name, path in zip(IDS, FILES, strict=True):
        if room_of_file(path).split(".")[0] not in TORCH_ROOMS:
            top = {module.split(".")[0] for module in imports_of(path)}
            assert not top & {"torch", "diffusers", "transformers"}, name


# A location becomes a path, and a header is read, in WeightFile.resolve() alone. Name -> the modules that call it.
RESOLVING = {
    "find": {"weights/weight_file.py", "weights/requirements.py", "weights/locate.py"},
    "find_first": set[str](),  # gone: WeightFile.resolve() and open()
    "builtin_folder": {"weights/locate.py", "planning/unknown_words.py"},  # the latter compares tokenizers with it
    "read_header": {
        "weights/weight_file.py",
        "weights/listed_kind.py",  # to tell what a file in a folder of models is
        "weights/checksums.py",  # checks what was downloaded
        "convert/convert.py",  # checks what it wrote
        "engine/attention/linfusion.py",  # LinFusion.load() is also for users without a plan
    },
    "weight_files": {
        "weights/used_files.py",
        "weights/weight_file.py",
        "weights/unet_file.py",  # to say what is there instead
        "weights/listed_kind.py",  # of a folder in a folder of models
        "weights/requirements.py",
        "config/required_weights.py",  # which files have a hash to check
    },
    "lora_file": {"weights/used_files.py"},
    "adapter_file": {"weights/used_files.py"},
    "embedding_file": {"weights/used_files.py"},
    "encoder_folder": {"weights/weight_file.py", "weights/hub_download.py"},
}


@pytest.mark.parametrize("name", RESOLVING)
def test_weights_are_found_and_their_headers_read_in_one_module(name: str) -> None:
    calling = set()
    for path in FILES:
        defined, called = names_defined_and_used(path)
        if name in called and (name not in defined or name == "find"):
            calling.add(path.relative_to(PACKAGE).as_posix())
    assert calling == RESOLVING[name]


def test_the_engine_looks_for_no_file() -> None:
    """The plan has found all weights (weights/weight_file.py); the engine opens these, and checks them on the way."""
    for name, path in zip(IDS, FILES, strict=True):
        if room_of_file(path).startswith("engine"):
            assert "linfusion_cli.weights.locate" not in imports_of(path), name


def test_files_and_functions_stay_short() -> None:
    for name, path in zip(IDS, FILES, strict=True):
        assert path.read_text().count("\n") <= 400, name
        tree = tree_of(path)
        assert ast.get_docstring(tree), f"{name}: every module says in a sentence what it is"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                documentation = (ast.get_docstring(node, clean=False) or "").count("\n")
                assert (node.end_lineno or 0) - node.lineno + 1 - documentation <= 60, f"{name}: {node.name}"


def test_every_module_has_a_test_file_of_its_name() -> None:
    own = {path.relative_to(PACKAGE) for path in FILES if not path.name.startswith("__")}
    missing = {path.as_posix() for path in own if not (ROOT / "tests" / path.with_name(f"test_{path.name}")).exists()}
    assert missing == set(), "each needs a test file at the mirrored path"


# None of these is needed to show the help, and each costs milliseconds, torch seconds.
NOT_FOR_HELP = ("torch", "diffusers", "numpy", "PIL", "logging", "ctypes", "hashlib", "secrets", "tomllib", "asyncio")


def modules_after(code: str) -> set[str]:
    """What a new process has imported once it ran the code."""
    code = (
        f"import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    {code}\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return set(done.stdout.split())


def test_help_imports_nothing_slow() -> None:
    assert modules_after("from linfusion_cli.cli.app import main; main(['--help'])") & set(NOT_FOR_HELP) == set()


def test_the_package_alone_imports_next_to_nothing() -> None:
    ours = {name for name in modules_after("import linfusion_cli") if name.startswith("linfusion_cli")}
    assert ours == {"linfusion_cli"}
    assert modules_after("import linfusion_cli") & {*NOT_FOR_HELP, "typer"} == set()

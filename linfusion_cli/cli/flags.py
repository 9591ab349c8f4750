"""The flags that generate, upscale, plan and batch share, made from the table of options."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.spelling import declarations, told
from linfusion_cli.cli.wrapping import say
from linfusion_cli.config.option_row import UPSCALE, OptionRow
from linfusion_cli.config.options import by_key, options_of
from linfusion_cli.errors import LinfusionError, Option, UsageError

if TYPE_CHECKING:
    from linfusion_cli.config.presets import Source
    from linfusion_cli.config.request import Request

Command = Callable[..., Any]
# Where the user's own defaults of the running command come from, by key.
_DEFAULT_SOURCES: ContextVar[Mapping[str, str]] = ContextVar("default_sources")
CONTEXT = "context"  # of the command line, which knows what was typed
AS_TYPED = frozenset({"output"})  # a last "/" asks for a folder, and Path drops it


def complete_preset(incomplete: str) -> list[str]:
    """Preset names for the shell's completion."""
    return by_key()["preset"].completions(incomplete)


def help_text(row: OptionRow, command: str) -> str:
    """What --help says of a row: what it does, what is allowed, and a default that nobody else adds.

    Typer adds those of the table, and help_panels.py those of presets, which are read for --help alone.
    """
    words = row.default_from if command != UPSCALE else row.upscale_default_from or row.default_from
    default = f"Default: {words}." if words and not row.preset_key else ""
    return " ".join(part for part in (row.help, row.limits, default) if part)


def completer(row: OptionRow) -> Callable[..., list[str]] | None:
    """A row's completions for Typer, which evaluates the annotations of each such function: a lambda has none."""
    if row.names_weights:
        return lambda ctx, incomplete: _names_of_weights(row.key, ctx.params.get("models") or (), incomplete)
    return (lambda incomplete: row.completions(incomplete)) if row.choices or row.suggestions else None


def _names_of_weights(key: str, folders: Iterable[Path], incomplete: str) -> list[str]:
    """The names of files for an option in the folders of models; none where one can't be read."""
    from linfusion_cli.config.model_names import configured_folders
    from linfusion_cli.weights.model_folders import ModelFolders

    given = tuple(map(Path, folders))
    with suppress(LinfusionError, OSError):
        names = {item.name for item in (ModelFolders(given) if given else configured_folders()).listed(key)}
        return sorted(name for name in names if name.startswith(incomplete))
    return []


def flag_parameter(row: OptionRow, command: str) -> inspect.Parameter:
    """The keyword parameter that makes Typer offer a row as a flag."""
    kind = str if row.key in AS_TYPED else row.kind
    hint: Any = list[kind] if row.repeatable else kind  # type: ignore[valid-type]
    option = typer.Option(
        *declarations(row, command),
        metavar=row.metavar or None,
        help=help_text(row, command),
        autocompletion=completer(row),
        rich_help_panel=row.panel or None,
    )
    hint = Annotated[hint if row.default is not None else hint | None, option]
    return inspect.Parameter(row.key, inspect.Parameter.KEYWORD_ONLY, default=row.default, annotation=hint)


def with_flags(command: str) -> Callable[[Command], Command]:
    """Adds the table's flags of a command to its function, which gets their values, by row, as its dict `flags`.

    A function that has a dict `inputs` too gets the rows of its input in it. The flags stand in --help where these two
    stand among the function's parameters, which are all keywords.

    Typer learns a command's flags from its function's signature, and from nothing else: it has no call to add an
    option. So the function that it is given takes any keywords, and its signature says what these are (`__signature__`
    is Python's own way to do so, PEP 362). It has no annotations, which Typer would evaluate twice.
    """

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function, eval_str=True)
        groups: dict[str, list[inspect.Parameter]] = {"flags": [], "inputs": []}
        for row in options_of(command):
            groups["inputs" if row.is_input and "inputs" in signature.parameters else "flags"].append(
                flag_parameter(row, command)
            )
        shown = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, own in signature.parameters.items()
            for parameter in groups.get(name, [own])
        ]

        def run(**values: Any) -> Any:
            _add_user_defaults(values, values.pop(CONTEXT), command)
            for group in groups.keys() & signature.parameters.keys():
                values[group] = {row.name: values.pop(row.name) for row in groups[group]}
            return function(**values)

        run.__annotations__ = {}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        context = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        vars(run)["__signature__"] = signature.replace(parameters=[context, *shown])
        return run

    return decorate


def typed_names(context: typer.Context) -> set[str]:
    """The parameters of a running command that were typed."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _add_user_defaults(values: dict[str, Any], context: typer.Context, command: str) -> None:
    """Puts the user's own defaults in the place of options that were not typed."""
    from linfusion_cli.cli.config import notes_of_variables
    from linfusion_cli.config.user_defaults import GROUPS, fitting, user_defaults

    if not values.get("quiet"):
        for note in notes_of_variables():
            say(note, err=True)
    keys = {row.key for row in options_of(command)} & values.keys()
    typed = typed_names(context)
    own_size = GROUPS[0] if command == UPSCALE else frozenset()  # an image's own shape decides there
    used = fitting(user_defaults(), typed, keys - own_size)
    for key, one in used.items():
        values[key] = one.value
    _DEFAULT_SOURCES.set({key: one.source for key, one in used.items()})


def source_text(source: Source) -> str:
    """The source of a setting: a preset, a flag, or the path of config.toml or the LINFUSION_ variable in its place."""
    if isinstance(source, Option) and (default := _DEFAULT_SOURCES.get({}).get(source.key)):
        return default
    return told(source)


def request_of(prompt: str, flags: dict[str, Any], **more: Any) -> Request:
    """The request of a command line; repeated flags become tuples."""
    from linfusion_cli.config.request import Request

    rows = by_key()
    values: dict[str, Any] = {
        key: tuple(value or ()) if rows[key].repeatable else value for key, value in flags.items()
    }
    values["output"] = None if values["output"] is None else output_path(values["output"])
    return Request(prompt=prompt, **values, **more)


def output_path(text: str) -> Path:
    """The file or folder of -o. Raises UsageError for an empty name, and for a folder that is not there."""
    path = Path(text)
    if not text.strip():
        raise UsageError('--output "": name a PNG file or a folder, or leave it out')
    if text.endswith(("/", os.sep)) and not os.path.isdir(path):
        raise UsageError(f'--output "{text}": there is no such folder. Make it first: mkdir -p "{text}"')
    return path

"""The command line: registers the commands, and turns every error into a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from linfusion_cli import __version__
from linfusion_cli.cli import (
    batch,
    config,
    convert,
    distill,
    doctor,
    evaluate,
    fetch,
    generate,
    inspect,
    landscapes,
    models,
    plan,
    presets,
    sheet,
    upscale,
    view,
)
from linfusion_cli.cli.help_panels import WIDEST_COLUMNS, HelpCommand, HelpGroup
from linfusion_cli.cli.spelling import speller, told
from linfusion_cli.cli.streams import announce, standard_streams
from linfusion_cli.errors import (
    HUNG_UP,
    INTERRUPTED,
    LinfusionError,
    OutOfMemoryError,
    OutputError,
    StandardOutputError,
    UsageError,
)
from linfusion_cli.system.gc_pause import paused
from linfusion_cli.system.process_setup import end_quietly, own_process
from linfusion_cli.system.signals import REASONS, handle_signals

EPILOG = """\b
Examples:
  linfusion generate "a mountain lake at dawn" --size 4k
  linfusion plan --size 16k --max-memory 8GB
  linfusion batch prompts.txt --size 4k -o images
  linfusion upscale photo.jpg "a mountain lake" --preset sdxl-4k --scale 4
  linfusion fetch sd15-4k
  linfusion convert old-model.ckpt
  linfusion doctor
  linfusion presets list
  linfusion inspect lake.png
  linfusion view lake.png

\b
Every command has its own help: linfusion generate --help
--debug works in any place and shows the traceback of an error; so does LINFUSION_DEBUG=1.
"""

CONTINUED = frozenset({"generate", "upscale", "batch", "sheet", "fetch", "distill", "evaluate", "landscapes"})
ANEW = frozenset({"--images", "render"})  # of `evaluate` and `landscapes`: what keeps nothing
STOPPED_AS = {HUNG_UP: "HungUp", StandardOutputError.exit_code: StandardOutputError.__name__}

app = typer.Typer(
    name="linfusion",
    cls=HelpGroup,
    help="Images of 4K to 16K from a prompt: Stable Diffusion with linear attention, within the memory that you name.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST_COLUMNS},
)
for name, function, epilog in (
    ("generate", generate.generate, generate.EPILOG),
    ("batch", batch.batch, batch.EPILOG),
    ("upscale", upscale.upscale, upscale.EPILOG),
    ("plan", plan.plan, plan.EPILOG),
    ("sheet", sheet.sheet, sheet.EPILOG),
):
    spelled = {"token_normalize_func": speller("batch" if name == "sheet" else name)}
    app.command(name, cls=HelpCommand, epilog=epilog, context_settings=spelled)(function)
app.command("fetch", cls=HelpCommand, epilog=fetch.EPILOG)(fetch.fetch)
app.command("convert", cls=HelpCommand, epilog=convert.EPILOG)(convert.convert)
app.command("models", cls=HelpCommand, epilog=models.EPILOG)(models.models)
app.command("config", cls=HelpCommand, epilog=config.EPILOG)(config.config)
app.command("doctor", cls=HelpCommand, epilog=doctor.EPILOG)(doctor.doctor)
app.command("inspect", cls=HelpCommand, epilog=inspect.EPILOG)(inspect.inspect)
app.command("view", cls=HelpCommand, epilog=view.EPILOG)(view.view)
app.command("distill", cls=HelpCommand, epilog=distill.EPILOG)(distill.distill)
app.command("evaluate", cls=HelpCommand, epilog=evaluate.EPILOG)(evaluate.evaluate)
app.add_typer(presets.app, name="presets")
app.add_typer(landscapes.app, name="landscapes")

COMPLETION = "_LINFUSION_COMPLETE"  # set by the shell that asks for completions
# Typer breaks the help beside a completion at the terminal's width, and fish takes each line for a completion.
ONE_LINE_COLUMNS = "100000"


def _show_version(wanted: bool) -> None:  # noqa: FBT001  Typer passes it by position
    if wanted:
        typer.echo(f"linfusion {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """The options before the command; main() has already acted on --debug."""
    try:
        os.getcwd()
    except FileNotFoundError as error:  # no relative path leads anywhere from there, and MKL ends the process
        raise OutputError("the current folder has been removed. Go to one that is there: cd ~") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; no exception leaves it, and nothing else catches LinfusionError."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with standard_streams():
            return _run(*without_debug(words))
    except BaseException as error:  # a second signal while the first is told; nothing can be said any more
        return _code_of(error)


@cache
def _built() -> Any:
    """The command with all others in it; one process may run it several times."""
    with paused():  # building them leaves no garbage; 4 ms of `linfusion --help`
        return get_command(app)


def _run(words: list[str], debug: bool) -> int:  # noqa: FBT001  without_debug's pair
    """Runs the command and returns its exit code. debug: other libraries are heard, and errors are raised."""
    own_process()
    restore = handle_signals()
    if COMPLETION in os.environ:
        os.environ["COLUMNS"] = ONE_LINE_COLUMNS
    libraries = _listening() if debug else nullcontext()
    try:
        with libraries:
            code = _built()(words, prog_name="linfusion", standalone_mode=False)
        if code == INTERRUPTED:
            return _fail("Interrupted", _stopped(words), INTERRUPTED, words)
        return code if isinstance(code, int) else 0
    except SystemExit as error:
        return _exit_code(error, words)
    except BaseException as error:  # also a panic of a library in Rust, which is no Exception
        if debug:
            _show_traceback()
        return _explain(error, words)
    finally:
        restore()


def _stopped(words: Sequence[str], how: str = "interrupted") -> str:
    """The message of a stopped command; for those that keep what is done, with the way to resume."""
    continues = bool(CONTINUED & {*words[:1]}) and not ANEW & {*words}
    return f"{how}; the same command continues" if continues else how


def _code_of(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else LinfusionError.exit_code


def _listening() -> AbstractContextManager[object]:
    """Shows what libraries log; imported here, since --help needs no logging."""
    from linfusion_cli.system.library_output import listening

    return listening(_show_line)


def without_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words without any --debug before "--", and whether there was one or LINFUSION_DEBUG=1 is set."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"] + list(words[end:])
    return kept, len(kept) < len(words) or os.environ.get("LINFUSION_DEBUG", "") not in ("", "0")


def _show_traceback() -> None:
    for line in traceback.format_exc().splitlines():
        _show_line(line)


def _show_line(line: str) -> None:
    from linfusion_cli.cli.text import safe

    typer.echo(safe(line), err=True)


def _explain(error: BaseException, words: Sequence[str]) -> int:
    """Prints what went wrong and returns the exit code of its family."""
    if not isinstance(error, LinfusionError | TyperException | KeyboardInterrupt | typer.Abort):
        from linfusion_cli.system.process_limits import shortage  # psutil; the help needs none of it

        error = shortage(error) or error
    match error:
        case StandardOutputError() if "--json" not in words and error.reader_gone:
            return error.exit_code  # `| head -1`: the user closed the pipe on purpose
        case LinfusionError():
            if error.exit_code == OutOfMemoryError.exit_code:
                end_quietly()
            return _fail(type(error).__name__, told(error), error.exit_code, words)
        case TyperException():
            if type(error).__name__ == "NoArgsIsHelpError":
                announce(error.format_message())
                return UsageError.exit_code
            from linfusion_cli.cli.foreign_flags import unknown_flag
            from linfusion_cli.cli.text import wrong_value

            said = unknown_flag(error) or wrong_value(error) or str(UsageError(error.format_message()))
            text = f"{said}\nSee: linfusion {_command(words)}--help"
            return _fail("UsageError", text, UsageError.exit_code, words)
        case OSError() if error.errno is not None:
            where = f"{error.filename}: " if error.filename else ""
            return _fail("OutputError", f"{where}{os.strerror(error.errno)}", OutputError.exit_code, words)
        case KeyboardInterrupt() | typer.Abort():
            return _fail("Interrupted", _stopped(words), INTERRUPTED, words)
        case _:
            text = f"{type(error).__name__}: {error}. This is a fault of linfusion; --debug shows where"
            return _fail("InternalError", text, LinfusionError.exit_code, words)


def _fail(kind: str, message: str, code: int, words: Sequence[str]) -> int:
    """Prints the error on stderr and, with --json, as a JSON line on stdout; returns the exit code."""
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe
    from linfusion_cli.cli.wrapping import say

    if "--json" in words:
        with suppress(StandardOutputError):
            emit(sys.stdout, "error", {"error": kind, "message": message, "exit_code": code})
    for i, line in enumerate(message.splitlines() or [""]):
        say(f"error: {safe(line)}" if i == 0 else safe(line), err=True)
    return code


def _command(words: Sequence[str]) -> str:
    known = [*(command.name for command in app.registered_commands), *(group.name for group in app.registered_groups)]
    return f"{words[0]} " if words and words[0] in known else ""


def _exit_code(error: SystemExit, words: Sequence[str]) -> int:
    code = error.code if isinstance(error.code, int) else int(bool(error.code))
    if code not in REASONS:
        return code
    return _fail(STOPPED_AS.get(code, "Terminated"), _stopped(words, REASONS[code]), code, words)

"""Plans, sizes and times as lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.wrapping import fitted
from linfusion_cli.errors import MOST_LISTED, first_of

if TYPE_CHECKING:
    from linfusion_cli.config.preset_schema import Preset
    from linfusion_cli.config.presets import Source
    from linfusion_cli.planning.planner import Plan
    from linfusion_cli.planning.rank_forecast import RankForecast
    from linfusion_cli.render import Rendered


GAP = 2  # blanks between two columns of a table
LEAST_COLUMNS = 20  # of a column that is wrapped
MOST_ROWS = 8  # numbers of rows by rank that are shown
BUSY = 1.3  # times as long as on an idle machine


def safe(text: object) -> str:
    """A text that is safe to show and to log: control characters escaped, tokens and passwords left out."""
    from linfusion_cli.output.metadata import visible
    from linfusion_cli.redaction import redacted

    return redacted(visible(told(text)))


def wrong_value(error: BaseException) -> str:
    """The message for a wrong value of a flag: the value, what is allowed and the nearest allowed one.

    "" for any other error of click.
    """
    details = getattr(error.__cause__, "errors", None)
    flags = getattr(getattr(error, "param", None), "opts", ())
    if details is None or not flags:
        return ""
    first = details()[0]
    limits = first.get("ctx", {})
    match first["type"]:
        case "greater_than_equal":
            text = f"must be {limits['ge']:g} or more. Nearest: {limits['ge']:g}"
        case "less_than_equal":
            text = f"must be {limits['le']:g} or less. Nearest: {limits['le']:g}"
        case "int_parsing" | "int_from_float":
            text = _number(error, first["input"], int)
        case "float_parsing":
            text = _number(error, first["input"], float)
        case _:
            return ""
    return f'{max(flags, key=len)} "{first["input"]}": {text}'


def _number(error: BaseException, given: str, kind: type[int] | type[float]) -> str:
    """What to write in place of a word that is no number of this kind: the option's range, and the nearest in it."""
    from linfusion_cli.config.options import by_key

    row = by_key().get(getattr(getattr(error, "param", None), "name", ""))
    if row is None or row.range is None:
        return "write a whole number" if kind is int else "write a number"
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    nearest = row.range.nearest(round(value) if kind is int else value) if math.isfinite(value) else ""
    return f"write {row.range.words(kind)}" + (f". Nearest: {nearest}" if nearest else "")


def bytes_text(amount: float) -> str:
    """Bytes as "812 MB" or "5.4 GB" (powers of 1000)."""
    if amount >= 1e9:
        return f"{amount / 1e9:.1f} GB"
    return f"{amount / 1e6:.0f} MB"


def seconds_text(seconds: float) -> str:
    """Seconds as "0.4 s", "12 s", "3 min 05 s" or "2 h 03 min"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"


def table(rows: Sequence[Sequence[str]], *, left: int = 1, columns: int = 0, drop: Sequence[str] = ()) -> list[str]:
    """Rows as aligned lines: the first `left` columns to the left, the others to the right.

    columns: the width to fit, 0 for any. drop: headings of columns that are left out in this order where it is too
    small; then the last column is wrapped if it is one of the left ones, under the others where little is left for it
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    too_wide = columns and sum(widths) + GAP * (len(widths) - 1) > columns
    if too_wide and drop:
        out = list(rows[0]).index(drop[0])
        fewer = [[cell for i, cell in enumerate(row) if i != out] for row in rows]
        return table(fewer, left=left - (out < left), columns=columns, drop=drop[1:])
    start = sum(widths[:-1]) + GAP * (len(widths) - 1)
    if too_wide and left == len(widths) > 1 and columns - start < LEAST_COLUMNS:
        heads = table([row[:-1] for row in rows], left=left - 1)
        return [line for head, row in zip(heads, rows, strict=True) for line in (head, *_under(row[-1], columns))]
    if too_wide and left == len(widths) > 1:
        pieces = [fitted(row[-1], columns - start, hanging=0) for row in rows]
        rows = [
            [*(row[:-1] if not i else [""] * (len(row) - 1)), piece]
            for row, parts in zip(rows, pieces, strict=True)
            for i, piece in enumerate(parts)
        ]
    lines: list[str] = []
    for row in rows:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append((" " * GAP).join(cells).rstrip())
    return lines


def _under(cell: str, columns: int) -> list[str]:
    """A cell as lines of its own, indented below its row."""
    return fitted(" " * GAP + cell, columns, hanging=0)


def plan_lines(plan: Plan, columns: int = 0) -> list[str]:
    """The plan as text: the job, each stage with its memory and time, and the notes.

    columns: the width that the table fits, 0 for any
    """
    job, machine = plan.job, plan.machine
    budget = f", at most {bytes_text(plan.budget_bytes)}" if plan.budget_bytes else ""
    bands = plan.stages[-1].bands
    if 0 < bands.unet_latent < job.size.latent().height:
        budget += f", UNet in bands of {bands.unet_latent} rows of latents"
    if bands.vae_px < job.size.height:
        budget += f", autoencoder in bands of {bands.vae_px} rows"
    seed = f"{job.seed} (drawn)" if job.seed_drawn else str(job.seed)
    lines = [
        f"{job.size} pixels, preset {safe(job.preset)}, seed {seed}: {safe(job.prompt)}",
        f"{safe(machine.device)}: {safe(machine.device_name)} ({safe(machine.reason)}), "
        f"{plan.dtype}, {plan.attention} attention{budget}",
        *table(_stage_rows(plan), left=2, columns=columns, drop=("dilated", "strength", "guided", "steps")),
    ]
    guess = (
        ()
        if machine.speed(plan.dtype).measured
        else (f"times are guesses: no image was made here in {plan.dtype} yet (linfusion plan measures)",)
    )
    notes = first_of([f"note: {safe(note)}" for note in plan.notes], "note")
    return lines + notes + [f"note: {safe(note)}" for note in (*guess, *_busy_note(plan))]


def _busy_note(plan: Plan) -> tuple[str, ...]:
    """A range in place of a time, where other programs run."""
    if plan.machine.slowdown < BUSY:
        return ()
    quiet, busy = seconds_text(plan.seconds), seconds_text(plan.busy_seconds)
    return (f"the machine is busy: the time is {quiet} once it is idle, about {busy} if other programs go on as now",)


def plan_fields(plan: Plan) -> dict[str, object]:
    """The plan for JSON, with the seed, and its notes with flags."""
    seed = {"seed": plan.job.seed, "seed_drawn": plan.job.seed_drawn}
    return {**plan.as_dict(), **seed, "notes": [told(note) for note in plan.notes]}


def rank_lines(forecast: RankForecast, link: str | None) -> list[str]:
    """What several ranks would send, and how long they would take; each is as fast as its share."""
    sent = (
        f"{forecast.ranks} ranks, each with the memory above; all send {bytes_text(forecast.sent_bytes)}, each "
        f"{bytes_text(forecast.rank_bytes)}"
    )
    shown = [str(rows) for rows in forecast.rows_px[:MOST_ROWS]] + ["..."] * (len(forecast.rows_px) > MOST_ROWS)
    rows = f"rows of the image by rank: {', '.join(shown)}"
    if forecast.seconds is None or forecast.speed_up is None:
        return [sent, rows]
    return [
        sent,
        rows,
        f"on devices of their own, over links of {safe(link or '')}: {seconds_text(forecast.seconds)} instead of "
        f"{seconds_text(forecast.alone_seconds)}, {forecast.speed_up:.2f} times as fast",
    ]


def obstacle_lines(obstacles: Sequence[str]) -> list[str]:
    """The obstacles of a plan as lines."""
    lines = [f"would fail: {safe(text)}" for text in obstacles]
    return ["", *first_of(lines, "obstacle", keep_last=True)] if obstacles else []


def _stage_rows(plan: Plan) -> list[list[str]]:
    rows = [["stage", "pixels", "steps", "guided", "dilated", "strength", "memory", "time"]]
    for stage in plan.stages:
        phases = [phase for phase in plan.phases if phase.stage == stage.index]
        counts = [str(stage.steps), str(stage.guided_steps), str(stage.dilated_steps), f"{stage.strength:.2g}"]
        cost = [
            bytes_text(max((phase.peak_bytes for phase in phases), default=0)),
            seconds_text(sum(phase.seconds for phase in phases)),
        ]
        rows.append([str(stage.index), str(stage.size), *counts, *cost])
    return [*rows, ["all", str(plan.job.size), "", "", "", "", bytes_text(plan.peak_bytes), seconds_text(plan.seconds)]]


def phase_lines(plan: Plan, columns: int = 0) -> list[str]:
    """Every phase: in what bands, what it keeps between its sweeps, its work, and what it needs where.

    columns: the width that the table fits, 0 for any
    """
    rows = [["phase", "stage", "bands", "keeps", "TFLOP", "memory", "RAM", "files", "time"]]
    for phase in plan.phases:
        bands = plan.stages[phase.stage].bands
        latent = phase.name == "denoise"
        shape = "" if phase.name == "load" else f"{bands.unet_latent or 'whole'}" if latent else str(bands.vae_px)
        keeps = ", ".join(dict.fromkeys(bands.keep)) if phase.name in ("encode", "decode") else ""
        beside = [bytes_text(amount) if amount else "-" for amount in (phase.ram_bytes, phase.file_bytes)]
        work = f"{2 * phase.macs / 1e12:.2f}" if phase.macs else "-"
        rows.append(
            [
                phase.name,
                str(phase.stage),
                shape,
                keeps,
                work,
                bytes_text(phase.peak_bytes),
                *beside,
                seconds_text(phase.seconds),
            ]
        )
    return table(rows, left=1, columns=columns, drop=("keeps", "TFLOP", "files", "RAM", "bands"))


def result_lines(rendered: Rendered) -> list[str]:
    """The measured time and memory of a finished image beside the predicted ones."""
    plan = rendered.plan
    device = rendered.device_peak_bytes
    rows = [["", "predicted", "measured"], ["time", seconds_text(plan.seconds), seconds_text(rendered.seconds)]]
    if device:
        rows.append(["peak GPU memory", bytes_text(plan.peak_bytes), bytes_text(device)])
        rows.append(["peak RAM", "-", bytes_text(rendered.peak_bytes)])
    else:
        rows.append(["peak memory", bytes_text(plan.peak_bytes), bytes_text(rendered.peak_bytes)])
    return table(rows)


def _first(value: object) -> object:
    """A value without the end of a very long list."""
    return value[:MOST_LISTED] if isinstance(value, list | tuple) else value


def _more(value: object) -> str:
    """How many items _first() left out."""
    rest = len(value) - MOST_LISTED if isinstance(value, list | tuple) else 0
    return f", and {rest:,} more" if rest > 0 else ""


def setting_lines(settings: Preset, sources: Mapping[str, Source], columns: int = 0) -> list[str]:
    """Every setting as TOML, each with where its value came from as a comment: above it where it does not fit."""
    from linfusion_cli.config.toml_text import shown

    rows: list[list[str]] = []
    for section, table_of in settings.model_dump().items():
        rows += [[], [f"[{section}]"]] if rows else [[f"[{section}]"]]
        rows += [
            [f"{name} = {shown(_first(value))}", f"# {safe(sources[f'{section}.{name}'])}{_more(value)}"]
            for name, value in table_of.items()
        ]
    alone = [len(row[0]) for row in rows if row and (not columns or len((" " * GAP).join(row)) <= columns)]
    width = min(max(alone, default=0), 64)
    lines: list[str] = []
    for row in rows:
        line = (" " * GAP).join([row[0].ljust(width if row[1:] else 0), *row[1:]]) if row else ""
        if columns and len(line) > columns:
            line = (" " * GAP).join(row)
        lines += [line] if not columns or len(line) <= columns else [*row[1:], row[0]]
    return lines

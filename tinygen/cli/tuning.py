"""`tinygen tune`: kernels chosen by count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from tinygen.cli import options as opt

if TYPE_CHECKING:
    from tinygen.tune_api import Tuned


@click.command("tune")
@click.argument("source", type=opt.PATH)
@click.option(
    "--board",
    help="Board whose core counts [default: the project's first, mps2_an386 for a model].",
)
@click.option(
    "--out", type=opt.PATH, help="Folder of the tuned project [default: the project's own; a model: none]."
)
@click.option("--cache", type=opt.PATH, help="Folder of counts that are known [default: the user's cache].")
@opt.scaling_options
@opt.model_options
@click.option("--name", help="For a model: see 'tinygen compile'.")
@click.option("--pin", help="For a model: see 'tinygen compile'.")
@click.option("--pin-code", help="For a model: see 'tinygen compile'.")
@opt.weights_option
@click.option("--optimize", help="For a model: size, balanced or speed, see 'tinygen compile'.")
@opt.budget_texts("flash", "sram")
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
@opt.json_option
def tune_command(source: Path, as_json: bool, **given: Any) -> None:
    """Count every kernel that could execute a layer of SOURCE (a project or a model), and keep the best of each.

    Kernels are built and followed by the cycle model, their outputs compared with the reference. The choice is kept in
    the project's manifest; counts are kept in a cache: by kernel, shapes, core and compiler. Docs: docs/performance.md.

    \b
    Examples:
      tinygen tune fw/
      tinygen tune fw/ --board nucleo_l4r5zi --json
      tinygen tune kws_int8.tflite --board nucleo_f446re --optimize speed --out fw/
    """
    import tinygen

    scaling = [given.pop(key) for key in ("input_scale", "input_offset", "preprocess")]
    given["samples"] = opt.sample_options(*scaling)
    given |= opt.absolute(given, "flash", "sram")
    with opt.progress() as report:
        made = tinygen.tune(source, report=report, **given)
    data = tuned_data(made, given["out"] or (source if source.is_dir() else None))
    opt.print_json(data) if as_json else _show(data)


def tuned_data(made: Tuned, out: Path | None) -> dict[str, Any]:
    """The result as JSON-ready data. Cycles are modelled, at zero wait states; bytes."""
    return {
        "project": None if out is None else str(out),
        "board": made.board.name,
        "core": made.board.cpu,
        "optimize": made.options.optimize,
        "chosen_for": made.aim,
        "counted": made.counted,
        "cached": made.cached,
        "cycles": {"before": made.cycles(False), "after": made.cycles(True)},
        "arena_bytes": {"before": made.arena[0], "after": made.arena[1]},
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs,
                "before": layer.before,
                "after": layer.after,
                "kernels": {
                    name: {"instructions": c.instructions, "cycles": c.cycles, "code_bytes": c.code}
                    for name, c in layer.counts.items()
                },
            }
            for layer in made.layers
        ],
        "notes": list(made.notes),
    }


def _show(data: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("layer", no_wrap=True, overflow="ellipsis")
    table.add_column("by formula", no_wrap=True, style="dim")
    table.add_column("cycles", justify="right", no_wrap=True)
    table.add_column("by count", no_wrap=True)
    table.add_column("cycles", justify="right", no_wrap=True)
    for layer in data["layers"]:
        table.add_row(*_cells(layer))
    cycles, arena = data["cycles"], data["arena_bytes"]
    table.add_row("sum", "", f"{cycles['before']:,}", "", f"{cycles['after']:,}", style="bold")
    opt.stdout.print(table)
    known = f"{data['counted']} kernels counted, {data['cached']} known from the cache"
    opt.stdout.print(f"arena {arena['before']:,} -> {arena['after']:,} bytes; {known}", highlight=False)
    if data["chosen_for"] != data["optimize"]:
        opt.stdout.print(
            f"chosen for {data['chosen_for']}: what is best for {data['optimize']} does not fit",
            highlight=False,
        )
    for note in data["notes"]:
        opt.stderr.print(f"note: {note}", markup=False, highlight=False)
    if data["project"]:
        opt.stdout.print(f"project {data['project']}", highlight=False)


def _cells(layer: dict[str, Any]) -> list[str]:
    """Its kernels without the operator's name; what stays is not said twice; '' for what was not counted."""
    names = [str(layer[key]).removeprefix(f"tg_{layer['op']}_") for key in ("before", "after")]
    taken = [layer["kernels"].get(layer[key], {}).get("cycles") for key in ("before", "after")]
    shown = ["" if n is None else f"{n:,}" for n in taken]
    return [layer["name"], names[0], shown[0], "same" if names[0] == names[1] else names[1], shown[1]]

"""`tinygen run`: firmware in an emulator, every output compared with the int8 reference or the float model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.table import Table
from rich.text import Text

from tinygen.cli import options as opt


@click.command("run")
@click.argument("project", type=opt.PATH)
@click.option(
    "--inputs", type=opt.PATH, required=True, help="Samples to run: .npy, .npz (key x) or a folder."
)
@click.option("--count", type=click.IntRange(min=1), help="Run only the first COUNT samples.")
@opt.scaling_options
@click.option("--board", help="Which board's image [default: the project's first].")
@opt.emulator_option
@click.option("--port", help="Where a real board is, e.g. /dev/ttyACM0 (--emulator serial).")
@click.option("--baud", type=click.IntRange(min=1), help="Of the port [default: the board's].")
@click.option("--metric", help="accuracy, auc or mse; found from labels and shapes.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=120.0, show_default=True, help="Seconds a chunk."
)
@opt.json_option
def run_command(project: Path, as_json: bool, **given: Any) -> int:
    """Build the firmware of PROJECT, run samples in an emulator, compare every output element with the reference.

    Exit code 0 only when every element is equal (in a float32 project: within 1e-4, see docs/numerics.md). A project
    compiled with --profile-on-device also shows what each layer took.

    \b
    Examples:
      tinygen run fw/ --inputs eval.npz --count 20
      tinygen run fw/ --emulator unicorn --inputs eval.npz --json
      tinygen run fw/ --emulator serial --port /dev/ttyACM0 --inputs eval.npz --count 20
    """
    import tinygen

    scaling = {key: given.pop(key) for key in ("input_scale", "input_offset", "preprocess")}
    samples = opt.sample_options(*scaling.values()) if any(v is not None for v in scaling.values()) else None
    with opt.progress() as report:
        ran = tinygen.run(project, samples=samples, report=report, **given)
    data = run_data(ran, given["emulator"])
    opt.print_json(data) if as_json else print_run(data)
    return 0 if data["outcome"] == "PASSED" else 1


def run_data(ran: Any, emulator: str) -> dict[str, Any]:
    """The result as JSON-ready data."""
    counts = [c for c in ran.result.instructions if c is not None]
    times = [1000 * s for s in ran.result.seconds if s is not None]
    return {
        "emulator": emulator,
        "outcome": ran.result.outcome.name,
        "detail": ran.result.detail,
        "samples": ran.samples,
        "instructions_min": min(counts, default=None),
        "instructions_median": int(np.median(counts)) if counts else None,
        "instructions_max": max(counts, default=None),
        "milliseconds_min": min(times, default=None),
        "milliseconds_median": float(np.median(times)) if times else None,
        "milliseconds_max": max(times, default=None),
        "stack_bytes": ran.result.stack_bytes,
        "metric": asdict(ran.metric) if ran.metric else None,
        "device": str(ran.metric) if ran.metric else None,
        "layers": [asdict(layer) | {"coarse": layer.coarse} for layer in ran.layers],
    }


def print_run(data: dict[str, Any]) -> None:
    """A table of one run."""
    table = Table(show_header=False, box=None)
    good = data["outcome"] == "PASSED"
    verdict = f"[green]{data['outcome']}[/green]" if good else f"[red]{data['outcome']}[/red]"
    table.add_row("outcome", f"{verdict}  {data['samples']:,} samples on {data['emulator']}")
    if data["detail"]:
        table.add_row("", data["detail"])
    if data["instructions_median"] is not None:
        low, high = data["instructions_min"], data["instructions_max"]
        spread = "" if low == high else f" ({low:,} .. {high:,})"
        table.add_row("instructions per inference", f"{data['instructions_median']:,}{spread}")
    if data["milliseconds_median"] is not None:
        low, high = data["milliseconds_min"], data["milliseconds_max"]
        table.add_row("time per inference", f"{data['milliseconds_median']:.4g} ms ({low:.4g} .. {high:.4g})")
    if data["stack_bytes"] is not None:
        table.add_row("stack", f"{data['stack_bytes']:,} bytes")
    if data["metric"]:
        table.add_row(f"device {data['metric']['kind']}", data["device"])
    opt.stdout.print(table)
    if data["layers"]:
        print_layers(data["layers"])


def print_layers(layers: list[dict[str, Any]]) -> None:
    """What each layer took: milliseconds on a real board, instructions in an emulator, else ticks."""
    unit = next(u for u in ("seconds", "instructions", "ticks") if layers[0][u] is not None)
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right", style="dim")
    table.add_column("layer", no_wrap=True, overflow="ellipsis", min_width=8)
    table.add_column("kernel", no_wrap=True, overflow="ellipsis", style="dim")
    for title in ("ms" if unit == "seconds" else unit, "at most", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in layers:
        typical, most = _amount(layer[unit]), _amount(layer[f"{unit}_max"])
        star, share = "*" if layer["coarse"] else "", f"{layer['share']:.1%}"
        table.add_row(
            str(layer["step"]), Text(layer["name"]), layer["kernel"], typical + star, most + star, share
        )
    opt.stdout.print(table)
    if any(layer["coarse"] for layer in layers):
        opt.stdout.print("* too few ticks of the board's timer to say much", markup=False, highlight=False)


def _amount(value: float) -> str:
    """Seconds as milliseconds; a count with its thousands separated."""
    return f"{1000 * value:.4g}" if isinstance(value, float) else f"{value:,}"

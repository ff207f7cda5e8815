"""`tinygen compile`: a model becomes a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from tinygen.cli import options as opt
from tinygen.errors import DataError, UsageError


@click.command("compile")
@click.argument("model", type=opt.PATH)
@opt.model_options
@click.option("--eval", "evaluation", type=opt.PATH, help="Labelled samples that judge float against int8.")
@click.option(
    "--metric", help="accuracy, auc (of the reconstruction error) or mse; found from labels and shapes."
)
@click.option(
    "--max-drop", type=float, help="Fail when int8 loses more: points (accuracy, auc) or percent (mse)."
)
@opt.scaling_options
@opt.boards_option
@opt.board_path_option
@click.option(
    "--out", type=opt.PATH, required=True, help="Project folder to write (an earlier project is replaced)."
)
@click.option("--name", help="Prefix of the generated C [default: from the file's name].")
@click.option(
    "--calibration", default="auto", show_default=True, help="auto, min-max, percentile, entropy or mse."
)
@click.option(
    "--arena", type=click.Choice(["caller", "library"]), default="caller", help="Who owns the arena."
)
@click.option(
    "--pin",
    default="auto",
    show_default=True,
    help="Weights in fast memory: auto, all, none or a .toml with layers.",
)
@click.option(
    "--pin-code", default="auto", show_default=True, help="Kernels in fast memory: auto, all or none."
)
@opt.weights_option
@opt.budget_texts("flash", "sram", "ms")
@click.option(
    "--prune", is_flag=True, help="Prune first until the budgets are met, in OUT-pruned: see 'tinygen prune'."
)
@click.option("--labels", type=opt.PATH, help="Text file with one class name a line.")
@click.option(
    "--project",
    default="platformio",
    show_default=True,
    help="What surrounds the C: platformio, cmake, arduino, zephyr or bare.",
)
@click.option(
    "--app",
    default="plain",
    show_default=True,
    help="Example application: plain, or event (an interrupt fills samples, sleep in between).",
)
@click.option(
    "--precision",
    default="int8",
    show_default=True,
    help="int8, or float32: the float model itself, to compare with on the board.",
)
@click.option(
    "--activations",
    default="int8",
    show_default=True,
    help="int8, int16 (16x8: int8 weights) wherever possible, or auto: where it helps, until --max-drop holds.",
)
@click.option(
    "--int16",
    multiple=True,
    metavar="LAYER",
    help="This layer's output is int16; may be given several times.",
)
@opt.optimize_option
@click.option("--ci", help="github: adds a workflow that builds and tests the project, and tests for Renode.")
@click.option(
    "--profile-on-device",
    is_flag=True,
    help="A timestamp behind every layer: run shows ticks per layer, on a real board too.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing: fail when --out differs from what would be generated."
)
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
@opt.json_option
def compile_command(
    model: Path, out: Path, check: bool, force: bool, prune: bool, as_json: bool, **given: Any
) -> int:
    """Quantize MODEL (.keras, .h5 or int8 .tflite) and generate a project for one or several boards.

    With --precision float32 nothing is quantized, and --representative only brings the samples that the project stores.

    \b
    Examples:
      tinygen compile kws.keras --representative train.npz --board mps2_an386 --out fw/
      tinygen compile ic.keras --representative train.npz --eval eval.npz --max-drop 1 --out fw/
      tinygen compile vww.keras --representative images.npz --input-scale 0.00392156862745098 --out fw/
      tinygen compile model_int8.tflite --board nucleo_f446re --board mps2_an386 --out fw/
      tinygen compile kws.keras --representative train.npz --project cmake --out kws/
      tinygen compile big.keras --representative train.npz --board nrf52840_dk --weights qspi --out fw/
      tinygen compile kws.keras --representative train.npz --board nucleo_f446re --ci github --out fw/
      tinygen compile kws.keras --representative train.npz --board nucleo_f446re --profile-on-device --out fw/
      tinygen compile kws.keras --representative train.npz --board pico --prune --budget-ms 250 --out fw/
      tinygen compile kws.keras --precision float32 --out fw32/
      tinygen compile kws.keras --representative train.npz --optimize size --out fw/
      tinygen compile kws.keras --representative train.npz --activations int16 --out fw16/
      tinygen compile kws.keras --representative train.npz --activations auto --eval eval.npz --max-drop 0.5 --out fw/
      tinygen compile kws.keras --representative train.npz --out fw/ --check      in CI: is fw/ up to date?
    """
    import tinygen
    from tinygen import project
    from tinygen.cli.pruning import prune_first

    if prune and check:
        raise UsageError(
            "--check and --prune exclude each other\n  check with the pruned model: OUT-pruned/pruned.keras"
        )
    labels = read_labels(given.pop("labels"))
    samples = opt.sample_options(given.pop("input_scale"), given.pop("input_offset"), given.pop("preprocess"))
    given |= {"eval": given.pop("evaluation"), "samples": samples}
    if prune:
        model, changed = prune_first(model, out, force, given)
        given |= changed
    else:
        given |= opt.absolute(given, "flash", "sram", "ms")
    with opt.progress() as report:
        build = tinygen.compile(
            model,
            out=None if check else out,
            labels=labels,
            force=force,
            report=report,
            **given,
        )
    if check:
        return _print_check(project.differences(build.project, out), out, as_json)
    data = build_data(build, out)
    opt.print_json(data) if as_json else _print_build(data)
    return 0


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Class names, one a line."""
    if path is None:
        return ()
    try:
        return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"--labels '{path}' cannot be read as text: {problem}") from None


def _print_check(stale: list[str], out: Path, as_json: bool) -> int:
    if as_json:
        opt.print_json({"folder": str(out), "differences": stale})
        return 1 if stale else 0
    if stale:
        shown = ", ".join(stale[:5]) + (" ..." if len(stale) > 5 else "")
        raise UsageError(
            f"'{out}' is not what would be generated now: {shown}\n  run the same command without --check"
        )
    opt.stdout.print(f"{out} is up to date")
    return 0


def build_data(build: Any, out: Path) -> dict[str, Any]:
    """The result of a compile as JSON-ready data. Sizes in bytes."""
    from tinygen.homes import HOMES

    compiled, plan = build.compiled, build.compiled.plan
    return {
        "home": build.home,
        "next_step": HOMES[build.home].next_step.format(name=compiled.library.name),
        "runs": HOMES[build.home].runs,
        "project": str(out),
        "precision": compiled.library.precision,
        "board": build.board.name,
        "boards": list(build.placements),
        "run_id": build.project.run_id,
        "arena_bytes": plan.arena_bytes,
        "arena_lower_bound": plan.lower_bound,
        "constant_bytes": compiled.library.constant_bytes,
        "placement": placement_data(compiled.placement, build.board) if compiled.placement else None,
        "macs": sum(step_macs(s) for s in compiled.program.steps),
        "float_metric": asdict(build.float_metric) if build.float_metric else None,
        "int8_metric": asdict(build.int8_metric) if build.int8_metric else None,
        "float": str(build.float_metric) if build.float_metric else None,
        "int8": str(build.int8_metric) if build.int8_metric else None,
        "notes": list(build.notes),
    }


def placement_data(placement: Any, board: Any) -> dict[str, Any]:
    """Where things are, JSON-ready. Sizes in bytes; saved_cycles: modelled, per inference."""
    pins = [
        {
            "symbol": p.movable.symbol,
            "layer": p.movable.layer,
            "role": p.movable.role,
            "bytes": p.movable.traffic.footprint,
            "region": p.region,
            "saved_cycles": round(p.saved),
        }
        for p in placement.pins
    ]
    return {
        "arena": placement.arena,
        "inputs": placement.inputs,
        "weights": {"region": placement.homes.arrays, "bytes": placement.array_bytes},
        "pins": pins,
        "saved_cycles": round(placement.saved),
    }


def step_macs(step: Any) -> int:
    """Multiply-accumulates of one step."""
    from tinygen import ops

    return ops.get(step.bound.node.op).macs(step.bound)


def pinned_line(placement: Any) -> str:
    """`weights 43,440 bytes in sram, code 1,024 in itcm; saves 5,123,000 modelled cycles`."""
    if not placement or not placement["pins"]:
        return "nothing"
    sums: dict[tuple[str, str], int] = {}
    for p in placement["pins"]:
        key = ("code" if p["role"] == "code" else "weights", p["region"])
        sums[key] = sums.get(key, 0) + p["bytes"]
    parts = [f"{kind} {size:,} bytes in {region}" for (kind, region), size in sums.items()]
    return f"{', '.join(parts)}; saves {placement['saved_cycles']:,} modelled cycles"


def constants_line(data: Mapping[str, Any]) -> str:
    """`278,856 bytes in qspi`; of a project for several boards: of the first."""
    home = f" in {data['placement']['weights']['region']}" if data["placement"] else ""
    return f"{data['constant_bytes']:,} bytes{home}"


def _print_build(data: dict[str, Any]) -> None:
    for note in data["notes"]:
        opt.stderr.print(f"note: {note}", markup=False, highlight=False)
    table = Table(show_header=False, box=None)
    gap = 100.0 * (data["arena_bytes"] / max(data["arena_lower_bound"], 1) - 1)
    table.add_row("boards" if data["boards"][1:] else "board", ", ".join(data["boards"]))
    if data["precision"] != "int8":
        table.add_row("precision", data["precision"])
    table.add_row("arena", f"{data['arena_bytes']:,} bytes ({gap:.1f} % over the lower bound)")
    table.add_row("constants", constants_line(data))
    table.add_row("pinned", pinned_line(data["placement"]))
    table.add_row("MACs", f"{data['macs']:,}")
    for kind in ("float", "int8"):
        if data[f"{kind}_metric"]:
            table.add_row(f"{kind} {data[f'{kind}_metric']['kind']}", data[kind])
    table.add_row("project", data["project"])
    opt.stdout.print(table)
    first = f"tinygen run {data['project']} --inputs SAMPLES --count 20\n      " if data["runs"] else ""
    opt.stdout.print(
        f"next: {first}cd {data['project']} && {data['next_step']}", highlight=False, soft_wrap=True
    )

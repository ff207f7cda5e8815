"""`tinygen demo`: the whole way from training to an emulated board, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from tinygen.cli import options as opt
from tinygen.errors import RunError


@click.command("demo")
@click.option(
    "--out", type=opt.PATH, default=Path("tinygen-demo"), show_default=True, help="Folder for everything."
)
@opt.board_option
@opt.board_path_option
@opt.emulator_option
@opt.json_option
def demo_command(out: Path, board: str, board_path: tuple[Path, ...], emulator: str, as_json: bool) -> None:
    """Train a small CNN on handwritten digits, compile it, run it on an emulated board.

    Fails unless the device's outputs equal the int8 reference in every element.

    \b
    Example:
      tinygen demo --out my-demo --board mps2_an500
    """
    import tinygen
    from tinygen import building, demo

    with opt.progress() as report:
        report("train", 0, 1)
        files = demo.train(out)
        report("train", 1, 1)
        project = out / "firmware"
        build = tinygen.compile(
            files.model, representative=files.representative, board=board, board_path=board_path, out=project,
            eval=files.eval, name="digits", labels=[str(d) for d in range(10)], report=report,
        )  # fmt: skip
        ran = tinygen.run(project, inputs=files.eval, emulator=emulator, report=report)
    if ran.result.outcome.name != "PASSED":
        raise RunError(
            f"the demo's firmware did not pass on {emulator}: {ran.result.outcome.name}\n  {ran.result.detail}"
        )
    image = building.build(project, build.board)
    data = demo_data(build, ran, image)
    if as_json:
        opt.print_json(data)
    else:
        _print(data, out)


def demo_data(build: Any, ran: Any, image: Any) -> dict[str, Any]:
    """Figures of the demo as JSON-ready data."""
    return {
        "board": build.board.name,
        "samples": ran.samples,
        "float_accuracy": build.float_metric.value,
        "int8_accuracy": build.int8_metric.value,
        "device_accuracy": ran.metric.value,
        "arena_bytes": build.compiled.plan.arena_bytes,
        "constant_bytes": build.compiled.library.constant_bytes,
        "text_bytes": image.sections.get(".text", 0),
        "stack_bytes": ran.result.stack_bytes,
        "instructions": next((c for c in ran.result.instructions if c is not None), None),
    }


def _print(data: dict[str, Any], out: Path) -> None:
    table = Table(show_header=False, box=None)
    for kind in ("float", "int8", "device"):
        table.add_row(
            f"{kind} accuracy", f"{100 * data[f'{kind}_accuracy']:.2f} %  ({data['samples']} digits)"
        )
    for key, text in (
        ("arena_bytes", "arena"),
        ("constant_bytes", "weights and tables"),
        ("text_bytes", "code"),
    ):
        table.add_row(text, f"{data[key]:,} bytes")
    if data["stack_bytes"] is not None:
        table.add_row("stack", f"{data['stack_bytes']:,} bytes")
    if data["instructions"] is not None:
        table.add_row("instructions per inference", f"{data['instructions']:,}")
    opt.stdout.print(f"every output element on {data['board']} equals the int8 reference", highlight=False)
    opt.stdout.print(table)
    opt.stdout.print(f"look around in {out}", highlight=False)

"""`tinygen inspect`: layers, quantization decisions, and the arena drawn over time."""

from __future__ import annotations

from pathlib import Path

import click

from tinygen.cli import options as opt


@click.command("inspect")
@click.argument("source", type=opt.PATH)
@click.option(
    "--decisions", is_flag=True, help="Also list every quantization decision with its measured cost."
)
@opt.json_option
def inspect_command(source: Path, decisions: bool, as_json: bool) -> None:
    """Show the layers of SOURCE (a project or an int8 .tflite file) and how they share the arena.

    \b
    Examples:
      tinygen inspect fw/
      tinygen inspect fw/ --decisions
      tinygen inspect model_int8.tflite --json
    """
    from tinygen import api, inspection

    seen = api.inspect(source)
    if as_json:
        data = inspection.to_json(seen.program, seen.plan, seen.calibrators)
        opt.print_json({**data, "weights_in": dict(seen.weights), "decisions": list(seen.decisions)})
        return
    opt.stdout.print(inspection.draw(seen.program, seen.plan, seen.calibrators))
    for board, region in seen.weights.items():
        opt.stdout.print(
            f"weights on {board}: in {region}, copied from there where they are pinned", highlight=False
        )
    for line in seen.decisions if decisions else ():
        opt.stdout.print(line, markup=False, highlight=False)

"""`tinygen export`: the quantized graph as an int8 .tflite file."""

from __future__ import annotations

from pathlib import Path

import click

from tinygen.cli import options as opt


@click.command("export")
@click.argument("project", type=opt.PATH)
@click.option("--tflite", type=opt.PATH, required=True, help="File to write.")
@opt.json_option
def export_command(project: Path, tflite: Path, as_json: bool) -> None:
    """Write the quantized graph of PROJECT as an int8 .tflite file, for other runtimes and viewers.

    \b
    Example:
      tinygen export fw/ --tflite model_int8.tflite
    """
    import tinygen

    data = tinygen.export(project, tflite)
    if as_json:
        opt.print_json({"file": str(tflite), "bytes": len(data)})
    else:
        opt.stdout.print(f"{tflite}: {len(data):,} bytes")

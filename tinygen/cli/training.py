"""`tinygen qat`: a model is trained for int8."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from tinygen.cli import options as opt

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command("qat")
@click.argument("model", type=opt.PATH)
@opt.model_options
@click.option("--eval", "evaluation", type=opt.PATH, help="Labelled samples that judge the result, once.")
@click.option(
    "--metric", help="accuracy, auc (of the reconstruction error) or mse; found from labels and shapes."
)
@click.option(
    "--max-drop", type=float, help="Fail when int8 loses more: points (accuracy, auc) or percent (mse)."
)
@opt.scaling_options
@opt.board_option
@opt.board_path_option
@opt.optimize_option
@click.option(
    "--out", type=opt.PATH, required=True, help="Project folder to write (an earlier project is replaced)."
)
@click.option("--name", help="Prefix of the generated C [default: from the file's name].")
@click.option("--teacher", type=opt.PATH, help="Keras model whose answers are learned [default: MODEL].")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the samples [default: 1,500 steps].")
@click.option(
    "--ranges", default="learned", show_default=True, help="Scales of activations: learned, moving or fixed."
)
@click.option("--rate", type=POSITIVE, help="Largest learning rate, relative to the weights.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Same seed, same result."
)
@click.option("--max-minutes", type=POSITIVE, help="Stop with the best so far.")
@click.option("--force", is_flag=True, help="Overwrite generated files that were changed by hand.")
@opt.json_option
def qat_command(model: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Train MODEL (.keras or .h5) for int8 on the representative samples, and generate its project.

    No labels are needed: the int8 model learns the float model's answers. The scales that it learns go unchanged into
    the int8 graph. Beside the project's own files stand qat_int8.tflite and qat.keras.

    \b
    Examples:
      tinygen qat fan.keras --representative train.npz --board nucleo_f446re --out fw/
      tinygen qat kws.keras --representative train.npz --eval eval.npz --max-drop 1 --epochs 20 --out fw/
      tinygen qat small.keras --teacher big.keras --representative train.npz --max-minutes 10 --out fw/
    """
    import tinygen
    from tinygen.errors import UsageError
    from tinygen.quantized_training.training import Options

    if given["representative"] is None:
        raise UsageError(
            f"--representative is missing: the samples that '{model}' is trained on\n"
            "  give a file with samples of the model's input (.npy, .npz or a folder); labels are not needed"
        )
    chosen = {key: given.pop(key) for key in ("epochs", "ranges", "rate", "seed")}
    training = Options(**{k: v for k, v in chosen.items() if v is not None}, minutes=given.pop("max_minutes"))
    samples = opt.sample_options(given.pop("input_scale"), given.pop("input_offset"), given.pop("preprocess"))
    with opt.progress(time_left=True) as report:
        made = tinygen.qat(
            model,
            out=out,
            eval=given.pop("evaluation"),
            samples=samples,
            training=training,
            report=report,
            **given,
        )
    data = qat_data(made, out)
    opt.print_json(data) if as_json else _print(data)


def qat_data(made: Any, out: Path) -> dict[str, Any]:
    """The result as JSON-ready data. Losses: distance from the teacher's answers on held-out samples."""
    trained = made.trained
    figures = {"float": made.floats, "untrained": made.untrained, "int8": made.int8}
    return {
        "project": str(out),
        "board": made.board.name,
        "run_id": made.project.run_id,
        "files": sorted(made.project.binary),
        "best": trained.best,
        "epochs": len(trained.history) - 1,
        "loss_untrained": trained.history[0].held_out,
        "loss": trained.history[trained.best].held_out,
        "history": [epoch.held_out for epoch in trained.history],
        "seconds": round(trained.seconds, 1),
        "stopped": trained.stopped,
        "metrics": {key: asdict(value) if value else None for key, value in figures.items()},
        "shown": {key: str(value) for key, value in figures.items() if value},
        "notes": list(made.notes),
    }


def _print(data: dict[str, Any]) -> None:
    for note in data["notes"]:
        opt.stderr.print(f"note: {note}", markup=False, highlight=False)
    table = Table(show_header=False, box=None)
    table.add_row("board", data["board"])
    table.add_row("epochs", f"{data['epochs']}, best {data['best']}, {data['seconds']:,.0f} s")
    table.add_row("held-out loss", f"{data['loss_untrained']:.4g} untrained, {data['loss']:.4g} trained")
    for key, value in data["shown"].items():
        table.add_row({"untrained": "int8 untrained"}.get(key, key), value)
    table.add_row("project", data["project"])
    table.add_row("beside", ", ".join(data["files"]))
    opt.stdout.print(table)
    opt.stdout.print(f"next: tinygen run {data['project']} --inputs SAMPLES --count 20", highlight=False)

"""`tinygen profile`: what every layer costs on a board, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from tinygen.cli import options as opt
from tinygen.errors import UsageError


@click.command("profile")
@click.argument("source", type=opt.PATH)
@click.option(
    "--board",
    multiple=True,
    help="Board to profile on [default: the project's first, mps2_an386 for a model].",
)
@click.option("--inputs", type=opt.PATH, help="Samples to run [default: those that the project stores].")
@click.option(
    "--count", type=click.IntRange(min=1), help="Samples to run [default: 3]; the first one is cold."
)
@opt.scaling_options
@opt.model_options
@click.option("--pin", help="For a model: see 'tinygen compile'.")
@click.option("--pin-code", help="For a model: see 'tinygen compile'.")
@opt.weights_option
@click.option("--precision", help="For a model: int8 or float32, see 'tinygen compile'.")
@click.option("--optimize", help="For a model: size, balanced or speed, see 'tinygen compile'.")
@click.option(
    "--compare", type=opt.PATH, help="Another project, or an earlier profile as JSON: old against new."
)
@click.option("--folded", type=opt.PATH, help="Also write folded stacks, for flame-graph tools.")
@click.option(
    "--objects", is_flag=True, help="Also list arrays and kernels by the cycles that the core waits for them."
)
@opt.budget_options
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=120.0,
    show_default=True,
    help="Seconds without a line.",
)
@opt.json_option
def profile_command(
    source: Path, compare: Path | None, folded: Path | None, objects: bool, as_json: bool, **given: Any
) -> int:
    """Show where every instruction and modelled cycle of an inference goes: SOURCE is a project or a model.

    Instructions are counted in an emulator; cycles are modelled for the board's core, flash and caches: docs/cycles.md.
    Exit code 1 when a budget is not met.

    \b
    Examples:
      tinygen profile fw/
      tinygen profile fw/ --budget-ms 8
      tinygen profile kws.tflite --board nucleo_l4r5zi --pin none
      tinygen profile fw_new/ --compare fw_old/
      tinygen profile fw/ --json > before.json; tinygen profile fw/ --compare before.json
      tinygen profile fw/ --folded stacks.txt; flamegraph.pl stacks.txt > flames.svg
    """
    import tinygen
    from tinygen import advice, profile_json, profile_text, project
    from tinygen.budgets import Budgets

    budgets = Budgets(**{name: given.pop(f"budget_{name}") for name in ("ms", "sram", "flash")})
    scaling = {key: given.pop(key) for key in ("input_scale", "input_offset", "preprocess")}
    samples = opt.sample_options(*scaling.values()) if any(v is not None for v in scaling.values()) else None
    given["input_shape"] = given["input_shape"] or None
    given["board"] = one_board(given["board"])
    is_project = compare is not None and compare.is_dir()
    before = profile_json.read(compare, "--compare") if compare and not is_project else None
    with opt.progress() as report:
        made = tinygen.profile(source, samples=samples, report=report, **given)
        if compare and is_project:
            before = _profiled(compare, made.board.name, report)
    data = profile_json.to_json(made)
    if folded:
        project.write_file(folded, profile_text.folded(data).encode())
    over = advice.exceeded(made, budgets)
    if as_json:
        compared = {"compared": profile_json.comparison(before, data)} if before else {}
        opt.print_json({**data, **compared, "exceeded": over})
    else:
        profile_text.show(opt.stdout, data, before, objects)
        for line in over:
            opt.stderr.print(Text(line, "red"), soft_wrap=True)
    return 1 if over else 0


def one_board(boards: tuple[str, ...]) -> str | None:
    """The board that was given, None for none. Raises UsageError for several."""
    if len(boards) > 1:
        raise UsageError(
            f"profile takes one board, {len(boards)} were given: {', '.join(boards)}\n"
            "  run it once for each, or see 'tinygen bench'"
        )
    return boards[0] if boards else None


def _profiled(path: Path, board: str, report: Any) -> dict[str, Any]:
    """The profile of the project to compare with, on the same board where it has that."""
    import tinygen
    from tinygen import bundle, profile_json

    _, _, manifest = bundle.load_project(path)
    boards = [str(b["name"]) for b in manifest["boards"]]
    return profile_json.to_json(
        tinygen.profile(path, board=board if board in boards else None, report=report)
    )

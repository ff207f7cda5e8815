"""The command group: lazy loading of the commands, `did you mean`, errors as one to five lines."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence

import click

from tinygen import __version__
from tinygen.errors import TinygenError, did_you_mean

COMMANDS: Mapping[str, str] = {
    "compile": "tinygen.cli.compiling",
    "fit": "tinygen.cli.fitting",
    "prune": "tinygen.cli.pruning",
    "qat": "tinygen.cli.training",
    "run": "tinygen.cli.running",
    "profile": "tinygen.cli.profiling",
    "tune": "tinygen.cli.tuning",
    "bench": "tinygen.cli.benching",
    "report": "tinygen.cli.reporting",
    "inspect": "tinygen.cli.inspecting",
    "export": "tinygen.cli.exporting",
    "boards": "tinygen.cli.listing",
    "ops": "tinygen.cli.listing",
    "doctor": "tinygen.cli.listing",
    "pio": "tinygen.cli.pio",
    "demo": "tinygen.cli.demonstrating",
    "completion": "tinygen.cli.completing",
}
"""Command -> the module that defines it (as <command>_command), imported only when it is called."""


class LazyGroup(click.Group):
    """Loads a command's module when the command is used; suggests the nearest name for an unknown one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise click.UsageError(f"there is no command '{name}'{did_you_mean(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="tinygen")
def cli() -> None:
    """Compile a trained Keras model into microcontroller firmware that is right, fits, and runs in an emulator.

    \b
    First steps:
      tinygen doctor                      what is missing on this machine
      tinygen demo                        a whole example, trained in seconds
      tinygen fit model.keras             which boards can hold it, even before it is trained
      tinygen compile model.keras --representative samples.npz --board mps2_an386 --out fw/
      tinygen run fw/ --emulator qemu --inputs eval.npz --count 20
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors go to stderr (and, with --json, to stdout as JSON)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(arguments, prog_name="tinygen", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as help_text:
        click.echo(help_text.format_message())
        return 0
    except click.ClickException as problem:
        return _report(problem.format_message(), arguments)
    except TinygenError as problem:
        return _report(str(problem), arguments)
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted: nothing was written", arguments)
    except MemoryError:
        return _report("out of memory; use fewer samples (--count) or a smaller model", arguments)
    return result if isinstance(result, int) else 0


def _report(message: str, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        click.echo(json.dumps({"error": message}))
    click.echo(f"error: {message}", err=True)
    return 1

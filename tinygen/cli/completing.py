"""`tinygen completion`: the shell's completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tinygen.errors import UsageError, did_you_mean

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", default="bash")
def completion_command(shell: str) -> None:
    """Print the completion script of SHELL (bash, zsh or fish).

    \b
    Example:
      tinygen completion bash > ~/.local/share/bash-completion/completions/tinygen
    """
    from tinygen.cli.main import cli

    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise UsageError(
            f"no completion for '{shell}'{did_you_mean(shell, SHELLS)}: one of {', '.join(SHELLS)}"
        )
    click.echo(kind(cli, {}, "tinygen", "_TINYGEN_COMPLETE").source())

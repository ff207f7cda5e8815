"""The command line: the only place that prints, and picks exit codes (0 good, 1 any error)."""

from tinygen.cli.main import cli, main

__all__ = ["cli", "main"]

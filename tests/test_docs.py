"""Docs that are made from the code are what the code makes now; what they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinygen import catalog, ops
from tinygen.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_ops_page_is_current() -> None:
    text = (ROOT / "docs" / "ops.md").read_text()
    assert text == catalog.markdown(), "run: tinygen ops --markdown > docs/ops.md"


def test_keras_layers_are_listed_at_every_operator_they_become() -> None:
    handled = ops.keras_handlers()
    assert all(kind in handled for op in ops.OPS for kind in op.keras_notes)
    texts = {item["name"]: catalog.keras_text(item) for item in catalog.catalog()}
    assert texts["resize_bilinear"] == "UpSampling2D (interpolation='bilinear')"
    assert texts["resize_nearest"] == "RepeatVector, UpSampling1D, UpSampling2D (interpolation='nearest')"


def test_every_operator_is_defined_in_numerics() -> None:
    text = (ROOT / "docs" / "numerics.md").read_text()
    assert [
        op.name for op in ops.OPS if f"`{op.name}`" not in text and f"## {op.name.capitalize()}" not in text
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_files_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / link).exists(), link
    for path in re.findall(r"`((?:tinygen|templates|tests|benchmarks|boards|docs)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"^ {4}tinygen (\w+)", text, re.MULTILINE):
        assert command in COMMANDS, command
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_registry_host_is_named_anywhere() -> None:
    """Packages come from the registries of the machine: no file of ours names a host."""
    hosts = re.compile(r"https?://(?!localhost|127\.0\.0\.1)[\w.-]+|pypi\.org|registry\.npmjs")
    for path in (
        ROOT / "requirements.lock",
        ROOT / "pyproject.toml",
        ROOT / "Makefile",
        *(ROOT / "scripts").iterdir(),
    ):
        assert not hosts.search(path.read_text()), path

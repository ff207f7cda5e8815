"""The planted defects of `make mutants` still fit the sources: they are tried there, not here."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.mutants.__main__ import BEGIN, END
from tests.mutants.defects import DEFECTS
from tests.mutants.runner import ROOT, Defect, occurrences


def test_there_are_many_and_their_names_differ() -> None:
    assert len(DEFECTS) >= 30
    assert max(Counter(d.name for d in DEFECTS).values()) == 1


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_defect_can_be_planted(defect: Defect) -> None:
    """What it replaces stands exactly once in its file, and the test that must fail exists."""
    assert defect.new != defect.old
    assert occurrences(defect) == 1
    path, _, rest = defect.test.partition("::")
    function = rest.partition("[")[0]
    assert re.search(rf"^def {re.escape(function)}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_table_lists_every_defect_as_killed() -> None:
    """docs/testing.md is written by `make mutants`; it must not lag behind the list."""
    table = (ROOT / "docs" / "testing.md").read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == [d.name for d in DEFECTS]
    assert {row[-1].removesuffix(" |") for row in rows} == {"killed"}

"""Recorded instruction counts (tests/support/baselines.py) fall when they are recorded and never rise silently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.baselines import DOWN, UP, check


@pytest.mark.parametrize(
    ("recorded", "count", "wish", "told", "after"),
    [
        (100, 100, "", "", 100),
        (100, 101, "", "1 more than", 100),
        (100, 99, "", "1 fewer than", 100),
        (None, 7, "", "no count is recorded", None),
        (100, 101, DOWN, "1 more than", 100),
        (100, 99, DOWN, "", 99),
        (None, 7, DOWN, "", 7),
        (100, 101, UP, "", 101),
    ],
)
def test_counts_never_rise_silently(
    tmp_path: Path, recorded: int | None, count: int, wish: str, told: str, after: int | None
) -> None:
    path = tmp_path / "instructions.json"
    others = {"another compiler": {"net": 1}, "gcc": {"other": 2}}
    if recorded is not None:
        others["gcc"]["net"] = recorded
    path.write_text(json.dumps(others))
    problem = check(path, "gcc", "net", count, wish)
    assert problem.startswith("net: ") == bool(told) and told in problem
    kept = json.loads(path.read_text())
    assert (
        kept["gcc"].get("net") == after
        and kept["gcc"]["other"] == 2
        and kept["another compiler"] == {"net": 1}
    )


def test_a_wish_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"TINYGEN_UPDATE_BASELINES is 1 .* or up"):
        check(tmp_path / "x.json", "gcc", "net", 1, "yes")

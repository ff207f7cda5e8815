"""`make mutants`: plant every defect, one at a time; exit 1 if one lives. Writes the table in docs/testing.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.mutants.defects import DEFECTS
from tests.mutants.runner import ROOT, Defect, Result, copy_sources, run_test, try_defect

BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"
JOBS = 2


def _worker(defects: Sequence[Defect], folder: Path) -> list[Result]:
    copy_sources(folder)
    return [try_defect(d, folder) for d in defects]


def run(defects: Sequence[Defect], scratch: Path) -> list[Result]:
    """All defects in JOBS copies of the sources, in the order given."""
    shares = [defects[i::JOBS] for i in range(JOBS)]
    with ThreadPoolExecutor(JOBS) as pool:
        parts = pool.map(_worker, shares, [scratch / f"copy{i}" / "main" for i in range(JOBS)])
        results = {r.defect.name: r for part in parts for r in part}
    return [results[d.name] for d in defects]


def healthy(defects: Sequence[Defect], scratch: Path) -> list[str]:
    """Named tests that do not pass on the healthy sources: they prove nothing."""
    folder = scratch / "healthy" / "main"
    copy_sources(folder)
    tests = sorted({d.test for d in defects})
    return [t for t in track(tests, "healthy", console=Console(stderr=True)) if run_test(folder, t)[0] != 0]


def table(results: Sequence[Result]) -> str:
    """The Markdown table."""
    lines = ["| planted defect | file | caught by | outcome |", "|---|---|---|---|"]
    for r in results:
        lines.append(
            f"| {r.defect.name} | `{r.defect.file}` | `{r.defect.test.removeprefix('tests/')}` | {r.outcome} |"
        )
    killed = sum(r.outcome == "killed" for r in results)
    return "\n".join([*lines, "", f"{killed} of {len(results)} killed (`make mutants`)."])


def write_docs(text: str, path: Path) -> None:
    """Replace what stands between the markers."""
    head, _, rest = path.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="only defects whose name contains this; docs stay as they are")
    options = parser.parse_args()
    chosen = [d for d in DEFECTS if not options.only or options.only in d.name]
    with tempfile.TemporaryDirectory() as scratch:
        sick = healthy(chosen, Path(scratch))
        results = run(chosen, Path(scratch))
    print(table(results))
    for r in results:
        if r.outcome != "killed":
            print(f"\n{r.defect.name}: {r.outcome}\n{r.output[-2000:]}")
    for test in sick:
        print(f"does not pass on healthy sources: {test}")
    if not options.only:
        write_docs(table(results), ROOT / "docs" / "testing.md")
    return 1 if sick or any(r.outcome != "killed" for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())

"""`make mutants`: plant every defect, one at a time; exit 1 if one lives. Writes the table in docs/testing.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.defects import DEFECTS
from tests.mutants.runner import ROOT, Defect, Result, copy_sources, failing, try_defect

BEGIN, END = "<!-- mutants: begin -->", "<!-- mutants: end -->"


def _worker(defects: Sequence[Defect], folder: Path) -> tuple[list[str], list[Result]]:
    """The named tests that fail on healthy sources (they prove nothing), and what became of the defects."""
    copy_sources(folder)
    sick = failing(folder, sorted({d.test for d in defects}))
    results = []
    for defect in defects:
        results.append(try_defect(defect, folder))
        print(
            f"{results[-1].outcome}, {results[-1].seconds:.0f} s: {defect.name}", file=sys.stderr, flush=True
        )
    return sick, results


def run(defects: Sequence[Defect], scratch: Path, jobs: int) -> tuple[list[str], list[Result]]:
    """All defects in `jobs` copies of the sources: sick tests, and results in the order given.

    Defects with the same test go to the same copy, so that the test proves itself healthy only once.
    """
    tests = list(dict.fromkeys(d.test for d in defects))
    shares = [[d for d in defects if tests.index(d.test) % jobs == i] for i in range(jobs)]
    with ThreadPoolExecutor(jobs) as pool:
        parts = list(pool.map(_worker, shares, [scratch / f"copy{i}" / "main" for i in range(jobs)]))
    results = {r.defect.name: r for _, part in parts for r in part}
    return [test for sick, _ in parts for test in sick], [results[d.name] for d in defects]


def table(results: Sequence[Result]) -> str:
    """The Markdown table."""
    lines = ["| planted defect | file | caught by | outcome |", "|---|---|---|---|"]
    for r in results:
        test = r.defect.test.removeprefix("tests/").replace("|", "\\|")
        lines.append(f"| {r.defect.name} | `{r.defect.file}` | `{test}` | {r.outcome} |")
    killed = sum(r.outcome == "killed" for r in results)
    return "\n".join([*lines, "", f"{killed} of {len(results)} killed (`make mutants`)."])


def write_docs(text: str, path: Path) -> None:
    """Replace what stands between the markers."""
    head, _, rest = path.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        help="only defects whose name contains this (repeatable); docs stay as they are",
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="copies of the sources that are worked on at once"
    )
    options = parser.parse_args()
    chosen = [d for d in DEFECTS if not options.only or any(part in d.name for part in options.only)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tinygen-mutants-") as scratch:
        sick, results = run(chosen, Path(scratch), options.jobs)
    print(table(results))
    for r in results:
        if r.outcome != "killed":
            print(f"\n{r.defect.name}: {r.outcome}\n{r.output[-2000:]}")
    for test in sick:
        print(f"does not pass on healthy sources: {test}")
    print(f"{time.monotonic() - started:.0f} s")
    if not options.only:
        write_docs(table(results), ROOT / "docs" / "testing.md")
    return 1 if sick or any(r.outcome != "killed" for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())

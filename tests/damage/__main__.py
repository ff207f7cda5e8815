"""`make damage N=1000`: damaged inputs against the promises; prints a table, exits 1 on any broken promise."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.damage.runner import healthy_files, run_case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seed", type=int, action="append", help="run only this one; may be repeated")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        healthy = healthy_files(Path(folder) / "healthy")
        scratch = Path(folder) / "scratch"
        seeds = options.seed or range(options.first, options.first + options.count)
        verdicts = [
            run_case(s, healthy, scratch) for s in track(seeds, "damage", console=Console(stderr=True))
        ]
    tally = Counter((v.case.target, v.case.damage, v.exit_code) for v in verdicts)
    table = Table("file", "damage", "exit 0", "exit 1", "other", box=None)
    for target, damage in sorted({key[:2] for key in tally}):
        good, refused = tally[target, damage, 0], tally[target, damage, 1]
        total = sum(n for key, n in tally.items() if key[:2] == (target, damage))
        table.add_row(target, damage, str(good), str(refused), str(total - good - refused))
    console.print(table)
    broken = [v for v in verdicts if v.fault]
    for v in broken:
        console.print(
            f"seed {v.case.seed} {v.case.target} {v.case.damage}: {v.fault}\n{v.output[-1500:]}", markup=False
        )
    slowest, largest = max(v.seconds for v in verdicts), max(v.peak_bytes for v in verdicts)
    console.print(
        f"{len(verdicts)} damaged inputs, {len(broken)} broken promises; slowest {slowest:.1f} s, {largest >> 20} MB"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

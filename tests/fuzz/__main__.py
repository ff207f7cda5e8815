"""`python -m tests.fuzz --count 10000 --resume build/fuzz`: random models by number; `--seed 17`: just one."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

from tests.fuzz.runner import BATCH, Batch, State, rare, run, run_batch, summary, table


def main() -> int:
    """0 when every model passed and nothing was met too seldom, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="models, seeds 0 ... count - 1 [2000]")
    parser.add_argument("--resume", type=Path, help="folder whose state.json is continued")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one per core]")
    parser.add_argument("--seed", type=int, help="only this seed")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    if options.seed is not None:
        return _one(options.seed)
    start = time.monotonic()

    def report(batch: Batch, state: State) -> None:
        for failure in batch.failures:
            print(f"FAILED seed {failure['seed']}, {failure['stage']}: {failure['what']}", flush=True)
        print(f"{time.monotonic() - start:7.0f} s  batch {batch.number}: {summary(state)}", flush=True)

    state = run(options.count, options.resume, options.jobs, report)
    print(table(state))
    for text in state.refused:
        print(f"refused: {text}")
    for failure in state.failures:
        print(f"FAILED seed {failure['seed']}, {failure['stage']}: {failure['what']}")
    print(summary(state))
    return 1 if state.failures or rare(state) else 0


def _one(seed: int) -> int:
    batch = run_batch(seed // BATCH, [seed])  # on the board of the batch that it belongs to
    for failure in batch.failures:
        print(f"FAILED seed {failure['seed']}, {failure['stage']}: {failure['what']}")
    for refused in batch.refused:
        print(f"refused: {refused}")
    print(table(State({seed: batch})))
    print("passed" if not batch.failures else f"again: python -m tests.fuzz --seed {seed}")
    return 1 if batch.failures else 0


if __name__ == "__main__":
    sys.exit(main())

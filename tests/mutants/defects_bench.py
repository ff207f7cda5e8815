"""Planted defects in what guards users against regressions: gates, baseline, the bench's TOML."""

from tests.mutants.runner import Defect

PURE, RUNS = "tests/test_bench.py", "tests/test_bench_runs.py"

BENCH: tuple[Defect, ...] = (
    Defect(
        "bench: of a kernel only its entry counts",
        "tinygen/bench_cells.py",
        "if movable.owns(name)",
        "if movable.symbol == name",
        f"{RUNS}::test_figures_are_those_of_compile_and_profile",
    ),
    Defect(
        "placement: functions beside a kernel may be anywhere",
        "tinygen/placement_check.py",
        'if pin.role == "code" else ()',
        'if pin.role == "" else ()',
        "tests/test_placement_check.py::test_a_function_beside_its_kernel_is_found",
    ),
    Defect(
        "bench: a change as large as its gate fails",
        "tinygen/bench_matrix.py",
        "return worse_by <= limit",
        "return worse_by < limit",
        f"{PURE}::test_absolute_gate_is_exact_and_monotonic",
    ),
    Defect(
        "bench: accuracy is compared as floating point",
        "tinygen/bench_gates.py",
        "old, new = Fraction(str(before.accuracy)), Fraction(str(now.accuracy))",
        "old, new = Fraction(before.accuracy), Fraction(now.accuracy)",
        f"{PURE}::test_accuracy_gate_counts_points_exactly",
    ),
    Defect(
        "bench: more mean squared error is better",
        "tinygen/bench_gates.py",
        "worse = 100 * (new - old) / old if old",
        "worse = 100 * (old - new) / old if old",
        f"{PURE}::test_less_is_better_for_a_mean_squared_error",
    ),
    Defect(
        "bench: a cell without a baseline passes",
        "tinygen/bench_gates.py",
        "elif baseline is not None:",
        "elif baseline is not None and not whole:",
        f"{PURE}::test_cells_and_baselines_that_miss_each_other_fail_with_what_to_do",
    ),
    Defect(
        "bench: baselines of cells that are gone are kept silently",
        "tinygen/bench_gates.py",
        "for name in sorted(baseline) if name not in known]",
        "for name in sorted(baseline) if name in known and name not in known]",
        f"{PURE}::test_cells_and_baselines_that_miss_each_other_fail_with_what_to_do",
    ),
    Defect(
        "bench: a cause names the layer that shrank",
        "tinygen/bench_blame.py",
        "key=lambda p: (-p[1] * sign, p[0]))\n    named",
        "key=lambda p: (p[1] * sign, p[0]))\n    named",
        f"{PURE}::test_layers_are_named_by_their_share_until_most_is_explained",
    ),
    Defect(
        "bench: cycles of the cold inference",
        "tinygen/bench_cells.py",
        "cycles=p.median.cycles,",
        "cycles=p.totals[0].cycles,",
        f"{RUNS}::test_figures_are_those_of_compile_and_profile",
    ),
    Defect(
        "bench: an update of some cells forgets the others",
        "tinygen/benching.py",
        "before or {} if only else {}",
        "{}",
        f"{RUNS}::test_only_updates_its_cells_and_check_asks_for_the_others",
    ),
    Defect(
        "bench: a failed cell is left out of the new baseline",
        "tinygen/benching.py",
        "    if update and not failed:\n        record",
        "    if update:\n        record",
        f"{RUNS}::test_a_cell_that_does_not_fit_fails_alone",
    ),
    Defect(
        "bench: the history's commit is never dirty",
        "tinygen/bench_baseline.py",
        'return head + ("-dirty" if changed else "")',
        "return head",
        f"{PURE}::test_commit_is_dirty_by_the_users_files_but_not_by_our_own",
    ),
)

"""The judge is pure: logs as text in, verdicts out. No compiler and no emulator is needed here."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygen.firmware import FirmwareModel
from tinygen.graph import Array
from tinygen.judge import Outcome, RunResult, Wanted, judge, merged
from tinygen.runlog import finished, parse, printable

RUN_ID = "0123456789abcdef"
MODELS = (FirmwareModel("first", 256, (8,), (70, 3)), FirmwareModel("second", 128, (4,), (2,)))
FUNCTIONS = {"helper": (0x101, 0x20), "first_invoke": (0x201, 0x40), "label": (0x210, 0)}


def outputs(model: int, sample: int) -> tuple[Array, ...]:
    rng = np.random.default_rng(100 * model + sample)
    return tuple(rng.integers(-128, 128, n).astype(np.int8) for n in MODELS[model].output_sizes)


WANTED = tuple(Wanted(m, s, outputs(m, s)) for m, s in ((0, 0), (0, 1), (1, 0)))


def sample_lines(model: int, sample: int, status: int = 0, ticks: int = 320) -> list[str]:
    lines = [f"SAMPLE {model} {sample} {status} {ticks}"]
    for i, data in enumerate(outputs(model, sample)):
        for at in range(0, len(data), 64):
            lines.append(f"OUT {model} {sample} {i} {at} {data[at : at + 64].tobytes().hex()}")
    return lines


def good_lines() -> list[str]:
    body = [line for w in WANTED for line in sample_lines(w.model, w.sample)]
    return [f"TINYGEN 1 {RUN_ID}", *body, "STACK 400 4096", "END 3", "HOST RATIO 5 16"]


def verdict(lines: list[str], wanted: tuple[Wanted, ...] = WANTED) -> RunResult:
    return judge("\n".join(lines) + "\n", RUN_ID, MODELS, wanted, FUNCTIONS)


def replaced(old: str, new: str) -> list[str]:
    lines = good_lines()
    assert any(line.startswith(old) for line in lines)
    return [new if line.startswith(old) else line for line in lines]


def test_whole_and_right_log_passes() -> None:
    result = verdict(good_lines())
    assert result.outcome is Outcome.PASSED and result.passed, result.detail
    assert result.detail == "3 samples, every output element as expected"
    assert result.stack_bytes == 400
    assert result.instructions == (100, 100) and result.models[1].instructions == (100,)
    for i in (0, 1):
        assert np.array_equal(result.outputs[i], np.stack([outputs(0, 0)[i], outputs(0, 1)[i]]))
    assert result.outputs[0].dtype == np.int8


def test_order_of_lines_between_banner_and_end_does_not_matter() -> None:
    lines = good_lines()
    assert verdict([lines[0], *lines[-4:0:-1], *lines[-3:]]).passed


def test_outputs_without_expectation_are_taken() -> None:
    wanted = tuple(Wanted(w.model, w.sample, None) for w in WANTED)
    assert verdict(good_lines(), wanted).passed


def test_instructions_are_rounded_from_ticks() -> None:
    """A reading is off by less than a tick, instructions take 3.2: both neighbours give the same count."""
    for ticks in (3199, 3200, 3201):
        lines = [f"SAMPLE 1 0 0 {ticks}" if x.startswith("SAMPLE 1 0") else x for x in good_lines()]
        assert verdict(lines).models[1].instructions == (1000,)


def test_no_ratio_or_no_ticks_means_not_counted() -> None:
    assert verdict(good_lines()[:-1]).instructions == (None, None)
    assert verdict(replaced("SAMPLE 1 0", "SAMPLE 1 0 0 0")).models[1].instructions == (None,)


def test_no_stack_figure_where_it_is_not_measured() -> None:
    assert verdict(replaced("STACK", "STACK 0 0")).stack_bytes is None


@pytest.mark.parametrize(
    ("model", "sample", "output", "element"), [(0, 0, 0, 0), (0, 1, 0, 69), (0, 1, 1, 2), (1, 0, 0, 1)]
)
def test_one_wrong_element_is_named(model: int, sample: int, output: int, element: int) -> None:
    wanted = list(WANTED)
    at = next(i for i, w in enumerate(wanted) if w.key == (model, sample))
    right = outputs(model, sample)
    wrong = [y.copy() for y in right]
    wrong[output][element] ^= 0x40
    wanted[at] = Wanted(model, sample, tuple(wrong))
    result = verdict(good_lines(), tuple(wanted))
    assert result.outcome is Outcome.WRONG_OUTPUT
    got, want = right[output][element], wrong[output][element]
    name = MODELS[model].name
    expected = f"sample {sample}, output {output} of '{name}', element {element}: got {got}, expected {want}"
    assert result.detail == f"{expected} (1 of 148 elements differ)"
    assert len(result.outputs[0]) == 2, "outputs are there to be looked at"


@pytest.mark.parametrize("line", range(len(good_lines()) - 2))
def test_every_line_that_is_missing_is_noticed(line: int) -> None:
    """All but STACK and the driver's own line: those are figures, not results."""
    lines = good_lines()
    gone = lines.pop(line)
    result = verdict(lines)
    assert result.passed if gone.startswith("STACK") else result.outcome is Outcome.INCOMPLETE


@given(st.data())
def test_a_log_cut_anywhere_is_incomplete(data: st.DataObject) -> None:
    text = "\n".join(good_lines()[:-1]) + "\n"
    cut = data.draw(st.integers(0, len(text) - len("3\n") - 1))
    result = judge(finished(text[:cut].encode(), "HOST RATIO 5 16"), RUN_ID, MODELS, WANTED)
    assert result.outcome is Outcome.INCOMPLETE, result.detail


@given(st.data())
def test_a_changed_byte_never_passes_with_other_outputs(data: st.DataObject) -> None:
    """Whatever a byte turns into: a log that passes holds exactly the expected outputs; nothing raises."""
    raw = bytearray("\n".join(good_lines()).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    result = judge(printable(bytes(raw)), RUN_ID, MODELS, WANTED)
    if result.passed:
        assert np.array_equal(result.outputs[0], np.stack([outputs(0, 0)[0], outputs(0, 1)[0]]))


@given(st.binary(max_size=2000), st.lists(st.sampled_from(good_lines()), max_size=12))
def test_any_bytes_give_text_and_a_verdict(noise: bytes, lines: list[str]) -> None:
    text = finished(noise + "\n".join(lines).encode(), "HOST EXIT odd\nline\x00")
    assert text.isascii() and text.endswith("\n")
    result = judge(text, RUN_ID, MODELS, WANTED)
    assert isinstance(result.outcome, Outcome) and result.detail and "\n" not in result.detail


def test_stale_image() -> None:
    result = verdict(replaced("TINYGEN", "TINYGEN 1 fedcba9876543210"))
    assert result.outcome is Outcome.STALE
    assert "fedcba9876543210" in result.detail and RUN_ID in result.detail


def test_stale_before_all_else() -> None:
    """A stale image may well fault or compute something else: what matters is that it is stale."""
    lines = [f"TINYGEN 1 {'f' * 16}", "FAULT kind=exception number=3", "HOST TIMEOUT 5"]
    assert verdict(lines).outcome is Outcome.STALE


def test_ready_without_a_run_means_no_inputs() -> None:
    """The firmware found its block empty and waits for a serial line."""
    result = verdict([f"READY {RUN_ID} 1000"])
    assert result.outcome is Outcome.FAULTED and "input block was not filled" in result.detail
    other = verdict(["READY fedcba 1000", "HOST ADVICE flash it: now"])
    assert other.outcome is Outcome.STALE and other.detail.endswith(f"is run {RUN_ID}; flash it: now")


def test_ready_in_a_run_means_restarted_and_after_it_nothing() -> None:
    lines, ready = good_lines(), f"READY {RUN_ID} 1000"
    result = verdict([*lines[:5], ready])
    assert result.outcome is Outcome.INCOMPLETE and "started more than once" in result.detail
    assert verdict([*lines, ready]).passed


def test_ticks_are_instructions_or_seconds_or_neither() -> None:
    """Only a log that says what a tick is claims anything."""
    lines = good_lines()[:-1]
    assert verdict(lines).seconds == verdict(lines).instructions == (None, None)
    timed = verdict([*lines, "HOST CLOCK 1000000"])
    assert timed.passed and timed.instructions == (None, None)
    assert timed.seconds == (0.00032, 0.00032) and timed.models[1].seconds == (0.00032,)
    assert verdict(good_lines()).seconds == (None, None)
    assert merged([timed, timed]).seconds == (0.00032,) * 4


def test_second_banner_means_restarted() -> None:
    lines = good_lines()
    result = verdict([lines[0], *lines])
    assert result.outcome is Outcome.INCOMPLETE and "started more than once" in result.detail


@pytest.mark.parametrize("start", ["SAMPLE 0 1", "OUT 0 0 0 64"])
def test_repeated_lines_are_not_one_run(start: str) -> None:
    lines = good_lines()
    extra = next(line for line in lines if line.startswith(start))
    result = verdict([*lines[:-3], extra, *lines[-3:]])
    assert result.outcome is Outcome.INCOMPLETE and "repeats itself" in result.detail


@pytest.mark.parametrize("end", ["END 2", "END 4", "END", "END 3 x"])
def test_end_must_count_the_records(end: str) -> None:
    assert verdict(replaced("END", end)).outcome is Outcome.INCOMPLETE


def test_output_longer_than_the_model_has() -> None:
    lines = [f"{x}00" if x.startswith("OUT 1 0 0 0") else x for x in good_lines()]
    assert verdict(lines).outcome is Outcome.INCOMPLETE


def test_overlapping_rows_do_not_make_an_output() -> None:
    lines = [x.replace("OUT 0 0 0 64", "OUT 0 0 0 63") for x in good_lines()]
    assert verdict(lines).outcome is Outcome.INCOMPLETE


def test_status_of_invoke() -> None:
    result = verdict(replaced("SAMPLE 1 0", "SAMPLE 1 0 2 320"))
    assert result.outcome is Outcome.FAULTED and "second_invoke returned status 2" in result.detail


def test_stack_used_up() -> None:
    result = verdict(replaced("STACK", "STACK 4096 4096"))
    assert result.outcome is Outcome.FAULTED and "4,096 bytes of stack" in result.detail


FAULTS = [
    (
        "kind=exception number=3 cfsr=00000092 mmfar=1fffffe8 sp=1fffffa0 stack=20000000",
        ["stack overflow", "0x1fffffe8"],
    ),
    (
        "kind=exception number=3 cfsr=00100000 sp=38000000 stack=38000000",
        ["stack overflow", "stack limit reached"],
    ),
    (
        "kind=exception number=3 cfsr=00008200 bfar=40000ff0 sp=20000100 stack=20000000",
        ["bus error", "0x40000ff0"],
    ),
    (
        "kind=exception number=6 cfsr=00010000 sp=20000100 stack=20000000 pc=00000204",
        ["usage fault", "in first_invoke()"],
    ),
    (
        "kind=exception number=3 sp=20000100 stack=20000000 pc=00000105",
        ["a hard fault, at 0x00000104 in helper()"],
    ),
    ("kind=exception number=18", ["exception 18"]),
    ("kind=no-inputs", ["not filled"]),
    ("kind=bad-record", ["cut off"]),
    ("kind=lockup", ["locked up"]),
    (
        "access=write_to_read-only_memory, address=00000010 pc=300",
        ["write to read-only memory", "0x00000010", "0x00000300"],
    ),
    ("nonsense", ["a fault"]),
    ("number=zz cfsr=xyz pc=", ["a fault"]),
]


@pytest.mark.parametrize(("fields", "words"), FAULTS, ids=[f[0][:40] for f in FAULTS])
@pytest.mark.parametrize("prefix", ["FAULT", "HOST FAULT"])
def test_fault_is_described(fields: str, words: list[str], prefix: str) -> None:
    lines = [*good_lines()[:5], f"{prefix} {fields}", "HOST TIMEOUT 5"]
    result = verdict(lines)
    assert result.outcome is Outcome.FAULTED
    assert all(word in result.detail for word in words), result.detail
    assert "stack overflow" in words or "stack overflow" not in result.detail
    assert "after 1 sample:" in result.detail and len(result.outputs[0]) == 1


def test_silence_is_a_time_out() -> None:
    result = verdict([*good_lines()[:5], "HOST TIMEOUT 2.5"])
    assert result.outcome is Outcome.TIMED_OUT
    assert result.detail == "nothing was printed for 2.5 seconds, after 1 of 3 samples"


def test_end_of_the_emulator_and_noise_explain_what_is_missing() -> None:
    result = verdict([*good_lines()[:5], "\\xff\\xfe", "HOST EXIT code 1: no such machine"])
    assert result.outcome is Outcome.INCOMPLETE
    assert "code 1: no such machine" in result.detail and "\\xff\\xfe" in result.detail


def test_unavailable_wins() -> None:
    result = verdict(["HOST UNAVAILABLE it is not installed; type this"])
    assert (result.outcome, result.detail) == (Outcome.UNAVAILABLE, "it is not installed; type this")
    assert [len(o) for o in result.outputs] == [0, 0]


def test_noise_is_bounded() -> None:
    assert len(parse("x\n" * 100_000).noise) == 20


def chunk(samples: list[int], *, wrong: bool = False, stack: int = 400) -> RunResult:
    lines = [f"TINYGEN 1 {RUN_ID}", *itertools.chain(*(sample_lines(0, s) for s in samples))]
    lines += [f"STACK {stack} 4096", f"END {len(samples)}", "HOST RATIO 5 16"]
    wanted = [Wanted(0, s, outputs(0, s + wrong)) for s in samples]
    return judge("\n".join(lines), RUN_ID, MODELS, wanted)


def test_chunks_are_merged_in_order() -> None:
    result = merged([chunk([0, 1]), chunk([2], stack=500), chunk([3, 4], stack=450)])
    assert result.passed and result.stack_bytes == 500 and result.instructions == (100,) * 5
    assert np.array_equal(result.outputs[0], np.stack([outputs(0, s)[0] for s in range(5)]))
    assert result.detail.startswith("5 samples")


def test_first_failing_chunk_decides() -> None:
    result = merged([chunk([0, 1]), chunk([2], wrong=True)])
    assert result.outcome is Outcome.WRONG_OUTPUT and "sample 2" in result.detail
    assert len(result.outputs[0]) == 3
    assert merged([chunk([0], wrong=True), chunk([1])]).outcome is Outcome.WRONG_OUTPUT

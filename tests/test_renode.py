"""Renode without Renode: the generated platform, script and suites, the driver, and logs that a real 1.16.1 gave.

Suites of real runs are in firmware_tests/; a program that behaves as Renode does stands in for it here.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from renode import TinygenLog
from tests.support import tinyfw
from tinygen import building, renode_platform
from tinygen.boards import Board, board_names, load_board
from tinygen.building import Firmware
from tinygen.emulators.renode import VARIABLE, Renode, problem_in
from tinygen.firmware import firmware_files
from tinygen.judge import Outcome, RunResult, Wanted, judge
from tinygen.renode_suite import SuiteModel, expected_json, input_block, suite_files

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "recorded"
BOARDS = [name for name in board_names() if load_board(name).renode is not None]
NAMES = ("toy", "second")
SAMPLES = 3


def board() -> Board:
    return load_board("nucleo_f446re")


def suite_models() -> list[SuiteModel]:
    """What the recorded log ran: two models of three samples each."""
    samples = [tinyfw.inputs(SAMPLES, seed) for seed in range(len(NAMES))]
    pairs = zip(NAMES, samples, strict=True)
    return [SuiteModel(tinyfw.model(name), x, tinyfw.expected(x), 1328) for name, x in pairs]


def judged(log: str) -> RunResult:
    models = suite_models()
    wanted = [
        Wanted(i, s, tuple(y[s] for y in m.outputs)) for i, m in enumerate(models) for s in range(SAMPLES)
    ]
    return judge(log, tinyfw.RUN_ID, [m.model for m in models], wanted)


# The platform


@pytest.mark.parametrize("name", BOARDS)
def test_memory_is_exactly_that_of_the_toml(name: str) -> None:
    """Read back from the text of both files, by other means than those that wrote the platform."""
    data = tomllib.loads((ROOT / "boards" / f"{name}.toml").read_text())
    text = renode_platform.platform(load_board(name))
    pattern = r"^memory_(\w+): Memory\.MappedMemory @ sysbus (0x[0-9A-F]+) //.*\n    size: (0x[0-9A-F]+)$"
    found = {m[1]: (int(m[2], 16), int(m[3], 16)) for m in re.finditer(pattern, text, re.M)}
    assert found == {r["name"]: (r["origin"], r["length"]) for r in data["region"]}
    assert text.count("MappedMemory") == len(found)


def test_a_timer_of_the_core_counts_instructions() -> None:
    text = renode_platform.platform(board())
    mips = int(re.findall(r"PerformanceInMips: (\d+)", text)[0])
    assert f"dwt: Miscellaneous.DWT @ sysbus 0xE0001000\n    frequency: {mips * 10**6}\n" in text


def test_another_timer_reads_the_count_of_instructions() -> None:
    text = renode_platform.platform(load_board("pico"))
    assert "Miscellaneous.DWT" not in text
    assert "timer: Python.PythonPeripheral @ sysbus 0x40054000" in text


class Bus:
    """Runs the script of the start-up's stub as Renode does: once with IsInit, then at every access."""

    def __init__(self, text: str) -> None:
        found = re.search(r"^startup: .*?script: '''\n(.*?)'''$", text, re.M | re.S)
        assert found
        self._code = compile(found[1], "startup", "exec")
        self.errors: list[str] = []
        self._scope: dict[str, Any] = {"self": SimpleNamespace(ErrorLog=self.errors.append)}
        self._access(0, 0, IsInit=True)

    def read(self, address: int) -> int:
        return self._access(address, 0, IsRead=True)

    def write(self, address: int, value: int) -> None:
        self._access(address, value, IsWrite=True)

    def _access(self, address: int, value: int, **kind: bool) -> int:
        kinds = {"IsInit": False, "IsRead": False, "IsWrite": False, **kind}
        request = SimpleNamespace(Absolute=address, Value=value, **kinds)
        self._scope["request"] = request
        exec(self._code, self._scope)
        return int(request.Value)


def start_up(bus: Bus, steps: Any) -> None:
    """What tg_reset does, with a limit to each wait."""
    for step in steps:
        if step.kind == "write":
            old = 0 if step.mask == 0xFFFFFFFF else bus.read(step.address)
            bus.write(step.address, (old & ~step.mask) | step.value)
        else:
            assert any(bus.read(step.address) & step.mask == step.value for _ in range(10)), step


@pytest.mark.parametrize("name", [name for name in BOARDS if load_board(name).startup.steps])
def test_the_start_up_stub_takes_the_boards_steps_and_no_other(name: str) -> None:
    described = load_board(name)
    steps = renode_platform.stubbed_steps(described)
    bus = Bus(renode_platform.platform(described))
    start_up(bus, steps)
    assert bus.errors == []
    at = next(i for i, step in enumerate(steps) if step.kind == "write")
    other = dataclasses.replace(steps[at], value=steps[at].value ^ (steps[at].mask & -steps[at].mask))
    bus = Bus(renode_platform.platform(described))
    start_up(bus, [*steps[:at], other, *steps[at + 1 :]])
    assert len(bus.errors) >= 1 and "tinygen: the start-up writes" in bus.errors[0]


def test_the_scripts_steps_are_in_order() -> None:
    """Two writes swapped are found, too."""
    steps = list(renode_platform.stubbed_steps(board()))
    writes = [i for i, step in enumerate(steps) if step.kind == "write"][:2]
    steps[writes[0]], steps[writes[1]] = steps[writes[1]], steps[writes[0]]
    bus = Bus(renode_platform.platform(board()))
    start_up(bus, steps)
    assert bus.errors


# Logs that Renode 1.16.1 gave


def test_a_recorded_log_passes_the_judge_with_exact_counts() -> None:
    result = judged((RECORDED / "renode_nucleo_f446re.log").read_text())
    assert result.passed, result.detail
    assert [m.instructions for m in result.models] == [(1328,) * SAMPLES] * len(NAMES)
    assert result.stack_bytes == 172


def test_a_recorded_read_outside_memory_is_a_fault() -> None:
    result = judged((RECORDED / "renode_nucleo_f446re_read.log").read_text())
    assert result.outcome is Outcome.FAULTED
    assert "read outside the board's memory, address 0x90000000" in result.detail


def test_lines_of_renodes_log() -> None:
    """As 1.16.1 writes them."""
    read = "[WARNING] sysbus: [cpu: 0x8000920] ReadByte from non existing peripheral at 0x90000000."
    assert problem_in(read) == "access=read address=90000000 pc=8000920"
    write = "[WARNING] sysbus: [cpu: 0x20] WriteByte to non existing peripheral at 0x90000000, value 0x1."
    assert problem_in(write) == "access=write address=90000000 pc=20"
    assert problem_in("[WARNING] nvic: Unhandled write to offset 0xFB0.") is None
    assert problem_in("[ERROR] startup: tinygen: the start-up writes 0x1 to 0x2, its next") == (
        "kind=renode text=the_start-up_writes_0x1_to_0x2,_its_next"
    )


# The driver, with a program that stands in for Renode


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program named by TINYGEN_RENODE; body: Python that sees console, log (open files) and time."""
    program = folder / "stand_in_renode"
    lines = [
        f"#!{sys.executable}",
        "import time, sys",
        "assert open('run.resc').read() and open('board.repl').read() and open('inputs.bin', 'rb').read()",
        "console, log = open('console.log', 'w', buffering=1), open('renode.log', 'w', buffering=1)",
        body,
    ]
    program.write_text("\n".join(lines))
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))


def two_models(folder: Path) -> Firmware:
    """An image's description and symbols; the driver only copies the ELF file."""
    files = dict(firmware_files([tinyfw.model(name) for name in NAMES], board(), tinyfw.RUN_ID))
    for name in NAMES:
        files |= tinyfw.library_files(name)
    return building.build(tinyfw.write(folder / "project", files), board())


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return two_models(tmp_path_factory.mktemp("renode"))


CASES = {
    "passes": (
        f"console.write(open({str(RECORDED / 'renode_nucleo_f446re.log')!r}).read())",
        Outcome.PASSED,
        "every output element as expected",
    ),
    "warns late": (
        f"console.write(open({str(RECORDED / 'renode_nucleo_f446re.log')!r}).read())\ntime.sleep(0.3)\n"
        "print('[WARNING] sysbus: [cpu: 0x8] ReadByte from non existing peripheral at 0x90000000.', file=log)",
        Outcome.FAULTED,
        "read outside the board's memory, address 0x90000000",
    ),
    "silent": ("console.write('TINYGEN 1 0123456789abcdef\\n')\ntime.sleep(60)", Outcome.TIMED_OUT, "0 of 6"),
    "ends": (
        "print('There was an error executing command x')",
        Outcome.INCOMPLETE,
        "error executing command x",
    ),
    "floods": ("while True:\n    console.write('x' * 1000 + '\\n')", Outcome.INCOMPLETE, "without end"),
}


@pytest.mark.arm
@pytest.mark.parametrize("case", CASES)
def test_the_driver(case: str, firmware: Firmware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, outcome, detail = CASES[case]
    stand_in(tmp_path, monkeypatch, body)
    result = judged(Renode().execute(firmware, board(), input_block(suite_models()), 1.0))
    assert result.outcome is outcome, result
    assert detail in result.detail


@pytest.mark.arm
def test_unavailable_says_why_and_what_to_do(firmware: Firmware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no-such-renode")
    result = judged(Renode().execute(firmware, board(), b"", 1.0))
    assert result.outcome is Outcome.UNAVAILABLE
    assert "no program 'no-such-renode'" in result.detail and VARIABLE in result.detail
    assert "no model of board 'mps3_an547'" in (Renode().unavailable(load_board("mps3_an547")) or "")


# Suites


def dry_run(suite: Path) -> subprocess.CompletedProcess[str]:
    """Every keyword is there and gets arguments that it takes."""
    options = ["--dryrun", "--output", "NONE", "--log", "NONE", "--report", "NONE", "--variable"]
    stub = f"RENODEKEYWORDS:{ROOT / 'tests' / 'support' / 'renode_keywords.resource'}"
    command = [sys.executable, "-m", "robot", *options, stub, str(suite)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """The suite of a project."""
    for name, data in suite_files(
        board(), "Toys", tinyfw.RUN_ID, "firmware.elf", suite_models(), 172
    ).items():
        (tmp_path / name).write_bytes(data)
    return tmp_path / "nucleo_f446re.robot"


def test_dry_run_of_the_generated_suite_and_its_control(generated: Path) -> None:
    done = dry_run(generated)
    assert done.returncode == 0, done.stdout
    assert "4 tests, 4 passed" in done.stdout
    resource = generated.parent / "tinygen.resource"
    resource.write_text(resource.read_text().replace("Wait For Line On Uart", "Wait For Lines On Uart"))
    done = dry_run(generated)
    assert done.returncode == 4 and "No keyword with name 'Wait For Lines On Uart'" in done.stdout


def test_dry_run_of_our_own_suites() -> None:
    suites = sorted((ROOT / "firmware_tests").glob("*.robot"))
    assert suites
    for suite in suites:
        done = dry_run(suite)
        assert done.returncode == 0, done.stdout


def test_keywords_accept_the_recorded_log_and_refuse_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "expected.json"
    path.write_text(expected_json(tinyfw.RUN_ID, suite_models(), 172))
    recorded = (RECORDED / "renode_nucleo_f446re.log").read_text()
    log = recorded.replace("HOST RATIO 1 1\n", "")
    checks = {
        TinygenLog.log_should_be_whole: ("END 6", "END 5", "the log ends with"),
        TinygenLog.outputs_should_be_bit_exact: (
            "OUT 1 2 1 0 05",
            "OUT 1 2 1 0 06",
            "model 1, sample 2, output 1",
        ),
        TinygenLog.instructions_should_be_within_bound: ("0 1328", "0 1500", "at most 1,355"),
        TinygenLog.stack_should_be_within_bound: ("STACK 172", "STACK 300", "at most 236"),
    }
    for check, (there, other, message) in checks.items():
        check(log, path)
        assert there in log
        with pytest.raises(AssertionError, match=message):
            check(log.replace(there, other), path)
    with pytest.raises(AssertionError, match="the log ends with"):
        TinygenLog.fault_should_be(log, "kind=exception")


@pytest.mark.skipif(shutil.which("renode") is None, reason="Renode is not installed; firmware_tests/ runs it")
@pytest.mark.arm
def test_real_renode_where_there_is_one(firmware: Firmware) -> None:
    assert judged(Renode().execute(firmware, board(), input_block(suite_models()), 60.0)).passed

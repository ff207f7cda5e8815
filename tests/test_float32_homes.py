"""float32 projects in every home: built, linked with the mathematical functions, run, and held to the float model."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.float_models import net, samples_for, saved
from tests.support.pio import image, outcomes, passes, pio, printed, sections
from tests.test_homes import STRICT, SUPPORT, configured, copy, fails, loaded, runs
from tests.test_platformio import no_tinygen
from tinygen import api, building, evaluate
from tinygen.boards import load_board
from tinygen.bundle import load_project
from tinygen.cli import main
from tinygen.graph import Array
from tinygen.homes import HOMES

pytestmark = [
    pytest.mark.arm,
    pytest.mark.cmake,
    pytest.mark.tensorflow,
    # Keras's own np.array(variable) warns with numpy 2 when it saves a model.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
BOARDS = ("mps2_an386", "nucleo_g071rb")
"""With and without an FPU."""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of every kind, of a model with two inputs, an open output and classes."""
    folder, model = tmp_path_factory.mktemp("homes32"), net(2)
    saved(model, folder / "net.keras")
    np.savez(folder / "x.npz", **samples_for(model, 8))
    for home in HOMES:
        api.compile(
            folder / "net.keras",
            representative=folder / "x.npz",
            board=BOARDS,
            precision="float32",
            project=home,
            out=folder / home,
        )
    return folder


def test_cmake_test_passes_and_sees_a_wrong_element(homes: Path, tmp_path: Path) -> None:
    folder = copy(homes / "cmake", tmp_path / "net")
    build = configured(folder, tmp_path / "build", "-DCMAKE_C_FLAGS=" + " ".join(STRICT))
    assert "100% tests passed, 0 tests failed out of 1" in runs("ctest", "--test-dir", build)
    data = folder / "test" / "samples.h"
    head, mark, tail = data.read_text().partition("output_0[SAMPLES]")
    limit = float(re.findall(r"TOLERANCE_0 (\S+)f", head)[0])
    first = re.findall(r"-?\d\S*(?=f,)", tail)[0]
    data.write_text(f"{head}{mark}{tail.replace(first, repr(float(first) + 1.2 * limit), 1)}")
    runs("cmake", "--build", build)
    assert "1 tests failed out of 1" in fails("ctest", "--test-dir", build)


def test_cmake_library_brings_what_it_calls(homes: Path, tmp_path: Path) -> None:
    """Linked into a program that names no library but ours."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(user C)\n"
        f'add_subdirectory("{homes / "cmake"}" net)\nadd_executable(user main.c)\n'
        "target_link_libraries(user PRIVATE tinygen::net)\n"
    )
    (tmp_path / "main.c").write_text(
        "#include <net.h>\nstatic float a[NET_ARENA_BYTES / 4U];\n"
        "int main(void)\n{\n    const float sample[NET_INPUT_0_SIZE] = {1.0f};\n"
        "    net_set_input_0(a, sample);\n    return (int)net_invoke(a, sizeof a);\n}\n"
    )
    runs(configured(tmp_path, tmp_path / "build", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror") / "user")


def test_arduino_example_runs(homes: Path, tmp_path: Path) -> None:
    source, stand_in = homes / "arduino" / "src", SUPPORT / "arduino"
    sketch = homes / "arduino" / "examples" / "Net" / "Net.ino"
    for path, extra in ((sketch, ("-include", "Arduino.h", "-x", "c++")), (stand_in / "main.cpp", ())):
        command = ("g++", "-std=c++17", *STRICT, f"-I{source}", f"-I{stand_in}", *extra)
        runs(*command, "-c", path, "-o", tmp_path / f"{path.name}.o")
    for path in source.glob("*.c"):
        runs("gcc", *STRICT, "-Os", "-c", path, "-o", tmp_path / f"{path.name}.o")
    runs("g++", *tmp_path.glob("*.o"), "-lm", "-o", tmp_path / "sketch")
    number = r" -?\d+\.\d{6}"
    outputs = rf"output 0:({number}){{7}}\noutput 1:({number}){{3}}"
    assert re.fullmatch(rf"net: 0 us, {outputs}\n", printed_by := runs(tmp_path / "sketch")), printed_by


def test_zephyr_sample_runs_on_stand_ins(
    homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module selects Zephyr's whole C library, which holds the mathematical functions."""
    folder = homes / "zephyr"
    config = loaded(folder, monkeypatch)
    assert config.warnings == [] and config.syms["REQUIRES_FULL_LIBC"].str_value == "y"
    config.write_config(str(tmp_path / ".config"), save_old=False)
    options = (f"-DZephyr_DIR={SUPPORT}/zephyr", f"-DSTAND_IN_CONFIG={tmp_path}/.config")
    build = configured(folder / "samples" / "net", tmp_path / "build", *options)
    assert re.match(r"net: output 0:( -?\d+/1000){7}", runs(build / "app"))


def test_bare_makefile_builds_the_bytes_of_our_own_build(homes: Path, tmp_path: Path) -> None:
    folder = copy(homes / "bare", tmp_path / "fw")
    runs("make", "-j2", cwd=folder)
    for name in BOARDS:
        own = building.build(folder, load_board(name), application=True)
        assert sections(folder / "build" / "make" / name / "firmware.elf") == sections(own.elf), name


@pytest.mark.qemu
def test_the_application_prints_real_numbers(homes: Path, tmp_path: Path) -> None:
    """Those of an input of zeros, by the float model."""
    folder = copy(homes / "bare", tmp_path / "fw")
    graph = load_project(folder)[0]
    zeros = [np.zeros((1, *t.shape), np.float32) for t in graph.input_tensors]
    want = [y.reshape(-1) for y in evaluate.real(graph, zeros)]
    runs("make", "BOARD=mps2_an386", cwd=folder)
    elf = folder / "build" / "make" / "mps2_an386" / "firmware.elf"
    lines = first_lines(elf, len(want))
    for i, (line, values) in enumerate(zip(lines, want, strict=True)):
        head, _, numbers = line.partition(":")
        assert head == f"net output {i}"
        np.testing.assert_allclose([float(n) for n in numbers.split()], values, atol=2e-6)


def first_lines(elf: Path, count: int) -> list[str]:
    """What an application prints in QEMU."""
    board = load_board("mps2_an386")
    assert board.qemu is not None
    command = ["qemu-system-arm", "-machine", board.qemu.machine, *board.qemu.options, "-kernel", str(elf)]
    command += ["-icount", "shift=6,sleep=off", "-display", "none", "-monitor", "none", "-serial", "stdio"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        return [process.stdout.readline() for _ in range(count)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.qemu
def test_the_event_driven_example_uses_every_sample(homes: Path, tmp_path: Path) -> None:
    """Each inference is held to the float model on its own sample: what the sensor brings is computed here again."""
    folder = tmp_path / "event"
    api.compile(homes / "net.keras", board="mps2_an386", precision="float32", app="event", out=folder)
    graph = load_project(folder)[0]
    lines = first_lines(building.build(folder, load_board("mps2_an386"), application=True).elf, 6)
    sizes = [t.elements for t in graph.input_tensors]
    samples = sensor_stream(6 * sum(sizes)).reshape(6, -1)
    parts = np.split(samples, np.cumsum(sizes)[:-1], axis=1)
    x = [p.reshape(6, *t.shape) for p, t in zip(parts, graph.input_tensors, strict=True)]
    want = np.concatenate([y.reshape(6, -1) for y in evaluate.real(graph, x)], axis=1)
    for i, line in enumerate(lines):
        head, _, numbers = line.partition(":")
        assert head.startswith(f"net sample {i}, lost 0, wake-ups ")
        np.testing.assert_allclose([float(n) for n in numbers.split()], want[i], atol=3e-6)
    assert np.abs(want[0] - want[1]).max() > 0.01, "the control: another sample would be seen"


def sensor_stream(count: int) -> Array:
    """What the example's sensor brings, by the application's definition of it."""
    mixed = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    return ((mixed >> np.uint32(24)).astype(np.int32) - 128).astype(np.float32) / np.float32(128)


@pytest.mark.qemu
@pytest.mark.parametrize("alone", [False, True])
def test_pio_test_passes_and_fails(homes: Path, tmp_path: Path, alone: bool) -> None:
    """With tinygen's judge and without tinygen; a weight that is off fails it."""
    folder = copy(homes / "platformio", tmp_path / "fw")
    assert main(["pio", "bootstrap", str(folder), "--core", str(tmp_path / "core")]) == 0
    extra = no_tinygen(tmp_path) if alone else {}
    done = pio(folder, "test", "-e", "native", "-e", "qemu", extra=extra)
    assert outcomes(printed(done)) == {"native": "PASSED", "qemu": "PASSED"}, printed(done)[-3000:]
    path = folder / "lib" / "net" / "net_weights.c"
    head, mark, tail = path.read_text().partition("= {\n    ")
    first, _, rest = tail.partition("f,")
    path.write_text(f"{head}{mark}{float(first) + 0.1!r}f,{rest}")
    done = pio(folder, "test", "-e", "native", extra=extra)
    assert outcomes(printed(done)) == {"native": "FAILED"}, printed(done)[-3000:]


def test_pio_run_builds_what_our_own_build_does(homes: Path, tmp_path: Path) -> None:
    """The same code and data, to the byte in size; where the C library's functions lie is the linker's choice."""
    folder = copy(homes / "platformio", tmp_path / "fw")
    assert main(["pio", "bootstrap", str(folder), "--core", str(tmp_path / "core")]) == 0
    passes(folder, "run", *(f"-e{name}" for name in BOARDS))
    for name in BOARDS:
        own = building.build(folder, load_board(name), application=True)
        theirs = {section: size for section, (_, size, _) in sections(image(folder, name)).items()}
        assert theirs == own.sections, name

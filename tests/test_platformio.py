"""The generated PlatformIO project, used as its owner does, with no network at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import tinygen
from benchmarks.real_models import REAL_MODELS, RealModel
from tests.support.graphs import int8_graph
from tests.support.pio import (
    environment,
    image,
    outcomes,
    passes,
    pio,
    prepared,
    printed,
    sections,
    without_network,
)
from tinygen import api, building, bundle, pipeline
from tinygen.boards import board_names, load_board
from tinygen.cli import main
from tinygen.errors import BoardError, OutputError, ToolError
from tinygen.pio import bootstrap, doctor, layout
from tinygen.tflite.export import export_tflite

pytestmark = pytest.mark.arm
MIXED = ("mps2_an386", "nucleo_f446re")


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pio") / "core"


@pytest.fixture(scope="module")
def model(core: Path) -> Path:
    path = core.parent / "model.tflite"
    path.write_bytes(export_tflite(int8_graph()))
    return path


@pytest.fixture(scope="module")
def pair(core: Path, model: Path) -> Path:
    """A project for an emulated and a real board. Tests leave it as it was generated."""
    return prepared(core.parent / "pair", core, model, MIXED)


@pytest.fixture
def copy(pair: Path, tmp_path: Path) -> Path:
    """The pair to play with, no builds in it."""
    return Path(shutil.copytree(pair, tmp_path / "fw", ignore=shutil.ignore_patterns(".pio", "build")))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} has no {old!r}"
    path.write_text(text.replace(old, new))


# ---- building


def test_the_network_is_really_blocked() -> None:
    """The control of all the others: nothing outside, and not even this machine itself, can be reached."""
    if not without_network():
        pytest.skip(
            "network namespaces are not permitted here: only proxies that lead nowhere keep PlatformIO in"
        )
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 5)"
    done = subprocess.run([*without_network(), sys.executable, "-c", code], capture_output=True, text=True)
    assert "Network is unreachable" in done.stderr


def test_every_board_builds_into_the_bytes_of_our_own_build(core: Path, model: Path) -> None:
    boards = board_names()
    project = prepared(core.parent / "everywhere", core, model, boards)
    assert outcomes(passes(project, "run")) == dict.fromkeys(boards, "SUCCESS")
    for name in boards:
        own = building.build(project, load_board(name), application=True)
        assert sections(image(project, name)) == sections(own.elf), name
    home = core.parent / "everywhere-home"
    assert not (home / ".platformio").exists(), "only the project's own core folder was used"


@pytest.mark.parametrize("name", MIXED)
def test_the_test_image_has_the_bytes_of_our_own_build(copy: Path, name: str) -> None:
    passes(copy, "test", "-e", name, "--without-testing")
    own = building.build(copy, load_board(name))
    assert sections(image(copy, name)) == sections(own.elf)
    assert sections(own.elf) != sections(building.build(copy, load_board(name), application=True).elf)


def test_weights_in_external_flash_are_built_and_measured_alike(core: Path, model: Path) -> None:
    """The linker script is enough; PlatformIO's percentages are those of internal flash and of SRAM."""
    board = load_board("nrf52840_dk")
    project = prepared(core.parent / "external", core, model, [board.name], "--weights", "qspi")
    own = building.build(project, board, application=True)
    told = passes(project, "run")
    assert sections(image(project, board.name)) == sections(own.elf)
    used = [int(n) for n in re.findall(r"^(?:RAM|Flash): .*used (\d+) bytes", told, re.MULTILINE)]
    assert used == [own.ram_bytes, own.code_bytes] and own.weights_bytes > 0
    passes(project, "test", "-e", board.name, "--without-testing")
    assert sections(image(project, board.name)) == sections(building.build(project, board).elf)


def test_flash_hands_on_the_image_without_weights_that_are_in_external_flash(
    core: Path, model: Path, tmp_path: Path
) -> None:
    """PlatformIO and make: the program gets the code alone, as hex."""
    path = {"PATH": f"{noting_openocd(tmp_path).parent}:{os.environ['PATH']}"}
    project = prepared(tmp_path / "fw", core, model, ["nrf52840_dk"], "--weights", "qspi")
    done = pio(project, "run", "-t", "flash", extra=path)
    assert done.returncode == 0, printed(done)
    bare = tmp_path / "bare"
    words = ("--board", "nrf52840_dk", "--weights", "qspi", "--project", "bare")
    assert main(["compile", str(model), *words, "--out", str(bare)]) == 0
    subprocess.run(["make", "flash"], cwd=bare, env={**os.environ, **path}, check=True, capture_output=True)
    called = [re.findall(r"program (\S+)", line) for line in (tmp_path / "called").read_text().splitlines()]
    found = [(folder / name).read_text() for folder, (name,) in zip((project, bare), called, strict=True)]
    own = building.build(bare, load_board("nrf52840_dk"), application=True)
    for text in found:
        assert sum(int(line[1:3], 16) for line in text.splitlines() if line[7:9] == "00") == own.code_bytes


def test_application_and_test_image_are_placed_alike(copy: Path) -> None:
    """What is pinned lies in the same region at the same address in both."""
    board = load_board("nucleo_f446re")
    images = [building.build(copy, board, application=flag) for flag in (False, True)]
    pins = json.loads((copy / "boards" / board.name / "placement.json").read_text())["pins"]
    assert pins
    for pin in pins:
        low, high = (i.symbols[pin["symbol"]].address for i in images)
        assert low == high and board.region(pin["region"]).origin <= low < board.region(pin["region"]).end


def test_a_changed_linker_script_links_again(copy: Path) -> None:
    passes(copy, "run", "-e", "mps2_an386")
    before = sections(image(copy, "mps2_an386"))
    replace_in(copy / "ldscripts" / "mps2_an386.ld", ". += 4096;", ". += 8192;")
    passes(copy, "run", "-e", "mps2_an386")
    after = sections(image(copy, "mps2_an386"))
    assert after[".stack"][1] == before[".stack"][1] + 4096


def test_what_does_not_fit_fails_to_link_with_our_sentence(copy: Path) -> None:
    script = copy / "ldscripts" / "mps2_an386.ld"
    script.write_text(re.sub(r"(ssram1 .*LENGTH = )\d+", r"\g<1>1024", script.read_text()))
    done = pio(copy, "run", "-e", "mps2_an386")
    assert done.returncode != 0
    assert "tinygen: code and weights do not fit region 'ssram1' of board 'mps2_an386'" in printed(done)


def test_two_projects_that_share_a_core_folder_do_not_mix(core: Path, model: Path, tmp_path: Path) -> None:
    """Both have a platform of the same name and folder's name; each must be built by its own."""
    projects = [prepared(tmp_path / side / "fw", core, model, ["mps2_an386"]) for side in ("left", "right")]
    for project in projects:
        with (project / "platform" / "builder" / "main.py").open("a") as script:
            script.write(f'\nopen("built-by-{project.parent.name}", "w").close()\n')
    for project in projects:
        passes(project, "run")
        (project / "src" / "main.c").touch()
    started = [
        subprocess.Popen(
            [*without_network(), sys.executable, "-P", "-m", "platformio", "run"],
            cwd=project, env=environment(project), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for project in projects
    ]  # fmt: skip
    for process in started:
        process.wait()
    for project in projects:
        assert [p.name for p in project.glob("built-by-*")] == [f"built-by-{project.parent.name}"]


def test_the_library_alone_drops_into_another_project(copy: Path, tmp_path: Path) -> None:
    """lib/model in a project of the user's: its own platform, its own main, C++."""
    other = tmp_path / "other"
    shutil.copytree(copy / "lib" / "model", other / "lib" / "model")
    (other / "src").mkdir()
    (other / "src" / "main.cpp").write_text(
        '#include <cstdio>\n#include "model.h"\nstatic int32_t memory[MODEL_ARENA_BYTES / 4 + 1];\n'
        "int main() {\n    for (size_t i = 0; i < MODEL_INPUT_0_SIZE; ++i) { model_input(memory, 0)[i] = 0; }\n"
        '    std::printf("status %d\\n", model_invoke(memory, sizeof memory));\n}\n'
    )
    (other / "platformio.ini").write_text(
        f"[platformio]\nextra_configs = platformio.local.ini\n[env:host]\n"
        f"platform = mine-${{PROJECT_HASH}}=symlink://{copy / 'platform'}\n"
    )
    (other / "platformio.local.ini").write_text(f"[platformio]\ncore_dir = {doctor.core_of(copy)}\n")
    passes(other, "run")
    done = subprocess.run([str(image(other, "host"))], capture_output=True, text=True)
    assert done.stdout == "status 0\n"


# ---- pio test


@pytest.mark.qemu
def test_pio_test_passes_on_every_emulator(pair: Path) -> None:
    wanted = ("native", "qemu", "nucleo_f446re")
    told = passes(pair, "test", *(word for e in wanted for word in ("-e", e)))
    assert outcomes(told) == dict.fromkeys(wanted, "PASSED")
    assert f"{4 * len(wanted)} test cases: {4 * len(wanted)} succeeded" in told


def no_tinygen(folder: Path) -> dict[str, str]:
    """A Python in which tinygen cannot be imported."""
    (folder / "tinygen").mkdir(exist_ok=True)
    (folder / "tinygen" / "__init__.py").write_text("raise ImportError\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.qemu
def test_pio_test_passes_without_tinygen(copy: Path, tmp_path: Path) -> None:
    alone = no_tinygen(tmp_path)
    done = pio(copy, "test", "-e", "native", "-e", "qemu", "-e", "unicorn", extra=alone)
    assert outcomes(printed(done)) == {"native": "PASSED", "qemu": "PASSED", "unicorn": "ERRORED"}
    assert done.returncode != 0 and "unicorn needs tinygen in PlatformIO's Python" in printed(done)


def break_weight(project: Path) -> None:
    """Another first weight than the model's."""
    (source,) = (project / "lib").rglob("*_weights.c")
    text = source.read_text()
    first = text.index("= {") + 3
    source.write_text(text[:first] + "\n    99," + text[text.index(",", first) + 1 :])


@pytest.mark.parametrize("alone", [False, True])
def test_a_wrong_weight_fails_the_test(copy: Path, tmp_path: Path, alone: bool) -> None:
    break_weight(copy)
    extra = no_tinygen(tmp_path) if alone else {}
    done = pio(copy, "test", "-e", "native", extra=extra)
    assert done.returncode != 0 and outcomes(printed(done)) == {"native": "FAILED"}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("defect", ["silent", "stale"])
def test_an_image_without_end_is_an_error_not_a_pass(
    copy: Path, tmp_path: Path, alone: bool, defect: str
) -> None:
    """A suite that prints nothing counts as skipped with PlatformIO: the runner must not let it."""
    source = copy / "test" / "test_model" / "test_main.c"
    if defect == "silent":
        replace_in(source, "    tg_harness_run(", "    return 0;\n    tg_harness_run(")
    else:
        run_id = json.loads((copy / "firmware.json").read_text())["run_id"]
        replace_in(source, run_id, "0123456789abcdef")
    done = pio(copy, "test", "-e", "native", extra=no_tinygen(tmp_path) if alone else {})
    assert done.returncode != 0 and outcomes(printed(done)) == {"native": "ERRORED"}


def test_stored_samples_are_the_representative_ones_with_the_references_outputs(pair: Path) -> None:
    from tinygen import evaluate
    from tinygen.pio.testing import read_samples

    inputs, outputs = read_samples(pair)
    graph = bundle.load_project(pair)[0]
    shaped = tuple(x.reshape(len(x), *t.shape) for x, t in zip(inputs, graph.input_tensors, strict=True))
    for got, right in zip(outputs, evaluate.reference(graph, shaped), strict=True):
        assert np.array_equal(got, right.reshape(len(right), -1))
    (pair / "elsewhere").mkdir(exist_ok=True)
    with pytest.raises(OutputError, match="cannot be read as samples"):
        read_samples(pair / "elsewhere")
    (pair / "elsewhere").rmdir()


# ---- debugging


@pytest.mark.qemu
def test_pio_debug_reaches_main(copy: Path) -> None:
    """In a network of this machine's own: gdb talks to QEMU over a port."""
    if not (shutil.which("gdb-multiarch") or shutil.which("arm-none-eabi-gdb")):
        pytest.skip("no gdb for Arm is installed (apt-get install gdb-multiarch)")
    main(["pio", "bootstrap", str(copy), "--core", str(doctor.core_of(copy))])
    command = [sys.executable, "-P", "-m", "platformio", "debug", "-e", "mps2_an386", "--interface=gdb"]
    process = subprocess.Popen(
        [*command, "--", "-x", ".pioinit"],
        cwd=copy, env=environment(copy), text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    clock = threading.Timer(120, lambda: os.killpg(process.pid, signal.SIGKILL))
    clock.start()
    seen = []
    try:
        assert process.stdout and process.stdin
        for line in process.stdout:
            seen.append(line)
            if line.startswith("Temporary breakpoint 1, main"):
                break
    finally:
        clock.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert seen and re.match(r"Temporary breakpoint 1, main \(\) at src/main\.c", seen[-1]), "".join(seen)


# ---- whose files


def test_the_users_main_survives_and_what_differs_is_said(
    copy: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compile_again = ["compile", str(model), *(w for b in MIXED for w in ("--board", b)), "--out", str(copy)]
    (copy / "src" / "main.c").write_text("int main(void)\n{\n    return 7;\n}\n")
    (copy / "src" / "mine.c").write_text("int mine;\n")
    (copy / "platformio.user.ini").write_text("[env]\nbuild_flags = -DMINE\n")
    assert main([*compile_again, "--check"]) == 0
    capsys.readouterr()
    for force in ([], ["--force"], ["--name", "other"]):
        assert main([*compile_again, *force]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert "src/main.c is yours and was kept" in told and "lines" in told
        assert (copy / "src" / "main.c").read_text() == "int main(void)\n{\n    return 7;\n}\n"
    for kept in ("src/mine.c", "platformio.user.ini", "platformio.local.ini"):
        assert (copy / kept).is_file()
    assert not (copy / "lib" / "model").exists(), "what tinygen does not generate any more is gone"
    (copy / "src" / "main.c").unlink()
    assert main(compile_again) == 0 and "model_invoke" in (copy / "src" / "main.c").read_text()


def test_a_main_that_was_not_changed_follows_the_model(copy: Path, model: Path) -> None:
    assert main(["compile", str(model), "--board", "microbit", "--out", str(copy), "--name", "other"]) == 0
    assert "other_invoke" in (copy / "src" / "main.c").read_text()
    assert not (copy / "boards" / "mps2_an386").exists()


def test_other_changed_files_are_refused_by_name(
    copy: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in ("platformio.ini", "boards/mps2_an386/tg_port.c"):
        (copy / path).write_text((copy / path).read_text() + "\n")
    again = ["compile", str(model), *(w for b in MIXED for w in ("--board", b)), "--out", str(copy)]
    assert main(again) == 1
    told = capsys.readouterr().err
    assert "was changed since tinygen wrote it" in told
    assert "platformio.ini" in told and "boards/mps2_an386/tg_port.c" in told and "--force" in told
    assert main([*again, "--force"]) == 0
    assert not (copy / "platformio.ini").read_text().endswith("\n\n")


def test_settings_of_the_users_own_win(copy: Path) -> None:
    (copy / "platformio.user.ini").write_text("[env:mps2_an386]\nbuild_flags = -O2 -DANSWER=42\n")
    replace_in(
        copy / "src" / "main.c", "int main(void)", "#if ANSWER != 42\n#error not mine\n#endif\nint main(void)"
    )
    passes(copy, "run", "-e", "mps2_an386")
    assert pio(copy, "run", "-e", "nucleo_f446re").returncode != 0


def test_git_ignores_what_is_of_this_machine(copy: Path) -> None:
    git = ["git", "-C", str(copy)]
    subprocess.run([*git, "init", "-q"], check=True)
    (copy / ".pio").mkdir(exist_ok=True)
    (copy / ".pio" / "x").touch()
    status = subprocess.run(
        [*git, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    )
    files = {line[3:] for line in status.stdout.splitlines()}
    assert {"platformio.ini", "src/main.c", "manifest.json"} <= files
    assert not [f for f in files if f.startswith((".pio", "build")) or f == layout.LOCAL_INI]


# ---- several boards


def test_run_takes_any_board_of_the_project(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(2, 6, 5, 2)).astype(np.float32))
    common = ["run", str(copy), "--inputs", str(tmp_path / "x.npy"), "--emulator", "unicorn"]
    assert main(common) == 0 and (copy / "build" / "mps2_an386").is_dir()
    assert main([*common, "--board", "nucleo_f446re"]) == 0 and (copy / "build" / "nucleo_f446re").is_dir()
    capsys.readouterr()
    assert main([*common, "--board", "nucleo_f446"]) == 1
    told = capsys.readouterr().err
    assert "did you mean 'nucleo_f446re'" in told and "it is for mps2_an386, nucleo_f446re" in told
    assert bundle.load_project(copy)[1].name == "mps2_an386"
    assert api.inspect(copy).program.steps


def test_boards_that_need_different_libraries_cannot_share_a_project() -> None:
    boards = [load_board(name) for name in MIXED]
    made = [pipeline.compile_graph(int8_graph(), None, b, pipeline.Options()) for b in boards]
    bundle.check_one_library(made, boards)
    files = {**made[1].library.files, "lib/model/model.c": "/* for this core only */\n"}
    other = replace(made[1], library=replace(made[1].library, files=files))
    with pytest.raises(BoardError, match="'nucleo_f446re' needs another library than 'mps2_an386'"):
        bundle.check_one_library([made[0], other], boards)
    with pytest.raises(BoardError, match="'mps2_an386' is given twice"):
        bundle.check_one_library([made[0]] * 2, [boards[0]] * 2)


# ---- platformio.ini, bootstrap, doctor


def test_users_of_the_registry_get_official_platforms_at_fixed_versions(copy: Path) -> None:
    (copy / layout.LOCAL_INI).unlink()
    text = (copy / "platformio.ini").read_text()
    assert "platform_ststm32 = ststm32@~19.6.0" in text and f"toolchain = {layout.TOOLCHAIN}" in text
    sections_of = dict(re.findall(r"^\[env:(\w+)\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL))
    assert "platform = ${tinygen.platform_ststm32}\n" in sections_of["nucleo_f446re"]
    assert "platform = ${tinygen.local}\n" in sections_of["mps2_an386"]
    assert "framework =" not in re.sub(r"test_framework = custom", "", text)


@pytest.mark.parametrize("name", board_names())
def test_every_real_board_has_a_command_that_flashes_it(name: str) -> None:
    board = load_board(name)
    command = board.flash_command
    assert bool(command) == (board.platformio is not None)
    assert not command or "{elf}" in command


def noting_openocd(folder: Path) -> Path:
    """A program in openocd's place that writes down, in the file called, what it is called with."""
    fake = folder / "bin" / "openocd"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> {folder}/called\n')
    fake.chmod(0o755)
    return fake


def test_flash_calls_the_program_with_the_image(copy: Path, tmp_path: Path) -> None:
    """Offline `flash` and `upload`: a program in openocd's place notes what it is called with."""
    noting_openocd(tmp_path)
    for target in ("flash", "upload"):
        path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        done = pio(copy, "run", "-e", "nucleo_f446re", "-t", target, extra=path)
        assert done.returncode == 0, printed(done)
    called = (tmp_path / "called").read_text().splitlines()
    assert len(called) == 2
    for line in called:
        assert re.search(
            r"-f target/stm32f4x.cfg -c program \S*nucleo_f446re/firmware.elf verify reset exit", line
        )


def test_doctor_says_what_is_missing_and_bootstrap_brings_it(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / layout.LOCAL_INI).unlink()
    assert main(["pio", "doctor", str(copy), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    missing = [f["name"] for f in data["findings"] if not f["found"] and f["required"]]
    assert missing == [layout.LOCAL_INI, "tool-scons", "toolchain package", "state of PlatformIO"]
    assert main(["pio", "bootstrap", str(copy), "--core", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    assert (
        main(["pio", "doctor", str(copy)]) == 0 and "missing" not in capsys.readouterr().out.split("gcc ")[0]
    )
    (tmp_path / "c" / "local" / "toolchain-gccarmnoneeabi" / "bin" / "arm-none-eabi-gcc").unlink()
    assert main(["pio", "doctor", str(copy)]) == 1
    assert f"tinygen pio bootstrap {copy}" in capsys.readouterr().out.replace("\n", "")


def test_bootstrap_again_changes_nothing_and_keeps_the_users_state(copy: Path, tmp_path: Path) -> None:
    core = tmp_path / "c"
    bootstrap.bootstrap(copy, core)
    state = json.loads((core / "appstate.json").read_text())
    (core / "appstate.json").write_text(json.dumps({**state, "mine": 1, "last_version": "6.0.0"}))
    before = (copy / layout.LOCAL_INI).read_text()
    bootstrap.bootstrap(copy, core)
    again = json.loads((core / "appstate.json").read_text())
    assert again["mine"] == 1 and again["last_version"] == metadata.version("platformio")
    assert (copy / layout.LOCAL_INI).read_text() == before


def test_bootstrap_names_what_is_missing(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"has no platformio\.ini"):
        bootstrap.bootstrap(tmp_path / "nothing", tmp_path / "c")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "platformio.ini").write_text("[env:x]\nplatform = native\n")
    with pytest.raises(OutputError, match=r"no section \[tinygen\]"):
        bootstrap.bootstrap(tmp_path / "foreign", tmp_path / "c")
    with pytest.raises(OutputError, match="cannot write"):
        bootstrap.bootstrap(copy, Path("/proc/core"))
    monkeypatch.setattr(bootstrap.metadata, "version", lambda name: "4.0.0")
    with pytest.raises(
        ToolError, match=r"SCons 4\.0\.0 is installed, PlatformIO wants 4\.11\.1\n  type: .*pip install"
    ):
        bootstrap.bootstrap(copy, tmp_path / "c")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="arm-none-eabi-gcc is not installed"):
        bootstrap.bootstrap(copy, tmp_path / "c")


# ---- every model on every board


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.tensorflow
@pytest.mark.parametrize("model", [m for m in REAL_MODELS if m.file.endswith(".keras")], ids=lambda m: m.file)
def test_every_model_builds_for_every_board_that_it_fits(
    model: RealModel, shared_data: Path, core: Path, tmp_path: Path
) -> None:
    """One project for all boards whose SRAM holds the model; the bytes are those of our own build, for tests too.

    Where the flash is too small the link fails, there as here; where the SRAM is, compile says so.
    """
    path, representative = shared_data / "models" / model.file, shared_data / model.train
    fitting, refused = split(path, representative, model)
    assert all("does not fit" in text for text in refused.values()), refused
    tinygen.compile(
        path, representative=representative, samples=model.options, board=fitting, out=tmp_path / "fw"
    )
    bootstrap.bootstrap(tmp_path / "fw", core)
    project = tmp_path / "fw"
    run = outcomes(printed(pio(project, "run")))
    built = [board for board in fitting if same_bytes(project, board, run[board], application=True)]
    passes(project, "test", "--without-testing", *(word for board in built for word in ("-e", board)))
    assert [b for b in built if same_bytes(project, b, "SUCCESS", application=False)] == built
    ran = outcomes(printed(pio(project, "test", "-e", "qemu", "-e", "native")))
    assert ran == {"qemu": "PASSED", "native": "PASSED"}


def same_bytes(project: Path, board: str, outcome: str, application: bool) -> bool:
    """PlatformIO's image is ours, byte for byte (True), or neither links because it does not fit (False)."""
    try:
        own = building.build(project, load_board(board), application)
    except BoardError as problem:
        assert "the image does not fit" in str(problem) and outcome == "FAILED", (board, str(problem))
        return False
    assert outcome == "SUCCESS", board
    assert sections(image(project, board)) == sections(own.elf), board
    return True


def split(path: Path, representative: Path, model: RealModel) -> tuple[list[str], dict[str, str]]:
    """(boards that hold the model, board -> why not). The model is quantized once."""
    build = tinygen.compile(path, representative=representative, samples=model.options, board="mps2_an386")
    made = build.compiled
    options = pipeline.Options(made.library.name)
    fitting, refused = [], {}
    for name in board_names():
        try:
            pipeline.lower(made.graph, load_board(name), options, made.fused, made.decisions)
            fitting.append(name)
        except BoardError as problem:
            refused[name] = str(problem)
    return fitting, refused

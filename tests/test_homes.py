"""Every home of the generated C, used as far as it can be here: built, linked, run, its files checked.

CMake, make and both compilers are real. Arduino and Zephyr are stand-ins of ours (tests/support/arduino, zephyr).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kconfiglib
import numpy as np
import pytest
import yaml
from elftools.elf.elffile import ELFFile

from tests.support.graphs import int8_graph
from tests.support.pio import sections
from tests.test_event_app import open_graph
from tinygen import api, building, project
from tinygen.boards import load_board
from tinygen.cli import main
from tinygen.errors import OutputError, RunError, UsageError
from tinygen.homes import HOMES
from tinygen.tflite.export import export_tflite

pytestmark = [pytest.mark.arm, pytest.mark.cmake]
SUPPORT = Path(__file__).parent / "support"
BOARDS = ("nucleo_f446re", "mps2_an386", "nucleo_g071rb", "nucleo_h743zi")
LIBRARIES = tuple(name for name, home in HOMES.items() if not home.runs)
STRICT = ("-Wall", "-Wextra", "-Werror")
VARIANTS: Mapping[str, dict[str, Any]] = {
    "classes": {},
    "labels, library's arena": {"labels": ("one", 'quo"te', "три"), "arena": "library"},
    "no classifier": {},
    "two inputs": {},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("homes")
    (folder / "net.tflite").write_bytes(export_tflite(int8_graph()))
    (folder / "two.tflite").write_bytes(export_tflite(open_graph(2)))
    (folder / "open.tflite").write_bytes(export_tflite(open_graph()))
    return folder


def made(models: Path, home: str, variant: str = "classes", boards: tuple[str, ...] = BOARDS) -> Path:
    """The project of that kind, made once and not to be written to."""
    out = models / f"{home} {variant} {len(boards)}"
    if not out.exists():
        files = {"no classifier": "open.tflite", "two inputs": "two.tflite"}
        model = models / files.get(variant, "net.tflite")
        api.compile(model, board=boards, project=home, name="net", out=out, **VARIANTS[variant])
    return out


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def runs(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def fails(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stdout + done.stderr


def configured(source: Path, build: Path, *options: str) -> Path:
    """CMake's build folder, built."""
    runs("cmake", "-S", source, "-B", build, *options)
    runs("cmake", "--build", build)
    return build


# ---- what all homes have in common


@pytest.mark.parametrize("home", HOMES)
def test_manifest_names_every_file_and_check_says_that_it_is_current(
    models: Path, home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(models, home)
    manifest = project.read_manifest(folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert {*manifest["files"], "manifest.json"} == files
    assert manifest["options"]["home"] == home
    command = ["compile", str(models / "net.tflite"), "--project", home, "--out", str(folder), "--check"]
    command += [f"--board={name}" for name in BOARDS]
    assert main(command) == 0
    other = "bare" if home != "bare" else "cmake"
    assert main([word if word != home else other for word in command]) != 0, "the control: of another kind"
    assert "is not what would be generated now" in capsys.readouterr().err


@pytest.mark.parametrize("home", HOMES)
def test_users_files_survive_and_changed_ones_of_ours_stop_it(
    models: Path, home: str, tmp_path: Path
) -> None:
    folder = copy(made(models, home), tmp_path / "fw")
    users = HOMES[home].users
    names = {"name": "net", "Name": "Net"}
    mine = [folder / u.format(**names) for u in users] + [folder / "notes.txt"]
    for path in mine:
        path.write_text("mine")

    def again(**options: Any) -> api.Build:
        return api.compile(models / "net.tflite", board=BOARDS, project=home, out=folder, **options)

    notes = again().notes
    assert [p.read_text() for p in mine] == ["mine"] * len(mine)
    assert sum("is yours and was kept" in note for note in notes) == len(users)
    (folder / "README.md").write_text("changed")
    with pytest.raises(OutputError, match=r"'README.md'.*was changed since tinygen wrote it"):
        again()
    again(force=True)
    assert (folder / "README.md").read_text() == (made(models, home) / "README.md").read_text()


@pytest.mark.parametrize("home", HOMES)
def test_inspect_and_export_work_and_run_where_there_is_an_image(
    models: Path, home: str, tmp_path: Path
) -> None:
    folder = copy(made(models, home), tmp_path / "fw")
    assert len(api.inspect(folder).program.steps) > 3
    assert api.export(folder, tmp_path / "net.tflite")[4:8] == b"TFL3"
    stored = tmp_path / "x.npy"
    np.save(stored, np.zeros((1, 6, 5, 2), np.float32))
    if HOMES[home].runs:
        assert api.run(folder, inputs=stored, emulator="host").result.passed
    else:
        with pytest.raises(RunError, match=f"is {HOMES[home].title}: it has no start-up code"):
            api.run(folder, inputs=stored, emulator="host")


@pytest.mark.parametrize("home", LIBRARIES)
def test_readme_says_that_nothing_is_pinned_and_what_would_be_worth_it(models: Path, home: str) -> None:
    folder = made(models, home)
    text = (folder / "README.md").read_text()
    assert "nothing is pinned by itself" in text and "{{" not in text and "{%" not in text
    pins = json.loads((folder / "boards" / "nucleo_f446re" / "placement.json").read_text())["pins"]
    assert pins
    code = "".join(p.read_text() for p in folder.rglob("*.c"))
    for pin in pins:
        section = ".text" if pin["role"] == "code" else ".rodata"
        assert f"`{section}.{pin['symbol']}`" in text and pin["symbol"] in code


def test_an_unknown_home_is_refused(models: Path) -> None:
    with pytest.raises(UsageError, match="no project kind 'make'\n  known: platformio, cmake, arduino"):
        api.compile(models / "net.tflite", project="make")


# ---- CMake


@pytest.mark.parametrize("variant", VARIANTS)
def test_cmake_host_test_passes_and_sees_one_wrong_element(
    models: Path, variant: str, tmp_path: Path
) -> None:
    folder = copy(made(models, "cmake", variant), tmp_path / "net")
    build = configured(folder, tmp_path / "build", "-DCMAKE_C_FLAGS=" + " ".join(STRICT))
    assert "100% tests passed, 0 tests failed out of 1" in runs("ctest", "--test-dir", build)
    data = folder / "test" / "samples.h"
    head, _, tail = data.read_text().partition("output_0[SAMPLES]")
    tail = re.sub(r"-?\d+(?=\n    })", lambda m: str((int(m[0]) + 129) % 256 - 128), tail, count=1)
    data.write_text(f"{head}output_0[SAMPLES]{tail}")
    runs("cmake", "--build", build)
    assert "1 tests failed out of 1" in fails("ctest", "--test-dir", build)


def test_cmake_installed_package_is_found_and_linked(models: Path, tmp_path: Path) -> None:
    build = configured(made(models, "cmake"), tmp_path / "build")
    runs("cmake", "--install", build, "--prefix", tmp_path / "prefix")
    consumer(tmp_path / "user", "find_package(tinygen_net 0.1 REQUIRED)")
    found = configured(tmp_path / "user", tmp_path / "user-build", f"-DCMAKE_PREFIX_PATH={tmp_path}/prefix")
    assert runs(found / "user") == "0\n"
    headers = [p.name for p in (tmp_path / "prefix").rglob("*.h")]
    assert headers == ["net.h"], "the public header alone"


def test_cmake_as_a_subdirectory_brings_the_target_and_no_tests(models: Path, tmp_path: Path) -> None:
    consumer(tmp_path / "user", f'enable_testing()\nadd_subdirectory("{made(models, "cmake")}" net)')
    build = configured(tmp_path / "user", tmp_path / "build")
    assert runs(build / "user") == "0\n"
    assert "No tests were found" in fails("ctest", "--no-tests=error", "--test-dir", build)


def consumer(folder: Path, finding: str) -> None:
    """A project that uses the library."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(user C)\n"
        f"{finding}\nadd_executable(user main.c)\ntarget_link_libraries(user PRIVATE tinygen::net)\n"
    )
    (folder / "main.c").write_text(
        "#include <net.h>\n#include <stdio.h>\nstatic int32_t a[NET_ARENA_BYTES];\n"
        'int main(void) { printf("%d\\n", (int)net_invoke(a, sizeof a)); return 0; }\n'
    )


@pytest.mark.parametrize("name", BOARDS)
def test_cmake_toolchain_files_build_for_the_boards_core(models: Path, name: str, tmp_path: Path) -> None:
    folder, board = made(models, "cmake"), load_board(name)
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={folder}/cmake/{name}.cmake"
    build = configured(folder, tmp_path / "build", toolchain, "-DCMAKE_C_FLAGS_RELEASE=-Werror -Wall")
    runs("arm-none-eabi-ar", "x", build / "libtinygen_net.a", cwd=tmp_path)
    objects = sorted(tmp_path.glob("*.obj"))
    assert [o.name for o in objects] == ["net.c.obj", "net_weights.c.obj"]
    expected = reference_object(folder, board.compiler_flags, tmp_path)
    for path in objects:
        with path.open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_machine"] == "EM_ARM"
            attributes = {a.tag: a.value for a in attributes_of(elf)}
        assert attributes == expected
    assert not (build / "CTestTestfile.cmake").exists(), "what cannot run here is not tested"


def attributes_of(elf: ELFFile) -> list[Any]:
    section = elf.get_section_by_name(".ARM.attributes")
    return list(section.subsections[0].subsubsections[0].iter_attributes())


def reference_object(folder: Path, flags: tuple[str, ...], out: Path) -> dict[str, Any]:
    """The attributes (core, FPU, ABI) that the board's flags give."""
    runs(
        *("arm-none-eabi-gcc", *flags, "-O2", "-c", folder / "lib" / "net" / "net_weights.c"),
        *("-o", out / "reference.o"),
    )
    with (out / "reference.o").open("rb") as file:
        return {a.tag: a.value for a in attributes_of(ELFFile(file))}


# ---- Arduino


@pytest.mark.parametrize("variant", VARIANTS)
def test_arduino_example_compiles_as_cpp_links_and_runs(models: Path, variant: str, tmp_path: Path) -> None:
    folder = made(models, "arduino", variant)
    source = folder / "src"
    stand_in = SUPPORT / "arduino"
    includes = (f"-I{source}", f"-I{stand_in}")
    sketch = folder / "examples" / "Net" / "Net.ino"
    for path, extra in ((sketch, ("-include", "Arduino.h", "-x", "c++")), (stand_in / "main.cpp", ())):
        runs("g++", "-std=c++17", *STRICT, *includes, *extra, "-c", path, "-o", tmp_path / f"{path.name}.o")
    for path in source.glob("*.c"):
        runs("gcc", *STRICT, "-Os", "-c", path, "-o", tmp_path / f"{path.name}.o")
    runs("g++", *tmp_path.glob("*.o"), "-o", tmp_path / "sketch")
    printed = runs(tmp_path / "sketch")
    outputs = r"output 0:( -?\d+){60}"
    what = {
        "classes": r"class \d",
        "no classifier": outputs,
        "two inputs": outputs + "\n" + outputs.replace("0:", "1:"),
    }
    assert re.fullmatch(rf"net: 0 us, {what.get(variant, 'class (one|quo.te|три)')}\n", printed), printed


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("compiler", ["g++", "arm-none-eabi-g++"])
def test_header_is_cpp(models: Path, variant: str, compiler: str, tmp_path: Path) -> None:
    """A translation unit that calls all of the API, with the warnings that users turn on."""
    unit = tmp_path / "unit.cpp"
    unit.write_text(
        "#include <net.h>\nstatic int32_t arena[NET_ARENA_BYTES];\n"
        "int main()\n{\n    const float sample[NET_INPUT_0_SIZE] = {};\n"
        "    net_set_input_0(arena, sample);\n    net_input(arena, 0)[0] = net_from_uint8(7);\n"
        "    const net_status status = net_invoke(arena, sizeof arena);\n"
        "    const int8_t q = net_output(arena, 0)[0];\n"
        "    const float first = net_dequantize(q, NET_OUTPUT_0_SCALE, NET_OUTPUT_0_ZERO_POINT);\n"
        "    return status == NET_OK && first < 1e9F ? 0 : 1;\n}\n"
    )
    source = made(models, "arduino", variant) / "src"
    for standard in ("c++11", "c++17"):
        warnings = (*STRICT, "-Wconversion", "-pedantic")
        target = tmp_path / "unit.o"
        runs(compiler, f"-std={standard}", *warnings, f"-I{source}", "-c", unit, "-o", target)


def test_arduino_properties_are_those_of_its_specification(models: Path) -> None:
    folder = made(models, "arduino")
    lines = (folder / "library.properties").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert list(found) == ["name", "version", "author", "maintainer", "sentence", "paragraph", "category",
                           "url", "architectures", "includes"]  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", found["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"]) and found["category"] == "Data Processing"
    assert (folder / "src" / found["includes"]).is_file()
    assert all(p.stem == p.parent.name for p in folder.rglob("*.ino")), "a sketch is named as its folder"


# ---- Zephyr


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> kconfiglib.Kconfig:
    """The module's Kconfig below the stand-in's, with the sample's settings."""
    monkeypatch.setenv("MODULE", str(folder))
    config = kconfiglib.Kconfig(str(SUPPORT / "zephyr" / "Kconfig"), warn_to_stderr=False)
    config.warn_assign_undef = True
    config.load_config(str(folder / "samples" / "net" / "prj.conf"))
    return config


def test_zephyr_kconfig_parses_and_the_samples_settings_are_taken(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(made(models, "zephyr"), tmp_path / "module")
    config = loaded(folder, monkeypatch)
    assert config.warnings == []
    assert config.syms["TINYGEN_NET"].str_value == "y" and config.syms["MAIN_STACK_SIZE"].str_value == "4096"
    settings = folder / "samples" / "net" / "prj.conf"
    settings.write_text(settings.read_text().replace("TINYGEN_NET", "TINYGEN_NOT"))
    assert "undefined symbol TINYGEN_NOT" in "".join(loaded(folder, monkeypatch).warnings), "the control"


def test_zephyr_module_and_sample_have_the_keys_that_zephyr_reads(models: Path) -> None:
    """Keys and types as in scripts/zephyr_module.py and twister's schema of Zephyr."""
    folder = made(models, "zephyr")
    module = yaml.safe_load((folder / "zephyr" / "module.yml").read_text())
    assert set(module) == {"name", "build", "samples"} and set(module["build"]) == {"cmake", "kconfig"}
    assert (folder / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (folder / module["build"]["kconfig"]).is_file()
    assert all((folder / sample / "net" / "sample.yaml").is_file() for sample in module["samples"])
    sample = yaml.safe_load((folder / "samples" / "net" / "sample.yaml").read_text())
    assert set(sample) == {"sample", "tests"} and set(sample["sample"]) == {"name", "description"}
    (test,) = sample["tests"].values()
    assert set(test) == {"tags", "harness", "harness_config"} and test["harness"] == "console"
    assert test["harness_config"]["type"] == "one_line" and len(test["harness_config"]["regex"]) == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_zephyr_sample_configures_builds_and_runs_on_stand_ins(
    models: Path, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(models, "zephyr", variant)
    loaded(folder, monkeypatch).write_config(str(tmp_path / ".config"), save_old=False)
    options = (f"-DZephyr_DIR={SUPPORT}/zephyr", f"-DSTAND_IN_CONFIG={tmp_path}/.config")
    build = configured(folder / "samples" / "net", tmp_path / "build", *options)
    sample = yaml.safe_load((folder / "samples" / "net" / "sample.yaml").read_text())
    (regex,) = sample["tests"]["sample.tinygen.net"]["harness_config"]["regex"]
    assert re.match(regex, runs(build / "app"))
    (tmp_path / ".config").write_text("")
    runs("cmake", "-S", folder / "samples" / "net", "-B", build)
    assert "net.h" in fails("cmake", "--build", build, "--clean-first"), (
        "the control: the module is not asked for"
    )


# ---- bare


def test_bare_makefile_builds_the_bytes_of_our_own_build(models: Path, tmp_path: Path) -> None:
    folder = copy(made(models, "bare"), tmp_path / "fw")
    runs("make", "-j2", cwd=folder)
    for name in BOARDS:
        own = building.build(folder, load_board(name), application=True)
        assert sections(folder / "build" / "make" / name / "firmware.elf") == sections(own.elf), name
    assert "Nothing to be done" in runs("make", cwd=folder, LC_ALL="C")


def test_bare_makefile_takes_the_users_files_and_links_again(models: Path, tmp_path: Path) -> None:
    folder = copy(made(models, "bare", boards=("mps2_an386",)), tmp_path / "fw")
    (folder / "src" / "mine.c").write_text("int mine(void);\nint mine(void)\n{\n    return 7;\n}\n")
    main_c = folder / "src" / "main.c"
    main_c.write_text("int mine(void);\n" + main_c.read_text().replace("return 0;", "return mine();"))
    runs("make", cwd=folder)
    elf = folder / "build" / "make" / "mps2_an386" / "firmware.elf"
    assert "mine" in runs("arm-none-eabi-nm", elf)
    script = folder / "ldscripts" / "mps2_an386.ld"
    script.write_text(re.sub(r"(ssram1 .*LENGTH = )\d+", r"\g<1>1024", script.read_text()))
    assert "tinygen: code and weights do not fit region 'ssram1'" in fails("make", cwd=folder)


def test_bare_vector_table_grows_with_the_chips_interrupts(models: Path, tmp_path: Path) -> None:
    """A handler of the user's behind interrupt 31 is in the table, all others end in the fault report."""
    folder = copy(made(models, "bare", boards=("mps2_an386",)), tmp_path / "fw")
    (folder / "src" / "mine.c").write_text("void tg_irq_81(void);\nvoid tg_irq_81(void)\n{\n}\n")
    runs("make", "USER_FLAGS=-DTG_INTERRUPTS=97", cwd=folder)
    elf = folder / "build" / "make" / "mps2_an386" / "firmware.elf"
    _, size, data = sections(elf)[".vectors"]
    assert size == (16 + 97) * 4
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, size, 4)]
    symbols = building.load_firmware(folder, elf).symbols
    assert words[16 + 81] == symbols["tg_irq_81"].address != symbols["tg_fault_entry"].address
    assert {*words[2:97], *words[98:]} == {symbols["tg_fault_entry"].address}


@pytest.mark.qemu
@pytest.mark.parametrize("variant", VARIANTS)
def test_bare_application_runs_in_qemu(models: Path, variant: str, tmp_path: Path) -> None:
    folder = copy(made(models, "bare", variant, ("mps2_an386",)), tmp_path / "fw")
    runs("make", cwd=folder)
    process = subprocess.Popen(
        ["make", "-s", "run"], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("net")
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()

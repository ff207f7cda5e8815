"""Compile a generated project: with arm-none-eabi-gcc for a board of it, with the host's gcc for the host.

Not the only way: PlatformIO builds the same project into the same bytes (tests/test_platformio.py).
Files are compiled in parallel; an image whose sources and command lines did not change is not built again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tinygen import placement_check
from tinygen.boards import Board, Region
from tinygen.errors import BoardError, OutputError, ToolError
from tinygen.firmware import DESCRIPTION, HARNESS, Description, board_folder, linker_script

WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")
OPTIMIZE = ("-O2", "-ffunction-sections", "-fdata-sections", "-fno-common")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
INSTALL_ARM = "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi"
INSTALL_HOST = "apt-get install gcc libc6-dev"
CONSOLE = "boards/tg_console.c"


class Symbol(NamedTuple):
    """Address and size in bytes of an ELF symbol."""

    address: int
    size: int


@dataclass(frozen=True)
class Firmware:
    """A built image. target: "board" or "host". sections: allocated bytes by name; symbols by name.

    code_ranges: (address, bytes) of every section with instructions. loaded: (load address, bytes) of every segment.
    """

    project: Path
    elf: Path
    target: str
    description: Description
    compiler: str
    sections: Mapping[str, int]
    symbols: Mapping[str, Symbol]
    code_ranges: tuple[tuple[int, int], ...] = ()
    loaded: tuple[tuple[int, int], ...] = ()

    def bytes_in(self, region: Region) -> int:
        """Bytes that a loader writes into the region."""
        return sum(size for address, size in self.loaded if region.origin <= address < region.end)

    @property
    def code_bytes(self) -> int:
        """Bytes of the code region: vectors, code, initial values of data and of what is pinned from there, constants
        that have no other home."""
        fixed = (".boot_header", ".vectors", ".text", ".rodata", ".ARM.exidx", ".data")
        return sum(size for name, size in self.sections.items() if name in fixed or name.startswith(".pin_"))

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights' own region, pinned or not; 0 where they are in the code region."""
        return sum(
            size for name, size in self.sections.items() if name == ".weights" or name.startswith(".weights_")
        )

    @property
    def pinned_bytes(self) -> int:
        """Bytes that are copied to SRAM at start-up because they are pinned."""
        return sum(size for name, size in self.sections.items() if name.startswith(".pin_"))

    @property
    def ram_bytes(self) -> int:
        """Bytes of SRAM besides the input block: both stacks, arena, variables and what is pinned."""
        fixed, copied = (".stack", ".data", ".bss", ".arena"), (".pin_", ".weights_")
        return sum(size for name, size in self.sections.items() if name in fixed or name.startswith(copied))


@dataclass(frozen=True)
class Toolchain:
    """A compiler, the flags of every compilation and of the link, the sources, and what else the link reads.

    libraries: behind the objects.
    """

    target: str
    compiler: str
    flags: tuple[str, ...]
    link: tuple[str, ...]
    sources: tuple[Path, ...]
    libraries: tuple[str, ...] = ()
    scripts: tuple[Path, ...] = ()


def build(project: Path, board: Board, application: bool = False) -> Firmware:
    """Build the harness for a board of the project into build/<board>/firmware.elf.

    application: the user's src/ instead, into build/<board>-application/. Raises ToolError: no compiler, or it refuses
    the sources; BoardError: the image does not fit the board, or is not laid out as its placement.json plans it.
    """
    program, suffix = ("src", "-application") if application else (HARNESS, "")
    board_sources = (board_folder(board.name), CONSOLE)
    # in the order of PlatformIO: the linker names its veneers by it
    order = (*board_sources, program, "lib") if application else (program, *board_sources, "lib")
    sources = _sources(project, order)
    script = project / linker_script(board.name)
    if not script.is_file():
        raise BoardError(
            f"'{project}' holds no firmware for board '{board.name}'\n"
            f"  generate it with 'tinygen compile ... --board {board.name}'"
        )
    link = ("-nostartfiles", f"-T{script}", "-Wl,--gc-sections", "-specs=nano.specs")
    flags = (*board.compiler_flags, *WARNINGS, *OPTIMIZE)
    toolchain = Toolchain("board", "arm-none-eabi-gcc", flags, link, sources, libraries(project), (script,))
    firmware = _build(project, toolchain, board.name + suffix)
    table = placement_check.read_table(project / board_folder(board.name))
    placement_check.check(firmware.elf, board, table, placement_check.read_arrays(project / "lib"))
    return firmware


def build_host(project: Path, sanitize: bool = False) -> Firmware:
    """Build the same harness for this machine into build/host/firmware.elf; sanitize: with ASan and UBSan."""
    sources = _sources(project, (HARNESS, "lib", "host", CONSOLE))
    flags = (*WARNINGS, *(SANITIZE if sanitize else ("-O2",)))
    toolchain = Toolchain("host", "gcc", flags, SANITIZE if sanitize else (), sources, libraries(project))
    return _build(project, toolchain, "host-sanitized" if sanitize else "host")


def libraries(project: Path) -> tuple[str, ...]:
    """The mathematical functions of the C library where a model is float32; int8 calls none, and where veneers lie
    depends on what is named."""
    return ("-lm",) if any(m.precision == "float32" for m in read_description(project).models) else ()


def compiler_version() -> str:
    """First line of `arm-none-eabi-gcc --version`, or that it is not installed."""
    path = shutil.which("arm-none-eabi-gcc")
    return _version(path) if path else "arm-none-eabi-gcc is not installed"


def find_compiler(name: str) -> str:
    """Path of the compiler. Raises ToolError with the line that installs it."""
    path = shutil.which(name)
    if path is None:
        install = INSTALL_ARM if name.startswith("arm") else INSTALL_HOST
        raise ToolError(f"{name} is not installed\n  as root: {install}")
    return path


def read_description(project: Path) -> Description:
    """firmware.json of a generated project. Raises OutputError when there is none."""
    path = project / DESCRIPTION
    try:
        return Description.parse(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise OutputError(
            f"'{project}' has no firmware: cannot read {DESCRIPTION} ({type(problem).__name__})\n"
            "  generate it with 'tinygen compile MODEL --board BOARD ...'"
        ) from None


def load_firmware(project: Path, elf: Path, target: str = "board", compiler: str = "unknown") -> Firmware:
    """The image as it stands on disk, measured. Raises ToolError when it is no ELF file."""
    try:
        with elf.open("rb") as file:
            image = ELFFile(file)
            sections = {
                s.name: s["sh_size"] for s in image.iter_sections() if s["sh_flags"] & 2 and s["sh_size"]
            }
            code = tuple(
                (s["sh_addr"], s["sh_size"])
                for s in image.iter_sections()
                if s["sh_flags"] & 4 and s["sh_size"]
            )
            table = image.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            symbols = {s.name: Symbol(s["st_value"], s["st_size"]) for s in table.iter_symbols() if s.name}
        loaded = tuple((address, len(data)) for address, data in load_segments(elf))
    except Exception as problem:  # pyelftools raises whatever a damaged file makes it stumble over
        kind = type(problem).__name__
        raise ToolError(f"'{elf}' cannot be read as an ELF image ({kind})\n  build it again") from problem
    return Firmware(
        project, elf, target, read_description(project), compiler, sections, symbols, code, loaded
    )


def load_segments(elf: Path) -> tuple[tuple[int, bytes], ...]:
    """(load address, bytes) of everything that a loader must write."""
    with elf.open("rb") as file:
        segments = [s for s in ELFFile(file).iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]]
        return tuple((s["p_paddr"], s.data()) for s in segments)


def _sources(project: Path, places: Sequence[str]) -> tuple[Path, ...]:
    """C and assembler files below these folders (or the file itself), in a fixed order."""
    read_description(project)
    paths = [p for place in places for p in (project / place, *sorted((project / place).rglob("*")))]
    return tuple(p for p in paths if p.suffix in (".c", ".S") and p.is_file())


def _build(project: Path, toolchain: Toolchain, folder: str) -> Firmware:
    """Compile and link unless the image with this fingerprint stands, undamaged."""
    compiler = find_compiler(toolchain.compiler)
    version = _version(compiler)
    out = project / "build" / folder
    elf, stamp = out / "firmware.elf", out / "fingerprint"
    fingerprint = _fingerprint(project, toolchain, version)
    try:
        if not _stands(elf, stamp, fingerprint):
            out.mkdir(parents=True, exist_ok=True)
            _make(compiler, project, toolchain, elf)
            stamp.write_text(f"{fingerprint} {_hash(elf)}")
    except OSError as problem:
        raise OutputError(
            f"cannot write '{out}': {problem.strerror}\n  builds go into the project's folder"
        ) from problem
    return load_firmware(project, elf, toolchain.target, version)


def _stands(elf: Path, stamp: Path, fingerprint: str) -> bool:
    """The image is there, was made of these sources, and nobody changed it since."""
    if not (elf.is_file() and stamp.is_file()):
        return False
    return stamp.read_text() == f"{fingerprint} {_hash(elf)}"


def _make(compiler: str, project: Path, toolchain: Toolchain, elf: Path) -> None:
    """Compile and link in a folder of its own, then move the image into place: builds may run side by side."""
    with tempfile.TemporaryDirectory(prefix=".objects-", dir=elf.parent) as folder:
        objects = _compile_all(compiler, project, toolchain, Path(folder))
        linked = Path(folder) / elf.name
        _link(compiler, toolchain, objects, linked)
        linked.replace(elf)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(compiler: str) -> str:
    """First line of --version: part of the fingerprint and of reports."""
    done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()


def _fingerprint(project: Path, toolchain: Toolchain, version: str) -> str:
    """Hash over compiler, flags and every file that the build can read."""
    order = [str(p.relative_to(project)) for p in toolchain.sources]
    digest = hashlib.sha256(
        repr((version, toolchain.flags, toolchain.link, toolchain.libraries, order)).encode()
    )
    folders = ("src", "include", "lib", "boards", "test", "host")
    files = [p for folder in folders for p in sorted((project / folder).rglob("*")) if p.is_file()]
    for path in (*files, *toolchain.scripts, project / DESCRIPTION):
        digest.update(f"\0{path.relative_to(project)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _compile_all(compiler: str, project: Path, toolchain: Toolchain, out: Path) -> list[Path]:
    """Objects of all sources, compiled in parallel."""
    folders = sorted({p.parent for p in (project / "lib").rglob("*.h")})
    # for "name.h" only: a model that is called "string" must not hide <string.h>
    includes = [f"-iquote{folder}" for folder in (project / "include", *folders)]

    def compile_one(source: Path) -> Path:
        target = out / (str(source.relative_to(project)).replace(os.sep, "-") + ".o")
        _call([compiler, *toolchain.flags, *includes, "-c", str(source), "-o", str(target)], f"'{source}'")
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, toolchain.sources))


def _link(compiler: str, toolchain: Toolchain, objects: Sequence[Path], elf: Path) -> None:
    command = [
        compiler,
        *toolchain.flags,
        *toolchain.link,
        *map(str, objects),
        *toolchain.libraries,
        "-o",
        str(elf),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise _link_error(done.stderr)


def _link_error(stderr: str) -> BoardError | ToolError:
    """BoardError when an ASSERT of the linker script says that the image does not fit; else ToolError."""
    asserted = re.findall(r"tinygen: (.+)", stderr)
    if not asserted:
        return ToolError(f"the linker refuses the image\n{_excerpt(stderr)}")
    over = re.findall(r"region [`'](\w+)' overflowed by (\d+) bytes", stderr)
    lines = [f"the image does not fit: {asserted[0]}"]
    lines += [f"  {int(count):,} bytes too many in {region}" for region, count in dict(over).items()]
    return BoardError(
        "\n".join([*lines, "  try a board with more memory ('tinygen boards') or a smaller model"])
    )


def _call(command: Sequence[str], what: str) -> None:
    """Run a compiler. Raises ToolError with the first lines that it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name} refuses {what}\n{_excerpt(done.stderr)}")


def _excerpt(text: str, lines: int = 3) -> str:
    """The first lines with an error, indented."""
    told = [line for line in text.splitlines() if "error" in line or "undefined" in line] or text.splitlines()
    return "\n".join(f"  {line[:200]}" for line in told[:lines])

"""The log of a run: lines that the firmware prints and, after them, lines that the emulator's driver adds.

    TINYGEN 1 <run_id>                                   once, first
    SAMPLE <model> <sample> <status> <ticks>             after each inference; status 0 is OK
    LAYERS <model> <sample> <first> <ticks> ...          of the layers from <first> on, where the image takes timestamps
    OUT <model> <sample> <output> <offset> <hex>         bytes of an output, at most 64 a line
    STACK <used> <size>                                  bytes; 0 0 where it is not measured
    FAULT <key>=<value> ...                              instead of END
    READY <run_id> <bytes>                               instead of all this: no inputs were there, it waits for them
    END <records>                                        last
    HOST TIMEOUT <seconds> | HOST FAULT <key>=<value> ... | HOST EXIT <text> | HOST UNAVAILABLE <text>
    HOST RATIO <numerator> <denominator>                 instructions per tick, where an emulator counts them
    HOST CLOCK <hertz>                                   ticks per second, where time is real
    HOST ADVICE <text>                                   what to do when the image is stale

Anything else is noise: kept, shown when something is missing, never an error by itself. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

MAX_NOISE = 20
_NUMBER = r"(\d{1,10})"
_BANNER = re.compile(r"TINYGEN 1 (\S+)")
_SAMPLE = re.compile(rf"SAMPLE {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER}")
_OUT = re.compile(rf"OUT {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} ((?:[0-9a-f]{{2}})+)")
_LAYERS = re.compile(rf"LAYERS {_NUMBER} {_NUMBER} {_NUMBER}((?: \d{{1,10}})+)")
_STACK = re.compile(rf"STACK {_NUMBER} {_NUMBER}")
_END = re.compile(rf"END {_NUMBER}")
READY = re.compile(rf"READY (\S+) {_NUMBER}")
_CLOCK = re.compile(r"HOST CLOCK ([1-9]\d{0,11})")
_RATIO = re.compile(r"HOST RATIO ([1-9]\d*) ([1-9]\d*)")
_FAULT = re.compile(r"(?:HOST )?FAULT (.+)")
_HOST = re.compile(r"HOST (TIMEOUT|EXIT|UNAVAILABLE|ADVICE) (.*)")

Key = tuple[int, int]
"""(model, sample)."""


@dataclass
class SampleLog:
    """What was printed for one sample. rows: (output, offset) -> bytes; layers: first layer -> ticks from it on."""

    status: int | None = None
    ticks: int = 0
    rows: dict[tuple[int, int], bytes] = field(default_factory=dict)
    layers: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def output(self, index: int, size: int) -> bytes | None:
        """All bytes of an output, or None when some are missing."""
        found, at = bytearray(), 0
        while at < size and (index, at) in self.rows:
            found += self.rows[index, at]
            at = len(found)
        return bytes(found) if at == size else None

    def layer_ticks(self, count: int) -> tuple[int, ...] | None:
        """Ticks of so many layers, or None when some are missing."""
        found: tuple[int, ...] = ()
        while len(found) < count and len(found) in self.layers:
            found += self.layers[len(found)]
        return found if len(found) == count else None


@dataclass
class RunLog:
    """A parsed log. ready: run_ids of READY lines; repeated: lines that contradict or repeat an earlier one."""

    run_ids: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)
    samples: dict[Key, SampleLog] = field(default_factory=dict)
    stack: tuple[int, int] | None = None
    fault: Mapping[str, str] | None = None
    end: int | None = None
    ratio: Fraction | None = None
    clock: int | None = None
    timeout: str | None = None
    exit: str | None = None
    unavailable: str | None = None
    advice: str | None = None
    noise: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def sample(self, model: str, sample: str) -> SampleLog:
        """The entry of that sample, made if it is new."""
        return self.samples.setdefault((int(model), int(sample)), SampleLog())


def parse(text: str) -> RunLog:
    """Read a log, whatever it holds."""
    log = RunLog()
    for line in text.split("\n"):
        line = line.rstrip("\r")
        if line and not (_firmware_line(log, line) or _host_line(log, line)) and len(log.noise) < MAX_NOISE:
            log.noise.append(line)
    return log


def _firmware_line(log: RunLog, line: str) -> bool:
    """Take in a line that the firmware printed; False when it is none."""
    if match := _OUT.fullmatch(line):
        rows, key = log.sample(match[1], match[2]).rows, (int(match[3]), int(match[4]))
        if key in rows:
            log.repeated.append(line)
        rows[key] = bytes.fromhex(match[5])
    elif match := _SAMPLE.fullmatch(line):
        entry = log.sample(match[1], match[2])
        if entry.status is not None:
            log.repeated.append(line)
        entry.status, entry.ticks = int(match[3]), int(match[4])
    elif match := _LAYERS.fullmatch(line):
        layers, first = log.sample(match[1], match[2]).layers, int(match[3])
        if first in layers:
            log.repeated.append(line)
        layers[first] = tuple(map(int, match[4].split()))
    elif match := _BANNER.fullmatch(line):
        log.run_ids.append(match[1])
    elif match := _STACK.fullmatch(line):
        log.stack = (int(match[1]), int(match[2]))
    elif match := _END.fullmatch(line):
        log.end = int(match[1])
    elif match := READY.fullmatch(line):
        log.ready.append(match[1])
    else:
        return False
    return True


def _host_line(log: RunLog, line: str) -> bool:
    """Take in a fault or a line of the emulator's driver; False when it is none."""
    if match := _FAULT.fullmatch(line):
        fields = (word.partition("=") for word in match[1].split(" "))
        log.fault = log.fault or {key: value for key, _, value in fields if value}
    elif match := _RATIO.fullmatch(line):
        log.ratio = Fraction(int(match[1]), int(match[2]))
    elif match := _CLOCK.fullmatch(line):
        log.clock = int(match[1])
    elif match := _HOST.fullmatch(line):
        setattr(log, match[1].lower(), match[2])
    else:
        return False
    return True


def printable(raw: bytes) -> str:
    """Console bytes as ASCII lines: everything else becomes an escape, so that a log is always text."""
    text = raw.replace(b"\r\n", b"\n").decode("ascii", "backslashreplace")
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", lambda m: f"\\x{ord(m[0]):02x}", text)


def finished(raw: bytes, *host_lines: str) -> str:
    """The whole log: what came over the console, then the driver's lines, each on a line of its own."""
    text = printable(raw)
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{printable(line.encode()).replace(chr(10), ' ')}\n" for line in host_lines)

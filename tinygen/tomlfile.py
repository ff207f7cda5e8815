"""Reading a user's TOML strictly, with errors that name file and line: boards (boardfile.py), benches (bench_file.py).

tomllib keeps no positions, so a line is found by scanning the text for the table's header and the key.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from tinygen.errors import TinygenError, UsageError, did_you_mean


@dataclass(frozen=True)
class TomlFile:
    """One .toml file. own: its content; data: what is read, the same unless a subclass puts it on top of another file.

    problem: the error of everything that is wrong with it; noun: what the file is to the user.
    """

    problem: ClassVar[type[TinygenError]] = UsageError
    noun: ClassVar[str] = "file"

    path: Path
    text: str
    own: dict[str, Any]
    data: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read one file. Raises `problem` when it cannot be read or is not TOML."""
        text = cls._read_text(path)
        try:
            own = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise cls.problem(f"{path}: is not valid TOML: {error}") from error
        return cls(path, text, own, own)

    @classmethod
    def _read_text(cls, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise cls.problem(f"{path}: cannot read this {cls.noun}: {reason}") from error

    def top(self) -> Table:
        """The keys outside any table."""
        return Table(self, "", 0, self.data)

    def where(self, table: str, index: int, key: str) -> str:
        """path:line of `key` in the index-th table of that name; without the key, of the header."""
        return f"{self.path}:{self._line(table, index, key)}"

    def must_give(self, table: str) -> str:
        """What is said of a key that is missing in a table ("": outside any)."""
        return f"every [[{table}]] must give it" if table else f"every {self.noun} must give it"

    def _line(self, table: str, index: int, key: str) -> int:
        """1-based line in this file."""
        current, seen, header = "", {table: -1}, 1
        for number, line in enumerate(self.text.splitlines(), start=1):
            if match := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
                current = match[1]
                seen[current] = seen.get(current, -1) + 1
                if current == table and seen[table] == index:
                    header = number
            elif current == table and (not table or seen[table] == index) and _assigns(line, key):
                return number
        return header if table else self._header(key)

    def _header(self, key: str) -> int:
        """Line of the table that is named like the key, else 1."""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if re.match(rf"\s*\[\[?\s*{re.escape(key)}\b", line):
                return number
        return 1


def are_tables(values: Iterable[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _assigns(line: str, key: str) -> bool:
    return re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line) is not None


@dataclass(frozen=True)
class Table:
    """One table: typed access to its keys; finish() refuses keys that nobody asked for."""

    file: TomlFile
    name: str
    index: int
    values: dict[str, Any]
    asked: set[str] = field(default_factory=set)

    def error(self, key: str, what: str, allowed: str) -> TinygenError:
        """The file's error at the key's line."""
        where = self.file.where(self.name, self.index, key)
        return self.file.problem(f"{where}: {what}\n  {allowed}")

    def wrong(self, key: str, value: Any, allowed: str) -> TinygenError:
        """The file's error that shows the value."""
        return self.error(key, f"{self._label(key)} is {value!r}", allowed)

    def finish(self) -> None:
        """Raises the file's error for the first unknown key."""
        for key in self.values:
            if key not in self.asked:
                where = f" in [{self.name}]" if self.name else ""
                known = f"known: {', '.join(sorted(self.asked))}"
                raise self.error(key, f"unknown key '{key}'{where}{did_you_mean(key, self.asked)}", known)

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty, on one line; or the default, which may be empty."""
        value = self.value(key, default)
        if default is not None and value == default:
            return default
        if not isinstance(value, str) or not value.strip() or len(value.splitlines()) != 1:
            raise self.wrong(key, value, "it must be a string on one line, not empty")
        return value

    def identifier(self, key: str) -> str:
        """A lower-case C identifier, as names in linker scripts must be."""
        value = self.text(key)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
            raise self.wrong(key, value, "it must be lower-case letters, digits and _")
        return value

    def choice(self, key: str, allowed: Iterable[str], default: str | None = None) -> str:
        """One of the allowed strings."""
        value, names = self.text(key, default), tuple(allowed)
        if value not in names:
            near = did_you_mean(value, names)
            allowed = f"it must be one of {', '.join(names)}"
            raise self.error(key, f"{self._label(key)} is '{value}'{near}", allowed)
        return value

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of strings."""
        value = self.value(key, list(default))
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, value, "it must be a list of strings")
        return tuple(value)

    def choices(self, key: str, allowed: Iterable[str], default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of distinct allowed strings."""
        values, names = self.texts(key, default), tuple(allowed)
        for value in values:
            if value not in names or values.count(value) > 1:
                possible = f"this core can have: {', '.join(names) or 'nothing'}, each once"
                raise self.error(key, f"{self._label(key)} holds '{value}'", possible)
        return values

    def number(self, key: str, low: int, high: int, *, default: int | None = None, multiple: int = 1) -> int:
        """An integer in [low, high] that is a multiple of `multiple`."""
        value = self.value(key, default)
        divisible = f", a multiple of {multiple}" if multiple > 1 else ""
        allowed = f"it must be an integer from {low:,} to {high:,}{divisible}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, value, allowed)
        if not low <= value <= high or value % multiple:
            raise self.error(key, f"{self._label(key)} is {value:,} ({value:#x})", allowed)
        return value

    def real(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A finite number in [low, high]."""
        value = self.value(key, default)
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not right or not low <= value <= high:
            raise self.wrong(key, value, f"it must be a number from {low:g} to {high:g}")
        return float(value)

    def has(self, key: str) -> bool:
        """True where the table gives the key, which is known from now on."""
        self.asked.add(key)
        return key in self.values

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "it must be true or false")
        return value

    def items(self, key: str, most: int) -> tuple[Table, ...]:
        """The inline tables of a list; errors in them name the line of the list."""
        value = self.value(key, None)
        if not isinstance(value, list) or len(value) > most or not are_tables(value):
            raise self.wrong(key, type(value).__name__, f"it must be a list of at most {most} inline tables")
        return tuple(
            Item(self.file, self.name, self.index, item, key=key, place=i) for i, item in enumerate(value)
        )

    def table(self, key: str, again: bool = False) -> Table:
        """The table of that name; again: it was asked for before."""
        value = self.value(key, None) if not again else self.values[key]
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"it must be a table: [{key}]")
        return Table(self.file, key, 0, value)

    def optional(self, key: str) -> Table | None:
        """The table of that name or None."""
        self.asked.add(key)
        return self.table(key) if key in self.values else None

    def tables(self, key: str) -> tuple[Table, ...]:
        """All [[key]] tables, at least one."""
        value = self.value(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, value, f"it must be one or more tables: [[{key}]]")
        return tuple(Table(self.file, key, index, item) for index, item in enumerate(value))

    def value(self, key: str, default: Any = None) -> Any:
        """The value as it stands, or the default when there is one, else the file's error."""
        self.asked.add(key)
        if key in self.values:
            return self.values[key]
        if default is None:
            raise self.error(key, f"{self._label(key)} is missing", self.file.must_give(self.name))
        return default

    def _label(self, key: str) -> str:
        return f"'{key}' of [{self.name}]" if self.name else f"'{key}'"


@dataclass(frozen=True)
class Item(Table):
    """One inline table of a list: errors name the list's key and the place in it, counted from 1."""

    key: str = ""
    place: int = 0

    def error(self, key: str, what: str, allowed: str) -> TinygenError:
        """The file's error at the line of the list."""
        where = self.file.where(self.name, self.index, self.key)
        return self.file.problem(f"{where}: {self.key} {self.place + 1}: {what}\n  {allowed}")

"""Reading a board's TOML with errors that name file and line.

tomllib keeps no positions, so a line is found by scanning the text for the table's header and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from tinygen.errors import BoardError, did_you_mean


@dataclass(frozen=True)
class BoardFile:
    """One .toml file. own: its content; data: the same on top of what it extends. base: the file it extends."""

    path: Path
    text: str
    own: dict[str, Any]
    data: dict[str, Any]
    base: BoardFile | None = None

    @classmethod
    def read(cls, path: Path, find: Callable[[str], Path], above: tuple[Path, ...] = ()) -> BoardFile:
        """Read a file and those that it extends. find: board's name -> path. above: who asked, to end circles.

        Raises BoardError when a file cannot be read or is not TOML.
        """
        text = _read_text(path)
        try:
            own = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise BoardError(f"{path}: is not valid TOML: {error}") from error
        alone = cls(path, text, own, own)
        if "extends" not in own:
            return alone
        extended = find(alone.top().text("extends"))
        extended = extended if extended.is_absolute() else path.parent / extended
        if extended.resolve() in (*above, path.resolve()):
            raise alone.top().wrong("extends", own["extends"], "a board cannot extend itself")
        base = cls.read(extended, find, (*above, path.resolve()))
        return cls(path, text, own, _merged(base.data, own), base)

    def top(self) -> Table:
        """The keys outside any table."""
        return Table(self, "", 0, self.data)

    def complete_text(self) -> str:
        """TOML that says the same without extending anything."""
        return self.text if self.base is None else tomli_w.dumps(self.data)

    def where(self, table: str, index: int, key: str) -> str:
        """path:line of `key` in the index-th table of that name; without the key, of the header."""
        if self.base is None:
            return f"{self.path}:{self._line(table, index, key)}"
        name = self._name(table, index)
        holders = [(f, i) for f in self._chain() if (i := f._own_index(table, name)) is not None]
        having = [(f, i) for f, i in holders if not key or f._has(table, i, key)]
        # a key that nobody gives is missing where the table stands first
        file, own_index = (having or holders[-1:] or [(self, 0)])[0]
        return f"{file.path}:{file._line(table, own_index, key)}"

    def _chain(self) -> Iterator[BoardFile]:
        """This file, then what it extends."""
        file: BoardFile | None = self
        while file is not None:
            yield file
            file = file.base

    def _name(self, table: str, index: int) -> str | None:
        """Name of the index-th [[table]]; None for a plain one."""
        value = self.data.get(table)
        return value[index].get("name") if isinstance(value, list) else None

    def _own_index(self, table: str, name: str | None) -> int | None:
        """Which of the file's own tables it is; None when the file has none such."""
        if not table:
            return 0
        value = self.own.get(table)
        if isinstance(value, list):
            return next((i for i, item in enumerate(value) if item.get("name") == name), None)
        return None if value is None else 0

    def _has(self, table: str, index: int, key: str) -> bool:
        value = self.own[table] if table else self.own
        return key in (value[index] if isinstance(value, list) else value)

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


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise BoardError(f"{path}: cannot read this board: {reason}") from error


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` on top of `base`: tables key by key, [[tables]] by their names, all else replaced."""
    result = {**base, **{k: v for k, v in own.items() if k != "extends"}}
    for key, value in own.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = {**below, **value}
        elif isinstance(value, list) and isinstance(below, list) and _are_tables((*value, *below)):
            named = {item.get("name"): item for item in below}
            for item in value:
                named[item.get("name")] = {**named.get(item.get("name"), {}), **item}
            result[key] = list(named.values())
    return result


def _are_tables(values: Iterable[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _assigns(line: str, key: str) -> bool:
    return re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line) is not None


@dataclass(frozen=True)
class Table:
    """One table: typed access to its keys; finish() refuses keys that nobody asked for."""

    file: BoardFile
    name: str
    index: int
    values: dict[str, Any]
    asked: set[str] = field(default_factory=set)

    def error(self, key: str, what: str, allowed: str) -> BoardError:
        """A BoardError at the key's line."""
        where = self.file.where(self.name, self.index, key)
        return BoardError(f"{where}: {what}\n  {allowed}")

    def wrong(self, key: str, value: Any, allowed: str) -> BoardError:
        """A BoardError that shows the value."""
        return self.error(key, f"{self._label(key)} is {value!r}", allowed)

    def finish(self) -> None:
        """Raises BoardError for the first unknown key."""
        for key in self.values:
            if key not in self.asked:
                where = f" in [{self.name}]" if self.name else ""
                known = f"known: {', '.join(sorted(self.asked))}"
                raise self.error(key, f"unknown key '{key}'{where}{did_you_mean(key, self.asked)}", known)

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty, on one line; or the default, which may be empty."""
        value = self._value(key, default)
        if default is not None and value == default:
            return default
        if not isinstance(value, str) or not value.strip() or len(value.splitlines()) != 1:
            raise self.wrong(key, value, "it must be a string on one line, not empty")
        return value

    def identifier(self, key: str) -> str:
        """A lower-case C identifier: it becomes a name in the linker script."""
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
        value = self._value(key, list(default))
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
        value = self._value(key, default)
        divisible = f", a multiple of {multiple}" if multiple > 1 else ""
        allowed = f"it must be an integer from {low:,} to {high:,}{divisible}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, value, allowed)
        if not low <= value <= high or value % multiple:
            raise self.error(key, f"{self._label(key)} is {value:,} ({value:#x})", allowed)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "it must be true or false")
        return value

    def items(self, key: str, most: int) -> tuple[Table, ...]:
        """The inline tables of a list; errors in them name the line of the list."""
        value = self._value(key, None)
        if not isinstance(value, list) or len(value) > most or not _are_tables(value):
            raise self.wrong(key, type(value).__name__, f"it must be a list of at most {most} inline tables")
        return tuple(
            Item(self.file, self.name, self.index, item, key=key, place=i) for i, item in enumerate(value)
        )

    def table(self, key: str, again: bool = False) -> Table:
        """The table of that name; again: it was asked for before."""
        value = self._value(key, None) if not again else self.values[key]
        if not isinstance(value, dict):
            raise self.wrong(key, value, f"it must be a table: [{key}]")
        return Table(self.file, key, 0, value)

    def optional(self, key: str) -> Table | None:
        """The table of that name or None."""
        self.asked.add(key)
        return self.table(key) if key in self.values else None

    def tables(self, key: str) -> tuple[Table, ...]:
        """All [[key]] tables, at least one."""
        value = self._value(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, value, f"it must be one or more tables: [[{key}]]")
        return tuple(Table(self.file, key, index, item) for index, item in enumerate(value))

    def _value(self, key: str, default: Any) -> Any:
        """The value, or the default when there is one, else BoardError."""
        self.asked.add(key)
        if key in self.values:
            return self.values[key]
        if default is None:
            raise self.error(key, f"{self._label(key)} is missing", "every board must give it")
        return default

    def _label(self, key: str) -> str:
        return f"'{key}' of [{self.name}]" if self.name else f"'{key}'"


@dataclass(frozen=True)
class Item(Table):
    """One inline table of a list: errors name the list's key and the place in it, counted from 1."""

    key: str = ""
    place: int = 0

    def error(self, key: str, what: str, allowed: str) -> BoardError:
        """A BoardError at the line of the list."""
        where = self.file.where(self.name, self.index, self.key)
        return BoardError(f"{where}: {self.key} {self.place + 1}: {what}\n  {allowed}")

"""A board's TOML and what it extends: its own keys stand on top of the other file's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tinygen.errors import BoardError
from tinygen.tomlfile import TomlFile, are_tables


@dataclass(frozen=True)
class BoardFile(TomlFile):
    """One .toml file. own: its content; data: the same on top of what it extends. base: the file it extends."""

    problem = BoardError
    noun = "board"

    base: BoardFile | None = None

    @classmethod
    def read(cls, path: Path, find: Callable[[str], Path], above: tuple[Path, ...] = ()) -> BoardFile:
        """Read a file and those that it extends. find: board's name -> path. above: who asked, to end circles.

        Raises BoardError when a file cannot be read or is not TOML.
        """
        alone = cls.load(path)
        if "extends" not in alone.own:
            return alone
        extended = find(alone.top().text("extends"))
        extended = extended if extended.is_absolute() else path.parent / extended
        if extended.resolve() in (*above, path.resolve()):
            raise alone.top().wrong("extends", alone.own["extends"], "a board cannot extend itself")
        base = cls.read(extended, find, (*above, path.resolve()))
        return cls(path, alone.text, alone.own, _merged(base.data, alone.own), base)

    def complete_text(self) -> str:
        """TOML that says the same without extending anything."""
        return self.text if self.base is None else tomli_w.dumps(self.data)

    def must_give(self, table: str) -> str:
        """Tables of a board are part of it."""
        return "every board must give it"

    def where(self, table: str, index: int, key: str) -> str:
        """path:line of `key` in the index-th table of that name; without the key, of the header."""
        if self.base is None:
            return super().where(table, index, key)
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


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` on top of `base`: tables key by key, [[tables]] by their names, all else replaced."""
    result = {**base, **{k: v for k, v in own.items() if k != "extends"}}
    for key, value in own.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            result[key] = {**below, **value}
        elif isinstance(value, list) and isinstance(below, list) and are_tables((*value, *below)):
            named = {item.get("name"): item for item in below}
            for item in value:
                named[item.get("name")] = {**named.get(item.get("name"), {}), **item}
            result[key] = list(named.values())
    return result

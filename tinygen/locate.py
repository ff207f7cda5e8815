"""Where the folders that travel with tinygen lie (templates, boards): checkout or installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name` ("templates", "boards"): inside an installed wheel first, else beside the package.

    A missing folder means a broken installation, hence FileNotFoundError and not an error for the user.
    """
    candidates = (_PACKAGE / "_data" / name, _PACKAGE.parent / name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = " nor ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(f"tinygen is not installed whole: neither {places} exists; reinstall it")

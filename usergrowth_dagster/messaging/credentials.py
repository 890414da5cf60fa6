"""Credentials of providers: from the environment or one file that nobody else can read.

``USERGROWTH_<NAME>`` wins over ``<home>/credentials.toml``, a flat TOML file with mode 0600. A
value is handed to the one that asks and kept nowhere: no setting, no log, no ``repr`` and no
sentence of an error holds it.
"""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal, overload

from usergrowth_dagster.errors import SetUpError

FILE_NAME = "credentials.toml"


@overload
def credential(home: Path, name: str, *, required: Literal[True] = True) -> str: ...


@overload
def credential(home: Path, name: str, *, required: bool) -> str | None: ...


def credential(home: Path, name: str, *, required: bool = True) -> str | None:
    """One credential, such as ``twilio_auth_token``.

    Args:
        home: the home folder.
        name: lower-case name; the environment variable is ``USERGROWTH_`` and it in upper case.
        required: False: None when it is set nowhere.

    Raises:
        SetUpError: it is set nowhere, empty or no text, or others may read the file.
    """
    variable = f"USERGROWTH_{name.upper()}"
    path = home / FILE_NAME
    value, source = os.environ.get(variable), variable
    if value is None:
        value, source = _from_file(path).get(name), f"{path}: {name}"
    if value is None:
        if not required:
            return None
        raise SetUpError(
            f'the credential {name} is missing: set {variable}, or write {name} = "…" into {path} '
            "and chmod 600 it",
            code="credential.missing",
        )
    if not isinstance(value, str) or not value.strip():
        raise SetUpError(f"{source}: must be a text that is not empty", code="credential.invalid")
    return value.strip()


def _from_file(path: Path) -> dict[str, Any]:
    """What the file holds; it is not read while others may read it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise SetUpError(
                    f"{path} can be read by others: chmod 600 {path}", code="credential.invalid"
                )
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SetUpError(f"{path}: {error.strerror}", code="credential.invalid") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # the parser's own sentence may quote the line
        raise SetUpError(
            f'{path}: not valid TOML; each line must be name = "value"', code="credential.invalid"
        ) from None

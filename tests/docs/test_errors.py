"""The codes of errors: each is known, documented and used, and an error survives a process."""

import ast
import pickle
from pathlib import Path
from typing import get_args

import usergrowth_dagster
from usergrowth_dagster.error_codes import CODES, ErrorCode
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.messaging.gateways.protocol import UnsignedError
from usergrowth_dagster.messaging.people.phones import UnknownKeyError

PACKAGE = Path(usergrowth_dagster.__file__).parent


def test_every_code_has_one_line_of_meaning_and_a_hint() -> None:
    """A code that the reference does not list, or lists without a meaning."""
    assert set(get_args(ErrorCode)) == set(CODES)
    for code, text in CODES.items():
        assert text.meaning.endswith(".") and "\n" not in text.meaning, code
        assert text.hint.endswith("."), code


def test_every_code_is_used() -> None:
    """A code that no error has, so that nobody knows what it means."""
    used = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name != "error_codes.py":
            tree = ast.parse(path.read_text("utf-8"))
            used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert set(CODES) - used == set()


def test_an_error_crosses_a_process() -> None:
    """An error of a worker that cannot be unpickled, and hangs the pool instead."""
    error = UserError("x is bad", code="landing.bad_file", hint="mend it")
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.code, back.hint) == ("x is bad", "landing.bad_file", "mend it")
    for kind, code in ((UnsignedError, "callback.unsigned"), (UnknownKeyError, "key.unknown")):
        back = pickle.loads(pickle.dumps(kind("no")))
        assert (type(back), str(back), back.code) == (kind, "no", code)
        assert back.hint == CODES[back.code].hint

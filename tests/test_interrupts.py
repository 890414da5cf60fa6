"""Ctrl-C in the middle of a library's work."""

import subprocess
import sys
import threading

import duckdb
import pytest
from pydantic_core import SchemaError, SchemaSerializer, core_schema

from usergrowth_dagster.interrupts import is_interrupt

SCRIPT = """
import sqlite3
import sqlalchemy
from usergrowth_dagster.interrupts import keep_interrupts

class Interrupted(sqlite3.Connection):
    def close(self):
        raise {error}

{hush}
engine = sqlalchemy.create_engine("sqlite://", connect_args={{"factory": Interrupted}})
engine.connect().close()
try:
    engine.dispose()
except BaseException as error:
    print(type(error).__name__)
"""


def printed(error: str, hush: str = "keep_interrupts()") -> tuple[str, str]:
    """What a process prints, to both outputs, whose connection cannot be closed."""
    script = SCRIPT.format(error=error, hush=hush)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_an_interrupt_is_not_logged_with_a_traceback() -> None:
    """A traceback on the terminal of a person who pressed Ctrl-C while a connection closed."""
    assert "Traceback" in printed("KeyboardInterrupt", hush="")[1]
    assert printed("KeyboardInterrupt") == ("KeyboardInterrupt\n", "")
    assert "no such device" in printed("OSError('no such device')")[1]


def test_ctrl_c_in_a_query_is_known_as_such() -> None:
    """``RuntimeError: Query interrupted`` in place of the sentence for a person's Ctrl-C."""
    connection = duckdb.connect()
    timer = threading.Timer(0.3, connection.interrupt)
    timer.start()
    with pytest.raises(duckdb.InterruptException) as caught:
        connection.execute("select count(*) from range(1000000000000)").fetchall()
    timer.join()
    assert is_interrupt(type(caught.value).__name__, str(caught.value))
    assert is_interrupt("RuntimeError", "Query interrupted")  # what DuckDB makes of a signal
    assert not is_interrupt("RuntimeError", "the query is wrong")
    assert not is_interrupt("ValueError", "Query interrupted")


CALLBACK = """
import ctypes, signal, time
from usergrowth_dagster.interrupts import keep_interrupts

signal.signal(signal.SIGINT, signal.default_int_handler)
{keep}
numbers = (ctypes.c_int * 1000)(*range(1000))

@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def compare(a, b):
    if not compared:
        compared.append(1)
        signal.raise_signal(signal.SIGINT)
    return a[0] - b[0]

compared = []
try:
    ctypes.CDLL(None).qsort(numbers, 1000, 4, compare)
    time.sleep(5)
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("keep", "expected"), [("", "went on\n"), ("keep_interrupts()", "interrupted\n")]
)
def test_ctrl_c_in_a_callback_is_not_lost(keep: str, expected: str) -> None:
    """Ctrl-C that a library's callback swallows: the command goes on and ends with 0."""
    command = [sys.executable, "-c", CALLBACK.format(keep=keep)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == expected
    assert ("Traceback" in done.stderr) == (not keep)


def test_ctrl_c_while_a_class_is_made_is_known_as_such() -> None:
    """A traceback of pydantic's on the terminal of a person who pressed Ctrl-C at the start."""

    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(SchemaError) as caught:
        SchemaSerializer(core_schema.literal_schema([Interrupted()]))
    assert is_interrupt(type(caught.value).__name__, str(caught.value))
    assert not is_interrupt("SchemaError", "the schema is wrong")

"""Ctrl-C as libraries report it, and what they should not print about it."""

import logging
import os
import signal
import sys
import threading

_AGAIN_SECONDS = 0.05

_AS_OTHERS_REPORT_IT = {
    "DagsterExecutionInterruptedError": "",
    "KeyboardInterrupt": "",
    "InterruptException": "",
    "RuntimeError": "Query interrupted",
    "SchemaError": "KeyboardInterrupt",
}
"""Text that an error's message holds, by the error's class: DuckDB turns Ctrl-C into an error, and
so does pydantic while it makes a class.
"""


def is_interrupt(class_name: str, message: str) -> bool:
    """Whether an error of this class and message is Ctrl-C, reported by the library it reached."""
    text = _AS_OTHERS_REPORT_IT.get(class_name)
    return text is not None and text in message


def keep_interrupts() -> None:
    """Let no library lose Ctrl-C, nor print a traceback of it.

    An error in a callback from C, or in a finalizer, is swallowed by Python, which prints it and
    goes on; threadpoolctl and LightGBM have such callbacks. An interrupt that ends there is sent
    again, when the callback is over. SQLAlchemy logs an interrupt with its traceback while it
    closes a connection, and then hands it on; where no handler takes that record, it is dropped.
    """
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_is_no_interrupt)
    sys.unraisablehook = _send_again


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


def _send_again(swallowed: "sys.UnraisableHookArgs") -> None:
    if not is_interrupt(swallowed.exc_type.__name__, str(swallowed.exc_value)):
        sys.__unraisablehook__(swallowed)
        return
    again = threading.Timer(_AGAIN_SECONDS, os.kill, [os.getpid(), signal.SIGINT])
    again.daemon = True
    again.start()

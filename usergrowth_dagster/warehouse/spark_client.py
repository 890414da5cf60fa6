"""Spark's client in processes that it would end."""

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec


def import_client() -> None:
    """Import Spark's client, where it is installed, in a process whose main module has no file.

    The client takes such a process, which is any that multiprocessing started from ``python -m``,
    for a run of its own doctests, and ends it. At a prompt it does not; once it is imported, it
    does not look again. MLflow imports it too, looking for a session whatever it logs.
    """
    main = sys.modules["__main__"]
    has_file = main.__spec__ is not None or hasattr(main, "__file__") or hasattr(sys, "ps1")
    if has_file or find_spec("pyspark") is None:
        return
    sys.ps1 = ""
    try:
        with suppress(ImportError):  # who needs it says so; MLflow does without
            import_module("pyspark.sql.connect")
    finally:
        del sys.ps1

"""A few kills in each test run; `make crashtest` does hundreds, on PostgreSQL as well."""

import re
import subprocess
import sys
from pathlib import Path


def test_killed_dispatchers_send_nothing_twice(tmp_path: Path) -> None:
    """Guards against a doubled or forgotten recipient, and a crash test that has come to test
    nothing."""
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("crashtest.py")),
            "--kills=8",
            "--databases=sqlite",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ledger and provider agree on all" in done.stdout
    killed = re.search(r"dispatchers killed by SIGKILL: (\d+)", done.stdout)
    assert killed is not None
    assert int(killed[1]) >= 8
    assert "accepted twice: 0; lost: 0" in done.stdout

"""The command sql: a query, a file, a pipe, and the shell on a real terminal."""

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from chain_world import PHONE, World, cli, environment, errors, succeeded
from pyarrow import parquet
from support.processes import run_command

from usergrowth_dagster.homes.home import make_home
from usergrowth_dagster.project import Project

DAY = date(2024, 3, 1)
ENDLESS = "select sum(a.range * b.range) from range(10000000) a, range(1000000) b;"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three facts at version 1 and four at version 2."""
    settings = make_home(tmp_path_factory.mktemp("s") / "home", {"start_date": "2024-01-01"})
    for rows in (3, 4):
        Project(settings).warehouse.replace(
            "facts",
            pa.table({"ds": pa.array([DAY] * rows, pa.date32()), "n": list(range(rows))}),
            days=[DAY],
        )
    return settings.home


def failed(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """The sentences of a query that failed: exit code 1, no traceback."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.splitlines()


def piped(home: Path, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_command(
        ["sql", *arguments], environment=environment(home), folder=home.parent, given=text
    )


def test_a_query(home: Path) -> None:
    """A query that prints another version's rows, or says nothing of what it leaves out."""
    printed = succeeded(cli(home, "sql", "select n, null as gone from facts order by n"))
    assert [line.split() for line in printed.splitlines()] == [
        ["n", "gone"],
        *([str(n), "NULL"] for n in range(4)),
        ["4", "rows"],
    ]
    odd = "select chr(27) || '[2J' || chr(7) || 'é' as odd"
    assert "\\x1b[2J\\x07é" in succeeded(cli(home, "sql", odd))  # not obeyed by a terminal
    count = "select count(*) as c from facts"
    assert "3" in succeeded(cli(home, "sql", count, "--version", "facts=1"))
    shown = succeeded(cli(home, "sql", "select * from range(200)", "--max-rows", "5"))
    assert "The first 5 rows; --max-rows shows more" in shown


def test_files_and_formats(home: Path, tmp_path: Path) -> None:
    """A result file that is half there, readable by others, or another than was asked for."""
    query = tmp_path / "query.sql"
    query.write_text("﻿-- facts\nselect n\nfrom facts\norder by n;\n", encoding="utf-8")
    assert succeeded(cli(home, "sql", "-f", str(query), "--format", "csv")) == '"n"\n0\n1\n2\n3\n'
    output = tmp_path / "out.json"
    chosen = ("--format", "json", "--output", str(output))
    succeeded(cli(home, "sql", "select n from facts where n < 2 order by n", *chosen))
    assert json.loads(output.read_text()) == [{"n": 0}, {"n": 1}]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    target = tmp_path / "out.parquet"
    succeeded(cli(home, "sql", "from facts", "--format", "parquet", "-o", str(target)))
    assert parquet.read_table(target).num_rows == 4
    failing = "select n, cast('x' || n as int) as x from facts"
    assert "line 1, column 11" in failed(cli(home, "sql", failing, *chosen))[0]
    assert json.loads(output.read_text()) == [{"n": 0}, {"n": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.json",
        "out.parquet",
        "query.sql",
    ]


def test_a_pipe(home: Path) -> None:
    """Piped queries that all fail with the first, or errors that count lines from the wrong one."""
    done = piped(
        home, ".tables\n\nselect 1 as a\n, 2 as b; select 3 as c;\n.schema facts\nselect 4"
    )
    printed = succeeded(done)
    lines = [line.split() for line in printed.splitlines()]
    assert ["facts", "2"] in [line[:2] for line in lines]
    queries = [["a", "b"], ["1", "2"], ["1", "row"], ["c"], ["3"], ["1", "row"]]
    schema = [["column", "type"], ["ds", "DATE"], ["n", "BIGINT"]]
    last = [["4"], ["4"], ["1", "row"]]
    assert lines[-12:] == queries + schema + last
    wrong = piped(home, "select 1;\n\nselect\n  nope;\nselect 2;\n")
    assert failed(wrong)[0].startswith("error: line 4, column 3: Referenced column")
    assert "1 row" in wrong.stdout and "2" not in wrong.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["select 1", "--format", "xml"], "choose table, csv, json, parquet"),
        (["select 1", "-f", "x.sql"], "one of them"),
        (["select 1", "--output", "x.csv"], "choose --format csv, json or parquet"),
        (["select 1", "--format", "csv", "--output", "/tmp"], "--output /tmp: a folder"),
        (["select 1; select 2", "--format", "csv", "-o", "x.csv"], "takes one result"),
        (["select 1", "--version", "facts"], "write decisions=12"),
        (["select * from facts", "--version", "facts=7"], "its newest is 2"),
        (["select * from facts", "--at", "2001-01-01"], "facts was not there at that time"),
        (["select 1", "--at", "soon"], "not a time"),
        (["-f", "none.sql"], "No such file"),
        (["select 1", "--home", "none"], "no home folder; make one with usergrowth init"),
    ],
)
def test_mistakes(home: Path, arguments: list[str], sentence: str) -> None:
    """An option that contradicts another one and is ignored, or ends in a traceback."""
    (error,) = errors(cli(home, "sql", *arguments))
    assert sentence in error


def test_bytes_that_are_no_text(home: Path) -> None:
    """A traceback for a query in another encoding, as an argument or through a pipe."""
    command = [sys.executable, "-m", "usergrowth_dagster", "sql"]
    query = "select 'Zoë'".encode("latin-1")
    for arguments, given in (([query], b""), ([], query + b";\n")):
        done = subprocess.run(
            [*command, *arguments],
            input=given,
            env=environment(home),
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 1
        assert done.stderr == b"error: the query is not UTF-8 text\n"


def test_a_file_for_other_programs(home: Path, tmp_path: Path) -> None:
    """A file that another program cannot open, or that replaces somebody's own."""
    path = tmp_path / "bi.duckdb"
    assert "facts" in succeeded(cli(home, "sql", "--database", str(path), "--version", "facts=1"))
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("select count(*) from facts").fetchall() == [(3,)]
    (tmp_path / "mine").write_text("mine")
    taken = errors(cli(home, "sql", "--database", str(tmp_path / "mine")))
    assert "another file is there" in taken[0] and (tmp_path / "mine").read_text() == "mine"


def heed_ctrl_c() -> None:
    """Let a child end by Ctrl-C, whatever the program that runs the tests does about it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def work(process: "subprocess.Popen[Any]", seconds: float, most: float = 120) -> None:
    """Wait until a process has computed for so long, however busy the machine is."""

    def computed() -> float:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    begun, end = computed(), time.monotonic() + most
    while computed() < begun + seconds:
        assert process.poll() is None and time.monotonic() < end, "it does not compute"
        time.sleep(0.1)


def rest(process: "subprocess.Popen[Any]", seconds: float = 60) -> None:
    """Wait until a process waits for input: Ctrl-C between prompt and waiting stays unheard."""
    end = time.monotonic() + seconds
    quiet = 0
    while quiet < 5:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        quiet = quiet + 1 if state == "S" else 0
        assert time.monotonic() < end, state
        time.sleep(0.1)


class Terminal:
    """A shell of its own on a terminal."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "usergrowth_dagster", "sql"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(home, TERM="dumb"),
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )
        os.close(slave)
        self.printed = ""

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """What is printed up to a text."""
        end = time.monotonic() + seconds
        while text not in self.printed:
            assert time.monotonic() < end, self.printed
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.printed += os.read(self.master, 65_536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
        before, after, self.printed = self.printed.partition(text)
        assert after, before
        return before

    def type(self, text: str) -> None:
        """Send text and wait for nothing."""
        os.write(self.master, text.encode())

    def close(self) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(30)
        os.close(self.master)
        return code


def talk(shell: Terminal) -> None:
    """Type good and bad queries, interrupt two, and leave."""
    assert "newest versions, read-only" in shell.wait_for("sql> ")
    shell.type("select count(*) as c\n")
    shell.wait_for("...> ")
    shell.type("from facts;\n")
    assert "4" in shell.wait_for("1 row") and shell.wait_for("sql> ").strip() == ""
    shell.type("select nope from facts;\n")
    assert "error: line 1, column 8: Referenced column" in shell.wait_for("sql> ")
    shell.type(ENDLESS + "\n")
    work(shell.process, 2)
    os.kill(shell.process.pid, signal.SIGINT)
    shell.wait_for("interrupted")
    shell.wait_for("sql> ")
    shell.type("select 'open\n")
    shell.wait_for("...> ")
    rest(shell.process)
    os.kill(shell.process.pid, signal.SIGINT)
    shell.wait_for("interrupted")
    shell.wait_for("sql> ")
    shell.type(".nothing\n")
    assert "not a command; .help lists them" in shell.wait_for("sql> ")
    shell.type(".help\n")
    assert ".schema TABLE" in shell.wait_for("sql> ")
    shell.type("select 6 * 7 as answer;\n")
    assert "42" in shell.wait_for("1 row")
    shell.type(".quit\n")
    assert shell.close() == 0


def test_the_shell(home: Path) -> None:
    """A shell that an error, Ctrl-C or an open quote ends, or that forgets what was typed."""
    shell = Terminal(home)
    try:
        talk(shell)
    finally:
        shell.process.kill()
    history = home / "sql_history"
    assert "select 6 * 7 as answer;" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_ctrl_c_ends_a_command(home: Path) -> None:
    """Ctrl-C that ends in a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "usergrowth_dagster", "sql", ENDLESS],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    try:
        work(process, 8)  # of which the start takes two
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in stderr and "interrupted" in stderr


def test_every_table_of_a_decided_home(world: World) -> None:
    """A table of the real chain that cannot be read, or shows a phone number."""
    listed = succeeded(piped(world.decided, ".tables\n")).splitlines()
    names = [line.split()[0] for line in listed[2 : listed.index("")]]
    assert {"decisions", "population", "quarantine"} <= set(names)
    everything = "".join(f"select * from {name};\n" for name in names)
    done = piped(world.decided, everything, "--max-rows", "0", "--format", "csv")
    printed = succeeded(done)
    uploads = (world.decided / "landing" / "population").rglob("*.csv")
    numbers = {m for path in uploads for m in PHONE.findall(path.read_bytes())}
    assert numbers and not numbers & set(PHONE.findall(printed.encode()))
    people = succeeded(cli(world.decided, "sql", "describe population", "--format", "csv"))
    assert len(printed) > 100_000 and '"phone"' not in people

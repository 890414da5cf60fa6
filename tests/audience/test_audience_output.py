"""output.csv: its bytes, the folder it may be written to, and crashes on the way."""

import csv
import io
import math
import random

import pyarrow as pa
import pytest
from support.decided import decided_table
from test_audience_decisions import DAY, SCHEMA, person

from usergrowth_dagster.audience.decisions import decide
from usergrowth_dagster.audience.holdout import Holdout
from usergrowth_dagster.audience.output import check_output_folder, erase_from_output, write_output
from usergrowth_dagster.audience.policy import Threshold
from usergrowth_dagster.data.storage import Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

PATH = "population_output/spring"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(load_settings(tmp_path_factory.mktemp("output"))) as opened:
        yield opened


@pytest.fixture
def landing(tmp_path):
    return Storage(str(tmp_path / "landing"))


@pytest.fixture
def state(tmp_path):
    return Storage(str(tmp_path / "storage"))


def prepare(engine, people, threshold=0.5, share=0.0):
    """Bind the decision and the population of some people."""
    schema = pa.schema(list(SCHEMA.items()))
    engine.bind_arrow("scored", pa.Table.from_pylist(people, schema=schema))
    decided = decide(
        engine, "scored", task_id="spring", execution_date=DAY, campaign="Spring",
        policy=Threshold(threshold=threshold), holdout=Holdout(share=share),
    )  # fmt: skip
    table = decided_table(engine, decided)
    engine.bind_arrow("decisions", table)
    engine.run(
        f"create or replace table population as select date '{DAY}' as ds, 'spring' as task_id, "
        '"row", user_id, item_id, phone from scored'
    )
    return table


def write(engine, landing, state, task="spring"):
    return write_output(
        engine, landing, PATH, state=state, task_id=task, execution_date=DAY
    )  # fmt: skip


def test_lines_digits_and_order(engine, landing, state):
    """Guards against a score that rounds across the threshold, a comma that shifts the columns,
    control users in the file, and lines out of order."""
    rng = random.Random(3)
    people = [person(n, f"u{n}", rng.random()) for n in range(3_000)]
    people += [
        person(9_001, 'a,"b"', math.nextafter(0.5, 1), item_id="x\ny", phone="+999 000-1111111"),
        person(9_002, "用户", 1e-7),
        person(9_003, "edge", 0.5),
        person(9_004, " sp ace ", 0.1 + 0.2 + 0.3),
    ]
    table = prepare(engine, people, share=0.3)
    written = write(engine, landing, state)
    content = landing.read_bytes(f"{PATH}/output.csv").decode()
    got = list(csv.reader(io.StringIO(content, newline="")))
    chosen = [d for d in table.to_pylist() if d["outcome"] == "selected"]
    chosen.sort(key=lambda d: d["rank"])
    assert [(g[0], g[1], float(g[3])) for g in got] == [
        (d["user_id"], d["item_id"], d["score"]) for d in chosen
    ]
    assert all(float(g[3]) > 0.5 for g in got) and written.rows == len(got) > 900
    phones = {p["row"]: p["phone"].replace(" ", "").replace("-", "") for p in people}
    assert [g[2] for g in got] == [phones[d["row"]] for d in chosen]
    assert '"a,""b""","x\ny",+9990001111111,0.5000000000000001\n' in content
    plain = [line for line in content.split("\n") if line.startswith("u")]
    assert plain and not any('"' in line for line in plain)


def test_a_rerun_leaves_the_file_alone(engine, landing, state, tmp_path):
    """Guards against a re-run that rewrites or refuses the task's own file."""
    people = [person(n, f"u{n}", n / 100) for n in range(100)]
    prepare(engine, people)
    first = write(engine, landing, state)
    # What a kill in the middle of an earlier write leaves: hidden, and no reason to refuse.
    landing.write_bytes(f"{PATH}/.output.csv.0f.tmp", b"u1,i")
    file = tmp_path / "landing" / PATH / "output.csv"
    stamp, content = file.stat().st_mtime_ns, file.read_bytes()
    prepare(engine, people[::-1])
    again = write(engine, landing, state)
    assert (first.state, again.state) == ("written", "unchanged")
    assert (file.stat().st_mtime_ns, file.read_bytes()) == (stamp, content)
    prepare(engine, people, threshold=0.9)
    changed = write(engine, landing, state)
    assert (changed.state, changed.rows) == ("written", 9)
    check_output_folder(landing, PATH, "spring", state=state)


def test_nobody_selected_writes_an_empty_file(engine, landing, state):
    """Guards against a missing file, or a lone line break, when nobody is above the threshold."""
    prepare(engine, [person(1, "a", 0.1)])
    assert write(engine, landing, state).rows == 0
    assert landing.read_bytes(f"{PATH}/output.csv") == b""


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda landing: landing.write_bytes(f"{PATH}/notes.txt", b"x"), "notes.txt"),
        (lambda landing: landing.write_bytes(f"{PATH}/old/output.csv", b"x"), "old/output.csv"),
        (lambda landing: landing.write_bytes(f"{PATH}/output.csv", b"edited"), "output.csv"),
        (lambda landing: landing.write_bytes(f"{PATH}/output.csv", b""), "output.csv"),
    ],
)
@pytest.mark.parametrize("ours_first", [False, True])
def test_a_folder_with_anything_else_is_refused(engine, landing, state, spoil, named, ours_first):
    """Guards against overwriting a person's file, or mixing two tasks' outputs."""
    prepare(engine, [person(1, "a", 0.9)])
    if ours_first:
        write(engine, landing, state)
    spoil(landing)
    before = {f.path: landing.read_bytes(f.path) for f in landing.files(PATH, deep=True)}
    for attempt in (
        lambda: check_output_folder(landing, PATH, "spring", state=state),
        lambda: write(engine, landing, state),
    ):
        with pytest.raises(UserError) as caught:
            attempt()
        assert f"{PATH}/{named}" in str(caught.value) and "\n" not in str(caught.value)
    assert {f.path: landing.read_bytes(f.path) for f in landing.files(PATH, deep=True)} == before


def test_another_tasks_output_and_a_file_in_the_way_are_refused(engine, landing, state):
    """Guards against two tasks with one output path, and a path that is a file."""
    prepare(engine, [person(1, "a", 0.9)])
    write(engine, landing, state)
    with pytest.raises(UserError, match="autumn"):
        check_output_folder(landing, PATH, "autumn", state=state)
    with pytest.raises(UserError, match=r"output\.csv"):
        check_output_folder(landing, f"{PATH}/output.csv", "spring", state=state)


class Crash(BaseException):
    """Stands for a kill: not an Exception that code could handle by mistake."""


@pytest.mark.parametrize("when", ["before", "middle", "after"])
def test_a_crash_leaves_the_old_file_and_the_next_run_mends(
    engine, landing, state, when, monkeypatch
):
    """Guards against a half-written file, and against a crash between the file and the note of it
    making the task refuse its own folder for ever."""
    prepare(engine, [person(n, f"u{n}", n / 100) for n in range(100)])
    write(engine, landing, state)
    old = landing.read_bytes(f"{PATH}/output.csv")
    prepare(engine, [person(n, f"u{n}", n / 100) for n in range(100)], threshold=0.8)
    real = Storage.write_atomic

    def crashing(self, path, produce):
        if not path.endswith("output.csv"):
            return real(self, path, produce)

        def partly(handle):
            produce(handle)
            handle.truncate(10)
            raise Crash

        if when == "middle":
            real(self, path, partly)
        elif when == "after":
            real(self, path, produce)
        raise Crash

    monkeypatch.setattr(Storage, "write_atomic", crashing)
    with pytest.raises(Crash):
        write(engine, landing, state)
    monkeypatch.undo()
    assert (landing.read_bytes(f"{PATH}/output.csv") == old) == (when != "after")
    check_output_folder(landing, PATH, "spring", state=state)
    assert write(engine, landing, state).rows == 19
    assert len(landing.read_bytes(f"{PATH}/output.csv").splitlines()) == 19


def test_a_population_uploaded_again_is_noticed(engine, landing, state):
    """Guards against joining a decision with another upload's phones, and against a phone in an
    error message."""
    prepare(engine, [person(n, f"u{n}", 0.9) for n in range(3)])
    engine.run("update population set user_id = 'somebody' where \"row\" = 1")
    with pytest.raises(UserError, match="1 of 3 rows to be texted") as caught:
        write(engine, landing, state)
    assert "999" not in str(caught.value)
    assert not landing.exists(PATH)


def test_formulas_are_quoted_for_spreadsheets_by_setting(engine, landing, state):
    """A user id that an attacker chose runs as a formula where the file is opened in a spreadsheet."""
    names = ['=cmd|"/c x"!A1', "+1", "-1", "@sum(a)", "\tx", "plain", "a=b"]
    phone = "+999 000-1111111"
    prepare(
        engine,
        [person(n, f"{name}", 0.9 - n / 100, phone=phone) for n, name in enumerate(names)],
    )

    def written(**setting):
        write_output(
            engine, landing, PATH, state=state, task_id="spring", execution_date=DAY, **setting
        )
        content = landing.read_bytes(f"{PATH}/output.csv").decode()
        return list(csv.reader(io.StringIO(content, newline="")))

    as_they_are = [row[0] for row in written()]
    assert set(as_they_are) <= set(names) and '=cmd|"/c x"!A1' in as_they_are
    quoted = written(for_spreadsheets=True)
    assert [row[0] for row in quoted] == [
        name if name in ("plain", "a=b") else f"'{name}" for name in as_they_are
    ]
    assert all(cell[:1] not in ("=", "+", "-", "@", "\t") for row in quoted for cell in row)
    for name in as_they_are:
        erased = erase_from_output(landing, PATH, name, state=state, task_id="spring")
        assert erased == 1, name
    assert landing.read_bytes(f"{PATH}/output.csv") == b""

"""The command that trains, and the uploads that a run by hand registers."""

import contextlib
import sqlite3
from pathlib import Path

from chain_world import (
    D,
    World,
    approve,
    cli,
    copy_home,
    errors,
    ledger,
    output,
    rows,
    succeeded,
    write_campaign,
    write_people,
)

from usergrowth_dagster.control.tasks import all_tasks
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings


def models(home: Path) -> list[tuple[str, int]]:
    with contextlib.closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as connection:
        return connection.execute(
            "select name, version from model_versions order by 1, 2"
        ).fetchall()


def test_train(world: World, tmp_path: Path) -> None:
    """Training by hand trains again what stands, forgets a campaign, or hides why one cannot be."""
    home = copy_home(world.decided, tmp_path / "home")
    before = models(home)
    printed = succeeded(cli(home, "train", "--date", str(D)))
    assert models(home) == before
    assert {"churn_model", "winback_model"} <= set(printed.splitlines())
    write_campaign(home, "short", training="{window_days: 45}")
    path = write_campaign(home, "young", training="{window_days: 1}")
    assert errors(cli(home, "apply", "-f", str(path))) == [
        "error: campaign 'young': window_days: Input should be greater than or equal to 7"
    ]
    write_campaign(home, "young", algorithm="{kind: winback, op_target: letter}")
    for name in ("short", "young"):
        succeeded(cli(home, "apply", "-f", str(home / "campaigns" / f"{name}.yaml")))
    done = cli(home, "train", "--date", str(D))
    newest = max(version for name, version in before if name == "churn")
    assert models(home) == sorted([*before, ("churn", newest + 1)])
    assert f"churn version {newest + 1}: approved" in done.stdout
    assert "campaign young: " in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "is in the future" in errors(cli(home, "train", "--date", "2017-05-05"))[0]


def test_uploads_of_a_run(world: World, tmp_path: Path) -> None:
    """A run by hand leaves an upload that a campaign waits for, takes one that two want, or twice.

    People who were silent already have another outcome than those with a bad score.
    """
    home = copy_home(world.decided, tmp_path / "home")
    files = [
        write_campaign(home, "arrivals", population="population/new-*", execution_date="on upload"),
        write_campaign(home, "wide", population="population/t*", execution_date="on upload"),
        write_campaign(home, "wider", population="population/tw*", execution_date="on upload"),
        write_campaign(home, "dated", population="population/dated"),
    ]
    source = (home / "landing/population/care/population.csv").read_text().splitlines()
    write_people(home, "new-1", source[:201], done=False)
    for name in ("new-2", "two", "stray"):
        write_people(home, name, source[:21])
    succeeded(cli(home, "apply", *(part for path in files for part in ("-f", str(path)))))
    approve(home, "arrivals")
    sent = len(ledger(home))
    cli(home, "run", "--date", str(D))  # the campaign "dated" has no upload, and says so
    tasks = {task.task_id: task for task in all_tasks(Project(load_settings(home)).store)}
    assert set(tasks) == {"care", "comeback", "dated", "new-1", "new-2"}
    assert tasks["new-1"].execution_date == tasks["new-2"].execution_date == D
    outcomes = dict(rows(home, "decisions", "task_id = 'new-1' group by 1", "outcome, count(*)"))
    assert sum(outcomes.values()) == 200
    chosen = output(home, "new-1").decode().splitlines()
    assert len(chosen) == outcomes["selected"] > 0
    texted = [row for row in ledger(home) if row[0] in ("new-1", "new-2")]
    assert len(texted) == len(ledger(home)) - sent > 0
    silent = {
        user
        for (user,) in rows(
            home, "user_features", f"ds = '{D}' and coalesce(recency_days > 28, true)", "user_id"
        )
    }
    inactive = rows(home, "decisions", "task_id = 'new-1' and outcome = 'not_active'", "user_id")
    scored = rows(home, "decisions", "task_id = 'new-1' and score is not null", "user_id")
    assert {user for (user,) in inactive} == {user for (user,) in scored} & silent != set()
    assert not {user for (user,) in inactive} & {line.split(",")[0] for line in chosen}
    everything = (ledger(home), output(home, "new-1"))
    cli(home, "run", "--date", str(D))
    assert (ledger(home), output(home, "new-1")) == everything

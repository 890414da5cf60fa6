"""A user's mistakes through the real command: one sentence, exit code 2, all else as it was."""

import json
import os
import shutil
from pathlib import Path

import pytest
from chain_world import (
    D,
    World,
    approve,
    campaign,
    cli,
    control_dump,
    copy_home,
    day,
    errors,
    ledger,
    outbox,
    output,
    rows,
    succeeded,
    warehouse,
    write_campaign,
    write_people,
)


def landing_file(home: Path, table: str, back: int) -> Path:
    folder = home / "landing" / table / f"ds={day(back):%Y%m%d}"
    folder.mkdir(exist_ok=True)
    return next(folder.glob("*.csv"), folder / "new.csv")


def test_bad_landing_files(world: World, tmp_path: Path) -> None:
    """A broken file is a traceback, stops the other days, or spoils the day that was there.

    Three at once: garbage, a wrong header, and too many rejects; each gives its own sentence.
    """
    home = copy_home(world.landed, tmp_path / "home")
    garbage, header, rejects = (
        landing_file(home, "behavior", 1),
        landing_file(home, "user", 3),
        landing_file(home, "operation", 2),
    )
    garbage.write_bytes(os.urandom(20_000))
    header.write_text("user_id,sex,age\n", encoding="utf-8")
    rejects.write_text(
        "user_id,target,item_id,kvs_num,kvs_str\nu00000001,sms,i1,hh09:1,\\N\n"
        "u00000002,sms,i1,hh09:one,\\N\n",
        encoding="utf-8",
    )
    extra = landing_file(home, "behavior", 4).with_name("late.csv")
    extra.write_text("user_id,behavior,item_id,kvs_num,kvs_str\nnew,login,\\N,\\N,\\N\n")
    before = {t: rows(home, t) for t in ("raw_user", "raw_operation", "stg_user", "stg_operation")}
    yesterday = f"ds = '{day(1)}'"
    behavior = rows(home, "raw_behavior", yesterday)
    facts = rows(home, "user_day", yesterday)

    sentences = errors(cli(home, "run", "--date", str(D)))
    assert len(sentences) == 4 and "has not been decided" in sentences[3]
    for path, rule in ((garbage, ""), (header, "found 'sex'"), (rejects, "quarantine")):
        name = path.relative_to(home / "landing")
        line = next(one for one in sentences if str(name.parent) in one)
        assert rule in line and len(line) < 600
    for table, kept in before.items():
        assert rows(home, table) == kept, table
    assert rows(home, "raw_behavior", yesterday) == behavior
    # the good late file of another day has landed all the same
    assert len(rows(home, "raw_behavior", "user_id = 'new'")) == 1
    # and its facts are made, beside the days that failed
    for table in ("stg_behavior", "user_day"):
        assert len(rows(home, table, f"user_id = 'new' and ds = '{day(4)}'")) == 1, table
    assert rows(home, "user_day", yesterday) == facts
    quarantined = rows(home, "quarantine", f"ds = '{day(2)}' and table_name = 'operation'")
    assert len(quarantined) == 1

    for path in (garbage, header, rejects):
        path.unlink()
    source = world.landed / "landing"
    for path in (garbage, rejects):
        original = source / path.relative_to(home / "landing")
        if original.exists():
            shutil.copyfile(original, path)
    mended = errors(cli(home, "run", "--date", str(D)))
    assert len(mended) == 1 and "there is no campaign yet" in mended[0], mended
    assert rows(home, "stg_behavior", "user_id = 'new'", "user_id") == [("new",)]


def test_bad_tasks_beside_a_good_one(world: World, tmp_path: Path) -> None:
    """One bad upload, output folder, template or campaign holds up the other tasks of its date.

    Duplicates and bad phones are no errors: each row gets an outcome.
    """
    home = copy_home(world.decided, tmp_path / "home")
    care = (
        (home / "landing/population/care/population.csv").read_text(encoding="utf-8").splitlines()
    )
    first = care[1].split(",")
    good = [
        *care[:101],
        care[1],
        ",".join([care[101].split(",")[0], first[1], "12-34", "Ann", "Offer"]),
        ",".join([care[102].split(",")[0], first[1], "\\N", "Ben", "Offer"]),
        ",".join(["stranger", first[1], "+9990000000001", "Cid", "Offer"]),
    ]
    write_people(home, "good", good)
    write_people(home, "noitem", ["user_id,phone,name", "u00000001,+9990000000002,Dan"])
    write_people(home, "foreign")
    write_people(home, "unreviewed")
    write_people(home, "unlearned")
    foreign = home / "landing/population_output/foreign/mine.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("keep me", encoding="utf-8")
    names = ("good", "noitem", "foreign", "unreviewed", "unlearned", "nothing")
    files = [
        write_campaign(
            home,
            name,
            **(
                {"algorithm": "{kind: churn, churn_days: 21}", "training": "{window_days: 14}"}
                if name == "unlearned"
                else {}
            ),
        )
        for name in names
    ]
    succeeded(cli(home, "apply", *(part for path in files for part in ("-f", str(path)))))
    approve(home, *(name for name in names if name != "unreviewed"))
    sent = len(outbox(home))

    done = cli(home, "run", "--date", str(D))
    sentences = errors(done)
    text = "\n".join(sentences)
    for name, words in {
        "noitem": "population/noitem/population.csv",
        "foreign": "mine.txt: the output folder of task 'foreign' must be empty",
        "unreviewed": "template 'unreviewed' is reviewing; only approved ones can be sent",
        "unlearned": "no approved churn model",
        "nothing": "population/nothing: holds no CSV or Parquet file",
    }.items():
        assert text.count(f"task {name}: ") == 1, (name, text)
        assert words in text, (name, text)
    assert "labels are closed up to" in text  # why nothing could be learned
    status = json.loads(succeeded(cli(home, "status", "--json")))
    failed = {one["task"]: one for one in status["failed_tasks"]}
    assert {name: one["code"] for name, one in failed.items()} == {
        "noitem": "landing.bad_header",
        "foreign": "output.foreign",
        "unlearned": "model.none_usable",
        "nothing": "population.invalid",
    }
    assert all(f"task {name}: {one['reason']}" in text for name, one in failed.items())
    assert all(one["hint"] for one in failed.values())
    assert "task good" not in text and "task care" not in text

    outcomes = dict(rows(home, "decisions", "task_id = 'good' group by 1", "outcome, count(*)"))
    assert sum(outcomes.values()) == len(good) - 1
    assert outcomes["duplicate"] == outcomes["bad_phone"] == outcomes["no_phone"] == 1
    assert outcomes["no_features"] >= 1
    assert len(output(home, "good").splitlines()) == outcomes["selected"] > 5
    assert len(outbox(home)) == sent + outcomes["selected"]
    assert foreign.read_text(encoding="utf-8") == "keep me"
    assert list(foreign.parent.iterdir()) == [foreign]
    decided = {row[0] for row in rows(home, "decisions", columns="distinct task_id")}
    assert decided == {"good", "care", "comeback", "unreviewed"}
    assert output(home, "unreviewed")
    assert not [row for row in ledger(home) if row[0] == "unreviewed"]

    # What is mended goes on by itself; a task that failed before can fail again.
    write_people(home, "noitem")
    write_people(home, "nothing")
    succeeded(cli(home, "review", "template", "unreviewed", "--approve"))
    again = errors(cli(home, "run", "--date", str(D)))
    assert len(again) == 2, again
    assert all(line.removeprefix("error: ") in text for line in again), again
    planned = {row[0] for row in ledger(home)}
    assert planned == {"good", "care", "comeback", "unreviewed", "noitem", "nothing"}
    status = succeeded(cli(home, "status"))
    assert "unlearned" in status and "failed" in status
    still = json.loads(succeeded(cli(home, "status", "--json")))["failed_tasks"]
    assert {one["task"] for one in still} == {"foreign", "unlearned"}
    assert "output.foreign" in status.partition("Failed tasks")[2]


def test_too_little_history(tmp_path: Path) -> None:
    """A home of three days tries to train and breaks in the middle of scikit-learn."""
    home = tmp_path / "home"
    succeeded(cli(home, "init", "--start-date", "2017-04-01", "--home", str(home)))
    for back in (3, 2, 1):
        landing_file(home, "behavior", back).write_text(
            "user_id,behavior,item_id,kvs_num,kvs_str\nu1,login,\\N,hh14:1,\\N\nu2,buy,i1,\\N,\\N\n"
        )
    write_people(home, "spring", ["user_id,item_id,phone,name", "u1,i1,+9990000000001,Ann"])
    path = write_campaign(home, "spring")
    succeeded(cli(home, "apply", "-f", str(path)))
    sentences = errors(cli(home, "run", "--date", str(D)))
    assert len(sentences) == 1
    assert "task spring: campaign 'spring': no approved churn model" in sentences[0]
    assert "labels are closed up to" in sentences[0]
    assert rows(home, "user_features", columns="user_id") == [("u1",), ("u2",)]
    assert len(rows(home, "population")) == 1
    assert warehouse(home).version("decisions") is None


BAD_FILES = {
    "typo": (
        campaign("spring").replace("population:", "populaton:"),
        ("populaton: unknown key", "did you mean 'population'?"),
    ),
    "threshold": (campaign("spring", selection="{threshold: 1}"), ("selection.threshold", "1")),
    "syntax": (campaign("spring", selection="{threshold: 0.3"), ("line",)),
    "not a mapping": ("- 1\n", ("bad.yaml",)),
    "template": (
        campaign("spring", template="{name: t, content: 'Hi ${a}${b} 拒收请回复R'}"),
        ("template.content",),
    ),
    "horizon": (
        campaign("spring", algorithm="{kind: churn, churn_days: 90}"),
        ("label_horizon_days",),
    ),
}


def test_bad_campaign_files(tmp_path: Path) -> None:
    """A typo is ignored, or half of a set of campaign files is applied."""
    home = tmp_path / "home"
    succeeded(cli(home, "init", "--home", str(home)))
    before = control_dump(home)
    fine, bad = tmp_path / "fine.yaml", tmp_path / "bad.yaml"
    fine.write_text(campaign("fine"), encoding="utf-8")
    for name, (text, words) in BAD_FILES.items():
        bad.write_text(text, encoding="utf-8")
        sentences = errors(cli(home, "apply", "-f", str(fine), "-f", str(bad)))
        assert len(sentences) == 1, name
        assert all(
            word in sentences[0] for word in (*words, "bad.yaml" if name != "horizon" else "")
        ), (
            name,
            sentences,
        )
        assert control_dump(home) == before, name
    bad.write_bytes(b"\xff\xfe\x00name")
    assert "bad.yaml" in errors(cli(home, "apply", "-f", str(bad)))[0]
    assert "created campaign 'fine'" in succeeded(cli(home, "apply", "-f", str(fine)))
    assert "nothing to change" in succeeded(cli(home, "apply", "-f", str(fine)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--date", "2017-05-05"), "2017-05-05 is in the future: today is 2017-05-04"),
        (("run", "--date", "2016-12-25"), "2016-12-25 is before the first execution date"),
        (("backfill", "--from", "2017-05-03", "--to", "2017-05-01"), "is after --to"),
        (("backfill", "--from", "2017-05-03", "--to", "2017-06-01"), "in the future"),
        (("status", "--home", "nowhere"), "no home folder; make one with usergrowth init"),
        (("run", "--home", "nowhere"), "no home folder; make one with usergrowth init"),
        (("review", "template", "none"), "no template is called 'none'"),
        (("review", "template", "care", "--reject"), "needs a reason"),
        (
            ("models", "show", "chrun", "1"),
            "there are churn, ltv, new_user_purchase, purchase, sharing, spend, uplift, winback",
        ),
        (
            ("models", "rollback", "chrun", "--why", "worse"),
            "there are churn, ltv, new_user_purchase, purchase, sharing, spend, uplift, winback",
        ),
        (("demo", "--dataset", "other"), "choose completejourney or synthetic"),
        (("demo",), "this home has other settings already"),
    ],
)
def test_bad_arguments(world: World, arguments: tuple[str, ...], words: str) -> None:
    """A wrong date or home starts work, makes folders, or ends in a traceback."""
    home = world.decided

    def seen() -> dict[str, int]:
        """Its files and folders; SQLite's own come and go with readers."""
        return {
            path.name: path.stat().st_mtime_ns
            for path in home.iterdir()
            if not path.name.endswith(("-wal", "-shm"))
        }

    before = seen()
    sentences = errors(cli(home, *arguments))
    assert len(sentences) == 1 and words in sentences[0], sentences
    assert seen() == before
    assert not (home.parent / "nowhere").exists()


def test_not_a_date(world: World) -> None:
    """A date that is none is taken as another one."""
    done = cli(world.decided, "run", "--date", "2017-02-30")
    assert done.returncode == 2
    assert "must be a day such as 2017-12-28 or 20171228, not '2017-02-30'" in done.stderr
    assert "Traceback" not in done.stderr

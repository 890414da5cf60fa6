"""A past randomized test as a source: what lands of it, what is learned of it, what it came to.

The people have attributes and no log: what is known of them is `plan` and three numbers that say
nothing. A treatment makes those of plan 2 buy, and nobody else.
"""

import csv
import json
import random
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from chain_world import cli, errors, rows, succeeded

from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.measure.balance import _differences

PEOPLE, NEW_PEOPLE = 9_000, 2_000
WAVES = ("2016-06-01", "2016-06-03")
DECIDED = date(2016, 7, 1)
COLUMNS = ("id", "offer", "bought", "wave", "again", "plan", "noise1", "noise2", "noise3")
SOURCES = """
sources:
  - name: people
    fills: user
    from: [../people.csv, ../new.csv]
    day: {snapshot: 2016-05-31}
    columns: {user_id: id}
    num: {plan: plan, noise1: noise1, noise2: noise2, noise3: noise3}
  - name: spring
    fills: experiment
    from: ../people.csv
    day: {time: wave}
    columns: {user_id: id, treated: "offer = 'yes'", share: 0.6, cost: 0.15, channel: "'email'"}
    effect: {return_days: 7, return_behaviors: buy, value_per_return: 4}
  - name: bought
    fills: behavior
    from: ../people.csv
    day: {time: bought}
    columns: {user_id: id, behavior: "'buy'"}
    where: bought is not null
"""
CAMPAIGN = f"""
name: summer
algorithm: {{kind: winback, return_days: 7, return_behaviors: [buy]}}
training: {{window_days: 60}}
population: population/summer
execution_date: {DECIDED}
selection: {{money: {{}}}}
holdout: {{share: 0}}
channel: email
signature: {{name: Example}}
template: {{name: summer, subject: Offer, content: "An offer waits for you. 拒收请回复R"}}
schedule: {{name: summer}}
effect: {{return_days: 7, return_behaviors: [buy], value_per_return: 4}}
"""


def person(number: int, chance: random.Random) -> dict[str, str]:
    """A person of the test, with a log of one purchase at most."""
    treated = chance.random() < 0.6
    plan = 2 if chance.random() < 0.4 else 1
    wave = date.fromisoformat(chance.choice(WAVES))
    buys = chance.random() < (0.22 if treated and plan == 2 else 0.06)
    # some buy too late to count, by their own day and not by the last one's
    bought = wave + timedelta(days=chance.choice((1, 3, 7, 8, 9))) if buys else None
    return {
        "id": f"{number:06d}",
        "offer": "yes" if treated else "no",
        "bought": str(bought or ""),
        "wave": str(wave),
        "again": "",
        "plan": str(plan),
        **{f"noise{i}": f"{chance.random():.6f}" for i in (1, 2, 3)},
    }


def write(path: Path, people: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(people)


@pytest.fixture(scope="module")
def people() -> list[dict[str, str]]:
    chance = random.Random(7)
    return [person(number, chance) for number in range(PEOPLE)]


@pytest.fixture(scope="module")
def home(people: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the test, in which nothing else is known."""
    folder = tmp_path_factory.mktemp("past test")
    chance = random.Random(8)
    write(folder / "people.csv", people)
    fresh = [person(number, chance) for number in range(PEOPLE, PEOPLE + NEW_PEOPLE)]
    write(folder / "new.csv", [one | {"bought": ""} for one in fresh])
    home = folder / "home"
    options = ("--start-date", "2016-05-01", "--timezone", "Europe/London")
    succeeded(cli(folder, "init", "--home", str(home), *options))
    with (home / "usergrowth.toml").open("a", encoding="utf-8") as file:
        file.write(
            f"today = {DECIDED}\nmessage_price = 0.15\nemail_price = 0.15\n"
            "global_holdout_share = 0\nmin_positives_slice = 20\n"
        )
    (home / "sources.yml").write_text(SOURCES, encoding="utf-8")
    upload = home / "landing/population/summer"
    upload.mkdir(parents=True)
    lines = [rf"{one['id']},offer,\N,p{one['id']}@example.com" for one in fresh]
    (upload / "people.csv").write_text(
        "\n".join(["user_id,item_id,phone,email", *lines]) + "\n", encoding="utf-8"
    )
    (upload / "_SUCCESS").touch()
    succeeded(cli(home, "sources", "land"))
    return home


@pytest.fixture(scope="module")
def tables(home: Path) -> Path:
    """The same with its tables."""
    succeeded(cli(home, "backfill", "--from", "2016-05-31", "--to", "2016-06-30", "--only-ingest"))
    return home


def test_nothing_to_measure_yet(home: Path) -> None:
    """A traceback, or an effect of nobody, where the rows have not come as far as the tables."""
    (line,) = errors(cli(home, "experiment", "report", "spring"))
    assert "2 of its days are not in the tables" in line
    assert "usergrowth backfill --from 2016-06-01 --to 2016-06-03 --only-ingest" in line
    (line,) = errors(cli(home, "experiment", "report", "winter"))
    assert line.endswith("no source 'winter' that fills experiment; it has spring")
    listed = json.loads(succeeded(cli(home, "experiment", "list", "--json")))
    assert [one["experiment"] for one in listed["experiments"]] == ["spring"]


def test_every_person_lands_in_the_own_arm(tables: Path, people: list[dict[str, str]]) -> None:
    """A person in the other arm, with the chance of the other arm, or lost."""
    landed = {
        row[0]: (str(row[1]), row[2], row[3], row[4])
        for row in rows(
            tables,
            "stg_operation",
            "kvs_str['experiment'] = 'spring'",
            "user_id, ds, target, kvs_num['propensity'], kvs_num['cost']",
        )
    }
    expected = {
        one["id"]: (one["wave"], "email", 0.6, 0.15)
        if one["offer"] == "yes"
        else (one["wave"], "holdout", 0.4, None)
        for one in people
    }
    assert landed == expected


def counted(people: list[dict[str, str]]) -> dict[str, Counter[str]]:
    """People and returns of each arm, by plain Python: a return is in the own seven days."""
    arms: dict[str, Counter[str]] = {"treatment": Counter(), "control": Counter()}
    for one in people:
        arm = arms["treatment" if one["offer"] == "yes" else "control"]
        arm["users"] += 1
        if one["bought"]:
            days = (date.fromisoformat(one["bought"]) - date.fromisoformat(one["wave"])).days
            arm["returned"] += 1 <= days <= 7
    return arms


def test_the_report_counts_each_person_in_the_own_window(
    tables: Path, people: list[dict[str, str]]
) -> None:
    """A window of the first day for all, so that the second wave has fewer days than the first."""
    report = json.loads(succeeded(cli(tables, "experiment", "report", "spring", "--json")))
    expected = counted(people)
    for arm in report["arms"]:
        assert (arm["users"], arm["returned"]) == (
            expected[arm["name"]]["users"],
            expected[arm["name"]]["returned"],
        )
    assert report["verdict"] == "works"
    assert report["arms"][0]["cost"] == pytest.approx(0.15 * expected["treatment"]["users"])
    assert report["balance"]["balanced"] is True
    assert len(report["balance"]["differences"]) == 4
    page = Path(report["page"])
    assert "Past experiment spring" in page.read_text(encoding="utf-8")
    before = page.stat().st_mtime_ns
    shown = succeeded(cli(tables, "experiment", "report", "spring"))
    assert "2016-06-02 to 2016-06-10" in shown  # the seven days of the second wave too
    assert page.stat().st_mtime_ns == before


def test_a_policy_is_learned_from_attributes_alone(tables: Path) -> None:
    """Nothing is learned where no log is: no snapshot, no split by time, no feature."""
    path = tables / "summer.yaml"
    path.write_text(CAMPAIGN, encoding="utf-8")
    succeeded(cli(tables, "apply", "-f", str(path)))
    for kind, name in (("signature", "Example"), ("template", "summer")):
        succeeded(cli(tables, "review", kind, name))
    succeeded(cli(tables, "run", "--date", str(DECIDED)))
    plans = dict(rows(tables, "stg_user", "true", "user_id, kvs_num['plan']"))
    outcomes: dict[str, Counter[float]] = {}
    for user, outcome in rows(tables, "decisions", "true", "user_id, outcome"):
        outcomes.setdefault(outcome, Counter())[plans[user]] += 1
    assert set(outcomes) == {"selected", "not_profitable"}
    worth = {1.0: -0.15, 2.0: 4 * 0.16 * 3 / 5 - 0.15}  # of a text, by plan
    best = worth[2.0] * sum(counts[2.0] for counts in outcomes.values())
    earned = sum(worth[plan] * people for plan, people in outcomes["selected"].items())
    everybody = sum(worth[plan] * counts[plan] for counts in outcomes.values() for plan in worth)
    assert earned > max(0.5 * best, 1.5 * everybody)
    shown = succeeded(cli(tables, "models", "show", "winback", "1"))
    assert "nothing shows that the ranking holds later" in re.sub(r"\s+", " ", shown)


def small(tmp_path: Path, lines: list[str], **keys: str) -> Path:
    """A home with one experiment of a few people; ``keys`` are lines of its entry."""
    folder = tmp_path / "few"
    folder.mkdir()
    (folder / "few.csv").write_text("\n".join(["id,arm,chance,day", *lines]) + "\n")
    home = folder / "home"
    succeeded(cli(folder, "init", "--home", str(home), "--start-date", "2016-05-01"))
    with (home / "usergrowth.toml").open("a", encoding="utf-8") as file:
        file.write(f"today = {DECIDED}\nmax_reject_share = 0.5\n")
    entry = {
        "name": "few",
        "fills": "experiment",
        "from": "../few.csv",
        "day": "{time: day}",
        "columns": "{user_id: id, treated: \"arm <> 'none'\", share: chance}",
        **keys,
    }
    first, *others = (f"{key}: {value}" for key, value in entry.items())
    body = "\n".join([f"  - {first}", *(f"    {line}" for line in others)])
    (home / "sources.yml").write_text(f"sources:\n{body}\n", encoding="utf-8")
    return home


FEW = ["1,mail,0.5,2016-06-01", "2,none,0.5,2016-06-01", "3,call,0.5,2016-06-01"]


@pytest.mark.parametrize(
    ("keys", "lines", "sentence"),
    [
        (
            {},
            [*FEW, "4,mail,50,2016-06-01"],
            "columns.share: 1 rows have no chance above 0 and below 1",
        ),
        (
            {},
            [*FEW, "4,mail,,2016-06-01", "5,none,half,2016-06-01"],
            "columns.share: 2 rows have no chance above 0 and below 1",
        ),
        (
            {},
            [*FEW, "4,mail,1,2016-06-01"],
            "columns.share: 1 rows have no chance above 0 and below 1",
        ),
        (
            {"columns": "{user_id: id, treated: arm, share: 0.5}"},
            FEW,
            "columns.treated: 3 rows have neither true nor false",
        ),
        (
            {"columns": "{user_id: id, treated: \"arm <> 'none'\"}"},
            FEW,
            "an experiment needs columns.share, the chance of being treated such as 0.5",
        ),
        (
            {"columns": "{user_id: id, arm: arm, share: 0.5}"},
            FEW,
            "needs columns.treated, or columns.arm and control",
        ),
        (
            {"columns": "{user_id: id, share: 0.5}", "control": "none"},
            FEW,
            "control is the name of an arm, and columns.arm is missing",
        ),
        (
            {"columns": "{user_id: id, behavior: \"'buy'\"}", "fills": "behavior", "control": "x"},
            FEW,
            "control: only an experiment has one, and the source fills behavior",
        ),
        (
            {"effect": "{return_days: 0}"},
            FEW,
            "effect.return_days",
        ),
    ],
)
def test_what_is_no_experiment_is_refused(
    tmp_path: Path, keys: dict[str, str], lines: list[str], sentence: str
) -> None:
    """Rows that nothing can be learned of land without a word, or end in a traceback."""
    home = small(tmp_path, lines, **keys)
    (line,) = errors(cli(home, "sources", "land"))
    assert sentence in line
    assert not list((home / "landing").rglob("*.parquet"))


def test_arms_by_name(tmp_path: Path) -> None:
    """Several treatments become one, or a person without an arm becomes one of the control."""
    home = small(
        tmp_path,
        [*FEW, "4,,0.5,2016-06-01"],
        columns="{user_id: id, arm: arm, propensity: chance, channel: \"'email'\"}",
        control="none",
    )
    succeeded(cli(home, "sources", "land"))
    succeeded(cli(home, "backfill", "--from", "2016-06-01", "--to", "2016-06-01", "--only-ingest"))
    columns = "user_id, target, kvs_num['propensity'], kvs_str['variant']"
    assert rows(home, "stg_operation", "true", columns) == [
        ("1", "email", 0.5, "mail"),
        ("2", "holdout", 0.5, None),
        ("3", "email", 0.5, "call"),
    ]
    quarantined = rows(home, "quarantine", "true", "column_name, rule")
    assert quarantined == [("target", "not_null")]


def test_people_who_took_part_twice(tmp_path: Path) -> None:
    """A person counts twice, or in both arms, and nobody hears of it."""
    again = [f"{n},{'mail' if n % 2 else 'none'},0.5,2016-06-01" for n in range(10, 40)]
    again += ["10,mail,0.5,2016-06-05", "11,mail,0.5,2016-06-05"]
    home = small(tmp_path, again)
    succeeded(cli(home, "sources", "land"))
    succeeded(cli(home, "backfill", "--from", "2016-06-01", "--to", "2016-06-05", "--only-ingest"))
    report = json.loads(succeeded(cli(home, "experiment", "report", "few", "--json")))
    assert [arm["users"] for arm in report["arms"]] == [15, 15]
    assert report["decided"]["In both arms"].startswith("1 people")
    assert report["decided"]["Took part again"].startswith("2 rows")
    assert report["decided"]["Balance of the arms"].startswith("nothing was known")


def test_a_test_with_one_arm(tmp_path: Path) -> None:
    """People are compared with an arm that has nobody, and the arms are called alike."""
    home = small(tmp_path, [f"{n},mail,0.5,2016-06-01" for n in range(10, 40)])
    with (home / "sources.yml").open("a", encoding="utf-8") as file:
        file.write(
            "\n  - name: people\n    fills: user\n    from: ../few.csv\n"
            "    day: {snapshot: 2016-05-31}\n    columns: {user_id: id}\n    num: {age: id}\n"
        )
    succeeded(cli(home, "sources", "land"))
    succeeded(cli(home, "backfill", "--from", "2016-05-31", "--to", "2016-06-05", "--only-ingest"))
    report = json.loads(succeeded(cli(home, "experiment", "report", "few", "--json")))
    assert report["verdict"] != "works"
    assert report["balance"]["sentence"].startswith("all 30 people were in one arm")
    assert report["balance"]["differences"] == []


def test_a_feature_that_is_known_in_one_arm_alone_is_not_compared() -> None:
    """A feature without any value in an arm stands as a gap to 0."""
    treated = np.array([1.0, 1.0, 0.0, 0.0])
    x = np.array([[5.0, 1.0], [7.0, 2.0], [np.nan, 1.0], [np.nan, 2.0]])
    (one,) = _differences(x, ["age", "visits"], treated, np.full(4, 0.5))
    assert (one.feature, one.treated, one.control, one.standardized) == ("visits", 1.5, 1.5, 0.0)


def test_people_who_were_not_drawn(tables: Path, people: list[dict[str, Any]]) -> None:
    """An effect is reported of arms that were chosen by what was known of the people."""
    chance = random.Random(9)
    chosen = []
    for one in people[:4000]:
        share = 0.75 if one["plan"] == "2" else 0.5
        chosen.append(one | {"offer": "yes" if chance.random() < share else "no"})
    write(tables.parent / "chosen.csv", chosen)
    entry = SOURCES.split("  - name: spring")[1].split("  - name: bought", maxsplit=1)[0]
    entry = "  - name: chosen" + entry.replace("../people.csv", "../chosen.csv")
    with (tables / "sources.yml").open("a", encoding="utf-8") as file:
        file.write(entry)
    succeeded(cli(tables, "sources", "land", "chosen"))
    succeeded(
        cli(tables, "backfill", "--from", "2016-06-01", "--to", "2016-06-03", "--only-ingest")
    )
    done = cli(tables, "experiment", "report", "chosen")
    (line,) = errors(done)
    assert "attribute_num[plan] foretells the arm of unseen people" in line
    assert "were not assigned by the chances that are recorded" in line


def test_the_asset_shows_what_the_command_does(
    tables: Path, people: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The UI shows other counts than the command, or no check fails where the arms are off."""
    monkeypatch.setenv("USERGROWTH_HOME", str(tables))
    definitions = build_definitions(str(tables))
    name = dg.AssetKey("experiment_spring")
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), asset_selection=[name]
    )
    (made,) = result.get_asset_materialization_events()
    metadata = made.step_materialization_data.materialization.metadata
    assert metadata["dagster/row_count"].value == len(people)
    assert str(metadata["sentence"].value).startswith("The text works")
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert checks == {"arms_were_alike_before": True, "sample_ratio": True}


HILLSTROM = Path(__file__).parents[3] / "shared" / "data" / "hillstrom" / "hillstrom.csv"


@pytest.mark.skipif(not HILLSTROM.exists(), reason="the Hillstrom table is not there")
def test_a_public_test_of_two_treatments(tmp_path: Path) -> None:
    """Other counts than those that are known of the public test, or two treatments as one."""
    with HILLSTROM.open(encoding="utf-8") as file:
        known = [{"id": str(n), **row} for n, row in enumerate(csv.DictReader(file))]
    with (tmp_path / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(known[0]))
        writer.writeheader()
        writer.writerows(known)
    home = tmp_path / "home"
    succeeded(cli(tmp_path, "init", "--home", str(home), "--start-date", "2008-03-01"))
    with (home / "usergrowth.toml").open("a", encoding="utf-8") as file:
        file.write("today = 2008-04-20\n")
    (home / "sources.yml").write_text(
        """
sources:
  - name: customers
    fills: user
    from: ../mails.csv
    day: {snapshot: 2008-03-19}
    columns: {user_id: id}
    num: {recency: recency, history: history, mens: mens, womens: womens, newbie: newbie}
    str: {zip: zip_code, channel: channel}
  - name: mails
    fills: experiment
    from: ../mails.csv
    day: {snapshot: 2008-03-20}
    columns: {user_id: id, arm: segment, share: 2 / 3, channel: "'email'"}
    control: No E-Mail
    effect: {return_days: 14, return_behaviors: visit}
  - name: visits
    fills: behavior
    from: ../mails.csv
    day: {snapshot: 2008-03-21}
    columns: {user_id: id, behavior: "'visit'"}
    where: visit = 1
""",
        encoding="utf-8",
    )
    succeeded(cli(home, "sources", "land"))
    succeeded(cli(home, "backfill", "--from", "2008-03-19", "--to", "2008-03-21", "--only-ingest"))
    report = json.loads(succeeded(cli(home, "experiment", "report", "mails", "--json")))
    rates = {arm["name"]: (arm["users"], round(arm["rate"], 5)) for arm in report["arms"]}
    assert rates["control"] == (21_306, 0.10617)
    assert rates["Mens_E-Mail"] == (21_307, 0.18276)
    assert rates["Womens_E-Mail"] == (21_387, 0.15140)
    assert report["sample_ratio"]["passed"] and report["balance"]["balanced"]

"""Tags that are refreshed weekly or once, how old their values are, and who is shown them."""

import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from chain_world import cli, rows, succeeded
from support.segment_world import D, write_world

from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.files import segment_named
from usergrowth_dagster.segments.refresh import refresh
from usergrowth_dagster.tags.definition import FILE_NAME, Tag, parse_catalogue
from usergrowth_dagster.tags.freshness import standings_on
from usergrowth_dagster.tags.run import catalogue_of
from usergrowth_dagster.tags.user_tags import write_user_tags

TAGS = """
tags:
  - {key: each_day, rule: events_7d}
  - {key: each_week, rule: events_7d, refresh: weekly, fresh_days: 6}
  - {key: first_seen, rule: events_7d, refresh: once, fresh_days: 3, sensitivity: sensitive}
  - {key: risk, score: {question: churn}, fresh_days: 2, sensitivity: personal}
  - {key: vip, type: int, upload: vip.csv, fresh_days: 2}
"""


def day(after: int) -> date:
    """So many days after D."""
    return D + timedelta(days=after)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose feature events_7d is the days since D; a user more from D + 3 on."""
    made = tmp_path_factory.mktemp("freshness") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
            patch.delenv(name)
        project = write_world(made)
        for after in range(9):
            users = ["u00", "u01", *(["late"] if after >= 3 else [])]
            project.warehouse.replace(
                "user_features",
                pa.table(
                    {
                        "ds": [day(after)] * len(users),
                        "user_id": users,
                        "events_7d": [float(after)] * len(users),
                    }
                ),
                days=[day(after)],
            )
        (made / FILE_NAME).write_text(TAGS, encoding="utf-8")
        (made / "landing" / "tags").mkdir(parents=True)
        (made / "landing" / "tags" / "vip.csv").write_text("user_id,value\nu00,1\n")
        yield made


@pytest.fixture(scope="module")
def worked_out(home: Path) -> list[tuple[str, ...]]:
    """The notices of the tags of D to D + 8, each worked out twice."""
    project, said = Project.open(home), []
    for after in range(9):
        made = write_user_tags(project, catalogue_of(project).tags, day(after))
        assert not made.written.unchanged
        again = write_user_tags(project, catalogue_of(project).tags, day(after))
        assert again.written.unchanged and again.notices == made.notices
        said.append(made.notices)
    return said


def values(home: Path, key: str, user: str = "u00") -> list[object]:
    """A user's values of D to D + 8."""
    where = f"user_id = '{user}' and ds between '{D}' and '{day(8)}'"
    return [value for _, value in sorted(rows(home, "user_tags", where, f"ds, {key}"))]


def test_a_tag_that_is_not_due_keeps_its_values(
    home: Path, worked_out: list[tuple[str, ...]]
) -> None:
    """A weekly tag that is worked out daily or never again; a silent carry; a date that is lost."""
    assert values(home, "each_day") == list(range(9))
    assert values(home, "each_week") == [0] * 7 + [7, 7]
    assert values(home, "first_seen") == [0] * 9
    assert values(home, "each_week", "late") == [None] * 4 + [7, 7]
    project = Project.open(home)
    as_of = {key: one.as_of for key, one in standings_on(project, day(8)).items()}
    assert as_of == {
        **{"each_day": day(8), "each_week": day(7), "first_seen": D},
        **{"risk": day(1), "vip": D},  # the newest scores, and the first date that read the file
    }
    assert worked_out[0] == () and "tag each_week: not worked out" in worked_out[6][0]
    assert not any("each_week" in one for one in worked_out[7])
    tags = catalogue_of(project).tags
    assert write_user_tags(project, tags, day(5), again=True).notices == ()
    assert values(home, "first_seen")[5] == 5
    write_user_tags(project, tags, day(5))  # it stands as it was worked out
    assert values(home, "first_seen")[5] == 5


def test_another_definition_is_due(home: Path, worked_out: list[tuple[str, ...]]) -> None:
    """A changed rule whose old values are carried on for ever."""
    project = Project.open(home)
    tags = list(catalogue_of(project).tags)
    tags[2] = Tag.model_validate({**tags[2].model_dump(), "rule": "events_7d * 10"})
    write_user_tags(project, tags, day(8))
    assert values(home, "first_seen")[8] == 80
    write_user_tags(project, catalogue_of(project).tags, day(8))
    assert values(home, "first_seen")[8] == 0


def test_stale_and_sensitive_tags_are_named(home: Path, worked_out: list[tuple[str, ...]]) -> None:
    """An old tag that looks fresh in the list, a profile or a segment; a value shown unasked."""
    listed = json.loads(succeeded(cli(home, "tags", "list", "--date", str(day(6)), "--json")))
    remarks = {
        one["tag"]: one["remark"]
        for one in next(v for k, v in listed.items() if k.startswith("tags"))
    }
    assert not remarks["each_day"] and not remarks["each_week"]
    assert remarks["first_seen"] == (
        f"tag first_seen is stale: its values are of {D}, 6 days before {day(6)}, and are fresh "
        "for 3 days"
    )
    assert "stale" in remarks["risk"] and "stale" in remarks["vip"]
    for options, shown in (((), ["hidden", "hidden"]), (("--personal",), ["hidden", "0.0"])):
        done = cli(home, "tags", "show", "u00", "--date", str(day(6)), "--json", *options)
        by_key = {one["tag"]: one for one in json.loads(succeeded(done))["tags"]}
        assert [by_key["first_seen"]["value"], by_key["risk"]["value"]] == shown
        assert by_key["first_seen"]["as_of"] == str(D)
    (home / "segments").mkdir(exist_ok=True)
    (home / "segments/early.yml").write_text(
        "where: {tag: {key: first_seen, cmp: ge, value: 0}}", encoding="utf-8"
    )
    made = refresh(Project.open(home), segment_named(home, "early"), day(6), actor=whoami())
    assert made.snapshot is not None
    assert [note.split(":")[0] for note in made.snapshot.notes] == [
        "tag first_seen is stale",
        "tag first_seen is sensitive",
    ]
    profile = json.loads(
        succeeded(cli(home, "profile", "show", "everyone", "--date", str(day(6)), "--json"))
    )
    said = " ".join(profile["notes"])
    assert "tag vip is stale" in said and "tag first_seen is stale" not in said  # it is not read
    assert "risk is not compared" in said
    page = Path(profile["notes"][-1]).read_text("utf-8")
    assert "Careful: tag vip is stale" in page and "first_seen" not in page


def test_a_weekly_tag_needs_a_week() -> None:
    """A tag that is stale on most days by its own definition."""
    with pytest.raises(UserError, match="fresh_days: a weekly tag is up to 6 days old"):
        parse_catalogue("tags: [{key: a, rule: x, refresh: weekly, fresh_days: 3}]", FILE_NAME)

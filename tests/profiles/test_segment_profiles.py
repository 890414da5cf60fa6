"""The profiles of all segments of a home: as tables, as a command and as metadata of an asset."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from chain_world import cli, errors, rows, succeeded
from support.segment_world import D, write_world

from usergrowth_dagster.control.audit import whoami
from usergrowth_dagster.defs.build import build_definitions
from usergrowth_dagster.project import Project
from usergrowth_dagster.segments.refresh import refresh_all
from usergrowth_dagster.views.profiles import view_segment_profiles

USERS = [f"u{n:03}" for n in range(400)]
TAGS = """
tags:
  - {key: young, rule: age < 30}
  - {key: city, rule: user_type}
  - {key: noise, rule: user_type}
  - {key: secret, rule: user_type, sensitivity: personal}
"""


def write_people(project: Project) -> None:
    """400 people: the first 100 are young, most of them live in Oslo."""
    days = [D] * len(USERS)
    young = [n < 100 for n in range(400)]
    city = ["Oslo" if n < 90 or n % 10 == 0 else "Bergen" for n in range(400)]
    noise = ["ab"[n // 2 % 2] for n in range(400)]
    tenure = [n % 20 if n < 300 else 400 if n < 350 else None for n in range(400)]
    for table, columns in (
        ("user_features", {"age": [20 if one else 50 for one in young], "tenure_days": tenure}),
        ("user_tags", {"young": young, "city": city, "noise": noise, "secret": city}),
    ):
        made = pa.table({"ds": days, "user_id": USERS, **columns})
        project.warehouse.replace(table, made, days=[D])
    # all are active four weeks ago, and every second one is again a week later
    weeks = [D - timedelta(weeks=n) for n in (4, 3)]
    active = [(weeks[0], one) for one in USERS] + [(weeks[1], one) for one in USERS[::2]]
    seen = pa.table(
        {
            "ds": [day for day, _ in active],
            "user_id": [user for _, user in active],
            "events": [1.0] * len(active),
        }
    )
    project.warehouse.replace("user_day", seen, days=[D - timedelta(days=n) for n in range(1, 99)])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with three segments, one of them without a snapshot."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [key for key in os.environ if key.startswith("USERGROWTH_")]:
            patch.delenv(name)
        made = tmp_path_factory.mktemp("profiles") / "home"
        project = write_world(made)
        write_people(project)
        (made / "tags.yml").write_text(TAGS)
        (made / "segments").mkdir()
        for name, key, value in (("young", "young", "true"), ("north", "city", "Oslo")):
            (made / f"segments/{name}.yml").write_text(
                f"where: {{tag: {{key: {key}, cmp: eq, value: {value}}}}}"
            )
        refresh_all(project, D, actor=whoami())
        (made / "segments/later.yml").write_text("where: {tag: {key: city, cmp: eq, value: x}}")
        yield made


def test_tables_and_command_say_what_differs(home: Path) -> None:
    """A segment that is left out in silence, a hidden tag's value in a table, a share of a wrong
    whole, work that is done again for nothing."""
    shown = json.loads(succeeded(cli(home, "profile", "segments", "--date", str(D), "--json")))
    sizes = next(v for k, v in shown.items() if k.startswith("segments"))
    assert [(one["segment"], one["people"]) for one in sizes] == [("north", 121), ("young", 100)]
    assert "segment later is not compared: it has no snapshot up to" in " ".join(shown["notes"])
    columns = "segment, tag, value, people, people_of_base, share"
    kept = rows(home, "segment_profiles", "true", columns)
    assert ("young", "city", "Oslo", 91, 121, pytest.approx(0.91)) in kept
    assert {tag for _, tag, *_ in kept} == {"young", "city", "noise"}
    telling = {(one["segment"], one["tag"], one["value"]) for one in shown["most_telling_values"]}
    assert ("young", "city", "Oslo") in telling
    assert not any(tag == "noise" for _, tag, _ in telling)
    sets = {tuple(one): n for one, n in rows(home, "segment_overlaps", "true", "segments, people")}
    assert sets == {("north", "young"): 91, ("north",): 30, ("young",): 9}
    weekly = rows(
        home,
        "segment_retention",
        "segment = 'young' and people > 0",
        "week, people, later, round(share, 2)",
    )
    first = D - timedelta(weeks=4)
    assert weekly == [(first, 100, n, share) for n, share in enumerate((1, 0.5, 0, 0))]
    shares = [one["week_1"] for one in shown["retention"] if one["people"] == 100]
    assert shares == [0.5]
    again = view_segment_profiles(Project.open(home), D)
    assert again.unchanged and again.overlap is not None
    assert again.overlap.sizes == {"north": 121, "young": 100}
    assert again.overlap.pairs[0].both == 91


def test_the_asset_shows_pictures_and_is_cheap_when_nothing_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asset in a home without segments, that leaks, or that compares everything each day."""
    monkeypatch.setenv("USERGROWTH_HOME", str(home))
    view_segment_profiles(Project.open(home), D)
    definitions = build_definitions(str(home))
    graph = definitions.resolve_asset_graph()
    key = dg.AssetKey("segment_profiles")
    assert graph.get(key).parent_keys == {
        dg.AssetKey(one) for one in ("segments", "user_tags", "user_day")
    }
    selected = definitions.resolve_job_def("profiles").asset_layer.executable_asset_keys
    assert {"segment_profiles", "segments", "user_tags", "user_features"} == {
        one.to_user_string() for one in selected
    }
    compared = "usergrowth_dagster.profiles.of_segments.profile_of"
    monkeypatch.setattr(compared, lambda *_: pytest.fail("compared again"))
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, partition_key=str(D), asset_selection=[key]
        )
        (event,) = result.get_asset_materialization_events()
        (check,) = result.get_asset_check_evaluations()
    metadata: Any = event.materialization.metadata
    assert metadata["days_unchanged"].value == 1 and not check.passed
    assert check.metadata["sentence"].value == "without a snapshot: later"
    for name in ("picture: young", "overlap picture", "retention picture: north"):
        assert "data:image/png;base64," in metadata[name].value
    assert "u00" not in str(metadata["segments"]) and "secret" not in str(metadata)
    (home / "segments").rename(home / "no-segments")
    assert key not in build_definitions(str(home)).resolve_asset_graph().get_all_asset_keys()
    (home / "no-segments").rename(home / "segments")


def test_what_has_changed_is_compared_again(home: Path) -> None:
    """Profiles of people who are not in the segment any more, or of a date that has no tags."""
    project = Project.open(home)
    assert view_segment_profiles(project, D).unchanged
    (home / "segments/later.yml").write_text("where: {tag: {key: city, cmp: eq, value: Bergen}}")
    refresh_all(project, D, actor=whoami())
    made = view_segment_profiles(project, D)
    assert not made.unchanged and not made.missing
    assert [one.segment for one in made.profiles] == ["later", "north", "young"]
    assert made.profiles[0].group == 279
    (home / "tags.yml").write_text(TAGS.replace("sensitivity: personal", "sensitivity: none"))
    assert not view_segment_profiles(project, D).unchanged
    (home / "tags.yml").write_text(TAGS)
    early = cli(home, "profile", "segments", "--date", str(D - timedelta(days=9)))
    assert "have not been worked out" in errors(early)[0]


def test_cohorts_of_a_segment_are_a_table_and_a_page(home: Path) -> None:
    """A command that counts other people than the segment's, or hides those of no cohort."""
    done = cli(
        home, "profile", "cohorts", "segment:young", "--date", str(D), "--weeks", "3", "--json"
    )
    made = json.loads(succeeded(done))
    weeks = next(v for k, v in made.items() if k.startswith("people"))
    # D is a Monday: of tenures 0 to 19, five times each, 1 to 7 are the last week and so on.
    assert [one["people"] for one in weeks] == [25, 35, 35]
    assert made["notes"][0] == (
        "5 of 100 people registered in the week that is not over, and are in no cohort."
    )
    page = Path(made["notes"][-1]).read_text("utf-8")
    assert "95 of 100 people registered in the 3 weeks before the date" in page and "<svg" in page
    wrong = cli(home, "profile", "cohorts", "everyone", "--by", "birth", "--date", str(D))
    assert "choose registration or first_seen" in errors(wrong)[0]

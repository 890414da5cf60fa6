"""What a run says of its progress."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from usergrowth_dagster.defs import resources
from usergrowth_dagster.defs.resources import ProjectResource, listen


@pytest.fixture
def steps() -> Iterator[list[tuple[str, int, int]]]:
    """What a listener hears meanwhile."""
    reported: list[tuple[str, int, int]] = []
    with listen(lambda stage, done, total: reported.append((stage, done, total))):
        yield reported


@pytest.mark.parametrize(("seconds", "logged"), [(3600.0, [1, 400]), (0.0, range(1, 401))])
def test_the_log_of_a_run_has_a_line_a_second(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[str, int, int]],
    seconds: float,
    logged: list[int],
) -> None:
    """A year of days that writes a line a day to a database, or one that never says it is done."""
    monkeypatch.setattr(resources, "LOG_SECONDS", seconds)

    @dg.asset
    def touches(context: dg.AssetExecutionContext, project: ProjectResource) -> None:
        opened = project.open(context)
        for day in range(1, 401):
            opened.progress("touches", day, 400)

    with dg.DagsterInstance.ephemeral() as instance:
        home = ProjectResource(home=str(tmp_path))
        run = dg.materialize([touches], instance=instance, resources={"project": home})
        lines = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert [line for line in lines if line.startswith("touches:")] == [
        f"touches: {day} of 400" for day in logged
    ]
    assert steps == [("touches", day, 400) for day in range(1, 401)]

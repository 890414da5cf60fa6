"""What axe-core has against the pages of effects and of profiles, in light and dark."""

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from report_effects import BASIS, bare, works
from support.browser import SCHEMES, Browser, browser

from usergrowth_dagster.effects.report.page import render_page
from usergrowth_dagster.profiles.cohorts import CohortTable, CohortWeek
from usergrowth_dagster.profiles.journeys import Cohort, Funnel, Step
from usergrowth_dagster.profiles.overlap import overlap_from
from usergrowth_dagster.profiles.page import render_cohorts, render_overlap, render_profile
from usergrowth_dagster.profiles.profile import profile_of
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.relation import bind_query

__all__ = ["browser"]

pytestmark = pytest.mark.chromium
DAY = date(2024, 3, 4)
PALE = """<!doctype html><html><body><style>@media (prefers-color-scheme: dark) {
body { background: #000 } p { color: #222 } }</style><p>pale in the dark</p><img src="data:,">
</body></html>"""


def profile_page(folder: Path) -> str:
    """A profile with a telling number, a telling word, a funnel, cohorts and a stale tag."""
    engine = Engine(duckdb.connect(), folder)
    sql = """
        select 'u' || n as user_id, n % 7 + (n < 100)::int * 20 as spend,
            case when n < 90 or n % 9 = 0 then 'Oslo' else '卑尔根' end as city
        from range(400) as r(n)
    """
    tags = bind_query(engine, "tags", sql, keep=True)
    people = bind_query(
        engine, "people", f"select user_id from {tags} where spend >= 20", of=[tags]
    )
    weeks = [DAY - timedelta(weeks=n) for n in (3, 2, 1)]
    shares = [(1.0, 0.6, 0.2), (1.0, 0.4, None), (1.0, None, None)]
    return render_profile(
        profile_of(engine, tags, [("spend", "int"), ("city", "text")], people),
        group="segment:spenders",
        base="everyone",
        day=DAY,
        funnel=Funnel(
            weeks[0], DAY, 30, 100, (Step("see", 80, 0.8, 0.8), Step("buy", 20, 0.2, 0.25))
        ),
        cohorts=[Cohort(week, 40, one) for week, one in zip(weeks, shares, strict=True)],
        stale=("tag city is stale: its values are of 2024-01-01",),
    )


def test_axe_has_nothing_against_the_pages(browser: Browser, tmp_path: Path) -> None:
    """Text that is too pale, a table without headings, a picture that a screen reader skips; and a
    check that sees none of that."""
    sets = [(("high", "loyal"), 30), (("high",), 20), (("loyal",), 5)]
    weeks = CohortWeek(DAY, 10, (9, 5)), CohortWeek(DAY + timedelta(days=7), 8, (8, None))
    pages = {
        "works": render_page(works(), BASIS),
        "harms": render_page(bare("harms", "The texts bring fewer people back."), BASIS),
        "profile": profile_page(tmp_path),
        "overlap": render_overlap(overlap_from(["high", "loyal"], sets), DAY),
        "cohorts": render_cohorts(CohortTable("registration", weeks, 30, 8, 3, 1), "everyone", DAY),
        "pale": PALE,
    }
    violations = {scheme: browser.violations(pages, scheme) for scheme in SCHEMES}
    mine = [line for lines in violations.values() for line in lines if not line.startswith("pale")]
    assert mine == []
    for scheme, lines in violations.items():
        rules = {line.split(": ")[1] for line in lines}
        assert "image-alt" in rules and ("color-contrast" in rules) == (scheme == "dark")

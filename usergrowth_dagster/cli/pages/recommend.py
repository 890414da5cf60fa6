"""The pages of recommendation: an evaluation, and what users clicked on."""

from collections.abc import Sequence

from usergrowth_dagster.affinity.figures import Interval
from usergrowth_dagster.cli.common import Page
from usergrowth_dagster.effects.result import Estimate
from usergrowth_dagster.recommend.clicks import GROUPS, Clicks
from usergrowth_dagster.recommend.leave_one_out import Evaluation, Figures
from usergrowth_dagster.recommend.sequence_file import Sequences

PUBLISHED = {"Beauty": ("SASRec as published", 0.0387, 0.0249, 0.0605, 0.0318)}
"""HR@5, NDCG@5, HR@10 and NDCG@10 of the same protocol, by file (the table of TIGER, 2023)."""

_HEADER = ("order", "users", "HR@5", "NDCG@5", "HR@10", "NDCG@10", "recall@200")


def show_evaluation(page: Page, sequences: Sequences, done: Evaluation) -> None:
    """Print the figures of an evaluation, with 95 % intervals."""
    published = PUBLISHED.get(sequences.name)
    rows = _rows(done.figures)
    if published:
        name, *values = published
        rows.append((name, "", *(f"{value:.4f}" for value in values), ""))
    page.section("each user's newest item, among all that it has not taken", _HEADER, rows)
    page.section("the fusion without one route", _HEADER, _rows(done.without))
    page.section("the shipped order, by items known of a user", _HEADER, _rows(done.slices))
    tried = ", ".join(f"{name} {value:.4f}" for name, value in done.tried.items())
    page.say(
        f"{done.shipped} is shipped: it has the greatest NDCG@10 one item earlier, on users that "
        f"it was not fitted on ({tried})."
    )
    page.say(f"The 200 items of any route hold the item of {_shown(done.union)} of the users.")
    page.say(f"u2i is {done.latent}: {done.items:,} items, {done.interactions:,} interactions.")
    if not sequences.attributes:
        page.say(f"No categories: {sequences.name}_item2attributes.json is not beside the file.")
    if sequences.short:
        page.say(f"{sequences.short:,} users with fewer than three items are left out.")
    page.document(
        {"name": sequences.name, "left_out": sequences.short, "published": published, **vars(done)}
    )


def _rows(figures: Sequence[Figures]) -> list[tuple[object, ...]]:
    return [
        (
            *(one.order, one.users),
            *map(_shown, (one.hr5, one.ndcg5, one.hr10, one.ndcg10, one.recall)),
        )
        for one in figures
    ]


def _shown(part: Interval) -> str:
    """A figure with its interval, to four decimals, as others publish them."""
    return f"{part.value:.4f} [{part.low:.4f}, {part.high:.4f}]"


def show_clicks(page: Page, clicks: Clicks) -> None:
    """Print the rates of clicks, with 95 % intervals."""
    for by in GROUPS:
        page.section(
            f"clicks by {by}",
            (by, "users", "shown", "clicked", "rate"),
            [
                (one.name or "none", one.people, one.shown, one.clicked, _with_interval(one.rate))
                for one in clicks.rates
                if one.by == by
            ],
        )
    page.say(
        f"{clicks.answers:,} answers from {clicks.first} to {clicks.last}; an item of several "
        "routes counts for each."
    )
    if clicks.difference is not None:
        page.say(f"The trial less main: {_with_interval(clicks.difference)}.")
    page.document(clicks)


def _with_interval(figure: Estimate) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4f}"
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"

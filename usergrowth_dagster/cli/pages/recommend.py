"""The page of an evaluation of recommendation."""

from collections.abc import Sequence

from usergrowth_dagster.affinity.figures import Interval
from usergrowth_dagster.cli.common import Page
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

"""Campaigns on users of the synthetic world, whose true effect is known.

Users live day by day; on some days groups of them become campaigns: arms are drawn at random, those
in the treatment arm are texted, and what everybody then does is lived on by the world's own
mechanism. Nobody's fate is drawn from the rates that are estimated.

The *true effect* of a campaign is the mean of p1 - p0 over its users, p1 and p0 being each user's
exact chance to return with and without the text, given the state that the text finds them in. Over
repetitions both the draw of the arms and the users' fates vary around it. The variance of two
independent samples, which every interval here estimates, is at least that of the difference given
these users (Neyman 1923: it leaves out - S / n, with S the variance of p1 - p0 over the users), by
about one part in a hundred in this world; so the intervals hold this truth as often as they say,
or very slightly more often.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from effect_rows import D, outcomes, plan

from usergrowth_dagster.effects.interim import analysis_day
from usergrowth_dagster.effects.rows import Plan
from usergrowth_dagster.examples.worlds._population import Users, draw_users
from usergrowth_dagster.examples.worlds._simulation import Asked, Calendar, Lives, live

WINDOW = 28
_FIRST, _APART, _ITEMS = 60, 30, 60
_SIZES, _SHARES = (300, 600, 1200), (0.1, 0.3, 0.5)
_SPREAD = 0.7  # of the logarithm of amounts


@dataclass(frozen=True)
class Campaign:
    """One campaign: its outcomes at the end of the window, and the true effects."""

    table: pa.Table
    rate: float
    value: float

    def at_look(self, look: int, looks: int) -> tuple[pa.Table, Plan]:
        """The outcomes and the plan as of a planned look."""
        last = analysis_day(look, looks, WINDOW)
        day = np.asarray(self.table["days_to_return"].fill_null(WINDOW + 1))
        came = day <= last
        seen = pa.array(day, pa.int32(), mask=~came)
        table = self.table
        for name, column in (("days_to_return", seen), ("returned", pa.array(came))):
            table = table.set_column(table.column_names.index(name), name, column)
        until = D + timedelta(days=last)
        return table, replace(
            plan(has_amount=True),
            looks=looks,
            look=look,
            counted_until=until,
            landed_until=until,
            complete=look == looks,
        )


def campaigns(seed: int, users: int, rounds: int, *, texted: bool) -> Iterator[Campaign]:
    """Campaigns of a world.

    Args:
        seed: of the world and the draws.
        users: people in the world.
        rounds: days with campaigns, 30 days apart; users are shared out among the day's campaigns.
        texted: False: the arms are drawn, but nobody is texted, so that there is no effect.
    """
    days = _FIRST + _APART * rounds
    people = draw_users(seed, 0, users, days)
    rng = np.random.default_rng(seed)
    who, when, arm, group, shares = _drawn(people, rounds, rng)
    nothing = np.zeros(len(who), dtype=np.int64)
    items = rng.integers(0, _ITEMS, len(who))
    asked = Asked(who, when, items, nothing, arm if texted else np.zeros(len(who), bool))
    lives = live(people, Calendar(0, 1, days), _ITEMS, WINDOW, asked=asked, own_until=0)
    assert lives.asked is not None and (lives.asked.who == who).all()
    rows = _rows(people, lives, rng)
    for number, share in enumerate(shares):
        mask = group == number
        p1 = lives.asked.p1[mask] if texted else lives.asked.p0[mask]
        effect, worth = p1 - lives.asked.p0[mask], rows["worth"][mask]
        columns = {name: values[mask] for name, values in rows.items() if name != "worth"}
        day = columns.pop("days")
        table = outcomes(
            arm[mask],
            day > 0,
            share=share,
            days_to_return=pa.array(day, pa.int32(), mask=day == 0),
            **columns,
        )
        yield Campaign(table, float(effect.mean()), float((effect * worth).mean()))


def _drawn(people: Users, rounds: int, rng: np.random.Generator) -> tuple[Any, ...]:
    """Who is in a campaign, when, in which arm, in which campaign; and the campaigns' shares.

    Campaigns of every other round are well chosen, the others are not chosen at all.
    """
    parts: list[tuple[Any, ...]] = []
    shares: list[float] = []
    for turn in range(rounds):
        day = _FIRST + _APART * turn
        there = np.flatnonzero(people.registered < day - WINDOW)
        rng.shuffle(there)
        if turn % 2:  # as if a good model had chosen: those whom a text may well bring back
            there = there[people.boost[there] > 0.1]
        start = 0
        while start + max(_SIZES) <= len(there):
            size, share = int(rng.choice(_SIZES)), float(rng.choice(_SHARES))
            chosen = np.sort(there[start : start + size])
            arm = rng.random(size) >= share
            parts.append((chosen, np.full(size, day), arm, np.full(size, len(shares))))
            shares.append(share)
            start += size
    who, when, arm, group = (np.concatenate(column) for column in zip(*parts, strict=True))
    return who, when, arm, group, shares


def _rows(people: Users, lives: Lives, rng: np.random.Generator) -> dict[str, Any]:
    """Columns of outcomes and of what was known before, for all campaigns' users."""
    assert lives.asked is not None
    who, when = lives.asked.who, lives.asked.day
    days = np.zeros(len(who), dtype=np.int64)
    for ahead in range(WINDOW, 0, -1):
        days = np.where(lives.sessions[when + ahead, who] > 0, ahead, days)
    before = np.stack([lives.sessions[when - back, who] for back in range(1, 29)]).astype(float)
    p0 = np.clip(lives.asked.p0, 1e-3, 1 - 1e-3)
    worth = 20 * people.budget[who] * np.exp(_SPREAD**2 / 2)
    spent = 20 * people.budget[who] * np.exp(_SPREAD * rng.normal(size=len(who)))
    return {
        "days": days,
        "worth": worth,
        "amount": np.where(days > 0, spent, 0.0),
        # what a model may know: right about the order, and far from exact
        "score": 1 / (1 + np.exp(-np.log(p0 / (1 - p0)) - rng.normal(size=len(who)))),
        "pre_events": before.sum(0),
        "pre_active_days": (before > 0).sum(0).astype(float),
        "pre_amount": before.sum(0) * 5 * people.budget[who],
    }

"""One person behind several user ids: held out by any of them, and texted once.

A draw holds a person out when it would hold out one of the user ids. So whoever was held out by one
id stays so when ids turn out to be one person's, and joining persons never texts more people. The
price is that chances differ: with k ids and a share g the person is in the treatment arm with
(1 - g)^k, which each decision records, and by which effects are weighted.

A stratified draw is by place in the ranking, where a person stands once; so its share is the same
for all.
"""

from usergrowth_dagster.audience.holdout import Arm, Holdout, is_control_sql, propensity

MOST_USERS = 20
"""User ids of one person, at most; with more, a decision texts none of them (``many_users``)."""

USERS = "person_users"
"""Column (VARCHAR[]) of a decided relation: all user ids of a person of several; else NULL."""


def held_sql(holdout: Holdout, *, by_person: bool) -> str:
    """DuckDB expression (BOOLEAN): whether a draw by user holds a row's person out.

    Args:
        holdout: the draw.
        by_person: whether the rows have :data:`USERS`.
    """
    alone = is_control_sql(holdout, "user_id")
    if not by_person:
        return alone
    each = is_control_sql(holdout, "person_user")
    drawn = f"list_bool_or(list_transform({USERS}, lambda person_user: {each}))"
    return f"(case when {USERS} is null then {alone} else {drawn} end)"


def chance_sql(holdout: Holdout, of: Arm, global_holdout: Holdout, *, by_person: bool) -> str:
    """DuckDB expression (DOUBLE): the chance of an arm, by both draws.

    Args:
        holdout: the campaign's draw.
        of: the arm.
        global_holdout: that of all campaigns.
        by_person: whether the rows have :data:`USERS`.
    """
    alone = f"cast('{propensity(holdout, of, global_holdout)!r}' as double)"
    if not by_person:
        return alone
    ids = f"len({USERS})"
    treated = f"{_free(global_holdout, ids)} * {_free(holdout, '1' if holdout.strata else ids)}"
    together = treated if of == "treatment" else f"1 - {treated}"
    return f"(case when {USERS} is null then {alone} else {together} end)"


def _free(holdout: Holdout, ids: str) -> str:
    """The chance that none of so many ids is held out."""
    return f"power(cast('{1.0 - holdout.share!r}' as double), {ids})"

"""A generated ``uplift_training`` relation with a known effect of the text."""

from datetime import date

from usergrowth_dagster.warehouse.engine import Engine


def make_uplift(
    engine: Engine,
    name: str = "uplift_training",
    *,
    users: int = 600,
    rounds: int = 10,
    effect: str = "0.5 * gain",
    drawn: str = "0.5 + 0.3 * (u % 2)",
    first: date = date(2024, 1, 1),
    missing: str = "false",
) -> None:
    """A round every week; of those with a large ``gain`` the text makes more return.

    Args:
        engine: where the relation is made.
        name: of the relation.
        users: rows of a round.
        rounds: weeks.
        effect: SQL of what a text adds to the chance of a return.
        drawn: SQL of the chance of treatment.
        first: day of the first round.
        missing: SQL of the rows that did not land.
    """
    engine.run(f"""
        create or replace table {name} as
        with grid as (
            select date '{first}' + (w * 7)::integer as ds,
                concat('u', lpad(u::varchar, 6, '0')) as user_id, u, w,
                (md5_number_lower(concat('g', u)) % 1000) / 1000.0 as gain,
                (md5_number_lower(concat('b', u)) % 1000) / 1000.0 as base,
                (md5_number_lower(concat('t', u, '-', w)) % 100000) / 100000.0 as draw,
                (md5_number_lower(concat('n', u, '-', w)) % 100000) / 100000.0 as noise
            from range({users}) a(u), range({rounds}) b(w)
        ), armed as (
            select *, {drawn} as e, draw < {drawn} as treated from grid
        ), answered as (
            select *, noise < 0.1 + 0.2 * base
                + case when treated then {effect} else 0 end as yes
            from armed
        )
        select ds, user_id, concat('item', u % 3) as item_id,
            case when treated then 'sms' else 'holdout' end as target,
            case when not treated then 'sms' end as channel,
            treated, case when treated then e else 1 - e end::double as propensity,
            gain * 40 as recency_days, base * 9 as events_30d,
            case u % 3 when 0 then 'gold' when 1 then 'silver' end as user_type,
            map {{'buy': round(base * 5)}} as kind_events_30d,
            case when yes then map {{'buy': 2}} end as days_to_return,
            cast(null as map(varchar, integer)) as days_to_return_on_item
        from answered where not ({missing})
    """)

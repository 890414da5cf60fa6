"""Generated training relations of the same shape as the real ones, with a known signal."""

from datetime import date

from usergrowth_dagster.warehouse.engine import Engine


def make_churn(
    engine: Engine,
    name: str = "churn_training",
    *,
    users: int = 400,
    weeks: int = 30,
    first: date = date(2024, 1, 1),
    nonlinear: bool = False,
) -> None:
    """Weekly snapshots; the label follows recency and a key of a map, plus noise of the hash."""
    xor = "case when (recency % 2 = 0) <> (k % 2 = 0) then 4 else -4 end" if nonlinear else "0"
    engine.run(f"""
        create or replace table {name} as
        with grid as (
            select date '{first}' + (w * 7)::integer as ds, concat('u', lpad(u::varchar, 6, '0')) as user_id, w, u,
                1 + (md5_number_lower(concat('r', u, '-', w)) % 28)::integer as recency,
                (md5_number_lower(concat('k', u, '-', w)) % 6)::integer as k,
                (md5_number_lower(concat('n', u, '-', w)) % 100000) / 100000.0 as noise,
                (md5_number_lower(concat('p', u)) % 100) / 100.0 as person
            from range({users}) a(u), range({weeks}) b(w)
        ), odds as (
            select *, -2.2 + recency * 0.12 + 0.5 * (person - 0.5) - 0.35 * k + {xor} as z from grid
        )
        select ds, user_id, recency as recency_days,
            case when u % 11 = 0 then null else recency * 1.5 + k end as gap_mean_days,
            (k + recency % 3)::bigint as events_30d, k > 2 as lively,
            case u % 5 when 0 then 'gold' when 1 then 'silver' when 2 then null else concat('t', u % 40) end as user_type,
            map {{'buy': k::double, 'vi{{ew"': (recency % 4)::double}} as kind_events_30d,
            case when u % 3 = 0 then null else map {{'age': (u % 50)::double}} end as attribute_num,
            map {{'city': concat('c', u % 20)}} as attribute_str,
            7 as always, ds as a_date,
            noise < 1 / (1 + exp(-z)) as churned,
            case when noise < 1 / (1 + exp(-z)) then case when u % 2 = 0 then null else 9 end else (u % 7)::integer end::integer as days_to_next
        from odds
    """)


def make_winback(
    engine: Engine,
    name: str = "winback_training",
    *,
    users: int = 500,
    campaigns: int = 14,
    first: date = date(2024, 1, 1),
) -> None:
    """A campaign every three weeks; answering depends on the person and the affinity."""
    engine.run(f"""
        create or replace table {name} as
        with grid as (
            select date '{first}' + (c * 21)::integer as ds, concat('u', lpad(u::varchar, 6, '0')) as user_id,
                concat('camp', c) as item_id, case c % 2 when 0 then 'sms' else 'push' end as target, u, c,
                (md5_number_lower(concat('a', u, '-', c)) % 100) / 100.0 as affinity,
                (md5_number_lower(concat('p', u)) % 100) / 100.0 as person,
                (md5_number_lower(concat('n', u, '-', c)) % 100000) / 100000.0 as noise
            from range({users}) a(u), range({campaigns}) b(c)
        ), answered as (
            select *, noise < 1 / (1 + exp(3.5 - 3 * person - 2 * affinity)) as yes from grid
        )
        select ds, user_id, (u % 60)::integer as recency_days, (u % 9)::bigint as events_30d, person * 10 as touches_lookback,
            map {{'redeem': round(person * 8)}} as touches_answered, person as item_answer_rate,
            item_id, target, affinity as affinity_share, map {{'brand': affinity}} as affinity_events,
            case when yes then map {{'buy': 2, 'redeem': 10}}
                when u % 2 = 0 then map {{'buy': 5}} end as days_to_return
        from answered
    """)


def make_spend(
    engine: Engine,
    name: str = "spend_training",
    *,
    users: int = 500,
    weeks: int = 30,
    first: date = date(2024, 1, 1),
) -> None:
    """Weekly snapshots; whether and how much a user spends in 7 days follow what is known before.

    The past amount says little, the person's habit and recency say most, each in its own stage.
    """
    engine.run(f"""
        create or replace table {name} as
        with grid as (
            select date '{first}' + (w * 7)::integer as ds, concat('u', lpad(u::varchar, 6, '0')) as user_id, w, u,
                1 + (md5_number_lower(concat('r', u, '-', w)) % 28)::integer as recency,
                (md5_number_lower(concat('p', u)) % 100) / 100.0 as habit,
                (md5_number_lower(concat('n', u, '-', w)) % 100000) / 100000.0 as noise,
                (md5_number_lower(concat('m', u, '-', w)) % 100000) / 100000.0 as more
            from range({users}) a(u), range({weeks}) b(w)
        ), made as (
            select *, noise < 1 / (1 + exp(recency * 0.25 - 3)) as buys,
                10 * exp(2.5 * habit) * (0.5 + more) as size
            from grid
        )
        select ds, user_id, recency as recency_days, habit as habit_share, recency % 7 as as_of_weekday,
            case when u % 3 = 0 then 'gold' end as user_type,
            map {{'pay': case when u % 4 = 0 then 0 else round(20 * (0.2 + more + habit), 2) end}} as amount_7d,
            case when buys then map {{'pay': round(size, 2), 'fee': 1.0}} end as amount_next_7d
        from made
    """)

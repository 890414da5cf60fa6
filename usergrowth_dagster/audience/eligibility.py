"""Who could be texted at all: the checks of a row before anyone is chosen by score.

A row that fails gets the outcome of the first check it fails, in the order of :data:`OUTCOMES`:

1. ``duplicate``: the same user and item stood in an earlier row of the upload; the first row wins.
2. ``not_in_segment``: the campaign is for a segment, and the user is not in its snapshot.
3. ``no_features``: no score (or, where the policy chooses by it, no uplift), because the user is
   not in the features.
4. ``no_phone``, ``no_email``: the channel's address is missing or blank.
5. ``bad_phone``: no country's numbering plan has the number. ``no_country``: it is written without
   its country, and there is no default country. ``bad_email``: the e-mail address is not of the
   plain form that every mail server takes (HTML's rule for addresses, with a dot in the domain).
6. ``suppressed``, ``capped``: the user may not be texted (opt-out), or not again so soon. Both hold
   for the person: for each row of that user, and for each row with that phone.
7. ``many_users``: the person has more user ids than one person can have, so they are not one.
8. ``no_consent``: the campaign asks for a consent that the user has not given.
9. ``not_active``: the model speaks of active users only, and the user is not one.
10. ``unknown_zone``: the user's time zone names none for certain, so the night there is not known.
11. ``missing_variable``, ``too_long`` or another code of the message builder: no text can be made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from usergrowth_dagster.addresses.sql import (
    email_or_problem_sql,
    email_sql,
    number_or_problem_sql,
    number_sql,
)

# Every outcome, in its order of precedence. Those from other_item on are given to eligible rows.
OUTCOMES = (
    "duplicate",
    "not_in_segment",
    "no_features",
    "no_phone",
    "bad_phone",
    "no_country",
    "no_email",
    "bad_email",
    "suppressed",
    "capped",
    "many_users",
    "no_consent",
    "not_active",
    "unknown_zone",
    "missing_variable",
    "too_long",
    "other_item",
    "shared_phone",
    "shared_email",
    "same_person",
    "below_threshold",
    "not_in_top_n",
    "not_profitable",
    "over_budget",
    "explored",
    "holdout",
    "selected",
)
TEXTED_OUTCOMES = ("selected", "explored")
CONTENT_OUTCOMES = (
    "many_users",
    "no_consent",
    "not_active",
    "unknown_zone",
    "missing_variable",
    "too_long",
)

Channel = Literal["sms", "email"]


@dataclass(frozen=True)
class Address:
    """What a channel's address is called in outcomes."""

    name: str


ADDRESSES: Mapping[str, Address] = {"sms": Address("phone"), "email": Address("email")}
"""By channel; the outcomes are no_<name>, bad_<name> and shared_<name>."""


def address_sql(column: str, channel: Channel) -> str:
    """DuckDB expression: an address in its one spelling; NULL when it is blank or cannot be one."""
    return number_sql(column) if channel == "sms" else email_sql(column)


def _address_or_problem_sql(channel: Channel) -> str:
    """DuckDB expression: the address in ``phone``, or its reason code; NULL when it is blank."""
    return number_or_problem_sql("phone") if channel == "sms" else email_or_problem_sql("phone")


def screened_ctes(relation: str, channel: Channel = "sms") -> str:
    """CTEs that end in ``screened``: the relation's rows with phone_key and problem (NULL: none).

    Args:
        relation: quoted name of the input of :func:`usergrowth_dagster.audience.decisions.decide`,
            with its optional columns.
        channel: what the column ``phone`` holds: phone numbers, or e-mail addresses.
    """
    mark = "'+'" if channel == "sms" else "'@'"
    is_address = f"contains(address, {mark})"
    return f"""
cleaned as (
    select *,
        {_address_or_problem_sql(channel)} as address,
        coalesce(suppressed, false) or reason is not null as excluded,
        coalesce(reason, '') = 'capped' as only_capped
    from {relation}
),
keyed as (
    select *,
        case when {is_address} then address end as phone_key,
        row_number() over (partition by user_id, item_id order by "row") as copy
    from cleaned
),
excluded_users as (
    select user_id, bool_and(only_capped) as only_capped
    from keyed where excluded group by user_id
),
excluded_phones as (
    select phone_key, bool_and(only_capped) as only_capped
    from keyed where excluded and phone_key is not null group by phone_key
),
screened as (
    select keyed.*,
        case
            when copy > 1 then 'duplicate'
            when outside then 'not_in_segment'
            when score is null then 'no_features'
            when address is null then 'no_{ADDRESSES[channel].name}'
            when keyed.phone_key is null then address
            when excluded_users.only_capped is false or excluded_phones.only_capped is false
                then 'suppressed'
            when excluded_users.only_capped or excluded_phones.only_capped then 'capped'
            else content_problem
        end as problem
    from keyed
    left join excluded_users on excluded_users.user_id = keyed.user_id
    left join excluded_phones on excluded_phones.phone_key = keyed.phone_key
)"""

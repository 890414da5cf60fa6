"""Who could be texted at all: the checks of a row before anyone is chosen by score.

A row that fails gets the outcome of the first check it fails, in the order of :data:`OUTCOMES`:

1. ``duplicate``: the same user and item stood in an earlier row of the upload; the first row wins.
2. ``not_in_segment``: the campaign is for a segment, and the user is not in its snapshot.
3. ``no_features``: no score (or, where the policy chooses by it, no uplift), because the user is
   not in the features.
4. ``no_phone``, ``no_email``: the channel's address is missing or blank. Where texts go by several
   channels a row needs the address of each, or the arms would differ by who can be reached: the
   outcome is that of the first that is missing or bad.
5. ``bad_phone``: no country's numbering plan has the number. ``no_country``: it is written without
   its country, and there is no default country. ``bad_email``: the e-mail address is not of the
   plain form that every mail server takes (HTML's rule for addresses, with a dot in the domain).
6. ``suppressed``, ``capped``: the user may not be texted (opt-out), or not again so soon. Both hold
   for the person: for each row of that user, and for each row with that phone.
7. ``many_users``: the person has more user ids than one person can have, so they are not one.
8. ``no_consent``: the campaign asks for a consent that the user has not given.
9. ``not_active``: the model speaks of active users only, and the user is not one.
10. ``not_in_question``: the model speaks of other users, such as those who registered lately.
11. ``unknown_zone``: the user's time zone names none for certain, so the night there is not known.
12. ``missing_variable``, ``too_long`` or another code of the message builder: no text can be made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from usergrowth_dagster.addresses.sql import (
    email_or_problem_sql,
    email_sql,
    number_or_problem_sql,
    number_sql,
)
from usergrowth_dagster.control.campaign_blocks import Channel
from usergrowth_dagster.quoting import literal

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
    "not_in_question",
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
    "not_in_question",
    "unknown_zone",
    "missing_variable",
    "too_long",
)

OTHER_ADDRESS = "other_address"
"""Column of a row's address on the second channel, where texts go by two."""


@dataclass(frozen=True)
class Address:
    """What a channel's address is called in outcomes."""

    name: str


ADDRESSES: Mapping[str, Address] = {"sms": Address("phone"), "email": Address("email")}
"""By channel; the outcomes are no_<name>, bad_<name> and shared_<name>."""


def address_sql(column: str, channel: Channel) -> str:
    """DuckDB expression: an address in its one spelling; NULL when it is blank or cannot be one."""
    return number_sql(column) if channel == "sms" else email_sql(column)


def _address_or_problem_sql(channel: Channel, column: str) -> str:
    """DuckDB expression: the address in a column, or its reason code; NULL when it is blank."""
    return number_or_problem_sql(column) if channel == "sms" else email_or_problem_sql(column)


def _is_address_sql(channel: Channel, column: str) -> str:
    return f"contains({column}, {literal('+' if channel == 'sms' else '@')})"


@dataclass(frozen=True)
class _Other:
    """The parts of :func:`screened_ctes` that are of the second channel; empty with one alone."""

    cleaned: str = ""
    keyed: str = ""
    keys: str = ""
    problems: str = ""
    is_refused: str = "false"
    is_capped: str = "false"
    joined: str = ""

    @classmethod
    def of(cls, channels: Sequence[Channel]) -> "_Other":
        """The parts for the second of some channels."""
        if len(channels) == 1:
            return cls()
        channel = channels[1]
        return cls(
            cleaned=f"{_address_or_problem_sql(channel, OTHER_ADDRESS)} as other, ",
            keyed=f"case when {_is_address_sql(channel, 'other')} then other end as other_key,",
            keys=" union all select other_key, excluded, only_capped from keyed",
            problems=f"when other is null then 'no_{ADDRESSES[channel].name}' "
            "when keyed.other_key is null then other",
            is_refused="excluded_others.only_capped is false",
            is_capped="excluded_others.only_capped",
            joined="left join excluded_phones as excluded_others "
            "on excluded_others.phone_key = keyed.other_key",
        )


def screened_ctes(relation: str, channels: Sequence[Channel] = ("sms",)) -> str:
    """CTEs that end in ``screened``: the relation's rows with phone_key and problem (NULL: none).

    Args:
        relation: quoted name of the input of :func:`usergrowth_dagster.audience.decisions.decide`,
            with its optional columns.
        channels: what the column ``phone`` holds, phone numbers or e-mail addresses; and, of a
            second one, what :data:`OTHER_ADDRESS` holds. Then ``screened`` has other_key too.
    """
    channel, other = channels[0], _Other.of(channels)
    return f"""
cleaned as (
    select *,
        {_address_or_problem_sql(channel, "phone")} as address, {other.cleaned}
        coalesce(suppressed, false) or reason is not null as excluded,
        coalesce(reason, '') = 'capped' as only_capped
    from {relation}
),
keyed as (
    select *,
        case when {_is_address_sql(channel, "address")} then address end as phone_key, {other.keyed}
        row_number() over (partition by user_id, item_id order by "row") as copy
    from cleaned
),
excluded_users as (
    select user_id, bool_and(only_capped) as only_capped
    from keyed where excluded group by user_id
),
excluded_phones as (
    select phone_key, bool_and(only_capped) as only_capped
    from (select phone_key, excluded, only_capped from keyed{other.keys})
    where excluded and phone_key is not null group by phone_key
),
screened as (
    select keyed.*,
        case
            when copy > 1 then 'duplicate'
            when outside then 'not_in_segment'
            when score is null then 'no_features'
            when address is null then 'no_{ADDRESSES[channel].name}'
            when keyed.phone_key is null then address {other.problems}
            when excluded_users.only_capped is false or excluded_phones.only_capped is false
                or {other.is_refused} then 'suppressed'
            when excluded_users.only_capped or excluded_phones.only_capped or {other.is_capped}
                then 'capped'
            else content_problem
        end as problem
    from keyed
    left join excluded_users on excluded_users.user_id = keyed.user_id
    left join excluded_phones on excluded_phones.phone_key = keyed.phone_key
    {other.joined}
)"""

"""Who could be texted at all: the checks of a row before anyone is chosen by score.

A row that fails gets the outcome of the first check it fails, in the order of :data:`OUTCOMES`:

1. ``duplicate``: the same user and item stood in an earlier row of the upload; the first row wins.
2. ``no_features``: no score (or, where the policy chooses by it, no uplift), because the user is
   not in the features.
3. ``no_phone``, ``no_email``: the channel's address is missing or blank.
4. ``bad_phone``: without spaces and hyphens the phone is not ``+`` (optional) and 6 to 15 digits,
   the longest number of ITU-T E.164. ``bad_email``: the e-mail address is not of the plain form
   that every mail server takes (HTML's rule for addresses, with a dot in the domain).
5. ``suppressed``, ``capped``: the user may not be texted (opt-out), or not again so soon. Both hold
   for the person: for each row of that user, and for each row with that phone.
6. ``no_consent``: the campaign asks for a consent that the user has not given.
7. ``not_active``: the model speaks of active users only, and the user is not one.
8. ``unknown_zone``: the user's time zone names none for certain, so the night there is not known.
9. ``missing_variable``, ``too_long`` or another code of the message builder: no text can be made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# Every outcome, in its order of precedence. Those from other_item on are given to eligible rows.
OUTCOMES = (
    "duplicate",
    "no_features",
    "no_phone",
    "bad_phone",
    "no_email",
    "bad_email",
    "suppressed",
    "capped",
    "no_consent",
    "not_active",
    "unknown_zone",
    "missing_variable",
    "too_long",
    "other_item",
    "shared_phone",
    "shared_email",
    "below_threshold",
    "not_in_top_n",
    "not_profitable",
    "over_budget",
    "explored",
    "holdout",
    "selected",
)
TEXTED_OUTCOMES = ("selected", "explored")
CONTENT_OUTCOMES = ("no_consent", "not_active", "unknown_zone", "missing_variable", "too_long")

PHONE_PATTERN = r"^\+?[0-9]{6,15}$"
EMAIL_PATTERN = (
    r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    r"@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}$"
)

Channel = Literal["sms", "email"]


@dataclass(frozen=True)
class Address:
    """What a channel's address is called in outcomes, and the pattern of a clean one."""

    name: str
    pattern: str


ADDRESSES: Mapping[str, Address] = {
    "sms": Address("phone", PHONE_PATTERN),
    "email": Address("email", EMAIL_PATTERN),
}
"""By channel; the outcomes are no_<name>, bad_<name> and shared_<name>."""


def phone_sql(column: str) -> str:
    """DuckDB expression: a phone without white space and hyphens, NULL when nothing is left.

    Args:
        column: SQL expression of the phone as uploaded.
    """
    return f"nullif(regexp_replace({column}, '[\\s-]', '', 'g'), '')"


def phone_key_sql(phone: str) -> str:
    """DuckDB expression: what two spellings of one international number have in common.

    The signs ``+`` and ``00`` before the country code are dropped, and 86 before a mobile number of
    mainland China, as in :func:`usergrowth_dagster.messaging.people.phones.phone_key`. Elsewhere a
    national spelling and an international one stay different: that would need a country.

    Args:
        phone: SQL expression of a phone cleaned by :func:`phone_sql`.
    """
    digits = f"regexp_replace({phone}, '^\\+?(00)?', '')"
    return f"regexp_replace({digits}, '^86(1[0-9]{{10}})$', '\\1')"


def address_sql(column: str, channel: Channel) -> str:
    """DuckDB expression: a clean address, NULL when nothing is left."""
    return phone_sql(column) if channel == "sms" else f"nullif(trim({column}, E' \\t\\r\\n'), '')"


def address_key_sql(address: str, channel: Channel) -> str:
    """DuckDB expression: what spellings of one clean address have in common."""
    return phone_key_sql(address) if channel == "sms" else f"lower({address})"


def screened_ctes(relation: str, channel: Channel = "sms") -> str:
    """CTEs that end in ``screened``: the relation's rows with phone_key and problem (NULL: none).

    Args:
        relation: quoted name of the input of :func:`usergrowth_dagster.audience.decisions.decide`,
            with its optional columns.
        channel: what the column ``phone`` holds: phone numbers, or e-mail addresses.
    """
    address = ADDRESSES[channel]
    pattern = address.pattern.replace("'", "''")
    return f"""
cleaned as (
    select *,
        {address_sql("phone", channel)} as clean_phone,
        coalesce(suppressed, false) or reason is not null as barred,
        coalesce(reason, '') = 'capped' as only_capped
    from {relation}
),
keyed as (
    select *,
        {address_key_sql("clean_phone", channel)} as phone_key,
        row_number() over (partition by user_id, item_id order by "row") as copy
    from cleaned
),
barred_users as (
    select user_id, bool_and(only_capped) as only_capped
    from keyed where barred group by user_id
),
barred_phones as (
    select phone_key, bool_and(only_capped) as only_capped
    from keyed where barred and phone_key is not null group by phone_key
),
screened as (
    select keyed.*,
        case
            when copy > 1 then 'duplicate'
            when score is null then 'no_features'
            when clean_phone is null then 'no_{address.name}'
            when not regexp_full_match(clean_phone, '{pattern}') then 'bad_{address.name}'
            when barred_users.only_capped is false or barred_phones.only_capped is false
                then 'suppressed'
            when barred_users.only_capped or barred_phones.only_capped then 'capped'
            else content_problem
        end as problem
    from keyed
    left join barred_users on barred_users.user_id = keyed.user_id
    left join barred_phones on barred_phones.phone_key = keyed.phone_key
)"""

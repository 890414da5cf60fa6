"""Landed rows into links of a user and an id, each once; those that cannot link have a reason.

An id is known by its type and by a key of 128 bits: MD5 of a user id, a keyed hash of any other
value. So an id has the same key on every day, and no table but the landed one holds a value.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from usergrowth_dagster.addresses.sql import email_sql, number_sql
from usergrowth_dagster.data.contracts import CONTRACTS, IDENTITY
from usergrowth_dagster.identity.definition import NAME, Hashes, Identity, IdType
from usergrowth_dagster.quoting import literal, literals
from usergrowth_dagster.warehouse.engine import Engine

if TYPE_CHECKING:
    from usergrowth_dagster.messaging.people.phones import PhoneVault

RAW = CONTRACTS[IDENTITY].raw_table
"""Table of the landed rows."""

LINKS = "identity_links"
"""Relation of :func:`bind_links`: type, key, user_key, user_id, reason, first_seen, last_seen,
source, rows. ``type`` is the place in :attr:`Identity.all_types`; of an unknown type it is NULL and
``other_type`` has the name. ``other_user`` is the value of a link between two users."""

_PADS, _PLAIN = "_identity_pads", "_identity_plain"
_HEXADECIMAL = {"md5": 32, "sha256": 64}


@dataclass(frozen=True)
class Keys:
    """The two blocks of HMAC-SHA256 (RFC 2104) of the home's hash key."""

    pads: tuple[bytes, bytes]

    @classmethod
    def of(cls, vault: "PhoneVault") -> "Keys":
        """Those of a vault."""
        return cls(vault.pads())

    def bind(self, engine: Engine, macro: str = "keyed") -> None:
        """Make a macro of one text: the first half of the HMAC, as a UUID."""
        # Bound as values: the text of a query may end up in a log.
        pads = f"{_PADS}_{macro}"
        engine.run(
            f"create or replace table {pads} as select ?::blob as inside, ?::blob as outside",
            list(self.pads),
        )
        engine.run(
            f"""
            create or replace macro {macro}(text) as cast(left(sha256(
                (select outside from {pads})
                || unhex(sha256((select inside from {pads}) || encode(text)))
            ), 32) as uuid)
            """
        )


def user_key_sql(user: str) -> str:
    """DuckDB expression (UUID): the key of a user id."""
    return f"cast(md5({user}) as uuid)"


def bind_links(
    engine: Engine, identity: Identity, keys: Keys, files: Sequence[str], before: date
) -> None:
    """Make the table :data:`LINKS` of the rows that landed before a date.

    Args:
        engine: where it is made.
        identity: the types.
        keys: the home's.
        files: data files of the landed rows.
        before: the execution date; rows of it and of later days are left out.
    """
    keys.bind(engine)
    engine.bind_files(RAW, files, CONTRACTS[IDENTITY].raw_types())
    landed = f"(select * from {RAW} where ds < date '{before}')"
    present = {name for (name,) in engine.rows(f"select distinct id_type from {landed}")}
    _bind_plain(engine, identity, landed, present)
    engine.run(f"create or replace table {LINKS} as {_links_sql(identity, landed)}")
    engine.run(f"drop table {_PLAIN}")


def drop_links(engine: Engine) -> None:
    """Leave in :data:`LINKS` those that have a reason: the others are edges by then."""
    engine.run(f"create or replace table _left as select * from {LINKS} where reason is not null")
    engine.run(f"drop table {LINKS}")
    engine.run(f"alter table _left rename to {LINKS}")


def _links_sql(identity: Identity, landed: str) -> str:
    """The links; several spellings and rows of one are one link."""
    types = identity.all_types
    number = _case((f"id_type = {literal(one.name)}", str(n)) for n, one in enumerate(types))
    day = "coalesce(least(try_strptime(time, '%Y%m%d')::date, ds), ds)"
    return f"""
        with read as (
            select user_id, id_type, source, {day} as seen, cast({number} as utinyint) as type,
                {_normal_sql(identity)} as normal, {_junk_sql(identity)} as junk, id_value
            from {landed}
        ), keyed as (
            select *, case
                when type is null then 'unknown_type'
                when junk then 'junk'
                when normal is null then 'unreadable'
            end as reason, {_key_sql(types)} as own_key
            from read
        ), met as (
            select k.* exclude (type), coalesce(p.type, k.type) as type,
                coalesce(p.key, k.own_key) as key
            from keyed as k left join {_PLAIN} as p on p.hash_type = k.type and p.hash = k.own_key
        )
        select type, key, {user_key_sql("user_id")} as user_key, user_id, reason,
            case when type is not null then null
                when regexp_full_match(id_type, '{NAME}') then id_type else 'other' end
                as other_type,
            case when type = 0 then id_value end as other_user,
            min(seen) as first_seen, max(seen) as last_seen,
            min({{'seen': seen, 'source': {_shown_source()}}}).source as source,
            count(*) as rows
        from met group by all
    """


def _case(branches: Iterator[tuple[str, str]], otherwise: str = "null") -> str:
    listed = " ".join(f"when {condition} then {value}" for condition, value in branches)
    return f"(case {listed} else {otherwise} end)"


def _shown_source() -> str:
    """A source without what may be an address."""
    masked = r"regexp_replace(coalesce(source, ''), '\p{Nd}{5,}', '*', 'g')"
    return f"case when contains({masked}, '@') then '*' else left({masked}, 100) end"


def _normal_sql(identity: Identity) -> str:
    """The one spelling of a value; NULL when it cannot be one of its type."""
    return _case(
        (f"id_type = {literal(one.name)}", normal_sql(one, "id_value"))
        for one in identity.all_types
    )


def normal_sql(one: IdType, value: str) -> str:
    """DuckDB expression (VARCHAR): a value of a type in its one spelling, or NULL.

    Args:
        one: the type.
        value: SQL expression of the value as landed.
    """
    if one.hashes is not None:
        size = _HEXADECIMAL[one.hashes.with_]
        low = f"lower(trim({value}))"
        return f"case when regexp_full_match({low}, '[0-9a-f]{{{size}}}') then {low} end"
    if one.normalise == "phone":
        return number_sql(value)
    if one.normalise == "email":
        return email_sql(value)
    return f"lower(trim({value}))" if one.normalise == "lower" else value


def _junk_sql(identity: Identity) -> str:
    """Whether a value, or the user, is nobody's.

    One character alone, five times or more, is what a form or a device gives for want of an id; a
    user id may be so.
    """
    words = literals(identity.junk_words)
    bare = "regexp_replace(id_value, '[\\s:.+-]', '', 'g')"
    alike = f"length({bare}) >= 5 and replace({bare}, left({bare}, 1), '') = ''"
    return (
        f"(lower(trim(id_value)) in ({words}) or lower(trim(user_id)) in ({words}) "
        f"or (id_type <> 'user_id' and {alike}))"
    )


def _key_sql(types: Sequence[IdType]) -> str:
    """The key of a value by its type; of a value that has no spelling, that of its text."""
    cases = [("type = 0", user_key_sql("id_value"))]
    addresses = [str(n) for n, one in enumerate(types) if one.is_address]
    if addresses:
        cases.append((f"type in ({', '.join(addresses)}) and normal is not null", "keyed(normal)"))
    other = "keyed(concat('identity', chr(1), id_type, chr(1), coalesce(normal, id_value)))"
    return _case(iter(cases), other)


def _bind_plain(engine: Engine, identity: Identity, landed: str, present: set[str]) -> None:
    """Make the table of hashes whose plain value has landed too: hash_type, hash, type, key."""
    engine.run(
        f"create or replace table {_PLAIN} (hash_type utinyint, hash uuid, type utinyint, key uuid)"
    )
    names = [one.name for one in identity.all_types]
    for number, one in enumerate(identity.all_types):
        if one.hashes is None or not {one.name, one.hashes.of} <= present:
            continue
        plain = identity.all_types[names.index(one.hashes.of)]
        hashed = _hash_sql(one.hashes)
        own = f"keyed(concat('identity', chr(1), {literal(one.name)}, chr(1), {hashed}))"
        other = f"keyed(concat('identity', chr(1), {literal(plain.name)}, chr(1), normal))"
        key = "keyed(normal)" if plain.is_address else other
        engine.run(f"""
            insert into {_PLAIN}
            select {number}, {own}, {names.index(plain.name)}, min({key}) from (
                select distinct {normal_sql(plain, "id_value")} as normal from {landed}
                where id_type = {literal(plain.name)} and not {_junk_sql(identity)}
            ) where normal is not null group by all
        """)


def _hash_sql(hashes: Hashes) -> str:
    """The hash of a plain value in the form that was hashed."""
    form = {
        "plain": "normal",
        "digits": "ltrim(normal, '+')",
        "mainland": r"regexp_replace(normal, '^\+86(1[0-9]{10})$', '\1')",
    }[hashes.form]
    return f"{hashes.with_}({form})"

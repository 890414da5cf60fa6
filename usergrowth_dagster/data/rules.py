"""The contracts' rules as DuckDB SQL: a block of read lines in, coded and typed rows out.

A block is parsed by set-based statements. A row's ``reject`` is 0, or the 1-based place in
``Contract.rejections`` of the first rule it breaks. Nearly all rows are good, and it takes a
fraction of the time to see that a row is good than to say what is bad about it. So
:func:`clean_sql` takes the rows that are plainly good, and :func:`parse_sql` judges those that
:func:`rest_sql` leaves.
"""

from collections.abc import Sequence

from usergrowth_dagster.data.contracts import (
    IDENTITY,
    LINE_RULES,
    LONGEST_LINE,
    NULL_TEXT,
    WITH_ADDRESSES,
    Column,
    Contract,
)
from usergrowth_dagster.quoting import literals

BLOCK = "_block"
"""Name of the relation that holds a block: day, file, line, then ``t`` (a line) or cells."""

CELLS = "_cells"
"""Name of the relation that holds cells of one column: ``x``."""

RAW_CHARACTERS = 2000
"""Characters of a rejected row that are kept."""

_FIELD = r'"(?:[^"]|"")*"|[^",]*'
_PAIR = "[^:, ]+:[^:, ]+"
_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"
_NUMBER_PAIR = f"[^:, ]+:{_NUMBER}"
_PLAIN_PAIR = r"[^:, ]+:[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"

# What a good value satisfies, by rule code; $x stands for a value that is not null.
_GOOD = {
    "empty": "$x <> ''",
    "bigint": "regexp_full_match($x, '-?[0-9]{1,19}') and try_cast($x as bigint) is not null",
    "gender": "try_cast($x as bigint) in (1, 2)",
    "age": "try_cast($x as bigint) between 0 and 150",
    "yyyymmdd": "regexp_full_match($x, '[0-9]{8}') and $x >= '0001' "
    "and try_strptime($x, '%Y%m%d') is not null",
    "kvs": f"regexp_full_match($x, '{_PAIR}( {_PAIR})*')",
    # Only an exponent or hundreds of digits can overflow a double: the others need no cast.
    "kvs_number": f"regexp_full_match($x, '{_NUMBER_PAIR}( {_NUMBER_PAIR})*') "
    "and (strlen($x) < 300 and not regexp_matches($x, '[0-9.][eE]') "
    "or not list_contains(list_transform(string_split($x, ' '), lambda p: "
    "coalesce(isfinite(try_cast(split_part(p, ':', 2) as double)), false)), false))",
    "kvs_key": "not contains($x, ' ') or len(string_split($x, ' ')) = len(list_distinct("
    "list_transform(string_split($x, ' '), lambda p: split_part(p, ':', 1))))",
}

_PLAIN_DAY = "(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|1[0-9]|2[0-8])"  # in every month
# Cheaper tests that only good values satisfy, though not all of them. The second one is asked of
# values that satisfy the first: then a key ends at the first colon, and a pair at a space.
_CLEAN = _GOOD | {
    "gender": "$x in ('1', '2')",
    "age": "regexp_full_match($x, '[0-9]{1,2}|1[0-4][0-9]|150')",
    "yyyymmdd": f"case when regexp_full_match($x, '{_PLAIN_DAY}') then true "
    f"else {_GOOD['yyyymmdd']} end",
    "kvs_number": f"strlen($x) < 300 and regexp_full_match($x, '{_PLAIN_PAIR}(?: {_PLAIN_PAIR})*')",
    "kvs_key": "case when not contains($x, ' ') then true "
    "when contains($x, ' ' || left($x, strpos($x, ':'))) then false "
    f"when split_part($x, ' ', 3) = '' then true else {_GOOD['kvs_key']} end",
}

_IMPLIED = {"bigint": {"gender", "age"}, "kvs": {"kvs_number"}}
"""By rule: those whose clean test is true only of values that satisfy it too."""

SHOWN_CHARACTERS = 40
"""Characters of a broken value that are repeated beside its rule."""


def clean_sql(contract: Contract, header: Sequence[str], *, lines: bool) -> str:
    """The query that takes those rows of a block of valid UTF-8 which plainly break no rule.

    It returns what :func:`parse_sql` returns of them; for the arguments see there.
    """
    names = _value_names(contract)
    typed = ", ".join(
        f"cast({name} as {column.kind}) as {column.name}"
        for column, name in zip(contract.columns, names, strict=True)
    )
    return f"""
        select day, file, line, cast(0 as smallint) as reject, cast(null as varchar) as broken,
            cast(null as varchar) as person, cast(null as varchar) as raw,
            {typed}{_extra(contract, header, _places(header, lines=lines))}
        from ({_sorted_source(contract, header, lines=lines)})
        where clean
    """


def stored_rows_sql(contract: Contract, header: Sequence[str]) -> str:
    """The query that takes all rows of a block of cells that are stored as they are.

    It returns what :func:`clean_sql` returns of them.
    """
    cells = dict(zip(header, _places(header, lines=False), strict=True))
    columns = ", ".join(f"{cells[name]} as {name}" for name in contract.names)
    return f"""
        select day, file, line, cast(0 as smallint) as reject, cast(null as varchar) as broken,
            cast(null as varchar) as person, cast(null as varchar) as raw,
            {columns}{_extra(contract, header, _places(header, lines=False))}
        from (select *, 0 as reject from {BLOCK})
    """


def rest_sql(contract: Contract, header: Sequence[str], *, lines: bool) -> str:
    """The rows of a block that :func:`clean_sql` leaves, in the form of the block."""
    read = "t" if lines else ", ".join(f"c{place}" for place in range(1, len(header) + 1))
    return f"""
        select day, file, line, {read} from ({_sorted_source(contract, header, lines=lines)})
        where not clean
    """


def stored_sql(column: Column) -> str:
    """The query that counts those of the cells ``x`` which plainly break no rule of a column and
    are stored as they are.

    It asks neither for NULs and line breaks nor for the length: see
    :func:`~usergrowth_dagster.data.lines.is_plain`.
    """
    codes = [rule.code for rule in column.rules]
    good = [
        f"({_CLEAN[code].replace('$x', 'x')})"
        for code in codes
        if code != "not_null" and _IMPLIED.get(code, set()).isdisjoint(codes)
    ]
    good.append(f"x <> '{NULL_TEXT}'")
    if column.nullable:
        good.append("x <> ''")
    absent = "x is null or " if column.nullable else ""
    return f"select count(*) from {CELLS} where {absent}({' and '.join(good)})"


def _sorted_source(contract: Contract, header: Sequence[str], *, lines: bool) -> str:
    """The block with its cells, the values of the contract's columns, and whether it is ``clean``.

    ``random()`` keeps DuckDB from moving a filter by ``clean`` to where the block is read: there it
    would split each line once for every condition.
    """
    places = _places(header, lines=lines)
    whole = (
        "t as whole, string_split(t, ',') as cells"
        if lines
        else f"concat({', '.join(places)}) as whole"
    )
    conditions = " and ".join(_clean_conditions(contract, header, lines=lines))
    return f"""
        select *, 0 as reject,
            random() is not null and coalesce({conditions}, false) as clean
        from (select *, {_valued(contract, header, places)} from (select *, {whole} from {BLOCK}))
    """


def _places(header: Sequence[str], *, lines: bool) -> list[str]:
    """SQL of each cell of a row."""
    form = "cells[{}]" if lines else "c{}"
    return [form.format(place) for place in range(1, len(header) + 1)]


def _clean_conditions(contract: Contract, header: Sequence[str], *, lines: bool) -> list[str]:
    """What a row satisfies that plainly breaks no rule.

    With Parquet, ``whole`` has neither commas nor the marks of cells without a value, so its bytes
    have to be far below the limit.
    """
    conditions = [f"strlen(whole) < {LONGEST_LINE // 2}", "not contains(whole, chr(0))"]
    if lines:
        conditions += ["not contains(whole, chr(13))", "not contains(whole, chr(34))"]
        conditions.append(f"len(cells) = {len(header)}")
    else:
        conditions += ["not contains(whole, chr(13))", "not contains(whole, chr(10))"]
    for column, name in zip(contract.columns, _value_names(contract), strict=True):
        codes = [rule.code for rule in column.rules]
        for code in codes:
            if code == "not_null":
                conditions.append(f"{name} is not null")
            elif _IMPLIED.get(code, set()).isdisjoint(codes):
                conditions.append(f"({name} is null or ({_CLEAN[code].replace('$x', name)}))")
    return conditions


def parse_sql(
    contract: Contract, header: Sequence[str], *, lines: bool, text: bool, block: str = BLOCK
) -> str:
    """The query that turns a block into coded rows.

    Args:
        contract: the table's contract.
        header: all column names of the files in the block, in any order.
        lines: the block holds whole CSV lines, otherwise one column a cell (``c1``, ``c2`` …).
        text: the block is known to be valid UTF-8 (``VARCHAR``), otherwise it is ``BLOB``.
        block: the relation that holds it.

    Returns:
        A SELECT of day, file, line, reject, broken, person, raw (these three NULL in an accepted
        row), the contract's columns, typed (NULL in a reject), and for a population ``variables``.
    """
    source = _line_source(block, text) if lines else _cell_source(block, len(header), text)
    places = {name: place for place, name in enumerate(header, 1)}
    names = _value_names(contract)
    typed = ", ".join(
        f"case when reject = 0 then cast({name} as {column.kind}) end as {column.name}"
        for column, name in zip(contract.columns, names, strict=True)
    )
    return f"""
        with source as ({source}),
        coded as (
            select *, {_valued(contract, header, _places(header, lines=True))},
                case
                    when size > {LONGEST_LINE} then {_code("too_long")}
                    when bad then {_code("bad_utf8")}
                    when contains(text, chr(0)) then {_code("nul")}
                    when contains(text, chr(13)) or contains(text, chr(10))
                        then {_code("line_break")}
                    when cells is null then {_code("quote")}
                    when len(cells) <> {len(header)} then {_code("field_count")}
                    else 0
                end as row_code
            from source
        ),
        judged as (
            select *, case when row_code > 0 then row_code {_cell_cases(contract, names)} else 0 end
                as reject
            from coded
        )
        select day, file, line, cast(reject as smallint) as reject,
            case when reject > 0 then {_broken(contract, names, len(header))} end as broken,
            {_person(contract, names[0], places[contract.names[0]])} as person,
            case when reject > 0 then {_kept_raw(contract)} end as raw,
            {typed}{_extra(contract, header, _places(header, lines=True))}
        from judged
    """


def _value_names(contract: Contract) -> list[str]:
    return [f"v{place}" for place in range(len(contract.columns))]


def _valued(contract: Contract, header: Sequence[str], cells: Sequence[str]) -> str:
    """The select list that gives the contract's columns their values, from the cells of a row."""
    cell_of = dict(zip(header, cells, strict=True))
    return ", ".join(
        f"{_value(column, cell_of[column.name])} as {name}"
        for column, name in zip(contract.columns, _value_names(contract), strict=True)
    )


def _extra(contract: Contract, header: Sequence[str], cells: Sequence[str]) -> str:
    """The select list of what a contract takes besides its columns, from the cells of a row."""
    if contract.table != "population":
        return ""
    others = [(n, c) for n, c in zip(header, cells, strict=True) if n not in contract.names]
    return f", {_variables([n for n, _ in others], [c for _, c in others])} as variables"


def _code(rule: str) -> int:
    return [known.code for known in LINE_RULES].index(rule) + 1


def _line_source(block: str, text: bool) -> str:
    body = (
        f"select day, file, line, t as text, t as raw, strlen(t) as size, false as bad from {block}"
        if text
        else "select day, file, line, try(decode(t)) as text, "
        f"{_shown('t')} as raw, octet_length(t) as size, "
        f"try(decode(t)) is null as bad from {block}"
    )
    unquoted = f"""list_transform(regexp_extract_all(',' || text, ',({_FIELD})', 1), lambda f:
        case when starts_with(f, '"') then replace(f[2:-2], '""', '"') else f end)"""
    return f"""
        select *, case
            when not contains(text, '"') then string_split(text, ',')
            when regexp_full_match(text, '({_FIELD})(,({_FIELD}))*') then {unquoted}
        end as cells
        from ({body})
    """


def _shown(blob: str) -> str:
    r"""Bytes as text, those that are no UTF-8 as ``\xFF``."""
    return rf"coalesce(try(decode({blob})), replace({blob}::varchar, '\x5C', '\'))"


def _cell_source(block: str, width: int, text: bool) -> str:
    cells = [f"c{place}" for place in range(1, width + 1)]
    decoded = cells if text else [f"try(decode({cell}))" for cell in cells]
    shown = cells if text else [_shown(cell) for cell in cells]
    bad = " or ".join(
        f"({cell} is not null and {value} is null)"
        for cell, value in zip(cells, decoded, strict=True)
    )
    raw = ", ".join(f"coalesce({cell}, '{NULL_TEXT}')" for cell in shown)
    return f"""
        select day, file, line, [{", ".join(decoded)}] as cells,
            concat_ws(',', {raw}) as raw, raw as text, strlen(raw) as size, {bad} as bad
        from {block}
    """


def _value(column: Column, cell: str) -> str:
    value = f"nullif({cell}, '{NULL_TEXT}')"
    return f"nullif({value}, '')" if column.nullable else value


def _cell_cases(contract: Contract, names: Sequence[str]) -> str:
    cases = []
    place = len(LINE_RULES)
    for column, name in zip(contract.columns, names, strict=True):
        good = {rule.code: _GOOD.get(rule.code, "").replace("$x", name) for rule in column.rules}
        for rule in column.rules:
            place += 1
            if rule.code == "not_null":
                cases.append(f"when {name} is null then {place}")
            elif rule.code == "kvs" and "kvs_number" in good:
                # Good numbers are good pairs: rows pay for the second pattern only when bad.
                cases.append(
                    f"when {name} is not null and not ({good['kvs_number']}) "
                    f"then case when {good['kvs']} then {place + 1} else {place} end"
                )
            elif rule.code != "kvs_number":
                cases.append(f"when {name} is not null and not ({good[rule.code]}) then {place}")
    return " ".join(cases)


def _broken(contract: Contract, names: Sequence[str], width: int) -> str:
    """Every rule that a reject breaks, with the value seen; of the whole row, only the first."""
    clauses = []
    for column, name in zip(contract.columns, names, strict=True):
        good = {rule.code: _GOOD.get(rule.code, "").replace("$x", name) for rule in column.rules}
        implied = ""  # a value that is no number is not asked for its range, and so on
        for rule in column.rules:
            if rule.code == "not_null":
                clauses.append(f"case when {name} is null then '{column.name}: not_null' end")
                continue
            test = f"{implied}{name} is not null and not ({good[rule.code]})"
            seen = _masked(contract, f"left({name}, {SHOWN_CHARACTERS})")
            said = f"concat('{column.name}: {rule.code} ''', {seen}, '''')"
            clauses.append(f"case when {test} then {said} end")
            if rule.code in ("bigint", "kvs"):
                implied = f"({good[rule.code]}) and "
    cells = f"list_filter([{', '.join(clauses)}], lambda one: one is not null)"
    return f"""case
        when row_code = 0 then array_to_string({cells}, '; ')
        when row_code = {_code("field_count")}
            then concat('field_count: ', len(cells), ' values for {width} columns')
        else ([{literals(rule.code for rule in LINE_RULES)}])[row_code]
    end"""


def _masked(contract: Contract, shown: str) -> str:
    """A text as it may be kept: a broken row of a table with addresses does not say which digits
    are a phone number, so none may leave the upload; nor may e-mail addresses among other ids."""
    shown = rf"replace({shown}, chr(0), '\x00')"
    if contract.table not in WITH_ADDRESSES:
        return shown
    if contract.table == IDENTITY:
        shown = rf"""regexp_replace({shown}, '[^,"\s@]+@[^,"\s@]*', '*@*', 'g')"""
    return rf"regexp_replace({shown}, '\p{{Nd}}', '*', 'g')"


def _person(contract: Contract, name: str, place: int) -> str:
    """SQL of the user that a reject is about, as far as its raw line shows one."""
    if not contract.has_people:
        return "cast(null as varchar)"
    cell = f"trim(split_part(coalesce(text, raw), ',', {place}), '\"')"
    return f"case when reject > 0 then coalesce({name}, {cell}) end"


def _kept_raw(contract: Contract) -> str:
    return _masked(
        contract,
        f"case when strlen(raw) > {RAW_CHARACTERS} then left(raw, {RAW_CHARACTERS}) else raw end",
    )


def _variables(names: Sequence[str], cells: Sequence[str]) -> str:
    if not names:
        return "cast(map {} as map(varchar, varchar))"
    keys = literals(names)
    values = ", ".join(f"nullif({cell}, '{NULL_TEXT}')" for cell in cells)
    return f"""case when reject = 0 then map_from_entries(list_filter(
        list_transform(list_zip([{keys}], [{values}]), lambda e: {{'k': e[1], 'v': e[2]}}),
        lambda e: e.v is not null)) end"""

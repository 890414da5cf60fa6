"""An independent reading of the landing contract, in SQL, for the tests of the example data."""

from pathlib import Path

import duckdb

HEADERS = {
    "user": "user_id,gender,age,reg_time,user_type,kvs_num,kvs_str",
    "item": "item_id,kvs_num,kvs_str",
    "behavior": "user_id,behavior,item_id,kvs_num,kvs_str",
    "operation": "user_id,target,item_id,kvs_num,kvs_str",
}
_TEXT = r"[^,:\s\"]+"
_NULL = r"\\N"
_NUMBER = r"-?[0-9]+(\.[0-9]+)?"
_KVS_NUM = rf"({_NULL}|{_TEXT}:{_NUMBER}( {_TEXT}:{_NUMBER})*)"
_KVS_STR = rf"({_NULL}|{_TEXT}:{_TEXT}( {_TEXT}:{_TEXT})*)"
LINES = {
    "user": f"{_TEXT},({_NULL}|1|2),({_NULL}|[0-9]+),({_NULL}|[0-9]{{8}}),{_TEXT},{_KVS_NUM},{_KVS_STR}",
    "item": f"{_TEXT},{_KVS_NUM},{_KVS_STR}",
    "behavior": f"{_TEXT},{_TEXT},{_TEXT},{_KVS_NUM},{_KVS_STR}",
    "operation": f"{_TEXT},{_TEXT},{_TEXT},{_KVS_NUM},{_KVS_STR}",
}


def bind(con: duckdb.DuckDBPyConnection, landing: Path) -> None:
    """Make views ``user``, ``item``, ``behavior``, ``operation`` over whatever was landed."""
    for table, header in HEADERS.items():
        columns = header.split(",")
        parts = []
        if list(landing.glob(f"{table}/*/*.csv")):
            kinds = ", ".join(f"'{name}': 'varchar'" for name in columns)
            parts.append(
                f"select {header}, strptime(ds::varchar, '%Y%m%d')::date as ds, filename from "
                f"read_csv('{landing}/{table}/*/*.csv', columns={{{kinds}}}, header=true, "
                "nullstr='\\N', delim=',', quote='', auto_detect=false, hive_partitioning=true, "
                "filename=true)"
            )
        if list(landing.glob(f"{table}/*/*.parquet")):
            parts.append(
                f"select {header}, strptime(ds::varchar, '%Y%m%d')::date as ds, filename from "
                f"read_parquet('{landing}/{table}/*/*.parquet', hive_partitioning=true, filename=true)"
            )
        con.execute(f'create view "{table}" as {" union all ".join(parts)}').fetchall()


def faults(con: duckdb.DuckDBPyConnection, landing: Path) -> list[tuple[str, int, str]]:
    """Table, how many and an example of the rows or headers that break the contract."""
    lines: list[tuple[str, int, str]] = []
    for table, header in HEADERS.items():
        if list(landing.glob(f"{table}/*/*.csv")):
            lines += con.execute(
                "select ?, count(*), min(line) from read_csv(?, columns={'line': 'varchar'}, "
                "header=false, delim=chr(1), quote='', escape='', auto_detect=false) "
                "where line <> ? and not regexp_full_match(line, ?) having count(*) > 0",
                [table, f"{landing}/{table}/*/*.csv", header, LINES[table]],
            ).fetchall()
            lines += con.execute(
                "select ?, count(*), min(filename) from read_text(?) "
                "where not starts_with(content, ?) having count(*) > 0",
                [f"{table} header", f"{landing}/{table}/*/*.csv", f"{header}\n"],
            ).fetchall()
        if list(landing.glob(f"{table}/*/*.parquet")):
            line = ", ".join(f"coalesce({name}::varchar, '\\N')" for name in header.split(","))
            lines += con.execute(
                f"select ?, count(*), min(line) from (select concat_ws(',', {line}) as line "
                f"from read_parquet('{landing}/{table}/*/*.parquet')) "
                "where not regexp_full_match(line, ?) having count(*) > 0",
                [table, LINES[table]],
            ).fetchall()
    return lines

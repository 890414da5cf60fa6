"""Erases a person from the results of affinity jobs: scores, segments, and exported files.

Every file is written anew beside itself and then put in its place, so a reader sees the old one or
the whole new one, and a call that was killed is finished by the next. The files of the jobs below
the landing root belong to whoever delivers them; a later run does not take the person's rows.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usergrowth_dagster.affinity.csv_file import load_csv, read_header
from usergrowth_dagster.affinity.export import WITH_IDS, people_of
from usergrowth_dagster.affinity.files import ENDPOINTS
from usergrowth_dagster.affinity.landed import FOLDER, jobs_folder
from usergrowth_dagster.affinity.segment import SEGMENTS
from usergrowth_dagster.affinity.train import (
    SCORES,
    STEP,
    file_source,
    file_target,
    flush,
    sha256,
    temporary,
    write_parquet,
    write_text,
)
from usergrowth_dagster.documents import document
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.quoting import identifier, literal, literals
from usergrowth_dagster.settings import Settings
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.erasure import ORPHAN_AGE

_USER = "User.UserId"


@dataclass
class ErasedAffinity:
    """Rows that were erased from all files, and what is left for a person to do."""

    rows: int = 0
    failures: list[str] = field(default_factory=list)


def erase_from_affinity(
    settings: Settings, user_id: str, *, dry_run: bool = False
) -> ErasedAffinity:
    """Erase a person from the results of every affinity job in the home.

    Args:
        settings: of the home.
        user_id: the user.
        dry_run: count only.
    """
    erased = ErasedAffinity()
    root = settings.home / FOLDER
    for output in sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []:
        with open_engine(settings) as engine:
            engine.run("set preserve_insertion_order = true")
            try:
                _erase_job(engine, settings, output, user_id, erased, dry_run=dry_run)
            except UserError as error:
                again = "correct it and run the same command again"
                erased.failures.append(f"affinity job {output.name}: {error}; {again}")
    return erased


def _erase_job(
    engine: Engine,
    settings: Settings,
    output: Path,
    user_id: str,
    erased: ErasedAffinity,
    *,
    dry_run: bool,
) -> None:
    if not dry_run:
        _remove_drafts(output, erased)
    mine = f"user_id = {literal(user_id)}"
    unknown = []
    for path in sorted(output.glob("*.csv")):
        if path.name == WITH_IDS:
            continue
        ids = _ids_in(engine, settings, output, path, user_id)
        if ids is None:
            unknown.append(path.name)
        elif ids:
            erased.rows += _erase_export(engine, output, path, ids, mine, dry_run=dry_run)
    if unknown:
        erased.failures.append(
            f"affinity job {output.name}: whether the person is in {', '.join(unknown)} is not "
            "known, since an earlier version wrote it; delete the file"
        )
    for name in (SCORES, SEGMENTS):
        erased.rows += _erase_rows(engine, output / STEP / name, mine, dry_run=dry_run)
    erased.rows += _erase_with_ids(engine, output / WITH_IDS, user_id, dry_run=dry_run)


def _remove_drafts(output: Path, erased: ErasedAffinity) -> None:
    """What a killed step has left holds people too; what is young may belong to a running one."""
    for draft in output.rglob(".*.tmp"):
        try:
            old = time.time() - draft.stat().st_mtime > ORPHAN_AGE.total_seconds()
        except FileNotFoundError:
            continue
        if old:
            draft.unlink(missing_ok=True)
        else:
            erased.failures.append(
                f"affinity job {output.name}: an unfinished step may hold the person; run the same "
                "command again when no step is at work, or in an hour"
            )


def _ids_in(
    engine: Engine, settings: Settings, output: Path, path: Path, user_id: str
) -> Sequence[str] | None:
    """The person's endpoints that an exported file may have; None where that is not known."""
    people = people_of(output, path.name)
    if people.exists():
        source = f"read_parquet({file_source(people)})"
    else:
        landing = jobs_folder(settings)
        delivered = landing / output.name / ENDPOINTS if landing is not None else None
        known = [one for one in (output / WITH_IDS, delivered) if one is not None and one.exists()]
        named = [one for one in known if {"id", _USER.casefold()} <= _columns(one).keys()]
        if not named:
            return None
        names = _columns(named[0])
        load_csv(
            engine, "_known", named[0], {"id": names["id"], "user_id": names[_USER.casefold()]}
        )
        source = "_known"
    rows = engine.rows(f"select distinct id from {source} where user_id = ?", [user_id])
    return [str(value) for (value,) in rows]


def _erase_export(
    engine: Engine, output: Path, path: Path, ids: Sequence[str], mine: str, *, dry_run: bool
) -> int:
    """Rows of the person in an exported file; it and its manifest are written anew."""
    source = _csv(path)
    listed = literals(ids)
    rows, left = engine.rows(
        f'select count(*) filter (where "Id" in ({listed})), '
        f'count(*) filter (where "Id" not in ({listed})) from {source}'
    )[0]
    if dry_run:
        return int(rows)
    if rows:
        _write_csv(engine, f'select "Id" from {source} where "Id" not in ({listed})', path)
    manifest = path.with_suffix(".json")
    if manifest.exists():
        content = json.loads(manifest.read_text("utf-8"))
        if content.get("endpoints") != left or content.get("sha256") != sha256(path):
            content |= {
                "endpoints": left,
                "sha256": sha256(path),
                "users": content.get("users", 1) - 1,
                "erased": content.get("erased", 0) + 1,
            }
            write_text(manifest, document(content) + "\n")
    people = people_of(output, path.name)
    _erase_rows(engine, people, mine, dry_run=False)  # last, so that a killed call is finished
    return int(rows)


def _erase_rows(engine: Engine, path: Path, mine: str, *, dry_run: bool) -> int:
    """Rows of the person in a Parquet file, which is written anew without them."""
    if not path.exists():
        return 0
    source = f"read_parquet({file_source(path)})"
    rows = int(engine.value(f"select count(*) from {source} where {mine}"))
    if rows and not dry_run:
        write_parquet(engine, f"select * from {source} where not ({mine})", path)
    return rows


def _erase_with_ids(engine: Engine, path: Path, user_id: str, *, dry_run: bool) -> int:
    """Rows of the person in the file of endpoints with their ids and addresses."""
    if not path.exists():
        return 0
    user, source = identifier(_columns(path)[_USER.casefold()]), _csv(path)
    mine = f"coalesce(trim({user}) = {literal(user_id)}, false)"
    rows = int(engine.value(f"select count(*) from {source} where {mine}"))
    if rows and not dry_run:
        _write_csv(engine, f"select * from {source} where not {mine}", path)
    return rows


def _columns(path: Path) -> dict[str, str]:
    """The names of a file's columns by name in lower case."""
    return {name.casefold(): name for name in read_header(path)[0]}


def _csv(path: Path) -> str:
    """SQL of a CSV file of ours, in its order."""
    return (
        f"read_csv({file_source(path)}, header = true, all_varchar = true, parallel = false, "
        "delim = ',', quote = '\"', escape = '\"')"
    )


def _write_csv(engine: Engine, query: str, path: Path) -> None:
    with temporary(path) as made:
        engine.run(
            f"copy ({query}) to {file_target(made)} (format csv, header true, use_tmp_file false)"
        )
        flush(made)
        made.replace(path)

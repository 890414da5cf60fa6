"""Recommendations in files: of every user, and as columns of a list of users.

The first is the batch file of Amazon Personalize, an object a line. The second takes a CSV with a
column ``user_id``, such as the population of a task, and adds the columns ``item``, ``item_2``, ...
with what a text shows; a text then says ``${item}``.
"""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from usergrowth_dagster.affinity.csv_file import read_header
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.project import Project
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.recommendations import (
    NOBODY,
    bind_recommendations,
    bind_titles,
    item_variable,
)
from usergrowth_dagster.warehouse.relation import Relation

USER = "user_id"


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: where.
        users: lines of users.
        known: those who have a list of their own; the others have the popular items.
    """

    path: Path
    users: int
    known: int


def write_batch(project: Project, day: date, path: Path, n: int) -> Written:
    """Write a date's lists, an object a line with ``input`` and ``output``.

    Args:
        project: the home.
        day: an execution date whose recommendations stand.
        path: the file; it must not be there.
        n: items of a user at most.

    Raises:
        UserError: the file is there, or the date has no recommendations.
    """
    users = 0
    with open_engine(project.settings) as engine, _new_file(path) as handle:
        table = _lists(engine, project, day)
        reader = engine.stream(
            "select user_id, list(item_id order by rank), list(score order by rank) "
            f"from {table} where rank <= {n} and user_id <> '' group by user_id order by user_id"
        )
        for batch in reader:
            for user_id, items, scores in zip(*batch.to_pydict().values(), strict=True):
                line = {
                    "input": {"userId": user_id},
                    "output": {"recommendedItems": items, "scores": scores},
                    "error": None,
                }
                handle.write(json.dumps(line, ensure_ascii=False) + "\n")
                users += 1
    return Written(path, users, users)


def fill_file(project: Project, day: date, source: Path, path: Path, n: int) -> Written:
    """Write a CSV of users anew, with the titles of their first items in columns of their own.

    Args:
        project: the home.
        day: an execution date whose recommendations stand.
        source: a CSV with a column ``user_id`` and no column ``item``.
        path: the file to write; it must not be there.
        n: columns to add: ``item``, ``item_2``, ...

    Raises:
        UserError: a file cannot be used, or the date has no recommendations.
    """
    names, delimiter = read_header(source)
    added = [item_variable(rank) for rank in range(1, n + 1)]
    if USER not in names:
        raise _bad(f"{source}: line 1: no column {USER}; it has {', '.join(names)}")
    for name in added:
        if name in names:
            raise _bad(f"{source}: line 1: the column {name} is there already; rename it")
    users = known = 0
    with open_engine(project.settings) as engine, _new_file(path) as handle:
        _lists(engine, project, day)
        titles = dict(engine.rows(f"from {bind_titles(engine, project.warehouse, day)}"))
        with source.open(encoding="utf-8-sig", newline="") as lines:
            reader, writer = csv.reader(lines, delimiter=delimiter), csv.writer(handle)
            next(reader)
            writer.writerow([*names, *added])
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise _bad(
                        f"{source}: line {reader.line_num:,}: {len(row)} values where the header "
                        f"has {len(names)}"
                    )
                own = titles.get(row[names.index(USER)].strip())
                first = own or titles.get(NOBODY, [])
                writer.writerow([*row, *first[:n], *[""] * (n - len(first))])
                users, known = users + 1, known + (own is not None)
    return Written(path, users, known)


def _lists(engine: Engine, project: Project, day: date) -> Relation:
    table = bind_recommendations(engine, project.warehouse, day)
    if not engine.value(f"select count(*) from {table}"):
        raise UserError(
            f"no recommendations of {day} stand; make them with `usergrowth recommend run --date "
            f"{day}`",
            code="recommend.not_made",
        )
    return table


@contextmanager
def _new_file(path: Path) -> Iterator[IO[Any]]:
    """A file that must not be there yet; what was begun is removed when something fails."""
    try:
        handle = path.open("x", encoding="utf-8", newline="")
    except FileExistsError:
        raise UserError(
            f"{path}: is there already; name another file", code="file.exists"
        ) from None
    try:
        with handle:
            yield handle
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _bad(sentence: str) -> UserError:
    return UserError(sentence, code="recommend.bad_file")

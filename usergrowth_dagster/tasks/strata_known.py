"""A stratum that nobody has a value of is a mistake of the campaign file, and is told as one."""

from difflib import get_close_matches

from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.tasks.people import attribute_sql
from usergrowth_dagster.tasks.strata import BANDED
from usergrowth_dagster.warehouse.engine import Engine

_NAMED = 6  # known names that a sentence lists


def require_known_strata(engine: Engine, task: Task) -> None:
    """Refuse to balance a control group by an attribute that nobody in the population has.

    Everybody would be of one stratum ``name=unknown``, and nothing would be balanced. A population
    without rows is not refused.

    Args:
        engine: with the views ``task_population`` and ``user_attributes``.
        task: the task.

    Raises:
        UserError: naming the key path, and attributes that there are.
    """
    asked = [(i, name) for i, name in enumerate(task.spec.holdout.strata) if name not in BANDED]
    if not asked:
        return
    having = ", ".join(f"count({attribute_sql(name)})" for _, name in asked)
    rows, *counts = engine.rows(f"select count(*), {having} from {_PEOPLE}")[0]
    for (place, name), count in zip(asked, counts, strict=True):
        if rows and not count:
            known = [*BANDED, *_names(engine)]
            near = get_close_matches(name, known, n=_NAMED, cutoff=0.6)
            listed = [*near, *(one for one in known if one not in near)]
            more = ", …" if len(listed) > _NAMED else ""
            raise UserError(
                f"campaign {task.campaign!r}: holdout.strata[{place}]: nobody in the population of "
                f"task {task.task_id!r} has an attribute {name!r}; known are "
                f"{', '.join(listed[:_NAMED])}{more}",
                code="campaign.invalid",
            )


_PEOPLE = "task_population as p left join user_attributes as a on p.user_id = a.user_id"


def _names(engine: Engine) -> list[str]:
    """Columns and attributes that somebody in the population has, by name."""
    keys = ("map_keys(p.variables)", "map_keys(a.kvs_str)", "map_keys(a.kvs_num)")
    each = " union ".join(f"select unnest({one}) as name from {_PEOPLE}" for one in keys)
    return [name for (name,) in engine.rows(f"select distinct name from ({each}) order by name")]

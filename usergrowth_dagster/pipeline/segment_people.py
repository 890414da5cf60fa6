"""The people of a segment's snapshot as the population of a task, without an upload.

Number and e-mail address are those of each person's newest upload up to the execution date, as for
`usergrowth segment upload`. A variable of the campaign's texts is the user's attribute of its name;
``${item}``, ``${item_2}``, ... are else the first items that are recommended on the date.
"""

from dataclasses import dataclass

from usergrowth_dagster.audience.hashing import relation_hash
from usergrowth_dagster.control.campaign_blocks import LINK
from usergrowth_dagster.control.tasks import Task
from usergrowth_dagster.data.contracts import CONTRACTS
from usergrowth_dagster.data.forgotten import is_forgotten_sql
from usergrowth_dagster.intake.forgotten import forgotten_people
from usergrowth_dagster.messaging.texts.content import variables
from usergrowth_dagster.pipeline.attributes import bind_attributes
from usergrowth_dagster.pipeline.segment import bind_segment
from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literal
from usergrowth_dagster.segments.sizes import bind_addresses
from usergrowth_dagster.segments.uploads import NO_ITEM
from usergrowth_dagster.warehouse.engine import Engine, open_engine
from usergrowth_dagster.warehouse.landing import MEMORY_SHARE
from usergrowth_dagster.warehouse.population import POPULATION, LandedPopulation
from usergrowth_dagster.warehouse.recommendations import NOBODY, bind_titles, ranks_of
from usergrowth_dagster.warehouse.relation import Relation, bind_query

_FORM = "segment"
"""First word of the fingerprint of a population that is no upload."""


@dataclass(frozen=True)
class _People:
    """The rows of a task's population, how many they are, and those who were forgotten."""

    rows: Relation
    count: int
    forgotten: int
    snapshot: str


def land_segment(project: Project, task: Task) -> LandedPopulation:
    """Write the people of the snapshot that a task is bound to as its population.

    The same people with the same addresses and variables are written once.

    Raises:
        UserError: the segment is not there, or has no snapshot.
    """
    day, scope = task.execution_date, {"task_id": task.task_id}
    with open_engine(project.settings, MEMORY_SHARE) as engine:
        people = _bind_people(engine, project, task)
        columns = [name for name in people.rows.columns if name not in ("ds", "task_id")]
        digest, _ = relation_hash(engine, people.rows.name, columns)
        mark = f"{_FORM}:{people.snapshot}:{digest}"
        version = project.warehouse.version(POPULATION)
        unchanged = mark == project.warehouse.fingerprint(POPULATION, day, scope)
        if not unchanged or version is None:
            commit = project.warehouse.replace(
                POPULATION,
                lambda: engine.stream(f'select * from {people.rows} order by "row"'),
                days=[day],
                scope=scope,
                fingerprints={day: mark},
            )
            version = commit.version
    return LandedPopulation(
        rows_in=people.count + people.forgotten,
        accepted=people.count,
        quarantined=people.forgotten,
        warnings=(),
        version=version,
        unchanged=unchanged,
        forgotten=people.forgotten,
    )


def _bind_people(engine: Engine, project: Project, task: Task) -> _People:
    day = task.execution_date
    bound = bind_segment(engine, project, task)
    forgotten = forgotten_people(project)
    known = "true"
    if forgotten is not None:
        forgotten.bind(engine.connection)
        known = f"not {is_forgotten_sql('user_id')}"
    members = bind_query(
        engine, "people", f"select user_id from {bound.members} where {known}", keep=True
    )
    reachable = bind_addresses(engine, project, members, day)
    attributes = bind_attributes(engine, project, day)
    titles = bind_titles(engine, project.warehouse, day)
    kinds = CONTRACTS[POPULATION].raw_types()
    values = {
        "ds": f"date {literal(str(day))}",
        "task_id": literal(task.task_id),
        "row": "row_number() over (order by r.user_id)",
        "user_id": "r.user_id",
        "item_id": literal(NO_ITEM),
        "phone": "r.phone",
        "variables": _variables_sql(task, titles),
    }
    columns = ", ".join(
        f'cast({values[name]} as {kind}) as "{name}"' for name, kind in kinds.items()
    )
    rows = bind_query(
        engine,
        "segment_people",
        f"select {columns} from {reachable} as r left join {attributes} as a using (user_id) "
        f"left join {titles} as t using (user_id)",
        keep=True,
    )
    whole, kept = (engine.value(f"select count(*) from {one}") for one in (bound.members, rows))
    return _People(rows, int(kept), int(whole - kept), bound.note["snapshot"])


def _variables_sql(task: Task, titles: Relation) -> str:
    """DuckDB expression: what fills the texts, by name; a name without a value is left out."""
    link = variables(LINK)
    texts = task.spec.template.texts
    names = dict.fromkeys(name for text in texts for name in variables(text.content))
    values = {name: _attribute_text(name) for name in names if name not in (*link, "email")}
    everybody = f"(select titles from {titles} where user_id = {literal(NOBODY)})"
    for name, rank in ranks_of(values).items():
        item = f"coalesce(t.titles, {everybody})[{rank}]"
        values[name] = f"coalesce({values[name]}, {item})"
    pairs = ", ".join(
        f"{{'key': {literal(name)}, 'value': {value}}}"
        for name, value in {**values, "email": "r.email"}.items()
    )
    return f"map_from_entries(list_filter([{pairs}], lambda one: one.value is not null))"


def _attribute_text(name: str) -> str:
    """An attribute as a text; a whole number without decimals."""
    key = literal(name)
    number = f"a.kvs_num[{key}]"
    return (
        f"coalesce(nullif(trim(a.kvs_str[{key}]), ''), case when {number} = trunc({number}) "
        f"and abs({number}) < 1e15 then cast(cast({number} as bigint) as varchar) "
        f"else cast({number} as varchar) end)"
    )

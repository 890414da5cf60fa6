"""A tag's words of each user: those of the items that the user took, the weightiest first."""

from datetime import date, timedelta

from usergrowth_dagster.project import Project
from usergrowth_dagster.quoting import literals
from usergrowth_dagster.tags.item_words import bind_item_words
from usergrowth_dagster.tags.text_keys import Words
from usergrowth_dagster.warehouse.engine import Engine
from usergrowth_dagster.warehouse.models import load_graph
from usergrowth_dagster.warehouse.relation import Relation, bind_days, bind_query

BEHAVIOR = "stg_behavior"


def bind_user_words(engine: Engine, project: Project, keys: Words, day: date) -> Relation:
    """The words of each user as a relation with ``user_id`` and ``value``, a list of texts.

    Nothing of the date itself or later counts. A word's score is the sum over the items taken of
    events times the word's weight in the item; the greatest scores come first.

    Args:
        engine: where it is bound.
        project: the home.
        keys: how many words, of which days and kinds of behavior.
        day: the execution date.
    """
    days = {day - timedelta(days=back) for back in range(1, keys.days + 1)}
    behavior = bind_days(engine, project.warehouse, BEHAVIOR, days, load_graph().types(BEHAVIOR))
    words = bind_item_words(engine, project, day)
    kinds = f"and behavior in ({literals(keys.behaviors)})" if keys.behaviors else ""
    sql = f"""
with taken as (
    select user_id, item_id, stable_sum(events) as events
    from {behavior}
    where item_id is not null {kinds}
    group by all
),
summed as (
    select t.user_id, w.word, round(stable_sum(t.events * w.weight), 9) as score
    from taken as t
    inner join {words} as w on t.item_id = w.item_id
    group by all
),
ranked as (
    select *, row_number() over (partition by user_id order by score desc, word) as place
    from summed
    where score > 0
    qualify place <= {keys.top}
)
select user_id, list(word order by place) as value from ranked group by user_id"""
    return bind_query(engine, "tag_words", sql, of=[behavior, words])

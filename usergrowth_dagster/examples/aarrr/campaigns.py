"""The text of a campaign file that asks one question."""

from datetime import date

_TEXT = """\
# yaml-language-server: $schema=campaign.schema.json
name: {name}
algorithm: {algorithm}
training: {training}
population: population/{population}
execution_date: {day}
selection: {selection}
holdout: {{share: 0.1, namespace: global, epoch: "2017"}}
signature: {{name: 示例超市, description: Demonstration only}}
template:
  name: {name}
  content: ${{name}}，感谢您的惠顾，本周到店有惊喜。拒收请回复R
  type: promotion
schedule: {{name: {name}}}
"""


def campaign_text(
    name: str, algorithm: str, training: str, selection: str, day: date | None = None
) -> str:
    """A campaign file.

    Args:
        name: of the campaign and of its population's folder.
        algorithm, training, selection: blocks in YAML's flow style.
        day: the execution date; None: it decides uploads on arrival, so that it learns and waits.
    """
    return _TEXT.format(
        name=name,
        algorithm=algorithm,
        training=training,
        population=name if day else f"{name}-*",
        day=day or "on upload",
        selection=selection,
    )

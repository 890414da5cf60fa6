"""The signature and the texts of a campaign as records, each with a review of its own."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, func, select

from usergrowth_dagster.control import schema
from usergrowth_dagster.control.campaign import CampaignSpec
from usergrowth_dagster.control.codes import Kind, ReviewStatus, TemplateType
from usergrowth_dagster.control.store import TABLES
from usergrowth_dagster.control.template import CampaignText
from usergrowth_dagster.control.upserts import Work
from usergrowth_dagster.errors import UserError


def apply_content(work: Work, spec: CampaignSpec, campaign_id: int) -> tuple[int, list[int]]:
    """Signature and template records; returns their ids, the template's own text first."""
    reviewing = {"status": ReviewStatus.REVIEWING, "reason": None}
    description = {"description": spec.signature.description}
    name, key = spec.signature.name, "signature.name"
    _guard_shared(work, Kind.SIGNATURE, name, description, campaign_id, key)
    signature_id, changed = work.upsert(Kind.SIGNATURE, spec.signature.name, description, reviewing)
    if changed:
        work.review_again(Kind.SIGNATURE, signature_id, spec.signature.name)
    texts = [_template(work, spec, text, signature_id, campaign_id) for text in spec.template.texts]
    return signature_id, texts


def _template(
    work: Work, spec: CampaignSpec, text: CampaignText, signature_id: int, campaign_id: int
) -> int:
    """The template record of one text; returns its id."""
    content = {
        "content": text.content,
        "subject": text.subject,
        "type": TemplateType[spec.template.type.upper()],
        "signature_id": signature_id,
    }
    fresh: dict[str, Any] = {"status": ReviewStatus.REVIEWING, "reason": None}
    if text.code:
        content["template_code"] = text.code
        _guard_code(work, text)
    else:
        newest = work.connection.scalar(select(func.max(schema.template.c.id)))
        fresh["template_code"] = f"UG_{(newest or 0) + 1:06d}"
    key = "template.name" if text.key == "template" else text.key
    _guard_shared(work, Kind.TEMPLATE, text.name, content, campaign_id, key)
    template_id, changed = work.upsert(Kind.TEMPLATE, text.name, content, fresh)
    if changed:
        work.review_again(Kind.TEMPLATE, template_id, text.name)
    return template_id


def _guard_code(work: Work, text: CampaignText) -> None:
    """Refuse a provider's template code that another template has."""
    table = schema.template
    other = work.connection.scalar(
        select(table.c.name).where(table.c.template_code == text.code, table.c.name != text.name)
    )
    if other:
        raise UserError(
            f"campaign {work.applied.campaign!r}: {text.key}.code: {text.code} is the code of "
            f"template {other!r}; a template has one name and one code",
            code="campaign.conflict",
        )


def _guard_shared(
    work: Work, kind: Kind, name: str, values: Mapping[str, Any], campaign_id: int, key: str
) -> None:
    """Refuse to change a text that another campaign sends: each apply would undo the other's."""
    table = TABLES[kind]
    row = work.connection.execute(select(table).where(table.c.name == name)).mappings().first()
    if row is None or all(row[field] == value for field, value in values.items()):
        return
    used = schema.schedule.c[f"{kind}_id"] == row["id"]
    if kind is Kind.TEMPLATE:
        used |= schema.schedule.c.id.in_(_schedules_of_variant(row["id"]))
    other = work.connection.scalar(
        select(schema.campaign.c.name)
        .join(schema.schedule, schema.schedule.c.campaign_id == schema.campaign.c.id)
        .where(used, schema.campaign.c.id != campaign_id)
        .limit(1)
    )
    if other:
        raise UserError(
            f"campaign {work.applied.campaign!r}: {key}: {kind} {name!r} is used by "
            f"campaign {other!r} with another content; choose another name",
            code="campaign.conflict",
        )


def _schedules_of_variant(template_id: int) -> Select[tuple[int]]:
    """Ids of the schedules that have a template as one of several texts, beside their own."""
    table = schema.schedule_variant
    return select(table.c.schedule_id).where(table.c.template_id == template_id)

"""From a campaign file to its records, content rules included."""

from collections.abc import Sequence
from pathlib import Path

from usergrowth_dagster.control.apply import Applied, apply_campaign
from usergrowth_dagster.control.campaign import load_campaign
from usergrowth_dagster.control.store import ControlStore
from usergrowth_dagster.messaging.content import OPT_OUT_TEXTS, check_content


def apply_file(
    store: ControlStore,
    path: Path | str,
    actor: str,
    opt_out_texts: Sequence[str] = OPT_OUT_TEXTS,
) -> Applied:
    """Read, check and apply one campaign file; all or nothing.

    Raises:
        UserError: the file, its settings or its texts break a rule; the sentence names the place.
    """
    spec = load_campaign(path)
    check_content(spec, str(path), opt_out_texts)
    return apply_campaign(store, spec, actor)

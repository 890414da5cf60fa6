"""A dry run: its texts went to files, so nothing that people did afterwards is due to them."""

from dataclasses import replace

from usergrowth_dagster.effects.result import Effect, Funnel, MoneyFigures
from usergrowth_dagster.settings.gateways import DRY_RUN

_WITHOUT = ("delivered", "returned")


def as_dry_run(effect: Effect) -> Effect:
    """The effect of texts that were written to files alone: who was chosen, and no return.

    No lift, returns, value or cost is left in it, so neither the page, the JSON nor a terminal can
    show one.
    """
    steps = {name: rows for name, rows in effect.funnel.steps.items() if name not in _WITHOUT}
    losses = [loss for loss in effect.funnel.losses if loss.step not in _WITHOUT]
    written = steps.get("sent")
    texts = "The texts" if written is None else f"{written:,} texts"
    return replace(
        effect,
        verdict="dry_run",
        sentence=f"Dry run: nobody was texted. {texts} were written to files (gateway "
        f"{DRY_RUN}), so there is no effect to measure.",
        arms=[],
        contrasts=[],
        crossover={},
        deciles=[],
        daily=[],
        policies=[],
        notes=[],
        explored=None,
        funnel=Funnel(steps, losses),
        money=MoneyFigures(0.0, None, None, None),
    )

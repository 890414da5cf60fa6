"""How often intervals hold the true effect, and how often no effect is called one.

Run: .venv/bin/python benchmarks/coverage.py [--worlds 6] [--users 20000] [--rounds 12]

Each world gives some two hundred campaigns with texts and as many without, of 300 to 1,200 users
with 10, 30 or 50 % held out; tests/effects/campaign_world.py says what is simulated and what the
true effect is. The table shows, by estimate: campaigns that have an interval, the share of these
95 % intervals that hold the truth, the mean error, and the mean width. Then, of campaigns that text
nobody, the share that is told to have an effect: at the end of the window, and at any of five
planned looks; and the same of campaigns that do work, which is how often a true effect is found.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "effects"))

from campaign_world import campaigns
from effect_rows import plan

from usergrowth_dagster.effects.analysis import analyse

ESTIMATES = {
    "lift": "returns, as concluded from",
    "absolute": "returns, Newcombe",
    "adjusted": "returns, adjusted (CUPED)",
    "value": "value",
    "value_adjusted": "value, adjusted (CUPED)",
}
LOOKS = 5
SHOWN = ("works", "harms")


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(description="coverage of the intervals of an effect")
    parser.add_argument("--worlds", type=int, default=6)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    held: dict[str, list[tuple[bool, float, float]]] = {name: [] for name in ESTIMATES}
    told: Counter[str] = Counter()
    start = time.monotonic()
    for world in range(arguments.worlds):
        for texted in (True, False):
            for campaign in campaigns(
                1000 + world, arguments.users, arguments.rounds, texted=texted
            ):
                kind = "texted" if texted else "nobody"
                told[kind] += 1
                found = analyse(campaign.table, plan(has_amount=True))
                told[f"{kind} end"] += found.verdict in SHOWN
                verdicts = [
                    analyse(*campaign.at_look(look, LOOKS)).verdict for look in range(1, LOOKS + 1)
                ]
                told[f"{kind} any"] += any(verdict in SHOWN for verdict in verdicts)
                if not texted:
                    continue
                for name in ESTIMATES:
                    one = getattr(found.contrasts[0], name)
                    if one.low is None:  # too few who paid
                        continue
                    truth = campaign.value if name.startswith("value") else campaign.rate
                    hit = one.low <= truth <= one.high
                    held[name].append((hit, one.value - truth, one.high - one.low))
        print(f"world {world + 1} of {arguments.worlds}: {time.monotonic() - start:.0f} s")
    _print(held, told)


def _print(held: dict[str, list[tuple[bool, float, float]]], told: Counter[str]) -> None:
    print(f"\n{told['texted']} campaigns with texts, {told['nobody']} without\n")
    print("| estimate | with an interval | it holds the truth | mean error | mean width |")
    print("|---|---|---|---|---|")
    for name, title in ESTIMATES.items():
        hit, error, width = (np.array(column, float) for column in zip(*held[name], strict=True))
        spread = 1.96 * error.std() / np.sqrt(len(error))
        print(
            f"| {title} | {len(hit):,} | "
            f"{hit.mean():.1%} ± {1.96 * hit.std() / np.sqrt(len(hit)):.1%} | "
            f"{error.mean():+.5f} ± {spread:.5f} | {width.mean():.4f} |"
        )
    print("\n| called an effect | at the end | at any of 5 planned looks |")
    print("|---|---|---|")
    for kind, title in (("nobody", "no effect"), ("texted", "with an effect")):
        print(
            f"| {title} | {told[f'{kind} end'] / told[kind]:.1%} | "
            f"{told[f'{kind} any'] / told[kind]:.1%} |"
        )


if __name__ == "__main__":
    main()

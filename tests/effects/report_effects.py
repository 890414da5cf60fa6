"""Hand-made effects for the tests of the report."""

from dataclasses import replace
from datetime import date, timedelta

from usergrowth_dagster.effects.clicks import TextArm, TextFate, build_paths
from usergrowth_dagster.effects.report.basis import Basis
from usergrowth_dagster.effects.report.funnel import Fate, build_funnel
from usergrowth_dagster.effects.result import (
    ArmFigures,
    Contrast,
    DailyReturns,
    Decile,
    Effect,
    Estimate,
    MoneyFigures,
    PolicyValue,
    SampleRatio,
)

D = date(2017, 5, 4)
BASIS = Basis(
    [
        ("Question of the model", "who comes back after a text"),
        ("Model", "winback version 3"),
        ("Chosen", "everybody whose score is above 0.1"),
        ("Held out", "10 % of the chosen as this campaign's control group"),
    ]
)
FUNNEL = build_funnel(
    {
        "duplicate": 12,
        "no_phone": 431,
        "suppressed": 97,
        "other_item": 260,
        "below_threshold": 16_200,
        "holdout": 2_400,
        "selected": 20_600,
    },
    [
        Fate("delivered", None, True, 19_120, 1_840),
        Fate("accepted", None, True, 350, 22),
        Fate("undelivered", "provider_undelivered", True, 510, 31),
        Fate("rejected", "invalid", True, 40),
        Fate("in_doubt", "worker_lost", True, 3),
        Fate("expired", "send_by_passed", False, 377, 20),
        Fate("skipped", "suppressed", False, 200, 9),
    ],
    unreadable=7,
    held_globally=380,
)
CLICKS = build_paths(
    [
        TextArm("plain", "sms", True),
        TextArm("with_emoji", "sms", True),
        TextArm("control", None, False),
    ],
    [
        TextFate("plain", Fate("delivered", None, True, 8_400, 640), False, False),
        TextFate("plain", Fate("delivered", None, True, 1_160, 240), True, False),
        TextFate("plain", Fate("accepted", None, True, 730, 50), False, True),
        TextFate("with_emoji", Fate("delivered", None, True, 8_130, 600), False, True),
        TextFate("with_emoji", Fate("delivered", None, True, 1_430, 322), True, True),
        TextFate("with_emoji", Fate("skipped", "suppressed", False, 750, 70), False, False),
        TextFate("control", Fate(None, None, False, 2_400, 194), False, False),
    ],
    complete=True,
    landed=True,
)


def estimate(value: float, half: float, p: float | None = 0.001) -> Estimate:
    return Estimate(value, value - half, value + half, p)


def contrast(treated: str, view: str, lift: float, users: int) -> Contrast:
    return Contrast(
        treated=treated,
        control="control",
        view=view,  # type: ignore[arg-type]
        absolute=estimate(lift, 0.0105),
        relative=estimate(lift / 0.081, 0.14),
        adjusted=estimate(lift + 0.001, 0.0087),
        value=estimate(lift * 40, 0.5),
        value_adjusted=estimate(lift * 41, 0.4),
        returns=estimate(lift * users, 0.0105 * users),
        worth=estimate(lift * 40 * users, 0.5 * users),
    )


def works() -> Effect:
    """A campaign that worked, with everything measured."""
    return Effect(
        task_id="spring_20170504",
        campaign="spring",
        execution_date=D,
        window_first=D + timedelta(days=1),
        window_last=D + timedelta(days=28),
        landed_until=D + timedelta(days=28),
        complete=True,
        level=0.95,
        looks=1,
        currency="CNY",
        arms=[
            ArmFigures(
                "treatment", 20_600, 1_922, 1_922 / 20_600, 76_800.0, 20_490, 922.05, 19_120
            ),
            ArmFigures("plain", 10_290, 930, 930 / 10_290, 37_000.0, 10_240, 460.8, 9_560),
            ArmFigures("with_emoji", 10_310, 992, 992 / 10_310, 39_800.0, 10_250, 461.25, 9_560),
            ArmFigures("control", 2_400, 194, 194 / 2_400, 7_700.0, 0, 0.0, 0),
        ],
        contrasts=[
            replace(
                contrast("treatment", "intention_to_treat", 0.0125, 20_600),
                rests_on="adjusted",
                per_delivered=estimate(0.0134, 0.0113),
            ),
            contrast("treatment", "delivered_only", 0.0154, 19_120),
            contrast("plain", "intention_to_treat", 0.0096, 10_290),
            contrast("with_emoji", "intention_to_treat", 0.0154, 10_310),
        ],
        sample_ratio=SampleRatio(
            True,
            0.62,
            {"treatment": 20_608.2, "control": 2_391.8},
            {"treatment": 20_600, "control": 2_400},
            None,
            "The arms are as large as they were drawn (p = 0.62).",
        ),
        crossover={"control": 41, "treatment": 390},
        deciles=[
            Decile(
                n,
                0.5 - 0.045 * n,
                0.545 - 0.045 * n,
                2_060,
                240,
                0.15 - 0.011 * n,
                0.125 - 0.0095 * n,
                estimate(0.025 - 0.0015 * n, 0.03),
                0.021 - 0.0014 * n,
            )
            for n in range(1, 11)
        ],
        funnel=FUNNEL,
        money=MoneyFigures(922.05, 0.48, Estimate(3.58, 1.95, 22.4), estimate(9_378.0, 8_240.0)),
        verdict="works",
        sentence="12.5 more of 1,000 came back than without the text [2.0, 23.0]: about 258 of the "
        "1,922 who came back did so because of the text.",
        policies=[
            PolicyValue(
                "as decided",
                20_600,
                922.0,
                estimate(1_922, 90),
                estimate(9_378, 8_240),
                "IPS",
                23_000,
            ),
            PolicyValue(
                "score above 0.2",
                9_200,
                412.0,
                estimate(1_210, 120),
                estimate(7_900, 6_100),
                "doubly robust",
                10_300,
            ),
            PolicyValue(
                "by money, 500 CNY", 11_000, 499.0, None, None, "", 12.0, "only 12 effective rows"
            ),
        ],
        notes=["Delivered only compares people who differ by more than the text."],
        daily=[
            DailyReturns(
                n,
                int(1_922 * (1 - 0.9**n) / (1 - 0.9**28)),
                int(194 * (1 - 0.93**n) / (1 - 0.93**28)),
            )
            for n in range(1, 29)
        ],
        clicks=CLICKS,
    )


def bare(verdict: str, sentence: str) -> Effect:
    """An effect without a contrast."""
    return replace(
        works(),
        verdict=verdict,  # type: ignore[arg-type]
        sentence=sentence,
        contrasts=[],
        deciles=[],
        policies=[],
        daily=[],
        money=MoneyFigures(922.05, None, None, None),
    )

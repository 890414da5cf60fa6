"""Whether the arms are as large as they were drawn: the sample-ratio test.

Each row was given its arm with a recorded chance, so the size of an arm is expected to be the sum
of the chances, with a variance of the sum of p (1 - p). For two arms the statistic is the square of
(observed - expected) over the standard deviation, chi-square with one degree of freedom (Pearson
1900; for equal chances it is the usual chi-square of counts). With fewer than five rows expected in
an arm the binomial is asked, exactly.

A split is called uneven below p = .001. Fabijan, A. et al. (2019, Diagnosing sample ratio mismatch
in online controlled experiments, KDD) recommend a threshold far below the usual .05, since the
test is made on every report and a mismatch voids the result. The tests of strata and of texts share
the threshold (Bonferroni).

Only who is texted can refuse, so a draw that is kept loses people of the treatment arm to the
suppression list. Where that is enough to explain the gap, the sentence says so.

What needs no chance is asked first: the decision must be the one that was made, and every decided
row must have its outcome, and only one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from usergrowth_dagster.effects.result import Altered, SampleRatio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

THRESHOLD = 0.001
_FAR = 3.29  # standard deviations: what THRESHOLD allows to either side
_SMALL = 5.0
_ARMS = ("treatment", "control")


@dataclass(frozen=True)
class Refused:
    """People whom the arms' draw has lost: texted since it was made, refused, chosen no more.

    ``since`` is the first day of the draw (None: it is kept), ``keys`` what says how long it lasts,
    ``share`` how many of them would have been chosen, at a guess.
    """

    users: int
    since: date | None
    keys: str
    share: float = 1.0


def sample_ratio(
    treated: "Array",
    chance: "Array",
    *,
    strata: "Array | None" = None,
    variants: "Array | None" = None,
    variant_chance: "Array | None" = None,
    decided: Mapping[str, int] | None = None,
    repeated: Mapping[str, int] | None = None,
    altered: Altered | None = None,
    refused: Refused | None = None,
) -> SampleRatio | None:
    """Compare the arms' sizes with the chances that were recorded.

    Args:
        treated: whether each row is of the treatment arm, shape (n,), booleans.
        chance: the chance that the row was drawn into the treatment arm, shape (n,).
        strata: the stratum of each row, None where there is none; shape (n,), objects.
        variants: the text of each treated row, None where there is one only; shape (n,), objects.
        variant_chance: the chance of that text, shape (n,).
        decided: rows of each arm that were decided; None: not known.
        repeated: rows of each arm that are there more than once; None: not known.
        altered: what of the decision is not as it was decided; None: nothing.
        refused: people of the upload who refused since the arms were drawn; None: not asked.

    Returns:
        The result, or None without rows to compare.
    """
    expected = {"treatment": float(chance.sum()), "control": float((1 - chance).sum())}
    observed = {"treatment": int(treated.sum()), "control": int((~treated).sum())}
    if altered is not None:
        return SampleRatio(
            False, 0.0, expected, observed, altered.off, altered.sentence, altered=True
        )
    if not len(treated):
        return None
    broken = _incomplete(observed, decided, repeated)
    if broken is not None:
        off, sentence = broken
        return SampleRatio(False, 0.0, expected, observed, off, sentence)
    tests = [("", _two_arms(treated, chance), _smaller(observed, expected), expected, observed)]
    tests += _by_stratum(treated, chance, strata)
    tests += _by_variant(treated, variants, variant_chance)
    cause = _refusals(treated, chance, refused) if refused is not None else ""
    return _conclusion(tests, expected, observed, cause)


_Test = tuple[str, float, str, dict[str, float], dict[str, int]]


def _conclusion(
    tests: list[_Test], expected: dict[str, float], observed: dict[str, int], cause: str
) -> SampleRatio:
    """The whole's result: that of all rows, unless a part of them is off."""
    parts = len(tests) - 1
    whole = tests[0]
    worst = min(tests[1:], key=lambda test: test[1], default=whole)
    if whole[1] >= THRESHOLD and parts and worst[1] * parts < THRESHOLD:
        where, p_value, off, want, got = worst
        p_value = min(1.0, p_value * parts)
        name = f"{off} ({where})" if where.startswith("stratum") else off
        sentence = _uneven(off, where, got[off], want[off], p_value)
        return SampleRatio(False, p_value, expected | want, observed | got, name, sentence)
    _, p_value, off, want, got = whole
    if p_value < THRESHOLD:
        sentence = _uneven(off, "", got[off], want[off], p_value, cause)
        return SampleRatio(False, p_value, expected, observed, off, sentence)
    sentence = (
        f"the arms are as large as they were drawn: {got['control']} users in the control group, "
        f"{want['control']:.1f} expected ({p_words(p_value)})"
    )
    return SampleRatio(True, p_value, expected, observed, None, sentence)


def _uneven(off: str, where: str, got: int, want: float, p_value: float, cause: str = "") -> str:
    more = "more" if got > want else "fewer"
    place = f" in {where}" if where else ""
    cause = cause or (
        "something has added or lost people of one arm, so the arms cannot be compared"
    )
    return (
        f"the arm {off}{place} has {got} users, {more} than the {want:.1f} that were drawn "
        f"({p_words(p_value)}): {cause}"
    )


def _refusals(treated: "Array", chance: "Array", refused: Refused) -> str:
    """The cause in words, where the treatment arm would not be short with those who refused."""
    short = float((chance - treated).sum())
    spread = float((chance * (1 - chance)).sum()) ** 0.5
    lost = refused.users * refused.share
    back = lost * (1 - float(chance.mean())) if len(chance) else 0.0
    if lost < 1 or short <= 0 or short - back > _FAR * spread:
        return ""
    since = f" on {refused.since}" if refused.since is not None else ""
    return (
        f"{refused.users} people of the upload have refused texts since the control group was "
        f"drawn{since}, and only who is texted can refuse, so the arms cannot be compared; draw "
        f"it afresh more often ({refused.keys})"
    )


def p_words(value: float) -> str:
    """A p-value in words: ``p = 0.012`` or ``p < 0.001``."""
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def _incomplete(
    observed: Mapping[str, int],
    decided: Mapping[str, int] | None,
    repeated: Mapping[str, int] | None,
) -> tuple[str, str] | None:
    """The arm and the sentence, when rows are missing or doubled for certain."""
    for arm in _ARMS:
        if repeated and repeated.get(arm):
            return arm, (
                f"{repeated[arm]} rows of the arm {arm} are there more than once, so the arms "
                "cannot be compared"
            )
    for arm in _ARMS:
        want = observed[arm] if decided is None else decided.get(arm, 0)
        if observed[arm] != want:
            return arm, (
                f"the arm {arm} was decided for {want} users and {observed[arm]} of them are "
                "measured, so the arms cannot be compared"
            )
    return None


def _smaller(observed: Mapping[str, int], expected: Mapping[str, float]) -> str:
    """The arm that is further off by share."""
    shares = {
        arm: abs(observed[arm] - expected[arm]) / max(expected[arm], 1e-9) for arm in observed
    }
    return max(shares, key=lambda arm: shares[arm])


def _two_arms(treated: "Array", chance: "Array") -> float:
    """The p-value of an arm's size, given each row's chance."""
    from scipy.stats import binomtest, chi2

    rows, got, want = len(treated), int(treated.sum()), float(chance.sum())
    variance = float((chance * (1 - chance)).sum())
    if variance <= 0:
        return 1.0 if got == round(want) else 0.0
    if min(want, rows - want) < _SMALL:
        return float(binomtest(got, rows, min(1.0, max(0.0, want / rows))).pvalue)
    return float(chi2.sf((got - want) ** 2 / variance, 1))


def _by_stratum(treated: "Array", chance: "Array", strata: "Array | None") -> list[_Test]:
    if strata is None:
        return []
    tests: list[_Test] = []
    for name in sorted({str(s) for s in strata if s is not None}):
        mask = strata == name
        got = {"treatment": int(treated[mask].sum()), "control": int((~treated[mask]).sum())}
        want = {
            "treatment": float(chance[mask].sum()),
            "control": float((1 - chance[mask]).sum()),
        }
        p_value = _two_arms(treated[mask], chance[mask])
        tests.append((f"stratum {name}", p_value, _smaller(got, want), want, got))
    return tests if len(tests) > 1 else []


def _by_variant(treated: "Array", variants: "Array | None", chance: "Array | None") -> list[_Test]:
    """Each text's share of the treated against the chance of it."""
    from scipy.stats import binomtest

    if variants is None or chance is None:
        return []
    rows = int(treated.sum())
    tests: list[_Test] = []
    for name in sorted({str(v) for v in variants[treated] if v is not None}):
        mask = treated & (variants == name)
        share, got = float(chance[mask].mean()), int(mask.sum())
        p_value = float(binomtest(got, rows, min(1.0, share)).pvalue)
        label = f"variant {name}"
        tests.append((label, p_value, label, {label: rows * share}, {label: got}))
    return tests if len(tests) > 1 else []

"""Where the formulas behind a report's figures come from."""

from usergrowth_dagster.effects.result import Effect

_RATE = (
    "Interval of a return rate",
    "E. B. Wilson, Probable inference, the law of succession, and statistical inference, "
    "JASA 22 (1927), 209-212.",
)
_LIFT = (
    "Interval of the difference of two rates",
    "R. G. Newcombe, Interval estimation for the difference between independent proportions, "
    "Statistics in Medicine 17 (1998), 873-890, method 10.",
)
_ADJUSTED = (
    "Adjusted lift: what people did before the date explains part of the noise",
    "A. Deng, Y. Xu, R. Kohavi, T. Walker, Improving the sensitivity of online controlled "
    "experiments by utilizing pre-experiment data (CUPED), WSDM 2013.",
)
_SPLIT = (
    "Whether the arms are as large as they were drawn",
    "A. Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments, "
    "KDD 2019.",
)
_POLICIES = (
    "What another policy would have earned, from the chances that were recorded",
    "D. G. Horvitz, D. J. Thompson, JASA 47 (1952), 663-685 (IPS); A. Swaminathan, T. Joachims, "
    "NeurIPS 2015 (SNIPS); M. Dudik, J. Langford, L. Li, ICML 2011 (doubly robust).",
)


_LOOKS = (
    "Interim analyses before the window is complete",
    "K. K. G. Lan, D. L. DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70 "
    "(1983), 659-663: errors are spent by days of the window, after O'Brien and Fleming.",
)
_SEVERAL = (
    "Several texts compared",
    "Intervals after Bonferroni; p-values after S. Holm, A simple sequentially rejective multiple "
    "test procedure, Scandinavian Journal of Statistics 6 (1979), 65-70.",
)
_STRATA = (
    "Interval of the difference when the control group was drawn within strata",
    "Wilson's intervals at the effective users, put together as R. G. Newcombe does: N. Dean, "
    "M. Pagano, Evaluating confidence interval methods for binomial proportions in clustered "
    "surveys, Journal of Survey Statistics and Methodology 3 (2015), 484-503.",
)


def sources_of(effect: Effect) -> list[tuple[str, str]]:
    """The sources of the figures that this effect has."""
    sources = [_RATE] if effect.arms else []
    if effect.contrasts:
        sources += [_LIFT, _ADJUSTED]
        if any("strata" in contrast.method for contrast in effect.contrasts):
            sources.append(_STRATA)
        if any(contrast.level != effect.level for contrast in effect.contrasts):
            sources.append(_SEVERAL)
    if effect.looks > 1:
        sources.append(_LOOKS)
    if effect.sample_ratio:
        sources.append(_SPLIT)
    if effect.policies:
        sources.append(_POLICIES)
    return sources

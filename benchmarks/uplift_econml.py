"""econml's learners on one split, run by benchmarks/uplift.py in an environment of its own.

Run: python uplift_econml.py IN.npz OUT.npz, where IN holds x, y, t of the training half, x_test and
seed; OUT gets one array of test scores a learner.
"""

import sys
import warnings

import numpy as np


def main(source: str, target: str) -> None:
    """Fit every learner and write its test scores."""
    warnings.simplefilter("ignore")
    from econml.dml import CausalForestDML
    from econml.dr import DRLearner
    from econml.metalearners import TLearner, XLearner
    from lightgbm import LGBMClassifier, LGBMRegressor

    given = np.load(source)
    x, y, t, x_test = (given[name] for name in ("x", "y", "t", "x_test"))
    seed = int(given["seed"])
    size = {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 15}
    size |= {"random_state": seed, "n_jobs": 1, "verbose": -1}

    def boosted() -> LGBMRegressor:
        return LGBMRegressor(**size)

    def chance() -> LGBMClassifier:
        return LGBMClassifier(**size)

    learners = {
        "econml TLearner": TLearner(models=boosted()),
        "econml XLearner": XLearner(models=boosted()),
        "econml DRLearner": DRLearner(
            model_propensity=chance(),
            model_regression=boosted(),
            model_final=boosted(),
            random_state=seed,
        ),
        "econml CausalForestDML": CausalForestDML(
            model_y=boosted(),
            model_t=chance(),
            discrete_treatment=True,
            n_estimators=400,
            min_samples_leaf=100,
            n_jobs=1,
            random_state=seed,
        ),
    }
    scores = {}
    for name, learner in learners.items():
        learner.fit(y, t.astype(int), X=x)
        scores[name] = np.asarray(learner.effect(x_test), dtype=float).ravel()
    np.savez(target, **scores)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

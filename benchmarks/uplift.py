"""Learners of the effect and naive controls on the Hillstrom e-mail test, beside scikit-uplift's.

Run: .venv/bin/python benchmarks/uplift.py [--data CSV] [--seeds 0 1 2 3 4] [--econml]

The data are the 64,000 rows of MineThatData's challenge of 2008 (K. Hillstrom): who visited within
two weeks, of those drawn at random to get the men's e-mail, the women's, or none. Each arm is set
against none, in halves (stratified by arm and visit, as ``train_test_split`` does it) by seed.
Everything, the choice too, is fitted on the training half; the figure is scikit-uplift's Qini
coefficient (``qini_auc_score``) on the test half. Reported are its mean, its standard deviation
over the seeds, and each seed's.

With ``--econml`` a virtual environment is made from requirements-uplift.txt, and econml's learners
stand in the table too.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from environments import python_with

from usergrowth_dagster.learning.uplift.choose import choose
from usergrowth_dagster.learning.uplift.curves import qini

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "hillstrom" / "hillstrom.csv"
ARMS = ("Womens E-Mail", "Mens E-Mail")
NONE = "No E-Mail"
SIZE = {"n_estimators": 200, "learning_rate": 0.05, "num_leaves": 15}
CHOSEN, SIMPLE = "ours: chosen on the training half", "flag: bought women's goods before"


def load(path: Path) -> Any:
    """The table; ends with a sentence where it is absent."""
    import pandas as pd

    if not path.exists():
        sys.exit(f"{path} is absent; give the Hillstrom CSV with --data")
    return pd.read_csv(path)


def features(table: Any, *, segments: bool) -> Any:
    """Numeric columns and flags as they are, words one-hot."""
    import pandas as pd

    words = ["zip_code", "channel", *(["history_segment"] if segments else [])]
    plain = table[["recency", "history", "mens", "womens", "newbie"]]
    return pd.concat([plain, pd.get_dummies(table[words])], axis=1).astype(float)


def halves(y: Any, t: Any, seed: int) -> tuple[Any, Any]:
    """Places of the training and the test rows."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(y)), test_size=0.5, random_state=seed, stratify=2 * t + y
    )
    return train, test


def ours(x: Any, names: list[str], y: Any, t: Any, train: Any, test: Any, seed: int) -> Any:
    """Test Qinis of the chosen ranking and of every candidate, and what was chosen."""
    choice = choose(x[train], y[train], t[train], seed=seed, names=names)
    found = {
        f"ours: {name}": qini(y[test], learner.uplift(x[test]), t[test])
        for name, learner in choice.fitted.items()
        if name != "random"
    }
    score = choice.chosen.learner.uplift(x[test])
    return {CHOSEN: qini(y[test], score, t[test]), **found}, choice.sentence


def theirs(frame: Any, y: Any, t: Any, train: Any, test: Any) -> dict[str, float]:
    """Test Qinis of scikit-uplift's models on LightGBM, by scikit-uplift's own metric."""
    import pandas as pd
    from lightgbm import LGBMClassifier
    from sklift.metrics import qini_auc_score
    from sklift.models import ClassTransformation, SoloModel, TwoModels

    def boosted() -> Any:
        return LGBMClassifier(**SIZE, random_state=0, n_jobs=1, verbose=-1)

    models = {
        "scikit-uplift SoloModel": SoloModel(boosted()),
        "scikit-uplift TwoModels": TwoModels(boosted(), boosted()),
        "scikit-uplift ClassTransformation": ClassTransformation(boosted()),
    }
    found = {}
    index = frame.index[train]
    for name, model in models.items():
        model.fit(frame.iloc[train], pd.Series(y[train], index), pd.Series(t[train], index))
        found[name] = qini_auc_score(y[test], model.predict(frame.iloc[test]), t[test])
    found[SIMPLE] = qini_auc_score(y[test], frame["womens"].to_numpy()[test], t[test])
    return found


def econml(python: Path, x: Any, y: Any, t: Any, train: Any, test: Any, seed: int) -> Any:
    """Test Qinis of econml's learners."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, x=x[train], y=y[train], t=t[train], x_test=x[test], seed=seed)
        subprocess.run(
            [python, HERE / "uplift_econml.py", given, found], check=True, stderr=subprocess.DEVNULL
        )
        with np.load(found) as scores:
            return {name: qini(y[test], scores[name], t[test]) for name in scores.files}


def show(arm: str, found: dict[str, list[float]], told: list[str]) -> None:
    """One arm's table, best first."""
    print(f"\n{arm} against {NONE}: Qini coefficient on the test halves\n")
    print(f"| {'ranking':<44} | mean  | sd    | by seed")
    print(f"|{'-' * 46}|-------|-------|--------")
    for name, values in sorted(found.items(), key=lambda pair: -float(np.mean(pair[1]))):
        by_seed = " ".join(f"{value:+.4f}" for value in values)
        print(f"| {name:<44} | {np.mean(values):.4f} | {np.std(values):.4f} | {by_seed}")
    print()
    for sentence in told:
        print(f"  {sentence}")


def main() -> None:
    """Print a table for each arm."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--econml", action="store_true", help="set econml's learners beside")
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path(tempfile.gettempdir()) / "usergrowth-benchmark-econml",
        help="folder of econml's virtual environment",
    )
    asked = parser.parse_args()
    table = load(asked.data)
    python = python_with("requirements-uplift.txt", asked.environment) if asked.econml else None
    began = time.perf_counter()
    for arm in ARMS:
        rows = table[table["segment"].isin([arm, NONE])].reset_index(drop=True)
        y = rows["visit"].to_numpy().astype(int)
        t = (rows["segment"] == arm).to_numpy().astype(int)
        full, plain = features(rows, segments=True), features(rows, segments=False)
        plain.columns = [f"c{i}" if c != "womens" else c for i, c in enumerate(plain.columns)]
        x = full.to_numpy()
        found: dict[str, list[float]] = {}
        told = []
        for seed in asked.seeds:
            train, test = halves(y, t, seed)
            figures, sentence = ours(x, list(full.columns), y, t, train, test, seed)
            figures |= theirs(plain, y, t, train, test)
            figures["random"] = qini(
                y[test], np.random.default_rng(seed).random(len(test)), t[test]
            )
            if python is not None:
                figures |= econml(python, x, y, t, train, test, seed)
            told.append(f"seed {seed}: {sentence}")
            for name, value in figures.items():
                found.setdefault(name, []).append(float(value))
            print(f"{arm}, seed {seed}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        show(arm, found, told)


if __name__ == "__main__":
    main()

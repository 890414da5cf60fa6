"""LightGBM beside a multi-tower network and DeepFM, on one question of a landed home.

All learn from the same rows and are compared on the same rows of the test slice. The networks see
the columns of the logistic regression: each number scaled, and cut into bins that are embedded. A
network's number of epochs is chosen on the newest fold of the train slice, as LightGBM's trees are,
and its score is the mean of several seeds. Takes a home whose days are landed; prints one table.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from environments import python_with

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import load_slices
from usergrowth_dagster.learning.estimators import logistic_columns, time_folds
from usergrowth_dagster.learning.metrics import evaluate
from usergrowth_dagster.learning.rows import Slice
from usergrowth_dagster.learning.sample import sampled_rows
from usergrowth_dagster.learning.splits import user_scopes
from usergrowth_dagster.learning.training import TrainedModels, train
from usergrowth_dagster.project import Project
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.training.features import bind_table, build_training_set, training_days
from usergrowth_dagster.warehouse.engine import open_engine

HERE = Path(__file__).parent
SHOWN = ("auc", "pr_auc", "log_loss", "capture_10", "capture_40")
RESAMPLES = 500


def networks(
    python: Path, model: TrainedModels, rows: Mapping[str, Slice], seeds: int
) -> Mapping[str, Any]:
    """Chances of the test rows by each network, shape (n,)."""
    columns = logistic_columns(model.spec)
    columns.fit(rows["train"].frame)
    numbers, fields = len(columns.mean), len(columns.numbers) + len(columns.categories)
    source = {feature.name: feature.column for feature in model.spec.features}
    owners = list(columns.owners())
    towers = {name: place for place, name in enumerate(dict.fromkeys(source.values()))}
    of_field = [towers[source[name]] for name in (*columns.numbers, *columns.categories)]
    of_number = [towers[source[name]] for name in owners[:numbers]]
    early, later = time_folds(rows["train"], model.config.horizon_days, 4)[-1]
    given: dict[str, Any] = {
        "of_field": of_field,
        "of_number": of_number,
        "values": len(owners) - numbers,
        "seeds": seeds,
    }
    for name, part in (("fit", early), ("later", later), *rows.items()):
        matrix = columns.transform(part.frame)
        data = matrix.data.reshape(len(part.label), numbers + fields)
        at = matrix.indices.reshape(len(part.label), numbers + fields)
        given[f"{name}_numbers"] = data[:, :numbers].astype(np.float32)
        given[f"{name}_values"] = (at[:, numbers:] - numbers).astype(np.int32)
        given[f"{name}_label"] = part.label.astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        source_file, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source_file, **given)
        subprocess.run([python, HERE / "deep_torch.py", source_file, target], check=True)
        with np.load(target) as scores:
            return {name: scores[name] for name in scores.files}


def main() -> None:
    """Train on a landed home, and print the figures of LightGBM and the networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("--date", type=date.fromisoformat, required=True)
    parser.add_argument("--question", default="churn")
    parser.add_argument("--every-days", type=int, default=1)
    parser.add_argument("--window-days", type=int, default=180)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path(tempfile.gettempdir()) / "usergrowth-benchmark-deep",
        help="folder of torch's virtual environment",
    )
    asked = parser.parse_args()
    python = python_with("requirements-deep.txt", asked.environment)
    project = Project(load_settings(asked.home))
    settings = project.settings
    config = TrainingConfig.model_validate(
        {
            "algorithm": asked.question,
            "every_days": asked.every_days,
            "window_days": asked.window_days,
        }
    )
    snapshots, _ = training_days(project, config, asked.date)
    build_training_set(project, config, snapshots)
    table = config.problem.training_table()
    with open_engine(settings) as engine:
        bind_table(engine, project, table, snapshots)
        model = train(engine, table, config, asked.date, settings)
        _, _, scope, sample = sampled_rows(engine, table, config, asked.date, settings)
        scopes = user_scopes(scope, model.split, settings.seed)
        weights = sample.weights if sample else None
        rows, test = load_slices(engine, table, config, model.spec, model.split, scopes, weights)
    ours: dict[str, Any] = {
        kind: one.model.score(test.frame)
        for kind, one in model.models.items()
        if kind in ("logistic", "lightgbm", "blend")
    }
    theirs = networks(python, model, rows, asked.seeds)
    evaluation = evaluate(test.label, {**ours, **theirs}, test.user, resamples=RESAMPLES)
    print(f"{asked.question}: {len(rows['train'].label):,} rows to learn from, ", end="")
    print(f"{len(test.label):,} to compare on, {int(test.label.sum()):,} of them positive")
    for name, figures in evaluation.metrics.items():
        print(f"{name}: " + "  ".join(f"{one} {figures[one]}" for one in SHOWN))
    for name in theirs:
        for metric in ("auc", "pr_auc"):
            difference = evaluation.difference(metric, name, "lightgbm")
            print(f"{name} less lightgbm, {metric}: {difference}")


if __name__ == "__main__":
    main()

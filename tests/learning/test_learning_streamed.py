"""LightGBM on rows that pass through once."""

import subprocess
import sys
from datetime import date

import numpy as np
from learning_frames import make_churn

from usergrowth_dagster.learning.config import TrainingConfig
from usergrowth_dagster.learning.dataset import flat_rows
from usergrowth_dagster.learning.encoding import fit_spec
from usergrowth_dagster.learning.estimators import lightgbm_model, matrix_columns
from usergrowth_dagster.learning.streamed import AllRows, StreamedTrees, fit_streamed
from usergrowth_dagster.learning.training import train

D = date(2024, 7, 29)
CHURN = TrainingConfig(algorithm="churn", start_date=date(2024, 1, 1))


def test_the_trees_are_those_of_the_rows_in_memory(engine, monkeypatch):
    """Guards against rows that are lost, doubled or out of step with their labels on their way."""
    monkeypatch.setattr("usergrowth_dagster.learning.streamed.BATCH_ROWS", 700)
    make_churn(engine, users=150)
    spec = fit_spec(engine, "churn_training")
    frame, keys = flat_rows(engine, "churn_training", spec, CHURN, "true")
    columns = matrix_columns(spec)
    matrix, label = columns.fit_transform(frame), keys.column("_label").to_numpy().astype(int)
    rows = AllRows(engine, "churn_training", spec, CHURN, "true").batches
    streamed = fit_streamed(rows, columns, trees=40, leaves=7, seed=3, threads=1)
    held = lightgbm_model(40, 7, 3, 1).fit(matrix, label)
    assert streamed.rows == len(label) == 4500
    assert np.array_equal(streamed.predict_proba(matrix), held.predict_proba(matrix))
    assert np.array_equal(streamed.predict(matrix), held.predict(matrix))
    parts = streamed.predict(matrix, pred_contrib=True)
    assert np.array_equal(parts, held.predict(matrix, pred_contrib=True))
    assert streamed.predict_proba(matrix)[:, 1].std() > 0.05


def test_a_training_beyond_the_sample_learns_from_all_rows(engine, settings, tmp_path):
    """Guards against a setting that trains on the sample all the same, and against a streamed
    version that cannot be saved, loaded or explained."""
    from usergrowth_dagster.learning.recording import SavedModel, save_model
    from usergrowth_dagster.learning.trusted import load_trusted

    make_churn(engine, users=500, nonlinear=True)
    few = settings.model_copy(update={"max_training_rows": 4000})
    sampled = train(engine, "churn_training", CHURN, D, few)
    trained = train(
        engine, "churn_training", CHURN, D, few.model_copy(update={"boosting_rows": 10_000_000})
    )
    boosted = trained.models["lightgbm"]
    assert isinstance(boosted.model.pipeline[-1], StreamedTrees)
    whole = sum(trained.sample.whole[day][0] for day in trained.split.train)
    assert boosted.params["rows"] == whole > 3 * trained.counts["train"][0]
    assert trained.champion == sampled.champion == "lightgbm"
    assert trained.metrics["log_loss"].value < sampled.metrics["log_loss"].value
    assert next(iter(trained.importance.values())) > 0
    assert trained.fingerprint != sampled.fingerprint
    example = trained.test.frame.head(5)
    save_model(SavedModel(trained.closed, example, "predict_proba"), tmp_path / "model")
    loaded = load_trusted(tmp_path / "model", "this one")
    assert np.array_equal(loaded.score(example), trained.closed.score(example))
    capped = train(
        engine, "churn_training", CHURN, D, few.model_copy(update={"boosting_rows": 6000})
    )
    assert 4500 < capped.models["lightgbm"].params["rows"] <= 6600


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from usergrowth_dagster.learning.estimators import lightgbm_model
from usergrowth_dagster.learning.streamed import fit_streamed

how, rows, width = sys.argv[1], int(sys.argv[2]), 40

class Same:
    def transform(self, frame):
        return frame

def batches():
    rng = np.random.default_rng(0)
    for _ in range(0, rows, 20_000):
        matrix = rng.normal(size=(20_000, width)).astype(np.float32)
        yield matrix, (matrix[:, 0] > 0).astype(np.int64)

if how == "streamed":
    fit_streamed(batches, Same(), trees=3, leaves=7, seed=0, threads=1)
else:
    parts = list(batches())
    matrix, label = (np.concatenate(part) for part in zip(*parts))
    lightgbm_model(3, 7, 0, 1).fit(matrix, label)
# not ru_maxrss, which begins with the peak of the parent
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_streamed_rows_take_a_byte_a_value():
    """Guards against a stream that ends in an array of all rows."""

    def peak(how: str, rows: int) -> int:
        command = [sys.executable, "-c", MEMORY, how, str(rows)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # the sample that finds the bins is 200,000 rows; beyond it a row more is its bins and its label
    few, many = peak("streamed", 240_000), peak("streamed", 840_000)
    held = peak("held", 840_000)
    values = 600_000 * 40 / 2**20
    assert many - few < 3 * values
    assert held - few > 4 * (many - few)

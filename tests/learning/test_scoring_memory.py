"""Scores do not gather in memory."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from datetime import date
from pathlib import Path
import numpy as np
from usergrowth_dagster.learning.artifacts import LoadedModel
from usergrowth_dagster.learning.encoding import fit_spec
from usergrowth_dagster.learning.model import CalibratedModel
from usergrowth_dagster.learning.scoring import score_apart
from usergrowth_dagster.learning.store import ModelRef
from usergrowth_dagster.settings import load_settings
from usergrowth_dagster.warehouse.engine import open_engine

class Half:
    def predict_proba(self, frame):
        share = frame["seen"].to_numpy() / 1000
        return np.column_stack([1 - share, share])

rows, day = int(sys.argv[2]), date(2024, 1, 1)
settings = load_settings(Path(sys.argv[1]), memory_limit="200MB", threads=1)
with open_engine(settings) as engine:
    engine.run(
        'create view people as select i as "row", format(\\'user-{:012d}\\', i) as user_id, '
        f"cast(hash(i) % 1000 as integer) as seen from range({rows}) as r (i)"
    )
    spec = fit_spec(engine, "(from people limit 1000)")
    ref = ModelRef("churn", 1, "", "", day, day, day, "x", "approved", "", "")
    scores = score_apart(engine, LoadedModel(ref, CalibratedModel(Half()), spec), "people")
    sums = 'count(*), cast(sum("row") as bigint), avg(score)'
    counted = engine.rows(f"select {sums} from {scores}")[0]
peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(json.dumps([*counted, int(peak) // 1024]))
"""


def test_ten_times_the_people_take_the_same_memory(tmp_path: Path) -> None:
    """Guards against scores that are collected, or bound as a table, before they are written."""

    def scored(rows: int) -> tuple[float, int]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "home"), str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        count, places, mean, peak = json.loads(done.stdout)
        assert count == rows and places == rows * (rows - 1) // 2
        return mean, peak

    (mean, few), (same, many) = scored(250_000), scored(2_500_000)
    assert abs(mean - 0.4995) < 0.005 > abs(same - 0.4995)
    assert many <= 1.3 * few, f"{few} MB of a tenth of the people, {many} MB of all"

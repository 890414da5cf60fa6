"""A version's files in the artifact store, altered by somebody who can write there."""

import contextlib
import json
import os
import pickle
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.learning.artifacts import FilesChangedError, load, model_digest
from usergrowth_dagster.learning.encoding import FeatureSpec
from usergrowth_dagster.learning.model import CalibratedModel
from usergrowth_dagster.learning.recording import SavedModel, save_model
from usergrowth_dagster.learning.store import DIGEST, add_version, client, experiment, versions


class Exploding:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def version(database, request, tmp_path):
    """A registered version, the folder of its model, and a trace that an explosion would leave."""
    frame = pd.DataFrame({"a": np.arange(40.0)})
    model = CalibratedModel(LogisticRegression().fit(frame, np.arange(40) % 3 == 0))
    saved = tmp_path / "saved"
    save_model(SavedModel(model, frame.head(3), "predict_proba"), saved)
    spec = FeatureSpec(features=(), columns={}, keys={})
    (saved / "feature_spec.json").write_text(spec.model_dump_json(), "utf-8")
    made, name = client(database), request.node.name.split("[")[0]
    run = made.create_run(experiment(made, database, "artifacts"))
    made.log_artifacts(run.info.run_id, str(saved), "model")
    days = ("last_label_day", "fit_last_label_day", "execution_date")
    tags = dict.fromkeys(days, date(2024, 3, 1).isoformat()) | {"fingerprint": name}
    tags |= {"config_hash": "a" * 12, "champion": "logistic", "status": "approved"}
    unknown = add_version(made, database, name, run.info.run_id, tags)
    made.set_model_version_tag(name, str(unknown.version), DIGEST, model_digest(unknown))
    (ref,) = versions(database, name)[-1:]
    uri = made.get_run(run.info.run_id).info.artifact_uri
    return ref, Path(unquote(urlsplit(uri).path)) / "model", tmp_path / "trace"


def turn_into_pickle(folder: Path, trace: Path) -> None:
    """What MLflow itself would load, and execute."""
    (folder / "model.pkl").write_bytes(pickle.dumps(Exploding(trace)))
    about = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    about["flavors"]["sklearn"] |= {
        "pickled_model": "model.pkl",
        "serialization_format": "pickle",
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(about), "utf-8")


def name_another_flavor(folder: Path, trace: Path) -> None:
    (folder / "loader.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n", "utf-8")
    about = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    about["flavors"] = {"python_function": {"loader_module": "loader", "code": "."}}
    (folder / "MLmodel").write_text(yaml.safe_dump(about), "utf-8")


def trust_everything(folder: Path, trace: Path) -> None:
    """A skops file that calls the system, and an MLmodel that trusts it."""
    skops.io.dump(FunctionTransformer(os.mkdir), folder / "model.skops")
    about = yaml.safe_load((folder / "MLmodel").read_text("utf-8"))
    about["flavors"]["sklearn"]["skops_trusted_types"] = ["posix.mkdir", "os.mkdir"]
    (folder / "MLmodel").write_text(yaml.safe_dump(about), "utf-8")


def pickle_named_skops(folder: Path, trace: Path) -> None:
    (folder / "model.skops").write_bytes(pickle.dumps(Exploding(trace)))


def another_model(folder: Path, trace: Path) -> None:
    skops.io.dump(LogisticRegression(C=2.0), folder / "model.skops")


def other_features(folder: Path, trace: Path) -> None:
    path = folder / "feature_spec.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8"))), "utf-8")


def one_file_more(folder: Path, trace: Path) -> None:
    (folder / "sitecustomize.py").write_text("raise SystemExit", "utf-8")


ALTERED = [
    turn_into_pickle,
    name_another_flavor,
    trust_everything,
    pickle_named_skops,
    another_model,
    other_features,
    one_file_more,
]


@pytest.mark.parametrize("alter", ALTERED)
def test_altered_files_are_refused_before_anything_of_them_runs(version, alter):
    """Guards against whoever can write the artifact store running code, or another model, here."""
    ref, folder, trace = version
    assert load(ref).model.predict(pd.DataFrame({"a": [1.0]})).shape == (1,)
    alter(folder, trace)
    with pytest.raises(FilesChangedError, match="are not those that were registered") as error:
        load(ref)
    assert "\n" not in str(error.value) and "usergrowth train" in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("alter", [trust_everything, pickle_named_skops])
def test_a_file_of_other_types_never_runs_even_where_its_digest_is_right(version, alter):
    """Guards against the digest being the only guard: it may be changed along with the files."""
    ref, folder, trace = version
    alter(folder, trace)
    with pytest.raises(UserError, match=r"nothing was loaded") as error:
        load(replace(ref, digest=model_digest(ref)))
    assert "\n" not in str(error.value) and not trace.exists()


@pytest.mark.parametrize("alter", [turn_into_pickle, name_another_flavor])
def test_the_folder_does_not_choose_how_it_is_loaded(version, alter):
    """Guards against MLmodel's word on format and loader being followed."""
    ref, folder, trace = version
    alter(folder, trace)
    loaded = load(replace(ref, digest=model_digest(ref)))
    assert isinstance(loaded.model, CalibratedModel) and not trace.exists()
    for loader in (mlflow.sklearn.load_model, mlflow.pyfunc.load_model):
        with contextlib.suppress(Exception):  # the trap is a real one
            loader(str(folder))
    assert trace.exists()


def test_a_version_without_a_skops_file_or_without_a_digest_is_refused(version):
    """Guards against a fallback to another format, and against versions nobody vouches for."""
    ref, folder, trace = version
    with pytest.raises(FilesChangedError, match="usergrowth models approve"):
        load(replace(ref, digest=""))
    turn_into_pickle(folder, trace)
    shutil.move(folder / "model.skops", folder / "other.skops")
    with pytest.raises(UserError, match=r"hold no model\.skops"):
        load(replace(ref, digest=model_digest(ref)))
    assert not trace.exists()

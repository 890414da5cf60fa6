"""The only way a saved model becomes an object: one file, by skops, of types named here.

What the model's folder says of itself is not asked. MLflow's ``MLmodel`` names a format and a list
of trusted types, and whoever can write the folder can write those too.
"""

from pathlib import Path
from typing import Any

from usergrowth_dagster.errors import UserError

MODEL_FILE = "model.skops"
TRUSTED = (  # besides scikit-learn's estimators and numpy's types, which skops itself knows
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "usergrowth_dagster.learning.amounts.model.AmountModel",
    "usergrowth_dagster.learning.amounts.model.PastAverage",
    "usergrowth_dagster.learning.amounts.model.TwoStage",
    "usergrowth_dagster.learning.model.Blend",
    "usergrowth_dagster.learning.model.CalibratedModel",
    "usergrowth_dagster.learning.onehot.OneHotColumns",
    "usergrowth_dagster.learning.streamed.StreamedPipeline",
    "usergrowth_dagster.learning.streamed.StreamedTrees",
    *(
        f"usergrowth_dagster.learning.uplift.{name}"
        for name in (
            "boosting.Boost",
            "boosting.Booster",
            "choose.Mean",
            "controls.Everyone",
            "controls.Response",
            "controls.SingleFeature",
            "learners.ClassTransformation",
            "learners.DRLearner",
            "learners.SLearner",
            "learners.TLearner",
            "learners.XLearner",
            "model.UpliftModel",
            "scale.EffectScale",
        )
    ),
)


def load_trusted(folder: Path, which: str) -> Any:
    """Load the model of a folder.

    Args:
        folder: the model's folder.
        which: the version, as an error names it.

    Raises:
        UserError: there is no skops file, it is damaged, or it names a type that no model of this
            product is made of; nothing of it has been executed.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    path = folder / MODEL_FILE
    if not path.is_file():
        raise UserError(
            f"{which}: its files hold no {MODEL_FILE}, the only format that is loaded; train again "
            "(usergrowth train)",
            code="model.files_changed",
        )
    try:
        return skops.io.load(path, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        named = str(error).split("\n", 1)[0].split(": ", 1)[-1].rstrip(".")
        raise UserError(
            f"{which}: {MODEL_FILE} holds types that no model of this product is made of "
            f"({named}); nothing was loaded; train again (usergrowth train)",
            code="model.files_changed",
        ) from None
    except Exception as error:
        raise UserError(
            f"{which}: {MODEL_FILE} cannot be read ({type(error).__name__}); nothing was loaded; "
            "train again (usergrowth train)",
            code="model.files_changed",
        ) from None

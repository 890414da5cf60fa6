"""What the demo prints at its end."""

from usergrowth_dagster.examples.demo import model_figures


def figure(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}


def test_a_model_of_amounts_shows_its_own_figures() -> None:
    """Guards against a table of empty columns, where a model has no figures of chances."""
    amounts = {
        "past_average": {"gini": figure(0.851), "capture_40": figure(0.736)},
        "tweedie": {"gini": figure(0.855), "capture_40": figure(0.739)},
    }
    assert model_figures({"champion": "tweedie", "metrics": amounts}) == (
        ("", "normalized Gini", "capture at 40 %"),
        [("past_average", "0.851", "0.736"), ("tweedie *", "0.855", "0.739")],
    )
    chances = {"past_response": {"auc": figure(0.7), "ece": figure(None)}}
    assert model_figures({"champion": "", "metrics": chances}) == (
        ("", "AUC"),
        [("past_response", "0.700")],
    )

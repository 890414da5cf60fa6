"""Views are values: what one place shows, no other place can change."""

import importlib
import pkgutil
from dataclasses import is_dataclass

import pytest

from usergrowth_dagster import views

MODULES = [one.name for one in pkgutil.iter_modules(views.__path__, f"{views.__name__}.")]


def test_there_are_views() -> None:
    """Guards against a check that passes since it looks at nothing."""
    assert {"usergrowth_dagster.views.status", "usergrowth_dagster.views.why"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_a_view_cannot_be_changed(name: str) -> None:
    """A console keeps what it has read; a page that mends it in place would change it there too."""
    module = importlib.import_module(name)
    made_here = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and one.__module__ == name and is_dataclass(one)
    ]
    assert all(one.__dataclass_params__.frozen for one in made_here), made_here

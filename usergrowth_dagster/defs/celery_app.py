"""The application of Celery's workers, which execute steps of runs on machines of their own.

A worker executes one step at a time::

    celery -A usergrowth_dagster.defs.celery_app worker --pool solo

It needs the variables of :mod:`usergrowth_dagster.defs.executors` and ``USERGROWTH_HOME``.
"""

import os

from dagster_celery.executor import CeleryExecutor
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from usergrowth_dagster.defs.executors import BROKER, RESULTS

app = make_app(
    CeleryExecutor.for_cli(
        broker=os.environ.get(BROKER), backend=os.environ.get(RESULTS)
    ).app_args()
)
execute_plan = create_task(app)

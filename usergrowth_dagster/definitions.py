"""The code location: everything that Dagster loads."""

import dagster as dg

from usergrowth_dagster.defs.build import build_definitions

defs: dg.Definitions = build_definitions()

"""Commands about people: suppressions, erasure, keys, the audit log, why."""

import typer

app = typer.Typer()

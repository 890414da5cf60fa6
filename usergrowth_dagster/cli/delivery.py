"""Commands of delivery: dispatch, pause, resume, cancel, reconcile, serve."""

import typer

app = typer.Typer()

"""Codes and hints of the errors that records failed with."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add two columns; what failed before has a sentence alone."""
    op.add_column("history", sa.Column("code", sa.String(length=64)))
    op.add_column("history", sa.Column("hint", sa.Text()))

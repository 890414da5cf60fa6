"""Schemas of one PostgreSQL database: whose records lie where, and making one."""

from usergrowth_dagster.quoting import identifier, literal

DAGSTER, MLFLOW = "dagster", "mlflow"
"""Schemas of the records of Dagster and of MLflow, beside the control records."""


def url_of_schema(database_url: str, schema: str, driver: str = "psycopg") -> str:
    """The URL of a PostgreSQL database whose tables are those of a schema.

    Args:
        database_url: of the database.
        schema: name of the schema, which need not be there yet.
        driver: of SQLAlchemy's dialect.
    """
    from sqlalchemy.engine import make_url

    url = make_url(database_url)
    given = url.query.get("options")
    options = [*([given] if isinstance(given, str) else given or ()), f"-csearch_path={schema}"]
    made = url.set(drivername=f"postgresql+{driver}").update_query_dict(
        {"options": " ".join(options)}
    )
    return made.render_as_string(hide_password=False)


def make_schema(database_url: str, schema: str) -> None:
    """Make a schema where it is missing; several processes may do so at once.

    Raises:
        sqlalchemy.exc.DBAPIError: the database cannot be reached, or its user may make none.
    """
    from sqlalchemy import NullPool, create_engine, text
    from sqlalchemy.exc import DBAPIError

    present = text(f"select 1 from pg_namespace where nspname = {literal(schema)}")
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as connection:
        if connection.scalar(present):
            return
    try:
        with engine.begin() as connection:
            connection.execute(text(f"create schema if not exists {identifier(schema)}"))
    except DBAPIError:
        with engine.connect() as connection:
            if not connection.scalar(present):  # nobody else was faster
                raise

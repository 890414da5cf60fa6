"""Names, texts and lists of texts as SQL has them: the one module that quotes.

A name goes between double quotes and a text between single ones; the quote itself is doubled, and
nothing else is special. DuckDB, SQLite and PostgreSQL agree on that; MySQL puts names between
backquotes. No quoting can carry what an engine does not hold at all, such as NUL in PostgreSQL.

A path is quoted by :func:`usergrowth_dagster.data.storage.file_literal`, since DuckDB reads ``*``
in it.
"""

from collections.abc import Iterable


def identifier(name: str) -> str:
    """The name of a table, view or column.

    >>> print(identifier('the "best" users'))
    "the ""best"" users"
    """
    return '"' + name.replace('"', '""') + '"'


def backquoted(name: str) -> str:
    """The name of a table or column in MySQL, whatever the mode of its server is.

    >>> print(backquoted("the `best` users"))
    `the ``best`` users`
    """
    return "`" + name.replace("`", "``") + "`"


def literal(text: str | None) -> str:
    """A text, or ``null``.

    >>> print(literal("it's"), literal(None))
    'it''s' null
    """
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def literals(texts: Iterable[str | None]) -> str:
    """Texts separated by commas, for ``in (…)`` and ``[…]``.

    >>> print(literals(["a", None, "b"]))
    'a', null, 'b'
    """
    return ", ".join(literal(text) for text in texts)

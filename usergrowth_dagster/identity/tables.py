"""The tables of identity: who is one person, how that came about, and what did not link.

``id_value`` is a user id in clear. Every other value is a keyed hash of 32 hexadecimal digits: that
of a number or an e-mail address is the hash by which the ledger knows it.
"""

from collections.abc import Mapping

ONE_ID = "one_id"
HISTORY = "one_id_history"
CONFLICTS = "identity_conflicts"

ONE_ID_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date: made of what landed before it"),
    "one_id": ("VARCHAR", "the person"),
    "id_type": ("VARCHAR", "type of the id, as identity.yml names it"),
    "id_value": ("VARCHAR", "user id, else the keyed hash of the value"),
    "user_id": ("VARCHAR", "the one user who has the id; NULL when several have it"),
    "current": ("BOOLEAN", "whether a type of one value a person has this one now"),
    "since": ("DATE", "execution date on which the person got the one_id"),
    "first_seen": ("DATE", "first day on which a link of the id was seen"),
    "last_seen": ("DATE", "last day on which a link of the id was seen"),
}
"""By name, the DuckDB type and the meaning of the columns of ``one_id``."""

HISTORY_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date of the change"),
    "old": ("VARCHAR", "the one_id that ids had before; NULL: none of them had one"),
    "new": ("VARCHAR", "the one_id that they have now; NULL: none of them is there any more"),
    "why": ("VARCHAR", "created, merged, split or gone"),
    "id_type": ("VARCHAR", "type of the link that joined them; NULL unless merged"),
    "source": ("VARCHAR", "source of that link, digits masked"),
    "ids": ("BIGINT", "ids that changed"),
}
"""By name, the DuckDB type and the meaning of the columns of ``one_id_history``."""

CONFLICT_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date"),
    "reason": ("VARCHAR", "why the link joins nobody"),
    "id_type": ("VARCHAR", "type of the id; a text that cannot be a type is other"),
    "id_value": ("VARCHAR", "user id, else the keyed hash of the value"),
    "user_id": ("VARCHAR", "the user of the link"),
    "because": ("VARCHAR", "of unique: the type of which two values would be one person's"),
    "one_id": ("VARCHAR", "the person of the user"),
    "other_one_id": ("VARCHAR", "of unique: the person that the id belongs to"),
    "source": ("VARCHAR", "source of the link, digits masked"),
    "first_seen": ("DATE", "first day on which it was seen"),
    "rows": ("BIGINT", "landed rows of the link"),
}
"""By name, the DuckDB type and the meaning of the columns of ``identity_conflicts``."""

SUGGESTIONS = "identity_suggestions"

SUGGESTION_COLUMNS: Mapping[str, tuple[str, str]] = {
    "ds": ("DATE", "execution date: compared as of its morning"),
    "user_id": ("VARCHAR", "one user, the smaller id"),
    "other_user_id": ("VARCHAR", "the other"),
    "chance": ("DOUBLE", "chance that both are one person, by the model of Fellegi and Sunter"),
    "agree": ("VARCHAR", "fields that are equal, by name"),
    "differ": ("VARCHAR", "fields that are not, by name"),
    "answer": ("VARCHAR", "approved, rejected; NULL: nobody has answered"),
    "answered_by": ("VARCHAR", "who did"),
}
"""By name, the DuckDB type and the meaning of the columns of ``identity_suggestions``."""

REASONS: Mapping[str, str] = {
    "unknown_type": "identity.yml has no such type",
    "junk": "the value is nobody's, such as null or 00000",
    "unreadable": "the value is no phone number, e-mail address or hash, as its type wants",
    "hub": "more users have the value than most allows",
    "unique": "two values of a unique type would be one person's",
}
"""Why a link joins nobody, by code."""

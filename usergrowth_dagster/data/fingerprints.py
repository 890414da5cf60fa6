"""Whether files are those of before: by name, size and time of change, else by their content.

A copy, a checkout or a restore changes the times of files and nothing in them.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from usergrowth_dagster.data.storage import Storage, StoredFile


@dataclass(frozen=True)
class Fingerprint:
    """What a set of files is known by; their content is only read when it is asked for.

    Args:
        storage: where the files are.
        files: the files as they were listed.
    """

    storage: Storage
    files: tuple[StoredFile, ...]

    @cached_property
    def tags(self) -> str:
        """16 hexadecimal digits that change when a file is added, removed or written again."""
        return self.storage.fingerprint(list(self.files))

    @cached_property
    def content(self) -> str:
        """16 hexadecimal digits of names and content; of an object store, whose tags are that."""
        if not self.storage.is_local:
            return self.tags
        known = self.storage.known_contents()
        if self.tags not in known:
            lines = (f"{file.path}\t{self.storage.sha256(file.path)}\n" for file in self.files)
            digest = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape"))
            return digest.hexdigest()[:16]
        return known[self.tags]

    def __str__(self) -> str:
        """The text to keep, for :meth:`matches`."""
        return f"{self.tags}.{self.content}"

    def matches(self, kept: str | None) -> bool:
        """Whether the files are those that a text was kept of; earlier versions kept tags alone."""
        tags, _, content = (kept or "").partition(".")
        if tags == self.tags:
            return True
        if not content or content != self.content:
            return False
        self.storage.remember_content(self.tags, content)
        return True

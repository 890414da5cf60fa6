"""The segments of a home: one file each, and how they name each other."""

from pathlib import Path

from usergrowth_dagster.errors import UserError
from usergrowth_dagster.segments.definition import NAME, Named, read_segment
from usergrowth_dagster.segments.leaves import Member

FOLDER = "segments"
"""Folder of a home with its segments and the files that they name."""

SUFFIXES = (".yml", ".yaml", ".json")


def _files(home: Path) -> list[Path]:
    """The files that hold a segment each, by name; others in the folder are lists of people."""
    folder = home / FOLDER
    return [
        path
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.suffix in SUFFIXES and not path.name.startswith((".", "_"))
    ]


def segment_files(home: Path) -> dict[str, Path]:
    """The file of each segment by name, in the order of the names.

    Raises:
        UserError: two files have one name, or a file's name is none of a segment.
    """
    import re

    files: dict[str, Path] = {}
    for path in _files(home):
        if re.fullmatch(NAME, path.stem) is None:
            raise UserError(
                f"{path}: a segment's file has a name of 1 to 40 of the characters a-z 0-9 _, the "
                "first one a letter; rename it",
                code="segment.invalid",
            )
        if path.stem in files:
            raise UserError(
                f"{path}: {files[path.stem].name} has the same name; keep one",
                code="segment.invalid",
            )
        files[path.stem] = path
    return files


def has_segments(home: Path) -> bool:
    """Whether a home has any file of a segment, also one that cannot be read."""
    return bool(_files(home))


def segment_named(home: Path, name: str) -> Named:
    """The segment of a name, its references checked for a circle.

    Raises:
        UserError: there is no such segment, its file breaks its format, or it contains itself.
    """
    files = segment_files(home)
    if name not in files:
        raise UserError(
            f"{home / FOLDER} has no segment {name!r}; it has {', '.join(files) or 'none'}",
            code="segment.unknown",
        )
    named = read_segment(files[name])
    _check_references(named, files)
    return named


def references(named: Named) -> list[tuple[str, Member]]:
    """The other segments that a segment names, each with the path of its leaf."""
    return [(at, leaf) for at, leaf in named.segment.leaves() if isinstance(leaf, Member)]


def _check_references(first: Named, files: dict[str, Path]) -> None:
    """Refuse a segment that names an unknown one, or itself over others."""
    done: set[str] = set()

    def visit(named: Named, way: tuple[str, ...]) -> None:
        for at, leaf in references(named):
            if leaf.name not in files:
                if leaf.snapshot is not None:
                    continue  # a snapshot stays when the file of its segment is gone
                raise UserError(
                    f"{named.origin}: {at}.name: there is no segment {leaf.name!r}; there are "
                    f"{', '.join(files)}",
                    code="segment.invalid",
                )
            if leaf.name in way:
                circle = " -> ".join((*way[way.index(leaf.name) :], leaf.name))
                raise UserError(
                    f"{named.origin}: {at}.name: the segment contains itself ({circle})",
                    code="segment.invalid",
                )
            if leaf.name not in done:
                visit(read_segment(files[leaf.name]), (*way, leaf.name))
        done.add(named.name)

    visit(first, (first.name,))


def read_by(home: Path, name: str) -> list[Named]:
    """A segment and those whose newest snapshot it reads, each after those that it reads itself.

    Raises:
        UserError: as :func:`segment_named`.
    """
    order: dict[str, Named] = {}

    def visit(one: str) -> None:
        if one in order:
            return
        named = segment_named(home, one)
        for _, leaf in references(named):
            if leaf.snapshot is None:  # a snapshot that is named stays as it is
                visit(leaf.name)
        order[one] = named

    visit(name)
    return list(order.values())


def in_order(home: Path) -> tuple[list[str], dict[str, UserError]]:
    """Names of all segments, each after those that it names; and why some cannot be read.

    Raises:
        UserError: the folder itself breaks a rule.
    """
    files, order, broken = segment_files(home), [], {}

    def visit(name: str) -> None:
        if name in order or name in broken:
            return
        try:
            named = segment_named(home, name)
        except UserError as error:
            broken[name] = error
            return
        for _, leaf in references(named):
            if leaf.name in files:
                visit(leaf.name)
        order.append(name)

    for name in files:
        visit(name)
    return order, broken

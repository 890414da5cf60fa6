"""How the clients of an object store reach it: fsspec's for files, delta-rs for commits.

Both take credentials from the usual chain of AWS: the environment, a profile, the machine's role.
What the chain does not know stands in the settings: the endpoint of a store that is not Amazon's,
and whether the bucket is a part of the endpoint's name, as Alibaba's OSS wants it.
"""

import json
import os
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from usergrowth_dagster.data.storage import Condition, Storage
from usergrowth_dagster.errors import UserError
from usergrowth_dagster.settings import Settings

SCHEME = "s3"
ANSWERS = "object_store.json"
"""File of a home with what its object stores guarantee; it may be deleted at any time."""

_PLAIN = ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION")
"""Variables by which the clients know whether checksums go with what need not have one."""

_WRITERS = 6
_REGION = "us-east-1"
"""What a store that is not Amazon's is asked with when no region is set."""


def is_remote(root: str) -> bool:
    """Whether files are in an object store."""
    return "://" in root


def open_storage(settings: Settings, root: str, **more: Any) -> Storage:
    """The files below a root, a directory or ``s3://bucket/prefix``.

    Args:
        settings: endpoint and addressing of an object store.
        root: the directory or URI.
        more: further arguments of :class:`Storage`.
    """
    if not is_remote(root):
        return Storage(root, **more)
    use_settings(settings)
    return Storage(root, delta=delta_options(settings, root), **more)


def open_tables(settings: Settings) -> Storage:
    """The root of the product's own files, with what its store guarantees.

    An object store is asked once a home; the answer is kept in the home.
    """
    storage = open_storage(settings, settings.storage_root)
    return storage if storage.is_local else replace(storage, condition=_known(settings, storage))


def ask_again(settings: Settings) -> Condition:
    """Probe the store of the tables, whatever is known of it, and keep the answer.

    Raises:
        OSError: as :func:`probe`.
    """
    storage = open_storage(settings, settings.storage_root)
    condition = probe(storage)
    answers = _answers(settings) | {_key(settings, storage): condition}
    with suppress(OSError):
        Storage(str(settings.home)).write_bytes(ANSWERS, json.dumps(answers).encode())
    return condition


def refusal_of(root: str) -> UserError:
    """What is wrong with a store that refuses the condition."""
    return UserError(
        f"the object store of {root} refuses to write a file on the condition that it is not there "
        "(If-None-Match), which every commit of a table needs; use another store, or a directory",
        code="store.unfit",
    )


def _known(settings: Settings, storage: Storage) -> Condition:
    known = _answers(settings).get(_key(settings, storage))
    try:
        return known or ask_again(settings)
    except OSError:  # what is not known is not relied upon: a commit takes the lock
        return "ignored"


def _answers(settings: Settings) -> dict[str, Condition]:
    try:
        return dict(json.loads((settings.home / ANSWERS).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _key(settings: Settings, storage: Storage) -> str:
    return f"{endpoint(settings) or ''} {storage.uri()}"


def endpoint(settings: Settings) -> str | None:
    """Where requests go; None: to Amazon's own."""
    return (
        settings.s3_endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )


def use_settings(settings: Settings) -> None:
    """Make fsspec's clients of this process keep to the settings, those of sources included."""
    from fsspec.config import conf

    options: dict[str, Any] = {}
    if settings.s3_endpoint:
        options["endpoint_url"] = settings.s3_endpoint
    if settings.s3_addressing != "auto":
        options["config_kwargs"] = {"s3": {"addressing_style": settings.s3_addressing}}
    if options:
        conf[SCHEME] = options
    else:
        conf.pop(SCHEME, None)
    send_plainly(settings)


def send_plainly(settings: Settings) -> None:
    """Let uploads of this process be plain where the store is not Amazon's.

    The clients would send them in chunks with a checksum behind, which OSS refuses. What the
    environment says already stays.
    """
    if endpoint(settings):
        for name in _PLAIN:
            os.environ.setdefault(name, "when_required")


def delta_options(settings: Settings, root: str) -> Mapping[str, str]:
    """The storage options of delta-rs for tables below a root."""
    where = endpoint(settings)
    options: dict[str, str] = {}
    if settings.s3_addressing == "virtual":
        options["aws_virtual_hosted_style_request"] = "true"
    if where is None:
        return options
    parts = urlsplit(where)
    if settings.s3_addressing == "virtual":  # delta-rs takes it as it is, bucket and all
        bucket = urlsplit(root).netloc
        where = parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
    options["aws_endpoint"] = where
    if parts.scheme == "http":
        options["aws_allow_http"] = "true"
    if not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        options["aws_region"] = _REGION
    return options


def probe(storage: Storage) -> Condition:
    """What the store does with a write that must not replace a file.

    A new file is written by several at once, and once more afterwards: some stores know the
    condition and yet let two writers of the same moment win.

    Raises:
        OSError: the store cannot be reached, or not be written to.
    """
    path = f"_probe/{uuid.uuid4().hex}"
    storage.write_bytes(path, b"")  # a store that is out of reach is none that refuses
    storage.remove(path)
    try:
        with ThreadPoolExecutor(_WRITERS) as threads:
            writers = [threads.submit(storage.write_new, path, b"%d" % n) for n in range(_WRITERS)]
            won = [writer.result() for writer in writers]
        is_kept = won.count(True) == 1 and not storage.write_new(path, b"later")
        return "kept" if is_kept else "ignored"
    except (OSError, NotImplementedError):
        return "refused"
    finally:
        with suppress(OSError):
            storage.remove(path)

"""Downloads into the cache: verified, limited in size and time, resumed, one process at a time.

`filelock` keeps other processes waiting, and `zoo.files.connections` speaks HTTP.  This module adds sizes
known in advance, a lowest speed, and messages without passwords.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO

from zoo.errors import MissingWeightsError, WeightsError, one_line
from zoo.files import connections
from zoo.files.json_files import MOST_BYTES, check_regular

CONNECT_SECONDS, SILENT_SECONDS = 10, 15
SLOWEST, SLOW_SECONDS = 1000, 30  # bytes a second, on average after so long
LOCK_SECONDS = 3600
ATTEMPTS = 5  # each after the first goes on where a connection was cut
_CHUNK = 1 << 16


def cache() -> pathlib.Path:
    """Return the folder of downloads: $ZOO_CACHE, or ~/.cache/ensemble-zoo.

    Raises:
        WeightsError: if ZOO_CACHE is empty or there is no home.
    """
    folder = os.environ.get("ZOO_CACHE", "~/.cache/ensemble-zoo")
    if not folder.strip():
        raise WeightsError("ZOO_CACHE is empty; unset it, or set it to a folder that can be written")
    try:
        return pathlib.Path(folder).expanduser()
    except (RuntimeError, ValueError) as error:
        raise WeightsError(cache_problem(folder, error)) from None


def cache_problem(folder: str | os.PathLike, error: BaseException) -> str:
    """Return the message about a cache that cannot be used.

    Args:
        folder: str or path of the cache.
        error: what was raised.

    Returns:
        str, one line.
    """
    reason = getattr(error, "strerror", None) or one_line(error)
    return f"the cache {folder} cannot be used ({reason}); set ZOO_CACHE to a folder that can be written"


def shown(url: str) -> str:
    """Return a URL without user name, password and query, for messages.

    Args:
        url: str.

    Returns:
        str; "ZOO_WEIGHTS_URL" for a URL that cannot be parsed, or would show control characters or an "@".
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        text = urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))
    except ValueError:
        return "ZOO_WEIGHTS_URL"
    return text if text.isprintable() and "@" not in text else "ZOO_WEIGHTS_URL"


def download(
    base: str,
    folder: pathlib.Path,
    records: dict[str, dict | None],
    check: Callable[[pathlib.Path], None],
) -> None:
    """Download the files of a set of weights into a folder, where they appear once all are verified.

    Args:
        base: str, the URL of the folder's twin: http://, https:// or file://.
        folder: path in the cache.
        records: {file name: {"sha256": str, "bytes": int}, or None where nothing is known}.
        check: function of the folder of the drafts, called before they are renamed; raises
            `WeightsError` for what must not be kept.

    Raises:
        MissingWeightsError: for files that the server does not give.
        WeightsError: for other content than recorded, and for a cache that cannot be written.
    """
    import filelock

    drafts = folder.with_name(f".{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        open(lock, "a+").close()  # where this fails, `filelock` would wait for it to succeed
        with filelock.FileLock(lock, timeout=LOCK_SECONDS):
            if all((folder / name).is_file() for name in records):
                return  # another process was faster
            drafts.mkdir(exist_ok=True)
            for name, record in records.items():
                _fetch_verified(f"{base.rstrip('/')}/{folder.name}/{name}", drafts / name, record)
            try:
                check(drafts)
            except WeightsError:
                shutil.rmtree(drafts, ignore_errors=True)
                raise
            folder.mkdir(exist_ok=True)
            for name in sorted(records, key="config.json".__eq__):  # it comes last
                (drafts / name).replace(folder / name)
            shutil.rmtree(drafts, ignore_errors=True)
    except filelock.Timeout:
        raise MissingWeightsError(
            f"another process has been downloading {folder.name} for {LOCK_SECONDS // 60} minutes; end it and try again"
        ) from None
    except WeightsError:
        raise
    except (OSError, NotImplementedError, ValueError) as error:
        raise WeightsError(cache_problem(folder.parent, error)) from None


def _fetch_verified(url, draft, record):
    """A file, whole and with the recorded hash; one that was resumed and is wrong is fetched again, once."""
    for resumed in (draft.is_file(), False):
        _fetch(url, draft, record)
        if record is None or _sha256(draft) == record["sha256"]:
            return
        draft.unlink()
        if not resumed:
            break
    raise WeightsError(f"{shown(url)} does not have the recorded sha256: it was changed on the server or in transit; "
                       "try again, or correct ZOO_WEIGHTS_URL")  # fmt: skip


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url, draft, record):
    if draft.exists() and not draft.is_file():
        raise WeightsError(f"{draft} is not a regular file; delete it")
    size = record and record["bytes"]
    if draft.is_file() and (size is None or draft.stat().st_size > size):
        draft.unlink()
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        _copy(url, draft, size)
    elif scheme in ("http", "https"):
        for attempt in range(ATTEMPTS):
            if _request(url, draft, size, last=attempt == ATTEMPTS - 1):
                return
            time.sleep(0.2 * (attempt + 1))
    else:
        raise _refused(url, "it must begin with https://, http:// or file://")


def _refused(url, reason):
    return MissingWeightsError(
        f"cannot download {shown(url)} ({reason}); try again, or correct ZOO_WEIGHTS_URL"
    )


def _copy(url, draft, size):
    try:
        source = pathlib.Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
        found = check_regular(source, None if size else MOST_BYTES)
    except (WeightsError, ValueError) as error:
        raise _refused(url, one_line(error)) from None
    if size is not None and found != size:
        raise WeightsError(
            f"{source} has {found} bytes, not {size}: it is truncated or another file; restore it"
        )
    with open(source, "rb") as file:
        _write(file, draft, url, size or MOST_BYTES, "wb")


def _request(url, draft, size, last):
    """Whether a file is whole after one more request, which goes on where a former one was cut."""
    had = draft.stat().st_size if draft.is_file() else 0
    if size is not None and had == size:
        return True
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
    try:
        with connections.Answer(url, headers, CONNECT_SECONDS, SILENT_SECONDS) as answer:
            had = _check_answer(answer.head(), url, had, size)
            mode = "ab" if had else "wb"
            _write(answer, draft, url, (size or MOST_BYTES) - had, mode)
    except connections.errors() as error:
        if isinstance(error, WeightsError):
            raise
        grown = draft.is_file() and draft.stat().st_size > had
        if last or not grown or not connections.was_cut(error):
            raise _refused(url, connections.reason(error, SILENT_SECONDS)) from None
        return False
    found = draft.stat().st_size
    if size is not None and found < size:
        if last or found <= had:
            raise WeightsError(f"{shown(url)} is truncated: {found} of {size} bytes came; try again, or correct "
                               "ZOO_WEIGHTS_URL")  # fmt: skip
        return False
    return True


def _check_answer(response, url, had, size):
    """How many bytes of the file to keep; refuses an answer that cannot be the file before reading it."""
    if response.status_code == 416 or (response.status_code == 206 and not had):
        raise _refused(url, f"the server answers {response.status_code} to a request for the whole file")
    if response.status_code not in (200, 206):
        reason = "".join(c for c in str(response.reason)[:60] if c.isprintable())
        raise _refused(url, f"the server answers {response.status_code} {reason}")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _refused(url, "the server sends it compressed, which was not asked for")
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {had}-")
    had = had if response.status_code == 206 and starts else 0
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit():
        sent, most = had + int(length[:30]), size or MOST_BYTES
        if sent > most or (size is not None and sent < size):
            kind = response.headers.get("Content-Type", "")[:40]
            page = ", a web page" if "html" in kind.lower() else ""
            raise _refused(url, f"the server has {sent} bytes{page}, not {size or f'at most {most}'}")
    return had


def _write(source: IO, draft: pathlib.Path, url: str, most: int, mode: str) -> None:
    """Append what a source gives, up to `most` bytes; more is refused, and so is a trickle."""
    read = getattr(source, "read1", source.read)
    started, count = time.monotonic(), 0
    try:
        with _opened(draft, mode) as target:
            while chunk := read(_CHUNK):
                count += len(chunk)
                if count > most:
                    break
                _put(target, chunk)
                seconds = time.monotonic() - started
                if seconds > SLOW_SECONDS and count / seconds < SLOWEST:
                    raise _refused(url, f"it sends less than {SLOWEST} bytes a second")
    except _DiskError as error:
        draft.unlink(missing_ok=True)
        raise WeightsError(
            f"{draft.parent} cannot be written ({error}); free some space, or set ZOO_CACHE to another folder"
        ) from None
    if count > most:
        draft.unlink(missing_ok=True)
        raise _refused(url, "the server sends more bytes than recorded")


class _DiskError(Exception):
    """The disc's fault, not the server's."""


def _opened(draft, mode):
    try:
        return open(draft, mode, buffering=0)  # so that closing writes nothing and cannot fail
    except OSError as error:
        raise _DiskError(error.strerror or type(error).__name__) from None


def _put(target, chunk):
    chunk = memoryview(chunk)
    try:
        while len(chunk):
            chunk = chunk[target.write(chunk) :]
    except OSError as error:
        raise _DiskError(error.strerror or type(error).__name__) from None

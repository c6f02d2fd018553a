"""The connection to a server that may lie: received by a thread of its own, and given up in time.

`requests` waits as long as single bytes come. Here every part of an answer has a time, and a connection
that is given up is closed even while its server sends.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from typing import Any

_CHUNK = 1 << 16


class Answer:
    """An HTTP answer that a thread receives, so that no server holds the caller by single bytes.

    The thread hands over the head of each response, redirects among them, then the last one's body in
    chunks, and an error where one ends it. Each must come in time. Leaving closes the connection.

    Args:
        url: str, http:// or https://.
        headers: {str: str}, sent with the request.
        connect: float, seconds until the server must have accepted the connection.
        silent: float, seconds that it may then send nothing.
    """

    def __init__(self, url: str, headers: dict[str, str], connect: float, silent: float) -> None:
        self._connect, self._silent = connect, silent
        self._handed: queue.Queue = queue.Queue(1)
        self._over, self._sockets = threading.Event(), list[socket.socket]()
        threading.Thread(target=self._receive, args=(url, headers), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(queue.Empty):
            self._handed.get_nowait()  # the thread may be waiting for this place
        for connection in list(self._sockets):
            _close(connection)

    def head(self) -> Any:
        """Wait for the response that is not a redirect, a `requests.Response`."""
        while (response := self._next(self._connect + self._silent)).is_redirect:
            pass
        return response

    def read(self, _: int) -> bytes:
        """Wait for the next chunk of the body, empty at its end."""
        return self._next(self._silent)

    def _next(self, seconds):
        try:
            item = self._handed.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, Exception):
            raise item
        return item

    def _receive(self, url, headers):
        import requests

        try:
            with requests.Session() as session:
                session.max_redirects = 5
                session.hooks["response"] = [self._hand_head]
                for scheme in ("http://", "https://"):
                    session.mount(scheme, _adapter(self._note))
                timeout = (self._connect, self._silent)
                with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
                    raw = response.raw
                    read, most = (raw.read1, _CHUNK) if hasattr(raw, "read1") else (raw.read, 1 << 12)
                    while chunk := read(most):
                        self._hand(chunk)
            self._hand(b"")
        except Exception as error:
            if not self._over.is_set():
                self._handed.put(error)

    def _hand_head(self, response, **_):
        if response.is_redirect:
            response.close()  # or its body would be read whole
        self._hand(response)

    def _note(self, connection):
        self._sockets.append(connection)
        if self._over.is_set():
            _close(connection)
        self._end_if_over()

    def _hand(self, item):
        self._end_if_over()
        self._handed.put(item)

    def _end_if_over(self):
        if self._over.is_set():
            raise TimeoutError


def _close(connection):
    """Close a socket that another thread reads: at once, even while its server sends without end.

    Without lingering the server is told at once, too: after a plain close, one whose window was full could wait
    for a minute, until the system forgot the connection.
    """
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits
        if type(connection) is socket.socket:  # one of TLS keeps the number, which another file may get
            socket.close(connection.detach())


def _adapter(connected):
    """What `requests` connects by, calling `connected` with each new socket."""
    import requests

    class Adapter(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *arguments, **options):
            pool = super().get_connection_with_tls_context(*arguments, **options)

            class Connection(pool.ConnectionCls):
                def connect(self):
                    super().connect()
                    connected(self.sock)

            pool.ConnectionCls = Connection
            return pool

    return Adapter()


def errors() -> tuple[type[Exception], ...]:
    """Return what an `Answer` raises where the server or the network is at fault."""
    import requests
    import urllib3

    return requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError


def was_cut(error: Exception) -> bool:
    """Tell whether a connection ended within a body.

    Args:
        error: one of `errors`.

    Returns:
        A bool.
    """
    import requests
    import urllib3

    return isinstance(
        error,
        (urllib3.exceptions.ProtocolError, requests.exceptions.ChunkedEncodingError, ConnectionError),
    )  # fmt: skip


def reason(error: Exception, silent: float) -> str:
    """Describe what went wrong, never in the words of the library, which may hold a password.

    Args:
        error: one of `errors`.
        silent: float, seconds after which a server counts as silent.

    Returns:
        str, a few words.
    """
    import requests
    import urllib3

    known = requests.exceptions
    for kinds, words in (
        ((known.Timeout, urllib3.exceptions.TimeoutError, TimeoutError),
         f"no answer within {silent:g} seconds"),
        (known.SSLError, "its certificate is not accepted"),
        (known.TooManyRedirects, "it redirects without end"),
        (known.ProxyError, "the proxy does not answer"),
        ((known.InvalidURL, known.MissingSchema, known.InvalidSchema, known.InvalidHeader, UnicodeError,
          urllib3.exceptions.LocationParseError), "that is not the address of a server"),
    ):  # fmt: skip
        if isinstance(error, kinds):
            return words
    chain = _chain(error)
    said = [one.strerror for one in chain if isinstance(one, OSError) and one.strerror]
    if said and isinstance(said[-1], str):
        return said[-1]
    named = {type(one).__name__ for one in chain}
    if "NameResolutionError" in named:
        return "the server's name is unknown"
    if named & {"IncompleteRead", "InvalidChunkLength"}:
        return "the connection was cut"
    if named & {"BadStatusLine", "RemoteDisconnected", "LineTooLong", "UnknownProtocol"}:
        return "the server does not answer in HTTP"
    return type(error).__name__


def _chain(error):
    """An error and those inside and behind it."""
    found, waiting = [], [error]
    while waiting and len(found) < 20:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            waiting += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return found

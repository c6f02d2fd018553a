"""An HTTP server on loopback that answers as it should, or lies in one of many ways."""

import pathlib
import socket
import threading
import time

PAGE = b"<html>Please log in to this network</html>"


def _head(status="200 OK", length=None, *lines):
    lines = [*lines, *([f"Content-Length: {length}"] if length is not None else []), "Connection: close"]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def good(connection, content, first):
    """The file, or the rest of it where a range is asked for."""
    if first:
        span = f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"
        connection.sendall(_head("206 Partial Content", len(content) - first, span) + content[first:])
    else:
        connection.sendall(_head("200 OK", len(content)) + content)


def slow(connection, content, first):
    connection.sendall(_head("200 OK", len(content)))
    for start in range(0, len(content), 1 + len(content) // 8):
        time.sleep(0.05)
        connection.sendall(content[start : start + 1 + len(content) // 8])


def chunked(connection, content, first):
    connection.sendall(_head("200 OK", None, "Transfer-Encoding: chunked"))
    connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))


def unsized(connection, content, first):
    connection.sendall(_head() + content)


def cut(connection, content, first):
    """A third of what is asked for, then the end."""
    rest = content[first:]
    span = [f"Content-Range: bytes {first}-{len(content) - 1}/{len(content)}"] if first else []
    status = "206 Partial Content" if first else "200 OK"
    connection.sendall(_head(status, len(rest), *span) + rest[: len(rest) // 3])


def cut_without_ranges(connection, content, first):
    connection.sendall(_head("200 OK", len(content)) + content[: len(content) // 2])


def silent(connection, content, first):
    time.sleep(5)


def stalled(connection, content, first):
    connection.sendall(_head("200 OK", len(content)) + content[:10])
    time.sleep(5)


def trickle(connection, content, first):
    connection.sendall(_head("200 OK", len(content)))
    for i in range(100):
        connection.sendall(content[i : i + 1])
        time.sleep(0.05)


def endless(connection, content, first):
    connection.sendall(_head())
    while True:
        connection.sendall(bytes(1 << 16))


def changed(connection, content, first):
    good(connection, content[:-1] + bytes([content[-1] ^ 1]), first)


def longer(connection, content, first):
    good(connection, content + b" ", first)


def shorter(connection, content, first):
    good(connection, content[:-1], first)


def page(connection, content, first):
    connection.sendall(_head("200 OK", len(PAGE), "Content-Type: text/html") + PAGE)


def padded_page(connection, content, first):
    good(connection, PAGE.ljust(len(content))[: len(content)], first)


def empty(connection, content, first):
    connection.sendall(_head("200 OK", 0))


def nothing(connection, content, first):
    pass


def compressed(connection, content, first):
    connection.sendall(_head("200 OK", len(content), "Content-Encoding: gzip") + content)


def no_status(connection, content, first):
    connection.sendall(b"hello\r\n\r\n")


def huge_header(connection, content, first):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")


def bad_length(connection, content, first):
    connection.sendall(_head("200 OK", "-5") + content)


def missing(connection, content, first):
    connection.sendall(_head("404 Not Found", 4) + b"gone")


def broken(connection, content, first):
    connection.sendall(_head("500 \x1b[31mInternal\nError", 0))


def unasked_range(connection, content, first):
    connection.sendall(_head("206 Partial Content", 5) + b"12345")


def no_range(connection, content, first):
    connection.sendall(_head("416 Range Not Satisfiable", 0))


def loop(connection, content, first):
    connection.sendall(_head("302 Found", 0, "Location: again.json"))


def to_a_file(connection, content, first):
    connection.sendall(_head("302 Found", 0, "Location: file:///etc/passwd"))


def to_nowhere(connection, content, first):
    connection.sendall(_head("302 Found", 0, "Location: http://user:secret@[::/x"))


def _drip(connection, byte):
    while True:
        connection.sendall(byte)
        time.sleep(0.1)


def endless_100(connection, content, first):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def header_trickle(connection, content, first):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    _drip(connection, b"x")


def chunk_trickle(connection, content, first):
    connection.sendall(_head("200 OK", None, "Transfer-Encoding: chunked"))
    _drip(connection, b"0")


def redirect_endless_body(connection, content, first):
    connection.sendall(_head("302 Found", None, "Location: /a/x"))
    while True:
        connection.sendall(bytes(1 << 16))


def redirect_trickle_body(connection, content, first):
    connection.sendall(_head("302 Found", None, "Location: /a/x"))
    _drip(connection, b"a")


def redirect_chunked_body(connection, content, first):
    connection.sendall(_head("302 Found", None, "Location: /a/x", "Transfer-Encoding: chunked"))
    _drip(connection, b"0")


RIGHT = (good, slow, chunked, unsized, bad_length)
LIES = (
    cut_without_ranges, silent, stalled, trickle, endless, changed, longer, shorter, page, padded_page, empty, nothing,
    compressed, no_status, huge_header, missing, broken, unasked_range, no_range, loop, to_a_file, to_nowhere,
    endless_100, header_trickle, chunk_trickle, redirect_endless_body,
    redirect_trickle_body, redirect_chunked_body,
)  # fmt: skip


class Server:
    """Serves a folder; `answers` maps the end of a path to the function that answers, `good` where none does."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.answers, self.requests = folder, {}, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            try:
                lines = connection.recv(65536).decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1]
                self.requests.append(lines)
                spans = [line.split("bytes=")[1] for line in lines if line.lower().startswith("range:")]
                content = (self.folder / path.lstrip("/")).read_bytes() if path.count("/") > 1 else b""
                answer = next((f for end, f in self.answers.items() if path.endswith(end)), good)
                answer(connection, content, int(spans[0].split("-")[0]) if spans else 0)
            except (OSError, IndexError):
                pass

    def close(self) -> None:
        """Answer nobody any more."""
        self.socket.close()

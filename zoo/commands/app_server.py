"""`zoo app`: a page on this machine that shows what an ensemble says of a photograph.

It is served by Python's standard library and is one file without anything from elsewhere, so it works
offline and needs no further package. (Gradio brings 38 packages and a front end that refers to fonts and
scripts of other hosts.)
"""

from __future__ import annotations

import csv
import http.server
import io
import json
import pathlib
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.data import pixels
from zoo.deciding import Threshold
from zoo.errors import one_line

MOST_BYTES = 30_000_000
SHOWN = 5  # classes
COLUMNS = (
    "image", "answer", "confidence", "entropy", "mutual_information", "members_agreeing", "members", "decision"
)  # fmt: skip


class Session:
    """A model, the thresholds to compare with, and what was asked since the start.

    Args:
        model: an `EnsembleClassifier`; images of any size are cropped to its own unless it says otherwise.
        thresholds: `Threshold`s. Default: none.
        examples: paths of images that the page offers. Default: none.
    """

    def __init__(self, model: Any, thresholds: list[Threshold] = [], examples: list = []):  # noqa: B006
        model.resize = model.resize or "crop"
        self.model = model
        self.marks = _marks(thresholds)
        self.unreached = sorted(found.target for found in thresholds if np.isinf(found.value))
        self.labelled = max((found.images for found in thresholds), default=0)
        self.examples = [pathlib.Path(path) for path in examples]
        self.log: list[dict] = []
        self.lock = threading.Lock()  # one prediction at a time

    def names(self) -> list[str]:
        """The names of the classes, or "class 0" and so on."""
        return list(self.model.class_names or [f"class {k}" for k in range(self.model.num_classes)])

    def about(self) -> dict:
        """What the page shows before the first image."""
        return {
            "model": self.model.name,
            "classes": self.model.num_classes,
            "members": self.model.num_members,
            "marks": self.marks,
            "unreached": self.unreached,
            "labelled": self.labelled,
            "examples": [path.name for path in self.examples],
            "log": self.log,
        }

    def answer(self, content: bytes, image: str) -> dict:
        """Predict one image and log the answer.

        Args:
            content: bytes of an image file.
            image: str, its name.

        Returns:
            A dictionary of what the page shows.

        Raises:
            ValueError: for what Pillow cannot read.
        """
        import zoo

        picture, turned = _picture(content, self.model.input_shape[-1])
        with self.lock:
            prediction = zoo.predict(self.model, [picture], progress=False)
        p, members, names = prediction.probabilities[0], prediction.members[0], self.names()
        order = np.argsort(-p)[:SHOWN]
        top = members.argmax(axis=-1)
        confidence = float(p[order[0]])
        row = {
            "image": image,
            "answer": names[order[0]],
            "confidence": round(confidence, 4),
            "entropy": round(float(prediction.entropy[0]), 4),
            "mutual_information": round(float(prediction.mutual_information[0]), 4),
            "members_agreeing": int((top == order[0]).sum()),
            "members": len(members),
            "decision": decision(confidence, self.marks, self.unreached),
        }
        self.log.append(row)
        return {
            "row": row,
            "turned": turned,
            "classes": [{"name": names[k], "probability": float(p[k])} for k in order],
            "each": [
                {
                    "answer": names[k],
                    "probability": float(one[k]),
                    "of_top": [float(one[j]) for j in order],
                }
                for k, one in zip(top, members)
            ],
            "entropy_share": float(prediction.entropy[0] / np.log(max(2, len(p)))),
        }

    def table(self) -> str:
        """The session's log as CSV."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.log)
        return text.getvalue()


def _marks(thresholds):
    """Sorted (confidence, accuracy or None) of thresholds; of several accuracies at one confidence the highest."""
    given = [(float(found.value), None) for found in thresholds if np.isnan(found.target)]
    highest = {}
    for found in thresholds:
        if np.isfinite(found.value) and found.target > highest.get(found.value, 0):
            highest[found.value] = found.target
    found = [(float(value), float(target)) for value, target in highest.items()]
    return sorted(given + found, key=lambda mark: mark[0])


def decision(confidence: float, marks: list[tuple], unreached: Sequence[float] = ()) -> str:
    """Say whether to answer, and what the nearest thresholds promise.

    Args:
        confidence: float.
        marks: sorted (confidence, accuracy or None); one without an accuracy decides, else the lowest.
        unreached: accuracies that no confidence was shown to reach. Default: none.

    Returns:
        A str.

    Example:
        >>> from zoo.commands.app_server import decision
        >>> decision(0.8, [(0.5, 0.9), (0.85, 0.95)])
        'answer: 90 % of answers are right from 0.500 on, 95 % from 0.850 on'
        >>> decision(0.4, [(0.5, 0.9)])
        'ask a person: 90 % of answers are right from 0.500 on'
        >>> decision(0.6, [(0.5, 0.9), (0.7, None)])
        'ask a person: the threshold is 0.700; 90 % of answers are right from 0.500 on'
    """
    given = [value for value, accuracy in marks if accuracy is None]
    shown = [mark for mark in marks if mark[1] is not None]
    below = [mark for mark in shown if mark[0] <= confidence][-1:]
    above = [mark for mark in shown if mark[0] > confidence][:1]
    if not marks:
        return (
            f"ask a person: no confidence was shown to make {_percent(unreached[0])} of answers right"
            if unreached
            else "no threshold given"
        )
    sure = confidence >= given[0] if given else bool(below)
    said = [f"the threshold is {given[0]:.3f}"] if given else []
    promises = [f"{_percent(accuracy)} from {value:.3f} on" for value, accuracy in below + above]
    if promises:
        said.append(", ".join(promises).replace(" from", " of answers are right from", 1))
    return ("answer: " if sure else "ask a person: ") + "; ".join(said)


def _percent(share):
    return f"{100 * share:.4g} %"


def _picture(content, channels):
    """(pixels of an image file as they are stored, whether a viewer would turn them)."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content))
        return pixels.from_pillow(image, channels), pixels.is_turned(image)
    except UnidentifiedImageError:  # its message names an object in memory
        raise ValueError("this is not an image that Pillow can read") from None
    except Exception as error:  # what Pillow raises for a damaged file may be anything
        raise ValueError(f"this is not an image that Pillow can read ({one_line(error)})") from None


def _split(address):
    """The parts of an address; those of an empty one where it has none."""
    try:
        return urllib.parse.urlsplit(address)
    except ValueError:  # such as brackets without an end
        return urllib.parse.urlsplit("")


def _is_number(text):
    return text.isascii() and text.isdigit() and len(text) < 10


class Handler(http.server.BaseHTTPRequestHandler):
    """The page, the model's answers and the log; `session` is set by `server`."""

    protocol_version = "HTTP/1.1"
    timeout = 120
    session: Session
    page = pathlib.Path(__file__).with_name("app_page.html")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src 'self' blob: data:; connect-src 'self'"
    )

    def do_GET(self) -> None:
        if not self._is_local():
            return
        path = _split(self.path).path
        if path == "/":
            self._send(200, self.page.read_bytes(), "text/html; charset=utf-8")
        elif path == "/about":
            self._send_json(200, self.session.about())
        elif path == "/log.csv":
            self._send(200, self.session.table().encode(), "text/csv; charset=utf-8")
        elif path.startswith("/examples/") and _is_number(path[10:]):
            self._example(int(path[10:]))
        else:
            self._send_json(404, {"error": "there is no such page"})

    def do_POST(self) -> None:
        if not self._is_local():
            return
        parts, length = _split(self.path), self.headers.get("Content-Length", "")
        if parts.path != "/answer" or not _is_number(length) or not 0 < int(length) <= MOST_BYTES:
            self.close_connection = True  # the body stays unread
            self._send_json(400, {"error": f"send an image of at most {MOST_BYTES // 10**6} MB"})
            return
        name = urllib.parse.parse_qs(parts.query).get("name", ["image"])[0][:200]
        try:
            found = self.session.answer(self.rfile.read(int(length)), name)
        except ValueError as error:
            self._send_json(400, {"error": str(error)})
        else:
            self._send_json(200, found)

    def _is_local(self):
        """Whether the page was asked for by its local name; other sites could lead a browser here."""
        host = _split(f"//{self.headers.get('Host', '')}")
        if "@" not in host.netloc and host.hostname in ("127.0.0.1", "localhost", "::1"):
            return True
        self.close_connection = True
        self._send_json(400, {"error": "open the page by its address 127.0.0.1"})
        return False

    def _example(self, number):
        try:
            content = self.session.examples[number].read_bytes()
        except (IndexError, OSError):  # it may be gone since the start
            self._send_json(404, {"error": "there is no such example"})
        else:
            self._send(200, content, "application/octet-stream")

    def _send_json(self, status, content):
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status, body, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", self.policy)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Say what failed in one line, and nothing of a browser that hung up."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            print(f"zoo: {one_line(error)}", file=sys.stderr)


def server(session: Session, port: int = 0) -> http.server.ThreadingHTTPServer:
    """Make the server of a session, on this machine's own address alone.

    Args:
        session: a `Session`.
        port: int. Default: 0, any free one.

    Returns:
        A `ThreadingHTTPServer`, to be run by `serve_forever`.
    """
    handler = type("SessionHandler", (Handler,), {"session": session})
    return _Server(("127.0.0.1", port), handler)

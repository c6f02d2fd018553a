"""The page of `zoo app`: answers, log, refusals, and how it looks in Chromium."""

import csv
import html
import http.client
import io
import json
import re
import shutil
import socket
import subprocess
import threading
import types

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli
from zoo.commands import app as command
from zoo.commands import app_server as app
from zoo.deciding import Threshold

NAMES = ["a ship", "a truck that is not a lorry", "zebra"]
NAN = float("nan")
MARKS = [
    Threshold(value, target, 0.95, NAN, NAN, NAN, 100) for value, target in ((0.45, 0.9), (0.7, 0.95))
]
CLOSE = [
    (0.9, 0.9),
    (0.93, 0.95),
    (0.96, 0.98),
    (0.99, 0.99),
]  # there is no room for all of their labels

# Drops two photographs and a text, after the page has asked what it shows.
DROP = """<script>
if (location.search) setTimeout(async () => {
  const data = new DataTransfer();
  for (const [name, colour] of [["a photograph.png", "#337"], ["second.png", "#ec8"]]) {
    const canvas = Object.assign(document.createElement("canvas"), {width: 300, height: 200});
    const pen = canvas.getContext("2d");
    pen.fillStyle = colour; pen.fillRect(0, 0, 300, 200); pen.fillStyle = "#dde"; pen.fillRect(80, 60, 90, 50);
    data.items.add(new File([await new Promise(done => canvas.toBlob(done))], name));
  }
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
}, 300);
</script>"""


# Asks about the first example, then tells how it is shown.
TURNED = """<script>
setTimeout(() => document.querySelector("#examples button").click(), 2000);
setTimeout(() => {
  const size = e => [e.clientWidth, e.clientHeight], picture = document.getElementById("picture");
  document.body.append(Object.assign(document.createElement("pre"), {id: "found", textContent: JSON.stringify({
    size: size(picture), small: size(document.querySelector("#examples img")), turned: !document.getElementById("turned").hidden,
  })}));
}, 7000);
</script>"""


def photograph(size=(40, 30), seed=0, format="PNG"):
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), "uint8")
    Image.fromarray(pixels).save(content, format)
    return content.getvalue()


class Page:
    """A server in a thread."""

    def __init__(self, session, page=None):
        self.server = app.server(session)
        if page:
            self.server.RequestHandlerClass.page = page
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def session(tiny, tmp_path):
    (tmp_path / "example.png").write_bytes(photograph())
    model = tiny()
    model.class_names = NAMES
    return app.Session(model, MARKS, [tmp_path / "example.png"])


@pytest.fixture
def page(session):
    found = Page(session)
    yield found
    found.close()


def test_an_image_is_answered_as_predict_does_and_logged(page, session):
    content = photograph()
    status, body = page.ask("POST", "/answer?name=holiday%20photo.png", content)
    found, prediction = json.loads(body), zoo.predict(session.model, [Image.open(io.BytesIO(content))])
    assert status == 200 and found["row"]["image"] == "holiday photo.png"
    assert found["row"]["answer"] == prediction.names[0] == found["classes"][0]["name"]
    assert found["classes"][0]["probability"] == pytest.approx(prediction.confidence[0])
    assert [one["probability"] for one in found["each"]] == pytest.approx(
        prediction.members[0].max(axis=-1)
    )
    page.ask("POST", "/answer?name=b", photograph((16, 16), 1, "JPEG"))
    rows = list(csv.DictReader(io.StringIO(page.ask("GET", "/log.csv")[1].decode())))
    assert [row["image"] for row in rows] == ["holiday photo.png", "b"]
    assert json.loads(page.ask("GET", "/about")[1])["log"][0] == found["row"]
    assert page.ask("GET", "/examples/0") == (200, content)


def test_a_photograph_that_is_stored_turned_is_answered_as_predict_does(page, session):
    exif = Image.Exif()
    exif[0x0112] = 8
    upright, stored = io.BytesIO(photograph((30, 20))), io.BytesIO()
    Image.open(upright).convert("RGB").save(stored, "PNG", exif=exif)
    found = json.loads(page.ask("POST", "/answer?name=turned", stored.getvalue())[1])
    expected = zoo.predict(session.model, [Image.open(upright)])
    assert (
        found["turned"] and not json.loads(page.ask("POST", "/answer", upright.getvalue())[1])["turned"]
    )
    assert found["row"]["confidence"] == pytest.approx(expected.confidence[0], abs=1e-4)


REFUSED = [
    ("POST", "/answer", b"no image", {}, 400, "this is not an image that Pillow can read"),
    ("POST", "/answer", photograph()[:60], {}, 400, "not an image that Pillow can read"),
    ("POST", "/answer", b"", {}, 400, "send an image"),
    ("POST", "/other", b"x", {}, 400, "send an image"),
    ("GET", "/examples/9", None, {}, 404, "no such example"),
    ("GET", "/examples/../app.py", None, {}, 404, "no such page"),
    ("GET", "/", None, {"Host": "evil.example"}, 400, "127.0.0.1"),
]


def test_what_is_not_an_image_or_not_from_here_is_refused(page, session):
    for method, path, body, headers, status, said in REFUSED:
        given, content = page.ask(method, path, body, **headers)
        assert given == status and said in json.loads(content)["error"], path
    assert session.log == []


ODD = [
    (b"POST /answer", b"Host: localhost\r\nContent-Length: \xb2", b"400"),
    (b"POST /answer", b"Host: localhost\r\nContent-Length: " + 5000 * b"9", b"400"),
    (b"GET http://[::/", b"Host: localhost", b"404"),
    (b"GET /examples/\xb2", b"Host: localhost", b"404"),
    (b"GET /examples/" + 5000 * b"9", b"Host: localhost", b"404"),
    (b"GET /", b"Host: [::", b"400"),
    (b"GET /", b"Host: evil@127.0.0.1", b"400"),
    (b"GET /", b"Host: 127.0.0.1:7860", b"200"),
]


def test_odd_requests_are_answered(page, capsys):
    for asked, headers, status in ODD:
        with socket.create_connection(page.server.server_address, timeout=60) as client:
            client.sendall(asked + b" HTTP/1.1\r\n" + headers + b"\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 " + status), (asked[:30], headers[:40])
    assert capsys.readouterr().err == ""


def test_an_example_that_was_deleted_is_missed(page, session):
    session.examples[0].unlink()
    assert page.ask("GET", "/examples/0")[0] == 404


@pytest.mark.parametrize(
    ("error", "said"),
    [(ConnectionResetError(104, "reset"), ""), (KeyError("x"), "zoo: KeyError: 'x'\n")],
)
def test_a_failure_is_told_in_one_line_and_a_browser_that_hung_up_not_at_all(error, said, page, capsys):
    try:
        raise error
    except Exception:
        page.server.handle_error(None, ("127.0.0.1", 1))
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("port", ["-1", "99999"])
def test_ports_that_are_none_are_refused_in_one_line(port, capsys):
    assert cli.main(["app", "packed_lenet", f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"zoo: --port must be a number from 0 to 65535; got {port}\n"


def test_photographs_that_cannot_be_read_are_not_blamed_on_the_port(monkeypatch, capsys):
    def fail(*_):
        raise PermissionError(13, "Permission denied", "held_out/cat")

    monkeypatch.setattr(command, "_thresholds", fail)
    assert cli.main(["app", "packed_lenet"]) == 2
    line = capsys.readouterr().err
    assert "held_out/cat" in line and "port" not in line


def test_the_nearest_threshold_is_named():
    marks = [(0.45, 0.9), (0.7, 0.95)]
    right = "% of answers are right from"
    assert app.decision(0.3, marks) == f"ask a person: 90 {right} 0.450 on"
    assert app.decision(0.5, marks) == f"answer: 90 {right} 0.450 on, 95 % from 0.700 on"
    assert app.decision(0.9, marks) == f"answer: 95 {right} 0.700 on"
    assert app.decision(0.3, [(0.5, None)]) == "ask a person: the threshold is 0.500"
    own = [(0.45, 0.9), (0.6, None), (0.7, 0.975)]
    assert app.decision(0.5, own) == (
        f"ask a person: the threshold is 0.600; 90 {right} 0.450 on, 97.5 % from 0.700 on"
    )
    assert app.decision(0.8, own) == f"answer: the threshold is 0.600; 97.5 {right} 0.700 on"
    assert app.decision(0.3, []) == "no threshold given"
    assert app.decision(0.3, [], [0.8, 0.9]).startswith(
        "ask a person: no confidence was shown to make 80 %"
    )


def found(value, target, images=100):
    return Threshold(value, target, 0.95, NAN, NAN, NAN, images)


def test_of_accuracies_at_one_confidence_the_highest_is_shown_and_what_is_not_reached_is_told(tiny):
    thresholds = [
        found(0.7, 0.9),
        found(0.3, 0.8),
        found(0.7, 0.95),
        found(float("inf"), 0.99),
        found(0.5, NAN, 0),
    ]
    about = app.Session(tiny(), thresholds).about()
    assert about["marks"] == [(0.3, 0.8), (0.5, None), (0.7, 0.95)]
    assert about["unreached"] == [0.99] and about["labelled"] == 100


def test_thresholds_come_from_labelled_photographs(tiny, tmp_path, raises_line):
    model = tiny()
    model.class_names, model.resize = NAMES, "crop"
    for seed in range(9):
        (tmp_path / NAMES[seed % 3]).mkdir(exist_ok=True)
        (tmp_path / NAMES[seed % 3] / f"{seed}.png").write_bytes(photograph(seed=seed))
    options = types.SimpleNamespace(threshold=0.7, labelled=str(tmp_path))
    own, *labelled = command._thresholds(model, options)
    assert own.value == 0.7 and [one.target for one in labelled] == list(command.ACCURACIES)
    assert all(one.images == 9 for one in labelled)
    assert app.Session(model, [own, *labelled]).unreached[-1] == 0.99  # nine photographs show little
    (tmp_path / NAMES[0]).rename(tmp_path / "cat")
    with raises_line(ValueError, "are not all named after a class of the model"):
        command._thresholds(model, options)


def test_the_page_takes_nothing_from_elsewhere():
    source = app.Handler.page.read_text()
    assert not re.findall(r"https?://|//[a-z]+\.[a-z]+/|@import|src=", source.replace("image.src", ""))


# Headless Chromium's window is at least 500 wide, so the page is shown in a frame of the wanted width.
FRAME = """<script>
if (location.search) {
  setTimeout(() => {
    const boxes = [...document.querySelectorAll("#sure small")].map(label => label.getBoundingClientRect());
    const clash = boxes.some((a, i) => boxes.slice(i + 1).some(b => a.left < b.right && b.left < a.right && a.top < b.bottom
      && b.top < a.bottom));
    parent.postMessage([innerWidth, document.documentElement.scrollWidth, document.body.innerText, boxes.length, clash], "*");
  }, 6000);
} else {
  document.body.innerHTML = "<iframe src='/?framed' style='width:WIDTHpx;height:1600px;border:0'></iframe>";
  onmessage = event => { document.body.append(Object.assign(document.createElement("pre"),
    {id: "found", textContent: JSON.stringify(event.data)})); };
}
</script>"""


def chromium(page, folder):
    process = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
         "--window-size=1400,1700", "--timeout=60000", "--virtual-time-budget=9000", "--dump-dom",
         page.address],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', process.stdout, re.S)[1]))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_dropped_photographs_are_shown_and_nothing_is_wider_than_the_window(width, session, tmp_path):
    (tmp_path / "page.html").write_text(
        app.Handler.page.read_text() + FRAME.replace("WIDTH", str(width)) + DROP
    )
    session.marks, session.unreached = [*session.marks, *CLOSE], [0.995]
    page = Page(session, tmp_path / "page.html")
    page.server.RequestHandlerClass.policy += "; frame-src 'self'"
    window, needed, text, labels, clash = chromium(page, tmp_path)
    page.close()
    assert window == width and needed <= width
    assert 2 < labels < 6 and not clash
    assert "0.990 for 99 %; none was found for 99.5 %." in text and "Looking" not in text
    assert {row["image"] for row in session.log} == {"a photograph.png", "second.png"}
    for row in session.log:
        assert row["image"] in text and f"{row['confidence']:.3f}" in text and row["decision"] in text
    assert "members agree" in text and "90 %" in text


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_the_browser_shows_a_turned_photograph_as_the_model_sees_it_and_says_so(session, tmp_path):
    exif, stored = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), "navy").save(stored, "JPEG", exif=exif)
    (tmp_path / "turned.jpg").write_bytes(stored.getvalue())
    session.examples = [tmp_path / "turned.jpg"]
    (tmp_path / "page.html").write_text(app.Handler.page.read_text() + TURNED)
    page = Page(session, tmp_path / "page.html")
    shown = chromium(page, tmp_path)
    page.close()
    assert shown["size"][0] > shown["size"][1] and shown["small"] == [64, 64]
    assert shown["turned"] and [row["image"] for row in session.log] == ["turned.jpg"]

"""Servers that lie, stall or break off, caches that cannot be used, and several processes at once."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading

import pytest

import zoo
from helpers import lying_server
from zoo import registry, stored_weights
from zoo.files import downloads

ENTRY = next(entry for entry in registry.index() if entry["folder"] == "single_lenet-mnist")
SOURCE = registry.home()
ANSWERS = {answer.__name__: answer for answer in (*lying_server.RIGHT, *lying_server.LIES)}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of the published weights, which this installation has lost."""
    found = lying_server.Server(SOURCE)
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(registry, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_WEIGHTS_URL", found.url)
    yield found
    found.close()


def kept(tmp_path):
    """The files of the cache that are not locks or unfinished."""
    return {
        path.name for path in (tmp_path / "cache").glob("*/*") if not path.parent.name.startswith(".")
    }


def refused(hurry=False):
    """The line of an error; in a hurry with servers that never answer, which others may take longer for."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(zoo.WeightsError) as caught:
        for name in ("CONNECT_SECONDS", "SILENT_SECONDS", "SLOW_SECONDS") if hurry else ():
            patch.setattr(downloads, name, 0.4)
        stored_weights.find("single_lenet", "mnist")
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture(autouse=True)
def one_entry(monkeypatch):
    monkeypatch.setattr(registry, "index", lambda: (ENTRY,))


@pytest.mark.parametrize("name", [answer.__name__ for answer in lying_server.RIGHT])
def test_every_way_to_send_a_file_is_understood(name, server, tmp_path):
    server.answers = {"": ANSWERS[name]}
    folder, config = stored_weights.find("single_lenet", "mnist")
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}
    assert (folder / "config.json").read_bytes() == (
        SOURCE / ENTRY["folder"] / "config.json"
    ).read_bytes()
    assert config["spec"]["mean"] == [33.3]
    assert not list((tmp_path / "cache").rglob("*.part/*"))


@pytest.mark.fast(
    "cut_without_ranges-model.weights.h5", "changed-config.json", "endless-model.weights.h5", "page-config.json",
    "compressed-model.weights.h5", "no_status-config.json", "loop-config.json", "missing-model.weights.h5",
    "endless_100-config.json", "header_trickle-config.json", "chunk_trickle-config.json",
    "redirect_endless_body-config.json", "redirect_trickle_body-config.json",
)  # fmt: skip
@pytest.mark.parametrize("file", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("name", [answer.__name__ for answer in lying_server.LIES])
def test_lies_are_one_line_and_never_stay(name, file, server, tmp_path):
    server.answers = {file: ANSWERS[name]}
    assert "try again" in refused(hurry=True) or "restore" in refused(hurry=True)
    assert kept(tmp_path) == set()
    server.answers = {}
    stored_weights.find("single_lenet", "mnist")  # nothing of the lie is left in the way
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}


@pytest.mark.parametrize(
    "lie", [lying_server.endless_100, lying_server.header_trickle, lying_server.endless]
)
def test_a_server_that_is_given_up_is_left(lie, server):
    before = set(threading.enumerate())
    server.answers = {"": lie}
    refused(hurry=True)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()


def test_a_redirect_is_followed_and_passwords_stay_at_home(server, tmp_path, monkeypatch):
    other = lying_server.Server(SOURCE)

    def moved(connection, content, first):
        path = server.requests[-1][0].split(" ")[1]
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {other.url}{path}\r\n\r\n".encode())

    server.answers = {"": moved}
    monkeypatch.setenv("ZOO_WEIGHTS_URL", server.url.replace("//", "//user:secret@"))
    stored_weights.find("single_lenet", "mnist")
    other.close()
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}
    sent = [any(line.startswith("Authorization") for line in one) for one in server.requests]
    assert all(sent) and len(sent) == len(other.requests) == 2
    assert not any(line.startswith("Authorization") for one in other.requests for line in one)


def test_right_weights_with_another_mean_are_refused(server, tmp_path):
    shutil.copytree(SOURCE / ENTRY["folder"], tmp_path / "evil" / ENTRY["folder"])
    server.folder = tmp_path / "evil"
    path = server.folder / ENTRY["folder"] / "config.json"
    config = json.loads(path.read_text())
    config["spec"] |= {"mean": [200], "std": [5]}
    path.write_text(json.dumps(config, indent=1))
    assert "config.json" in refused()
    padded = path.read_text().rstrip()  # as long as the right one
    path.write_text(padded + " " * (ENTRY["config"]["bytes"] - len(padded.encode())))
    assert "sha256" in refused()
    assert kept(tmp_path) == set()


def test_an_index_without_hashes_of_configs_warns_and_checks_what_it_knows(
    server, tmp_path, monkeypatch
):
    entry = {key: value for key, value in ENTRY.items() if key != "config"}
    monkeypatch.setattr(registry, "index", lambda: (entry,))
    with pytest.warns(UserWarning, match="no sha256 of single_lenet-mnist/config.json"):
        stored_weights.find("single_lenet", "mnist")
    shutil.rmtree(tmp_path / "cache")
    server.answers = {"config.json": lying_server.page}
    with pytest.warns(UserWarning, match="no sha256"):
        refused()
    assert kept(tmp_path) == set()


def test_a_connection_that_breaks_is_resumed(server, tmp_path):
    server.answers = {"h5": lying_server.cut}
    message = refused()  # every answer brings a third of the rest
    assert "truncated" in message or "cut" in message
    asked = [line for lines in server.requests for line in lines if line.startswith("Range")]
    assert len(asked) == downloads.ATTEMPTS - 1 and len(set(asked)) == len(asked)
    server.answers, server.requests = {}, []
    stored_weights.find("single_lenet", "mnist")
    (span,) = [line for lines in server.requests for line in lines if line.startswith("Range")]
    assert int(span.split("=")[1].rstrip("-")) > ENTRY["files"]["model.weights.h5"]["bytes"] // 2
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}


def test_a_resumed_file_with_a_wrong_beginning_is_fetched_again(server, tmp_path):
    drafts = tmp_path / "cache" / f".{ENTRY['folder']}.part"
    drafts.mkdir(parents=True)
    (drafts / "model.weights.h5").write_bytes(bytes(1000))
    stored_weights.find("single_lenet", "mnist")
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}


@pytest.mark.parametrize(
    "url",
    ["", "no url", "http://", "http://[::", "http://user:secret@127.0.0.1:1", "https://user:secret@127.0.0.1:1/x?key=secret",
     "ftp://user:secret@127.0.0.1/", "file:///nowhere", "http://user:se@cret@nowhere.invalid/", "http://a b/",
     "http://user:secret@127.0.0.1:99999", "http://\x00secret", "http://user:secret@" + "x" * 300 + ".invalid"],
)  # fmt: skip
def test_addresses_that_lead_nowhere(url, server, monkeypatch):
    if "\x00" not in url:
        monkeypatch.setenv("ZOO_WEIGHTS_URL", url)
    else:
        monkeypatch.setattr(os, "environ", os.environ | {"ZOO_WEIGHTS_URL": url})
    message = refused(hurry=True)
    assert "secret" not in message and "cret@" not in message


def test_passwords_are_sent_and_never_shown(server, monkeypatch):
    monkeypatch.setenv("ZOO_WEIGHTS_URL", server.url.replace("//", "//user:secret@"))
    server.answers = {"h5": lying_server.missing}
    message = refused()
    assert "404" in message and server.url in message and "secret" not in message
    assert any(line.startswith("Authorization: Basic") for line in server.requests[0])


def _file(path):
    path.write_text("a file")


def _dangling(path):
    path.symlink_to(path.with_name("nowhere") / "at all")


CACHES = {"a file": _file, "a dangling link": _dangling}


@pytest.mark.parametrize("kind", CACHES)
def test_caches_that_cannot_be_used(kind, server, tmp_path):
    CACHES[kind](tmp_path / "cache")
    assert "ZOO_CACHE" in refused()


@pytest.mark.parametrize(
    "value", ["", "  ", "/proc", "/proc/1/x", "/dev/null/x", "~nobody-knows/x", "x" * 5000]
)
def test_values_of_the_cache_that_cannot_be(value, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_CACHE", value)
    assert "ZOO_CACHE" in refused()
    assert not list(tmp_path.glob("single_lenet*"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_draft_that_is_not_a_regular_file(make, server, tmp_path):
    drafts = tmp_path / "cache" / f".{ENTRY['folder']}.part"
    drafts.mkdir(parents=True)
    make(drafts / "config.json")
    assert "config.json is not a regular file; delete it" in refused()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_cache_that_is_read_only(server, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "ZOO_CACHE" in refused()


@pytest.mark.parametrize("size", [0, 100, 60_000])
def test_a_full_disc(size, server, tmp_path):
    """A limit on the size of files stands for it: the same error where a write ends."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        message = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "ZOO_CACHE" in message and kept(tmp_path) == set()
    stored_weights.find("single_lenet", "mnist")


CODE = """
import sys, warnings
from zoo import registry, stored_weights
from zoo.files import hashes
import pathlib
registry.home = lambda: pathlib.Path(sys.argv[1])
folder, config = stored_weights.find("single_lenet", "mnist")
print(hashes.fingerprint(folder / "model.weights.h5")["sha256"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 10])
def test_processes_that_start_together_all_get_the_weights(count, server, tmp_path):
    shutil.copy(SOURCE / "index.json", tmp_path / "home")
    server.answers = {"": lying_server.slow}
    command = [sys.executable, "-W", "error::UserWarning:zoo", "-c", CODE, str(tmp_path / "home")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=300)
            assert output.strip() == ENTRY["files"]["model.weights.h5"]["sha256"], errors
    finally:
        for process in processes:
            process.kill()
    assert len(server.requests) == 2  # one process downloaded, the others waited
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_no_lock_and_its_part_is_used(server, tmp_path):
    shutil.copy(SOURCE / "index.json", tmp_path / "home")
    server.answers = {"h5": lying_server.stalled}
    command = [sys.executable, "-c", CODE, str(tmp_path / "home")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    part = pathlib.Path(tmp_path / "cache" / f".{ENTRY['folder']}.part" / "model.weights.h5")
    while not part.is_file() and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    server.answers = {}
    stored_weights.find("single_lenet", "mnist")
    assert kept(tmp_path) == {"config.json", "model.weights.h5"}

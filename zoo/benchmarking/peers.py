"""Other libraries' models in the same rounds: processes that make a call when a pipe requests it.

A peer's script reads requests, one JSON object a line, and answers each with one:

    {"settings": {...}}          {"version": "0.13.0", "models": ["single", "packed", ...]}
    {"prepare": model}           {"warm": {task: seconds}, "compile": {"train": s, "predict": s}, "facts": {...}}
    {"measure": [model, task]}   {"times": [wall, CPU]}

and {"error": line} where something cannot be done.  It ends when its input ends.
"""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
from typing import Any

PEERS = {
    "torch-uncertainty": {
        "module": "torch_uncertainty",
        "script": pathlib.Path(__file__).with_name("peer_torch_uncertainty.py"),
        "install": "pip install 'torch-uncertainty[cpu]'",
    },
}


class Peer:
    """The process of another library, as a context manager.

    Args:
        name: str, one of `PEERS`.
        python: str, the path of an interpreter that has it. Default: None, this one.

    Raises:
        ValueError: for an unknown peer, or an interpreter that is not there or does not have it.
    """

    def __init__(self, name: str, python: str | None = None):
        if name not in PEERS:
            raise ValueError(f"unknown peer {name!r}; there are {', '.join(PEERS)}")
        self.name, self.python, self.process = name, python or sys.executable, None
        peer = PEERS[name]
        self.script = peer["script"]
        look = f"import importlib.util as u, sys; sys.exit(u.find_spec({peer['module']!r}) is None)"
        try:
            missing = subprocess.run([self.python, "-c", look], capture_output=True).returncode
        except OSError as error:
            raise ValueError(
                f"cannot run {self.python} ({error.strerror}); correct --peer_python"
            ) from None
        if missing:
            raise ValueError(
                f"{self.python} has no {name}; install it: {self.python} -m {peer['install']}"
            )

    def __enter__(self):
        # -P: it must not import our modules beside the script.
        self.process = subprocess.Popen(
            [self.python, "-P", str(self.script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(self, **message: Any) -> dict:
        """Send one request and return the answer.

        Args:
            message: the request, by keyword.

        Returns:
            A dictionary.

        Raises:
            ValueError: if the answer is an error, or none came.
        """
        try:
            print(json.dumps(message), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self.process.wait()
            raise ValueError(
                f"the process of {self.name} ended with status {status}; its errors are above"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise ValueError(f"{self.name}: {answer['error']}")
        return answer

    def models(self, settings: Any, threads: int) -> list:
        """Return the peer's models, and keep its version.

        Args:
            settings: a `Settings`.
            threads: int >= 1, CPU threads that it may use.

        Returns:
            A list of `PeerModel`s.
        """
        answer = self.request(settings={**dataclasses.asdict(settings), "threads": threads})
        self.version = answer["version"]
        return [PeerModel(self, label) for label in answer["models"]]


class PeerModel:
    """A model that runs in a peer's process, with the interface of `BenchmarkedModel`.

    Args:
        peer: a `Peer`.
        label: str, its name in tables.
    """

    def __init__(self, peer: Peer, label: str):
        self.peer, self.label, self.of, self.name = peer, label, peer.name, label

    def prepare(self) -> dict[str, float]:
        """Build and warm up the model.

        Returns:
            {task: seconds of a warm call}.
        """
        answer = self.peer.request(prepare=self.label)
        self.compile_seconds, self._facts = answer["compile"], answer["facts"]
        return answer["warm"]

    def measure(self, task: str) -> tuple:
        """Time one call in the peer's process.

        Args:
            task: str, one of `Settings.tasks`.

        Returns:
            (wall, CPU) seconds.
        """
        return tuple(self.peer.request(measure=[self.label, task])["times"])

    def facts(self) -> dict:
        """Return what is counted, a dictionary."""
        return self._facts

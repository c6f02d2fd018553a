"""Processes that begin with Keras imported, which takes each five seconds of CPU time: forks of one that imported it.

`start` is for processes whose beginning is not what a test is about; what is not imported yet, zoo included, is
imported as ever.  Variables that are read while Keras is imported are those of the tests, but for KERAS_BACKEND.
"""

import atexit
import contextlib
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings


class Process:
    """What `subprocess.Popen` knows of a process.

    Args:
        template: socket of the process to fork.
        arguments: list of str, as an interpreter takes them: `-c CODE`, `-m MODULE` or a file, and arguments.
        cwd: path of the folder to run in.
        env: dict, the environment.
        merged: bool, whether its errors are a part of its output.
    """

    returncode = None

    def __init__(self, template, arguments, cwd, env, merged):
        self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]
        self._status, status = os.pipe()
        request = {"arguments": arguments, "cwd": str(cwd), "env": env}
        files = [file.fileno() for file in self._files]
        files = [files[0], files[0]] if merged else files
        socket.send_fds(template, [json.dumps(request).encode()], [*files, status])
        os.close(status)
        self.pid = self._read()

    def _read(self):
        number = os.read(self._status, 4)
        if not number:
            raise RuntimeError("the process that is forked has ended")
        return int.from_bytes(number, "little", signed=True)

    def wait(self, timeout=None):
        """Its status, a signal's number if negative."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout)
            self.returncode = self._read()
            os.close(self._status)
        return self.returncode

    def poll(self):
        """Its status, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout=None):
        """What it wrote until its end, (output, errors)."""
        self.wait(timeout)
        for file in self._files:
            file.seek(0)
        return tuple(file.read() for file in self._files)

    def send_signal(self, number):
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def start(arguments, cwd=".", merged=False, env=None):
    """Start a process with the arguments of an interpreter; a `Process`."""
    env = dict(env or os.environ)
    template = _template(env.get("KERAS_BACKEND", ""))
    return Process(template, list(map(str, arguments)), os.path.abspath(cwd), env, merged)


def run(arguments, cwd=".", env=None, timeout=900):
    """Run a process to its end; a `subprocess.CompletedProcess`."""
    process = start(arguments, cwd, env=env)
    output, errors = process.communicate(timeout)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@functools.cache
def _template(backend):
    """The socket of a process that has imported Keras on a backend; it ends with the tests."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = os.environ | ({"KERAS_BACKEND": backend} if backend else {})
    template = subprocess.Popen(
        [sys.executable, __file__, str(its.fileno())], pass_fds=[its.fileno()], env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    its.close()
    atexit.register(template.wait, 60)
    atexit.register(ours.close)  # before
    return ours


def _serve(connection):
    """Fork at every request; returns it in the new process, and None once nobody can ask any more."""
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 1 << 20, 3)
        if not message or not os.fork():
            break
        for each in descriptors:
            os.close(each)
    if not message:
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        return None
    connection.close()
    *files, status = descriptors
    child = os.fork()
    if child:  # waits for it, and says how it ended
        os.write(status, child.to_bytes(4, "little", signed=True))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(status, code.to_bytes(4, "little", signed=True))
        os._exit(0)
    os.close(status)
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    return json.loads(message)


def _become(arguments, cwd, env):
    """Run what an interpreter with these arguments would."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if arguments[:2] == ["-W", "ignore"]:
        warnings.simplefilter("ignore")
        del arguments[:2]
    option, *rest = arguments
    if option == "-c":
        code, *sys.argv[1:] = rest
        sys.argv[0], sys.path[0] = "-c", ""
        exec(compile(code, "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif option == "-m":
        module, *sys.argv[1:] = rest
        sys.path[0] = cwd
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:], sys.path[0] = arguments, os.path.dirname(option)
        runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    import keras  # noqa: F401

    request = _serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        _become(**request)

"""Keep the log lines of TensorFlow, XLA and LiteRT out of what commands print.

TensorFlow writes several lines at every import that none of its settings prevents (tensorflow issue
100442: TF_CPP_MIN_LOG_LEVEL does not reach them).  They come from C++, so they are filtered at file
descriptor 2.  Errors, tracebacks and everything that Python prints are kept.
"""

import logging
import os
import re
import signal
import sys

# Lines of C++ at the levels "information" and "warning", in the two forms that TensorFlow has had, and
# those without a form.
_NOISE = re.compile(
    rb"[IW]\d{4} [\d:.]+ +\d+ [\w./-]+\.(cc|cpp|h|inc):\d+\]"
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] "
    rb"|WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|To enable the following instructions: "
    rb"|(INFO|WARNING): .*(TensorFlow Lite|XNNPACK|delegate)"
    rb"|fully_quantize: \d"
    # libjpeg, of files that zoo.data.pixels then gives to Pillow, or names as unreadable
    rb"|Unsupported color conversion request|Unsupported marker type"
    rb"|E\d{4} .*(Unable to register cu\w+ factory|oneDNN supports \w+ only on platforms)"
)
_NO_GPU = re.compile(rb".*failed call to cuInit")
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP")


def silence() -> None:
    """Drop the log lines that libraries write to standard error, from now on and in this process.

    For commands, before they import a backend.  With TF_CPP_MIN_LOG_LEVEL=0 in the environment nothing
    is dropped.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in ("0", "1"):
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if hasattr(os, "fork"):
        _filter_standard_error()


def is_noise(line: bytes, has_gpu: bool = False) -> bool:
    """Tell whether a line of standard error is a log line that says nothing to a user.

    Args:
        line: bytes.
        has_gpu: bool, whether the machine has the driver of an NVIDIA GPU, so that its failure matters.
            Default: False.

    Returns:
        A bool.

    Example:
        >>> from zoo.commands.silence import is_noise
        >>> is_noise(b"I0000 00:00:17.97 8512 port.cc:153] oneDNN custom operations are on.")
        True
        >>> is_noise(b"zoo: no folder DATA; pass the folder of the data sets")
        False
    """
    return bool(_NOISE.match(line) or (not has_gpu and _NO_GPU.match(line)))


def _filter_standard_error():
    """Let a child process read descriptor 2; Python keeps writing to the terminal or file itself."""
    import fcntl  # as fork, not on Windows

    try:
        original = fcntl.fcntl(2, fcntl.F_DUPFD, 3)  # not 0, which the child closes
        reader, writer = os.pipe()
        sys.stderr.flush()
        child = os.fork()
    except (OSError, AttributeError):  # no standard error, or no more processes
        return
    if child == 0:
        _forward(reader, original, writer)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    sys.stderr = open(original, "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def _forward(reader, original, writer):
    """Copy all but noise until every writer is gone, also after the parent crashed."""
    try:
        for name in _STOPS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        for descriptor in (0, 1, 2, writer):
            os.close(descriptor)
        has_gpu = os.path.exists("/proc/driver/nvidia/version")
        with open(reader, "rb") as lines:
            for line in lines:
                if not is_noise(line, has_gpu):
                    os.write(original, line)
    finally:
        os._exit(0)

"""How every script of this folder begins: quiet libraries, and flags whose errors are one line."""

import os
import re
from collections.abc import Callable

from absl import app, flags, logging

from zoo.commands.silence import silence

FLAGS = flags.FLAGS


def start(main: Callable[[list[str]], None], script: str) -> None:
    """Run a script: drop the log lines of libraries, parse the flags, call `main`.

    Args:
        main: function of the arguments that are not flags.
        script: str, the name of the module.

    Raises:
        SystemExit: with one line if a flag is wrong; or when `main` has ended.
    """
    silence()

    def parse(argv):
        try:
            rest = FLAGS(argv)
        except flags.Error as error:
            raise SystemExit(f"{script}: {_one_line(str(error))}; --help lists the flags") from None
        if FLAGS["verbosity"].using_default_value:
            logging.set_verbosity(logging.ERROR)  # for libraries; scripts print
        if len(rest) > 1:
            raise SystemExit(
                f"{script}: unexpected arguments: {' '.join(rest[1:])}; flags begin with --"
            )
        return rest

    app.run(main, flags_parser=parse)


def switch_onednn_on() -> None:
    """Let TensorFlow use oneDNN, unless the environment says otherwise; call before TensorFlow is imported.

    TensorFlow leaves oneDNN off on processors without AVX-512, where ResNet-50 then trains three times
    slower. It is not for programs that answer single images, which it slows down there.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _one_line(text):
    required = r"flag --(\w+)=None: Flag --\w+ must have a value other than None\."
    lines = [re.sub(required, r"--\1 must be given", line.strip()) for line in text.splitlines()]
    return "; ".join(filter(None, lines)).rstrip(".")

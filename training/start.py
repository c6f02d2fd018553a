"""How every script of this folder begins and ends: quiet libraries, errors of one line, exit statuses."""

import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

from zoo import command_errors
from zoo.commands.silence import silence

FLAGS = flags.FLAGS


def start(main: Callable[[list[str]], int | None], script: str, takes_arguments: bool = False) -> None:
    """Run a script: drop the log lines of libraries, parse the flags, call `main`.

    An error of `main` or of a flag is one line on standard error that begins with the script's name.

    Args:
        main: function of the script's name and the arguments that are not flags; returns the exit
            status, or None for 0.
        script: str, the name of the module.
        takes_arguments: bool, whether there may be arguments that are not flags. Default: False.

    Raises:
        SystemExit: always; its status is that of `main`, 2 after an error and 130 after Ctrl-C.
    """
    silence()

    def parse(argv):
        try:
            return _parse(argv, takes_arguments)
        except (flags.Error, ValueError) as error:
            refusal = command_errors.CommandError(f"{_one_line(str(error))}; --help lists the flags")
            sys.exit(command_errors.report(refusal, script))

    def run(argv):
        try:
            return main(argv)
        except (Exception, KeyboardInterrupt) as error:
            return command_errors.report(error, script)

    app.run(run, flags_parser=parse)


def _parse(argv, takes_arguments):
    rest = FLAGS(argv)
    if FLAGS["verbosity"].using_default_value:
        logging.set_verbosity(logging.ERROR)  # for libraries; scripts print
    if len(rest) > 1 and not takes_arguments:
        raise ValueError(f"unexpected arguments: {' '.join(rest[1:])}; flags begin with --")
    return rest


def check_folders(*names: str) -> None:
    """Check that flags name the folders that a script needs.

    Args:
        names: str, the flags, such as "data_dir". Their help says what folder each is.

    Raises:
        ValueError: if a flag is missing.
    """
    for name in names:
        if not FLAGS[name].value:
            raise ValueError(f"--{name} is missing: pass the {FLAGS[name].help}")


def measured(config: dict) -> str:
    """Return the scores of a finished run in words.

    Args:
        config: dict, the contents of `config.json`.

    Returns:
        str, such as "accuracy 0.8946, nll 0.2890, ece 0.0119".
    """
    scores = config["metrics"][config["dataset"]]
    return ", ".join(f"{name} {scores[name]:.4f}" for name in ("accuracy", "nll", "ece"))


def _one_line(text):
    required = r"flag --(\w+)=None: Flag --\w+ must have a value other than None\."
    lines = [re.sub(required, r"--\1 must be given", line.strip()) for line in text.splitlines()]
    return "; ".join(filter(None, lines)).rstrip(".")

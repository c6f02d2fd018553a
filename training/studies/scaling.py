"""The numbers of docs/scaling.md: what methods cost and exchange, and what the time model predicts.

    python -m zoo.training.studies.scaling --page=docs/scaling.md

Counts come from the zoo's networks, times from the measurements of `benchmarks/scaling_parameters.py` in
`scaling_parameters.json` beside the page, predictions from `scaling_predictions.ASSUMED`.  Tables and
sentences go between marks of the page, and the picture beside it.  Any Keras backend works; no data are
needed, and a minute of CPU time.
"""

import json
import pathlib

from absl import flags

from zoo.training import marked_sections
from zoo.training.start import start

COMMAND = "zoo.training.studies.scaling"
FLAGS = flags.FLAGS
flags.DEFINE_string("page", "docs/scaling.md", "the page whose numbers are replaced")


def main(argv: list[str]) -> None:
    """Run the command.

    Args:
        argv: list of str, the script's name; absl has parsed the flags.
    """
    page = pathlib.Path(FLAGS.page)
    measured = page.with_name("scaling_parameters.json")
    if not (page.is_file() and measured.is_file()):
        raise FileNotFoundError(f"{page} and {measured} must both exist; --page names the first")
    # Keras, and so the backend, only now.
    from zoo.training.studies import scaling_picture, scaling_predictions, scaling_tables

    parameters = json.loads(measured.read_text())
    counted = {network: scaling_predictions.costs(network) for network in scaling_predictions.NETWORKS}
    marked_sections.fill(page, COMMAND, scaling_tables.sections(counted, parameters))
    scaling_picture.draw(page.with_suffix(".png"), counted)


if __name__ == "__main__":
    start(main, "zoo.training.studies.scaling")

"""The numbers of docs/scaling.md: what methods cost and exchange, and what the cost model makes of it.

    python -m zoo.training.studies.scaling --page=docs/scaling.md

Counts are taken from the zoo's networks, times from what `benchmarks/scaling_parameters.py` measured into
`scaling_parameters.json` beside the page, predictions from `scaling_predictions.ASSUMED`.  Tables and
sentences go between marks of the page, the picture beside it.  Any Keras backend does, without data; a
minute of CPU time.
"""

import json
import pathlib

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("page", "docs/scaling.md", "the page, whose numbers are replaced")


def fill(path, sections):
    """Replace what stands between the marks of each section of a page, in one step.

    Raises:
        ValueError: for a page without one of the pairs of marks.
    """
    path = pathlib.Path(path)
    text = path.read_text()
    for name, content in sections.items():
        begin, end = f"<!-- {name}: made by zoo.training.studies.scaling -->", f"<!-- end of {name} -->"
        if not (text.count(begin) == text.count(end) == 1 and text.index(begin) < text.index(end)):
            raise ValueError(f"{path} must have the lines {begin} and {end} once, in this order")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(path)


def main(argv):
    """Entry point of absl."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    from zoo.training.studies import scaling_picture, scaling_predictions, scaling_tables

    page = pathlib.Path(FLAGS.page)
    measured = page.with_name("scaling_parameters.json")
    if not (page.is_file() and measured.is_file()):
        raise SystemExit(f"zoo.training.studies.scaling: {page} and {measured} must both be there")
    parameters = json.loads(measured.read_text())
    counted = {network: scaling_predictions.costs(network) for network in scaling_predictions.NETWORKS}
    fill(page, scaling_tables.sections(counted, parameters))
    scaling_picture.draw(page.with_suffix(".png"), counted)


if __name__ == "__main__":
    app.run(main)

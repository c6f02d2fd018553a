"""Where things lie, whatever folder a test is in."""

import pathlib

HELPERS = pathlib.Path(__file__).parent
ROOT = HELPERS.parents[1]

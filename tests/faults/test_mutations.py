"""Damaged files of every kind: refused in one line, or harmless; never another exception, a hang or another answer.

    pytest -m slow tests/faults/test_mutations.py --faults=10000 -s

prints how many files of each kind were refused and accepted.
"""

import pytest

from helpers import mutation_runs, mutation_worker


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutation_worker.KINDS)
def test_damaged_files_are_refused_or_harmless(kind, request, tmp_path):
    option = request.config.getoption
    result = mutation_runs.run(kind, option("--faults"), option("--seed"), tmp_path)
    print(f"\n{mutation_runs.table({kind: result})}")
    assert sum(result["counts"].values()) == option("--faults")
    assert not mutation_runs.faults(result), mutation_runs.table({kind: result})
    assert result["counts"]["refused"] > 0.2 * option("--faults")

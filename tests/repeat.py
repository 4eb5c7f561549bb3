"""Runs the checks on the solutions many times in random order: all must pass every time.

``python tests/repeat.py [RUNS [TOPIC]]``, 50 runs of each topic by default.
"""

import random
import sys
from functools import partial
from pathlib import Path

import pytest

from proven_backend.children import Job
from proven_backend.proof import Claim, all_pass

CHECKS = Path(__file__).parent.parent / "checks"


class Repeat:
    """Puts many runs of each solution in the place of a proof."""

    def __init__(self, runs: int) -> None:
        self.runs = runs

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """One claim a run, each with an order of its own."""
        solutions = [each for each in items if isinstance(each, Claim) and each.kind == "solution"]
        items[:] = [self.again(claim, seed) for claim in solutions for seed in range(self.runs)]

    def again(self, claim: Claim, seed: int) -> Claim:
        """A run of a solution in the order that a seed gives."""
        assert claim.job is not None
        checks = random.Random(seed).sample(claim.job.items, len(claim.job.items))
        job = Job(claim.job.program, checks)
        name = f"{job.program.topic} in the order of seed {seed}"
        made: Claim = Claim.from_parent(claim.parent, name=name)
        made.kind, made.job, made.company, made.control = "solution", job, name, None
        made.judge = partial(all_pass, job)
        return made


if __name__ == "__main__":
    runs, *topics = sys.argv[1:] or ["50"]
    files = [str(CHECKS / f"test_{topic}.py") for topic in topics] or [str(CHECKS)]
    command = ["--prove", "-q", "-k", "seed or solution", "-p", "no:cacheprovider", *files]
    sys.exit(pytest.main(command, plugins=[Repeat(int(runs))]))

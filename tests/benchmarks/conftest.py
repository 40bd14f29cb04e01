"""The embedded model with all who judge its pictures."""

import pytest

from bench.quality import Bench


@pytest.fixture(scope="session")
def bench(emoji) -> Bench:
    return Bench(emoji)

"""The fences that `make chaos-mutations` takes out are still where it looks for them."""

import re
from pathlib import Path

import pytest

from tests.chaos.fences import MUTATIONS, Mutation

_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_pattern_matches_one_place_and_its_tests_are_there(mutation: Mutation) -> None:
    text = (_ROOT / mutation.file).read_text(encoding="utf-8")
    assert len(re.findall(mutation.pattern, text)) == 1
    assert re.sub(mutation.pattern, lambda _: mutation.into, text) != text
    files = [word for word in mutation.tests.split() if word.startswith("tests/")]
    assert files
    assert all((_ROOT / file).is_file() for file in files)


def test_names_tell_them_apart() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)

"""Each file of the table in docs/converting.md is converted as it stands there."""

import pytest

from tests import tried


def name_of(file):
    made = getattr(file.where, "__name__", file.where)
    return f"{made}-{tried.FILES.index(file)}"


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", tried.FILES, ids=name_of)
def test_a_file_of_the_table_is_converted_as_it_says(file):
    if isinstance(file.where, str) and not (tried.REAL / file.where).exists():
        pytest.skip(f"no folder {file.where} of real models beside the repository")
    assert tried.what(file) in tried.PAGE.read_text(encoding="utf-8")
    model = tried.converted(file)
    assert model.weights.probes
    assert model.verify().ok
    _, of_steps = tried.differences(model)
    assert of_steps == "whole sequences" or float(of_steps) < 1e-4

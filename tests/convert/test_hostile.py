"""Files of others that were made to do harm are refused at once, whatever they try."""

import pytest

from tests.conftest import Python, output_of

# What does no harm to what is read of it.
HARMLESS = {
    "keras": {
        "sizes_that_lie", "many_entries", "names_outside", "group_within_itself",
        "code_in_an_initializer", "code_in_an_activation", "module_of_a_layer",
    },
    "onnx": {"many_branches"},
    "torch": {
        "bomb_in_the_byte_order", "program_of_protocol_5", "float8", "old_file",
        "description_of_spaces", "quantised",
    },
}  # fmt: skip


@pytest.mark.parametrize("module", HARMLESS)
def test_hostile_files_are_refused_within_seconds_and_megabytes(
    python: Python, module: str
) -> None:
    lines = output_of(python("-W", "ignore", "-m", "tests.convert.hostile", module)).splitlines()
    outcomes = dict(line.split(": ", maxsplit=1) for line in lines)
    assert len(outcomes) > 40
    wrong = {
        name: said
        for name, said in outcomes.items()
        if not said.startswith("converted" if name in HARMLESS[module] else "refused")
    }
    assert not wrong

"""Where a model is to be looked for, by the end of its name."""

from __future__ import annotations

import pytest

from engine.errors import CloudModel, InvalidRequest
from engine.names import local_name, stored_name


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("m", "m"),
        (" m:7b\t", "m:7b"),
        ("m:local", "m"),
        ("m:7b:LOCAL", "m:7b"),
        ("localhost:11434/n/m", "localhost:11434/n/m"),
        ("h:x-cloud/n/m", "h:x-cloud/n/m"),
        ("-cloud", "-cloud"),
        ("m:clouds", "m:clouds"),
        ("", ""),
    ],
)
def test_names_of_this_machine(name: str, bare: str) -> None:
    assert local_name(name) == stored_name(name) == bare


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("m:cloud", "m:cloud"),
        ("m:Cloud", "m:cloud"),
        ("m:20b:cloud", "m:20b-cloud"),
        ("m:20b-cloud", "m:20b-cloud"),
        ("h:1/n/m:cloud", "h:1/n/m:cloud"),
    ],
)
def test_names_of_a_cloud(name: str, stored: str) -> None:
    with pytest.raises(CloudModel):
        local_name(name)
    assert stored_name(name) == stored


@pytest.mark.parametrize("name", ["m:local:cloud", "m:cloud:local", "m:local:local", "m:x-cloud:cloud"])
def test_one_place_is_enough(name: str) -> None:
    for read in (local_name, stored_name):
        with pytest.raises(InvalidRequest, match=rf'^use either :local or :cloud, not both: "{name}"$'):
            read(f" {name} ")

"""Objects that do not fit into memory, through two real servers; `scripts/large` in small."""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import Farm
from tests.acceptance.largeobject import KINDS
from tests.acceptance.largerun import run
from tests.acceptance.processes import WAIT_DEADLINE_S


@pytest.mark.parametrize("kind", [*KINDS])
def test_large_object_passes_two_servers_whole_and_takes_no_memory(
    farm: Farm, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.acceptance.largerun.MOST_GROWTH_BYTES", 48 << 20)
    monkeypatch.setattr("tests.acceptance.largeobject.ELEMENT_BYTES", 40 << 20)

    assert run(farm, [kind], 96 << 20, deadline_s=WAIT_DEADLINE_S) == []

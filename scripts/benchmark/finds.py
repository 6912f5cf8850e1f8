"""Measures C-FIND on a small and on a very large index: the time must not grow with the archive.

Two servers, each with an index of its own, are asked in turn, so that a change of the machine's
mood meets both. Each query matches at most ten studies and is timed from the request to the final
response, over one association, from the outside.
"""

from __future__ import annotations

import datetime
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scripts.benchmark.fullindex import fill_studies
from tests.acceptance.harness import Gateway
from tests.acceptance.peers import run_dcmtk
from tests.acceptance.processes import Failed
from tests.acceptance.rawdicom import STUDY_ROOT_FIND, Offer, RawAssociation

if TYPE_CHECKING:
    from scripts.benchmark.contestants import Contestant
    from scripts.benchmark.works import Bench

PER_STUDY = 50
SMALL_STUDIES = 200
LARGE_STUDIES = 20_000
QUERIES = 400
WARM_UP = 40
MOST_MATCHES = 10
SEED = 20261122
FIND_UNITS = {
    "id": "ms p95, patient ID",
    "accession": "ms p95, accession number",
    "date": "ms p95, study date",
    "name": "ms p95, name prefix",
    "excess": "ms beyond 20 % + 0.5 ms more than at 10,000 objects",
}
_FIRST_DAY = datetime.date(2015, 1, 1)

Keys = dict[int, str]


def patient_id(study: int) -> str:
    """Return the ID of the patient whose only study has this number."""
    return f"PAT{1_000_000 + study}"


def patient_name(study: int) -> str:
    """Return that patient's name; ten patients share all but the last letter of the first part."""
    return f"FAMILY{100_000 + study}^GIVEN"


def accession(study: int) -> str:
    """Return the study's accession number."""
    return f"ACC{1_000_000 + study}"


def study_date(study: int) -> str:
    """Return the study's date, which ten studies share."""
    return f"{_FIRST_DAY + datetime.timedelta(days=study // MOST_MATCHES):%Y%m%d}"


_KINDS: Mapping[str, Callable[[int], Keys]] = {
    "id": lambda study: {0x00100020: patient_id(study)},
    "accession": lambda study: {0x00080050: accession(study)},
    "date": lambda study: {0x00080020: study_date(study)},
    "name": lambda study: {0x00100010: patient_name(study).split("^")[0][:-1] + "*"},
}


def find_in_million(bench: Bench, _: Contestant) -> Mapping[str, float]:
    """Ask an index of 1,000,000 objects and one of 10,000 in turn."""
    small, large = _archive(bench, SMALL_STUDIES), _archive(bench, LARGE_STUDIES)
    taken: dict[tuple[str, int], list[float]] = {}
    source = random.Random(SEED)
    try:
        with (
            RawAssociation.open(small.port, [Offer(STUDY_ROOT_FIND)]) as to_small,
            RawAssociation.open(large.port, [Offer(STUDY_ROOT_FIND)]) as to_large,
        ):
            for turn in range(WARM_UP + QUERIES):
                for kind, keys in _KINDS.items():
                    for association, studies in (
                        (to_small, SMALL_STUDIES),
                        (to_large, LARGE_STUDIES),
                    ):
                        spent = _ask(association, keys(source.randrange(studies)))
                        if turn >= WARM_UP:
                            taken.setdefault((kind, studies), []).append(spent)
    finally:
        small.kill()
        large.kill()
    at_large = {kind: _p95(taken[kind, LARGE_STUDIES]) for kind in _KINDS}
    at_small = {kind: _p95(taken[kind, SMALL_STUDIES]) for kind in _KINDS}
    excess = max(at_large[kind] - (at_small[kind] * 1.2 + 0.5) for kind in _KINDS)
    return {**at_large, "excess": excess}


def _ask(association: RawAssociation, keys: Keys) -> float:
    """Ask one study query; return how many milliseconds it took."""
    wanted = {0x00080052: "STUDY", 0x0020000D: "", 0x00100010: "", 0x00080020: ""} | keys
    begin = time.perf_counter()
    replies = association.find(wanted)
    spent = (time.perf_counter() - begin) * 1000
    if not 1 <= len(replies) - 1 <= MOST_MATCHES or replies[-1].status != 0:
        raise Failed(f"{len(replies) - 1} matches for {keys}, status {replies[-1].status:04X}")
    return spent


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _archive(bench: Bench, studies: int) -> Gateway:
    """Return a running server with so many studies in its index."""
    gateway = Gateway.create(bench.stable.new_folder(), bench.stable.ports)
    gateway.start()
    run_dcmtk("storescu", "127.0.0.1", str(gateway.port), bench.small.items[0].path)
    gateway.stop()
    fill_studies(
        gateway.database,
        studies,
        PER_STUDY,
        {
            "PatientID": patient_id,
            "PatientNam": patient_name,
            "AccessionN": accession,
            "StudyDate": study_date,
        },
    )
    return gateway.start()

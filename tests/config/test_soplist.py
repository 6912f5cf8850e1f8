from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dgate.config.soplist import SopList
from dgate.config.template import default_file


def test_empty_category_accepts_everything() -> None:
    sop_list, _ = SopList.parse(b"Verification 1.2.840.10008.1.1 sop\n", "dgatesop.lst")

    assert sop_list.abstract == {"1.2.840.10008.1.1"}
    assert sop_list.transfer is None
    assert sop_list.remote_ae is None


def test_empty_file_accepts_everything() -> None:
    assert SopList.parse(b"", "dgatesop.lst") == (SopList.accept_all(), [])


def test_shipped_list_names_what_the_reference_lists_and_newer_classes() -> None:
    sop_list, problems = SopList.parse(default_file("dgatesop.lst"), "dgatesop.lst")

    assert not problems
    assert sop_list.abstract is not None
    assert sop_list.transfer is not None
    assert len(sop_list.abstract) == 151 + 82
    assert {
        "1.2.840.10008.5.1.4.1.1.2",
        "1.2.840.10008.1.20.1",
        "1.2.840.10008.3.1.2.3.3",
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.39.1",
        "1.2.840.10008.5.1.4.1.2.2.3",
        "1.2.840.113619.4.26",
    } <= sop_list.abstract
    assert {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.5",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.203",
        "1.2.840.10008.1.2.4.100",
    } <= sop_list.transfer
    assert "1.2.840.113619.4.2" not in sop_list.abstract
    assert (sop_list.remote_ae, sop_list.local_ae, sop_list.application) == (None, None, None)


def test_lines_of_the_shipped_list_fit_into_the_original_program() -> None:
    for line in default_file("dgatesop.lst").decode("ascii").splitlines():
        assert len(line) < 254
        assert line.startswith("#") or all(len(column) <= 63 for column in line.split())


uids = st.integers(0, 10**9).map(lambda number: f"1.2.{number}")


@given(st.frozensets(uids, min_size=1), st.frozensets(uids, min_size=1), st.sampled_from("\n\r"))
def test_written_list_is_read_back(
    abstract: frozenset[str], transfer: frozenset[str], end: str
) -> None:
    lines = [f"any {uid} sop rest" for uid in abstract] + [f"\tx\t{u}\tTRANSFER" for u in transfer]

    sop_list, problems = SopList.parse(end.join(lines).encode(), "dgatesop.lst")
    assert (sop_list.abstract, sop_list.transfer, problems) == (abstract, transfer, [])


list_like = st.lists(
    st.sampled_from(["#", " ", "\n", "\r", "sop ", "1.2 ", "RemoteAE ", "none ", "x", "\x00"])
).map("".join)


@given(st.one_of(st.binary(), list_like.map(str.encode)))
def test_no_bytes_crash_the_list(data: bytes) -> None:
    sop_list, problems = SopList.parse(data, "dgatesop.lst")

    assert all(problem.advice for problem in problems)
    assert sop_list.abstract is None or sop_list.abstract

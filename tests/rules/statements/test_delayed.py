"""The delayed family: which objects a statement means, and what it asks for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dgate.archive.requests import request_draft, request_of
from dgate.errors import RuleError
from dgate.rules.effects import ObjectScope, Request
from dgate.rules.hooks import capture
from tests.rules import kit

PATIENT = {"patient_id": "0009703828"}
STUDY = {**PATIENT, "study": "1.2.3.4"}
SERIES = {**STUDY, "series": "1.2.3.4.6"}
IMAGE = {**SERIES, "sop_instance": "1.2.3.4.5"}


def requested(line: str, *, programs: bool = False, **values: object) -> list[Request]:
    """Return what an import line asks for."""
    made = kit.rules(kit.converter(line), allow_system_commands=programs)
    table = kit.table(**values)
    verdict = made.run_import(table, capture(table, "A", "B"), kit.FakeEnvironment())
    assert verdict.reason == ""
    return verdict.requests


def one(line: str, **values: Any) -> Request:
    """Return the only request of a line."""
    [request] = requested(line, **values)
    return request


def scope(**values: str) -> ObjectScope:
    """Return a scope."""
    return ObjectScope(**values)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("forward patient to A", PATIENT),
        ("forward study to A", STUDY),
        ("forward series to A", SERIES),
        ("forward image to A", IMAGE),
        # Filters by date and modality look at all of the patient.
        ("forward series modality CT to A", {**PATIENT, "modality": "CT"}),
        ("forward study date 20260101-20260131 to A", {**PATIENT, "date": "20260101-20260131"}),
        ("forward study now -1+0 to A", {**PATIENT, "date": "20261120-20261121"}),
        ("forward study age -2+3 to A", {**PATIENT, "date": "20251231-20260105"}),
        # But a merge chooses among the series of one study.
        ("merge study modality CT after 2", {**STUDY, "modality": "CT"}),
        # Explicit UIDs, too, beside themselves.
        ("forward series study 9.8 to A", {**PATIENT, "study": "9.8"}),
        ("forward study series 9.8 to A", {**PATIENT, "series": "9.8"}),
        ("forward patient sop %V0008,0018 to A", {**PATIENT, "sop_instance": "1.2.3.4.5"}),
        # Those of image level look at the object's study.
        ("forward image imagetype ORIG* to A", {**STUDY, "image_type": "ORIG*"}),
        ("forward patient seriesdesc Loc to A", {**STUDY, "series_description": "Loc"}),
    ],
)
def test_what_a_statement_means(line: str, expected: dict[str, str]) -> None:
    assert one(line).scope == scope(**expected)


def test_clauses_reach_the_request() -> None:
    request = one(
        'forward study compressed as un split 1/3 after 30 to A script set PatientName to "%i"'
    )
    assert (request.operation, request.level, request.peer) == ("forward", "study", "A")
    assert (request.compression, request.split, request.delay_s) == ("un", "1/3", 30.0)
    assert request.rule == "ImportConverter0.0"
    assert "set PatientName to" in request.script


def test_without_a_delay_the_configured_one_counts() -> None:
    assert one("forward study to A").delay_s is None
    assert one("forward study after 0 to A").delay_s is None
    assert request_draft(one("forward study to A"), 600.0).delay_s == 600.0
    assert request_draft(one("forward study after 7 to A"), 600.0).delay_s == 7.0


@pytest.mark.parametrize(
    ("line", "operation", "peer"),
    [
        ("get study from OLD", "get", "OLD"),
        ("merge study after 5", "merge", ""),
        ("submit study target me@host:in password pw", "submit", "me@host:in"),
        ("prefetch", "prefetch", ""),
        ("preretrieve OLD", "preretrieve", "OLD"),
    ],
)
def test_other_operations(line: str, operation: str, peer: str) -> None:
    request = one(line)
    assert (request.operation, request.peer) == (operation, peer)


def test_program_gets_its_arguments_one_by_one() -> None:
    request = one(
        'process study by /srv/done.sh "%V0010,0010" x%i', programs=True, PatientName="A; rm -rf /"
    )
    assert request.arguments == ("/srv/done.sh", "A; rm -rf /", "x0009703828")
    assert request.lua_file == ""


def test_lua_file_gets_one_command_line() -> None:
    request = one("process series after 30 by /srv/done.lua %i|%V0020,000e")
    assert (request.lua_file, request.arguments) == ("/srv/done.lua", ("0009703828|1.2.3.4.6",))
    assert one("process series by done.lua(a b)").arguments == ("a b",)


def test_placeholders_of_submit2_are_left_for_its_end() -> None:
    line = "submit2 study target T command [curl -T %%s %%s]"
    assert one(line, programs=True).arguments == ("curl", "-T", "%s", "%s")


@pytest.mark.parametrize(
    ("line", "values", "message"),
    [
        ("forward study to A", {"StudyInstanceUID": ""}, "the object has no Study Instance UID"),
        ("forward patient to A", {"PatientID": ""}, "the object has no patient ID"),
        ("forward study to %V0010,4000", {}, "the clause to is empty"),
        ("preretrieve %V0010,4000", {}, "the node to retrieve from is empty"),
        ("forward study age -1+1 to A", {"StudyDate": ""}, "study date '' is no date"),
        ("forward study after %i to A", {"PatientID": "soon"}, "after cannot be followed by"),
        ("forward study now -999999999+0 to A", {}, "is no span of days"),
    ],
)
def test_what_cannot_be_meant_fails(line: str, values: dict[str, object], message: str) -> None:
    made = kit.rules(kit.converter(line))
    table = kit.table(**values)
    verdict = made.run_import(table, capture(table, "A", "B"), kit.FakeEnvironment())
    assert message in verdict.reason
    assert verdict.requests == []


def test_export_line_expands_to_requests() -> None:
    made = kit.rules(
        kit.converter("forward to A; delete study after 5", "Export"), export_converters=1
    )
    expansion = made.expand(0, kit.table(), kit.captured(), kit.FakeEnvironment())
    assert [forward.target for forward in expansion.forwards] == ["A"]
    assert [request.operation for request in expansion.requests] == ["delete"]


def test_equal_requests_have_one_identity() -> None:
    first, second = requested("forward study after 5 to A; forward study after 9 to A")
    other = one("forward study after 5 to B")
    assert first == second
    assert request_draft(first, 600).identity == request_draft(second, 600).identity
    assert request_draft(other, 600).identity != request_draft(first, 600).identity
    again = requested("forward study to A", SOPInstanceUID="9.9.9")[0]
    assert request_draft(again, 600).identity == request_draft(first, 600).identity


def test_request_is_read_back_as_it_was() -> None:
    request = one('process study after 4 by /srv/done.sh "%V0010,0010"', programs=True)
    draft = request_draft(request, 600)
    assert request_of(draft.context, draft.rule) == dataclasses.replace(request, delay_s=None)
    for context in ("", "[]", "{}", '{"scope": 1}', "null"):
        with pytest.raises(ValueError, match=r"not a request|Expecting value"):
            request_of(context, "x")


def test_lanes_keep_nodes_apart() -> None:
    lanes = [
        request_draft(one(line), 600).destination
        for line in ("forward study to A", "get study from OLD", "preretrieve NEW", "prefetch")
    ]
    assert lanes == [
        "delayed forward", "delayed get OLD", "delayed preretrieve NEW", "delayed prefetch",
    ]  # fmt: skip


def test_misuse_fails_with_a_rule_error() -> None:
    made = kit.rules(kit.converter("forward study to A; delete study", "Export"))
    with pytest.raises(RuleError):
        made.expand(0, kit.table(StudyInstanceUID=""), kit.captured(), kit.FakeEnvironment())

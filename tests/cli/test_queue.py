"""`dgate queue` as an operator and a script see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dgate.cli.queue import queue_group
from dgate.delivery.records import Selection, Settlement, State
from dgate.errors import ConfigError
from dgate.rules.opaque import seal
from tests.cli.site_kit import Site
from tests.delivery.kit import draft, ref


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Debts 1 (stuck), 2 (queued, tried once), 3 (queued, to OTHER), 4 (done)."""
    site = Site(tmp_path)
    with site.opened() as shop:
        for number, destination in enumerate(("SINK", "SINK", "OTHER", "SINK"), start=1):
            owed = [draft(destination)]
            shop.writer.transact(
                lambda t, o=owed, n=number: shop.index.add_debts(t, ref(n), o, 0.0)
            )
        first, second, fourth = shop.ledger.exchange([], "SINK", 10)
        refusal = "A900 (data set mismatch): \x1b[31mno\nway"
        settlements = [
            Settlement(first, State.STUCK, 0xA900, refusal),
            Settlement(second, State.QUEUED, None, "refused", 1000.0, doubtful=True),
            Settlement(fourth, State.DONE, 0),
        ]
        shop.ledger.exchange(settlements, "SINK", 0)
    return site


def run(site: Site, *arguments: str, text: str = "") -> Result:
    verb, *rest = arguments
    return CliRunner().invoke(
        queue_group, [verb, "-c", str(site.folder), *rest], input=text, catch_exceptions=False
    )


def states(site: Site) -> dict[int, str]:
    with site.opened() as shop:
        every = Selection(states=tuple(State))
        return {entry.id: entry.state for entry in shop.desk.entries(every)}


def test_list_shows_what_is_owed_why_it_waits_and_how_much_there_is(site: Site) -> None:
    result = run(site, "list")

    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[0].split() == [
        *("ID", "STATE", "DESTINATION", "TRIES", "REPEATS", "NEXT", "OBJECT", "REASON")
    ]
    assert lines[1].split()[:7] == ["1", "stuck", "SINK", "1", "0", "-", "1.2.3.1"]
    assert lines[1].endswith("A900 (data set mismatch): ?[31mno way")
    assert lines[2].split()[:5] == ["2", "queued", "SINK", "1", "1"]
    assert lines[3].split() == ["3", "queued", "OTHER", "0", "0", "now", "1.2.3.3"]
    assert lines[-2:] == [
        "OTHER: 1 queued",
        "SINK: 1 queued, 1 stuck; 1 possibly repeated",
    ]


def test_list_can_be_narrowed(site: Site) -> None:
    assert "1.2.3.3" in run(site, "list", "--destination", "OTHER").output
    assert "1.2.3.1" not in run(site, "list", "--destination", "OTHER").output
    assert "1.2.3.4" in run(site, "list", "--state", "done").output
    assert "… and 2 more" in run(site, "list", "--limit", "1").output


def test_long_reason_is_cut_to_the_width_of_a_terminal(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.cli.queue._terminal_width", lambda: 70)

    line = run(site, "list").output.splitlines()[1]

    assert line.endswith("…")
    assert len(line.partition("A900")[1] + line.partition("A900")[2]) == 20


def test_list_for_scripts_is_one_object_a_line(site: Site) -> None:
    entries = [json.loads(line) for line in run(site, "list", "--json").output.splitlines()]

    assert [(entry["id"], entry["state"]) for entry in entries] == [
        (1, "stuck"),
        (2, "queued"),
        (3, "queued"),
    ]


def test_empty_ledger_says_so(site: Site) -> None:
    run(site, "cancel", "--all", "--yes")

    assert run(site, "list").output == "Nothing to show.\n"


def test_show_tells_everything_about_one_debt(site: Site) -> None:
    output = run(site, "show", "1").output

    assert "sop instance  1.2.3.1" in output
    assert "last status   A900" in output
    assert "lease" not in output
    assert json.loads(run(site, "show", "1", "--json").output)["last_status"] == 0xA900


def test_script_is_shown_as_it_was_written(site: Site) -> None:
    text = f'set 0010,0020 to "{seal("A; destroy")}"'
    with site.opened() as shop:
        owed = [draft("SINK", script=text)]
        shop.writer.transact(lambda t: shop.index.add_debts(t, ref(5), owed, 0.0))

    assert 'set 0010,0020 to "A; destroy"' in run(site, "show", "5").output
    for arguments in (("show", "5"), ("list",)):
        last = run(site, *arguments, "--json").output.splitlines()[-1]
        assert json.loads(last)["script"] == 'set 0010,0020 to "A; destroy"'


def test_debt_that_need_not_wait_is_shown_as_due_at_once(site: Site) -> None:
    run(site, "retry", "1")

    assert "due           at once" in run(site, "show", "1").output


def test_ends_of_the_server_are_shown_as_the_outcome_of_the_last_try(site: Site) -> None:
    for _ in range(2):
        with site.opened() as shop:
            shop.ledger.recover()
            shop.ledger.exchange([], "OTHER", 10)

    output = run(site, "show", "3").output

    assert "last status   none, the server ended (2 in a row)" in output


def test_retry_by_number(site: Site) -> None:
    result = run(site, "retry", "1")

    assert (result.exit_code, result.output) == (0, "1 will be tried now.\n")
    assert states(site)[1] == "queued"


def test_debt_that_was_left_alone_is_named_and_fails_the_command(site: Site) -> None:
    result = run(site, "retry", "1", "4", "99")

    assert result.exit_code == 1
    assert "1 will be tried now." in result.output
    assert "4 was left alone: it is done." in result.output
    assert "99 was left alone: there is no such debt." in result.output


def test_hold_and_release_everything(site: Site) -> None:
    run(site, "hold", "--all")
    assert states(site) == {1: "held", 2: "held", 3: "held", 4: "done"}

    run(site, "release", "--destination", "OTHER")
    assert states(site) == {1: "held", 2: "held", 3: "queued", 4: "done"}


def test_cancelling_many_asks_first(site: Site) -> None:
    why = ("--why", "closed for good")
    refused = run(site, "cancel", "--destination", "SINK", *why, text="n\n")
    assert refused.exit_code == 1
    assert "destination SINK?" in refused.output
    assert states(site)[1] == "stuck"

    run(site, "cancel", "--destination", "SINK", *why, text="y\n")
    assert states(site) == {1: "cancelled", 2: "cancelled", 3: "queued", 4: "done"}


def test_cancelling_by_number_does_not_ask(site: Site) -> None:
    run(site, "cancel", "1", "--why", "sent by hand")

    assert states(site)[1] == "cancelled"
    shown = json.loads(run(site, "show", "1", "--json").output)
    assert shown["why"] == "sent by hand"


def test_cancelling_without_a_reason_is_refused_but_to_scripts_that_say_yes(site: Site) -> None:
    refused = run(site, "cancel", "1", "--why", " ")

    assert refused.exit_code == 2
    assert "--why TEXT" in refused.output
    assert states(site)[1] == "stuck"
    assert run(site, "cancel", "1", "--yes").exit_code == 0
    assert states(site)[1] == "cancelled"


def test_person_at_a_terminal_is_asked_for_the_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgate.cli.queue._is_interactive", lambda: True)

    result = run(site, "cancel", "1", text="sent by hand\n")

    assert result.exit_code == 0
    assert json.loads(run(site, "show", "1", "--json").output)["why"] == "sent by hand"


def test_operations_take_the_filters_of_the_ledger(site: Site) -> None:
    run(site, "hold", "--study", "1.2.3", "--destination", "OTHER")
    assert states(site) == {1: "stuck", 2: "queued", 3: "held", 4: "done"}

    run(site, "retry", "--state", "stuck", "--until", "2000-01-01")
    assert states(site) == {1: "queued", 2: "queued", 3: "held", 4: "done"}

    assert run(site, "hold", "--patient", "NOBODY").output == "0 held.\n"


def test_list_takes_the_filters_of_the_ledger(site: Site) -> None:
    output = run(site, "list", "--sop", "1.2.3.2").output

    assert "1.2.3.2" in output
    assert "1.2.3.1" not in output
    assert run(site, "list", "--accession", "A1").output == "Nothing to show.\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list", "--since", "yesterday"), "2024-01-31"),
        (("list", "--since", "1h", "--until", "2h"), "later than --until"),
        (("retry", "--study", ""), "--study is empty"),
        (("retry", "--state", "lost"), "stuck"),
        (("reroute",), "new destination"),
        (("reroute", "1", "2"), "new destination"),
        (("reroute", "OTHER", "SINK", "1"), "only one new destination"),
        (("reroute", "OTHER", "1", "--to", "SINK"), "only one new destination"),
        (("reroute", "OTHER"), "--destination"),
    ],
)
def test_mistakes_are_explained_and_change_nothing(
    site: Site, arguments: tuple[str, ...], text: str
) -> None:
    before = states(site)

    result = run(site, *arguments)

    assert result.exit_code == 2
    assert text in " ".join(result.output.split())
    assert states(site) == before


def test_reroute_sends_elsewhere(site: Site) -> None:
    result = run(site, "reroute", "--destination", "SINK", "--to", "OTHER")

    assert result.output == "2 rerouted to OTHER.\n"
    assert "SINK" not in run(site, "list").output


def test_destination_may_be_written_as_it_is_in_a_rule(site: Site) -> None:
    assert "1.2.3.3" in run(site, "list", "--destination", "other").output
    assert run(site, "hold", "--destination", "other").output == "1 held.\n"

    result = run(site, "reroute", "--destination", "Sink", "--to", "other")

    assert result.output == "2 rerouted to OTHER.\n"
    shown = json.loads(run(site, "show", "1", "--json").output)
    # As a rule that says so would have it.
    assert (shown["destination"], shown["called"]) == ("OTHER", "other")
    run(site, "reroute", "--destination", "OTHER", "--to", "Archive.Site.org:11112")
    shown = json.loads(run(site, "show", "1", "--json").output)
    assert shown["destination"] == "archive.site.org:11112"
    assert shown["called"] == "Archive.Site.org"


@pytest.mark.parametrize(
    "arguments", [("OTHER", "1", "2"), ("1", "2", "OTHER"), ("1", "2", "--to", "OTHER")]
)
def test_reroute_takes_node_and_numbers(site: Site, arguments: tuple[str, ...]) -> None:
    result = run(site, "reroute", *arguments, "--why", "SINK is being moved")

    assert result.output == "2 rerouted to OTHER.\n"
    shown = json.loads(run(site, "show", "1", "--json").output)
    assert (shown["destination"], shown["origin"]) == ("OTHER", "SINK")
    assert shown["why"] == "SINK is being moved"


def test_reroute_to_an_unknown_node_is_refused(site: Site) -> None:
    with pytest.raises(ConfigError):
        run(site, "reroute", "--all", "--to", "NO_SUCH_AE")


@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("--all", "--destination", "SINK")])
def test_which_debts_must_be_said_in_one_way(site: Site, arguments: tuple[str, ...]) -> None:
    result = run(site, "retry", *arguments)

    assert result.exit_code == 2
    assert "--destination" in result.output

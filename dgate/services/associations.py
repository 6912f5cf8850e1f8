"""The life of an association as scripts see it: its session, and the Lua events around it.

Not for what the association asks for (`dgate.net.router`). Shared by all association threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dgate.errors import ProtocolError
from dgate.net import Association, Message
from dgate.net.dimse import CommandError, decode_command, encode_command
from dgate.rules.effects import Captured
from dgate.rules.lua.events import LuaEvents, Moment
from dgate.rules.run import Environment
from dgate.services.events import session_of

log = logging.getLogger(__name__)

Surroundings = Callable[[Captured], Environment]


class AssociationLife:
    """Serves associations from their begin to their end."""

    def __init__(
        self,
        serve: Callable[[Association], None],
        events: LuaEvents,
        surroundings: Surroundings,
    ) -> None:
        """`serve` answers the requests of an association until it ends."""
        self._serve = serve
        self._events = events
        self._surroundings = surroundings

    def run(self, association: Association) -> None:
        """Serve until released; what ends it badly passes through."""
        try:
            refusal = self._happen(Moment.ASSOCIATION, association)
            if refusal:
                log.warning("The association of %s was dropped: %s", association.calling, refusal)
                association.abort(refusal)
                return
            self._serve(association)
        except ProtocolError:
            self._happen(Moment.CLIENT_ERROR, association)
            raise
        finally:
            self._happen(Moment.END_ASSOCIATION, association)
            session_of(association).close()

    def before_command(self, association: Association, message: Message) -> bool:
        """Show a command to scripts, which may change it; False when the connection is closed."""
        session = session_of(association)
        session.begin_command(lambda: encode_command(message.command))
        if Moment.COMMAND not in self._events:
            return True
        refusal = self._happen(Moment.COMMAND, association)
        changed = session.changed_command()
        if not refusal and changed is not None:
            try:
                message.command = decode_command(changed)
            except CommandError as exc:
                refusal = f"the [lua] command event made it no command: {exc}"
        if refusal:
            log.warning("The association of %s was closed: %s", association.calling, refusal)
            association.abort(refusal)
        return not refusal

    def _happen(self, moment: Moment, association: Association) -> str:
        """Run the code of an event; return why it refuses to go on."""
        if moment not in self._events:
            return ""
        session = session_of(association)
        captured = Captured("", "", "", "", session.calling, session.called)
        return self._events.run(moment, self._surroundings(captured), session, captured)

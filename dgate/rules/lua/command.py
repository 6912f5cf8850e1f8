"""`Command` in Lua: the command set that an association is working on (spec lua-api.md 4.3)."""

from __future__ import annotations

from dgate.dicom.table import ElementTable
from dgate.rules.lua.objects import ObjectHandle, new_table
from dgate.rules.session import Session


class CommandHandle(ObjectHandle):
    """`Command`: the command set of the association, read when a script asks for it."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        super().__init__(new_table())
        self._session: Session | None = session
        self._table = None

    def _fresh(self) -> ElementTable:
        if self._table is None and self._session is not None:
            self._table = self._session.command_table() or new_table()
        return super()._fresh()

    @property
    def is_freed(self) -> bool:
        """Whether the call has ended."""
        return self._table is None and self._session is None

    def release(self) -> None:
        """Let go of the command."""
        self._session = None
        super().release()

"""What `Global` reads and writes (spec lua-api.md 4.2): counters, settings, keys of dicom.ini.

Any thread.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from dgate.config.edit import entries_of, home_of, with_value
from dgate.config.ini import IniFile
from dgate.config.key_table import REGISTRY
from dgate.config.problem import Severity
from dgate.config.settings import Configuration, load
from dgate.config.store import write_files
from dgate.errors import ConfigError, RuleError
from dgate.generation import Generation
from dgate.inspection import inspect
from dgate.rules.run import log
from dgate.services.counters import Counters

VERSION: Final = "1.5.0e"
"""The version of the original that scripts are written for."""

_COUNTED: Final = [
    "ImagesReceived",
    "IncomingAssociations",
    "ThreadCount",
    "OpenThreadCount",
    "EchoRequest",
    "UnknownRequest",
    "C_Find_PatientRoot",
    "C_Find_StudyRoot",
    "C_Find_PatientStudyOnly",
    "C_Find_ModalityWorkList",
    "C_Move_PatientRoot",
    "C_Move_StudyRoot",
    "C_Move_PatientStudyOnly",
    "C_Move_PatientRootNKI",
    "C_Move_StudyRootNKI",
    "C_Move_PatientStudyOnlyNKI",
    "C_Get_PatientRoot",
    "C_Get_StudyRoot",
    "C_Get_PatientStudyOnly",
    "gpps",
]
_NEVER: Final = [
    "CreateBasicFilmSession",
    "DeleteBasicFilmSession",
    "ActionBasicFilmSession",
    "SetBasicFilmSession",
    "CreateBasicFilmBox",
    "ActionBasicFilmBox",
    "SetBasicFilmBox",
    "DeleteBasicFilmBox",
    "SetBasicGrayScaleImageBox",
    "SetBasicColorImageBox",
    "GuiRequest",
    "ImagesToGifFromGui",
    "ImagesToBmpFromGui",
    "ImagesToJpgFromGui",
    "ImagesToDicomFromGui",
    "ExtractFromGui",
    "QueryFromGui",
    "DeleteImageFromGui",
    "DeletePatientFromGui",
    "DeleteStudyFromGui",
    "DeleteStudiesFromGui",
    "DeleteSeriesFromGui",
    "MovePatientFromGui",
    "MoveStudyFromGui",
    "MoveStudiesFromGui",
    "MoveSeriesFromGui",
    "AddedFileFromGui",
    "DumpHeaderFromGui",
    "ForwardFromGui",
    "GrabFromGui",
    "NKIPrivateCompress",
    "NKIPrivateDecompress",
]
"""Counters of what dgate does not do, so that nothing can have been counted."""


class Globals:
    """The names of `Global`, whatever their letter case."""

    def __init__(
        self,
        current: Callable[[], Generation],
        counters: Callable[[], Counters],
        started_at: float,
        reload: Callable[[str], Any],
    ) -> None:
        self._current = current
        self._counters = counters
        self._started_at = int(started_at)
        self._reload = reload
        self._counted = {name.lower(): name for name in _COUNTED}
        self._written: dict[str, str | int] = {}
        """Texts that scripts pass to each other."""

    def value(self, name: str) -> str | int | None:
        """Return a value, None when there is none."""
        lower = name.lower()
        if lower in self._written:
            return self._written[lower]
        if lower in self._counted:
            return self._counters()[self._counted[lower]]
        if lower in _NEVER_LOWER:
            return 0
        known = self._known(lower)
        return known if known is not None else self._text_of(name)

    def _known(self, lower: str) -> str | int | None:
        generation = self._current()
        settings = generation.settings
        match lower:
            case "starttime":
                return self._started_at
            case "basedir":
                return f"{settings.base_folder}{os.sep}"
            case "configfile":
                return str(settings.ini_path)
            case "dgateversion" | "version":
                return VERSION
            case "rootconfig":
                return settings.profile
            case "statusstring" | "testmode" | "autoroutepipe" | "autorouteexec":
                return ""
        return None

    def _text_of(self, name: str) -> str | int | None:
        """Return a key of dicom.ini as it counts now; empty counts as absent."""
        configuration = self._current().configuration
        match = REGISTRY.find(name)
        if match is None:
            return self._entry(configuration, None, name) or None
        text = next((one.text for one in configuration.values if one.name == match.name), "")
        return _numeric(match.name.lower(), text) if text else None

    def _entry(self, configuration: Configuration, section: str | None, key: str) -> str:
        ini = configuration.ini
        if ini is None:
            return ""
        found = entries_of(home_of(ini, section, key), section, key)
        return found[0].value if found else ""

    def setting(self, section: str, key: str, default: str) -> str:
        """Return an entry of dicom.ini, `default` when it is not there."""
        configuration = self._current().configuration
        if self._is_main(configuration, section):
            return self._entry(configuration, None, key) or default
        ini = configuration.ini
        home = None if ini is None else ini.section(section)
        entry = None if home is None else home.get(key)
        return default if entry is None else entry.value

    def _is_main(self, configuration: Configuration, section: str) -> bool:
        return section.lower() in ("sscscp", configuration.settings.profile.lower())

    def change(self, name: str, value: str) -> None:
        """Set a value; see `Console.change`."""
        lower = name.lower()
        configuration = self._current().configuration
        if configuration.ini is not None and self._entry_exists(configuration, name):
            self._rewrite(configuration, name, value)
        elif lower in self._counted:
            if not value.lstrip("-").isdecimal():
                raise RuleError(f"Global.{name} takes a number")
            self._counters().change(self._counted[lower], int(value))
        elif lower == "statusstring":
            self._written[lower] = value
        else:
            log.warning(
                "A script set Global.%s, which dicom.ini does not have: nothing was changed. "
                "Write the key into dicom.ini first.",
                name,
            )

    def _entry_exists(self, configuration: Configuration, key: str) -> bool:
        ini = configuration.ini
        return ini is not None and bool(entries_of(home_of(ini, None, key), None, key))

    def _rewrite(self, configuration: Configuration, key: str, value: str) -> None:
        """Write a key into dicom.ini and put it into effect; raises RuleError."""
        path = configuration.settings.ini_path
        try:
            old = path.read_bytes()
            new = with_value(IniFile.parse(old, path), None, key, value)
            if new == old:
                return
            self.check_change(load(path, {path: new}), key)
            write_files(configuration.settings.base_folder, {path: new}, {path: old})
        except OSError as exc:
            raise RuleError(f"{path} cannot be changed: {exc.strerror}") from exc
        except ConfigError as exc:
            raise RuleError(exc.what, where=exc.where, remedy=exc.remedy) from exc
        self._reload(f"a script set {key}")

    def check_change(self, after: Configuration, key: str) -> None:
        """Raise RuleError for a change that brings an error which was not there."""
        known = Counter(_errors(self._current().configuration))
        for message in _errors(after):
            if known[message]:
                known[message] -= 1
                continue
            raise RuleError(f"{key} was not changed: {message}")


def _errors(configuration: Configuration) -> list[str]:
    return [one.message for one in inspect(configuration) if one.severity is Severity.ERROR]


def _numeric(lower: str, text: str) -> str | int:
    """Return a number for the settings that are numbers in the original."""
    return int(text) if lower in _NUMBERS and text.lstrip("-").isdecimal() else text


_NEVER_LOWER: Final = frozenset(name.lower() for name in _NEVER)
_NUMBERS: Final = frozenset(
    [
        "nodicomcheck",
        "debuglevel",
        "enablereadaheadthread",
        "worklistmode",
        "storagefailederrorcode",
        "failholdoff",
        "retrydelay",
        "queuesize",
        "forwardcollectdelay",
        "cachevirtualdata",
        "numindexing",
        "doublebackslashtodb",
        "useescapestringconstants",
        "enablecomputedfields",
        "filecompressmode",
        "fixkodak",
    ]
)

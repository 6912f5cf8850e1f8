"""The typed, frozen result of reading a configuration: what every other part of dgate is given.

Field names are the keys of dicom.ini in snake_case, with a unit where they have one. Nothing here
reads files (`settings.load` does). Immutable, safe between threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from dgate.config.ini import IniFile
from dgate.config.keys import Key
from dgate.config.layout import Layout
from dgate.config.node_settings import NodeTable
from dgate.config.nodes import NodeMap
from dgate.config.problem import Problem
from dgate.config.reserve import Reserve
from dgate.config.soplist import SopList


class Engine(Enum):
    """Which database keeps the index."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"
    MYSQL = "mysql"
    NONE = "none"


class Durability(Enum):
    """What is synced to disk before a sender hears success."""

    FULL = "full"
    INDEX = "index"
    NONE = "none"


class MissingUids(Enum):
    """What an object without Study or Series UID gets."""

    GENERATE = "generate"
    UNDEFINED = "undefined"
    REJECT = "reject"


class DuplicateContent(Enum):
    """What is done with an object whose instance is stored already with other content."""

    REPLACE = "replace"
    ASIDE = "aside"
    REJECT = "reject"


class V2Content(Enum):
    """What files named `.v2` contain."""

    PART10 = "part10"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Filters:
    """The patterns that must match before a rule runs (spec dicom-ini.md 12.1)."""

    modality: str = "*"
    station: str = "*"
    calling: str = "*"
    called: str = "*"
    sql: str = "*"
    """SQL condition; export rules only."""


@dataclass(frozen=True, slots=True)
class ConverterText:
    """One rule line that is switched on."""

    family: str
    """`Import`, `Export`, `Query`…: the key without `ConverterN`."""
    index: int
    text: str
    lua: bool = False
    filters: Filters = Filters()
    where: str = ""
    """`dicom.ini:41`."""


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """A node whose archive is offered here as well: one line VirtualServerForN."""

    number: int
    """N, the bit of converters `virtualserver` and of (9999,0802)."""
    title: str
    """AE title, to be looked up in acrnema.map."""
    flags: frozenset[str] = frozenset()
    per_series: int = 0
    """More images of a series than this are fetched as the whole series; 0 = never."""
    line: int = field(default=0, compare=False)
    """Line of dicom.ini."""


@dataclass(frozen=True, slots=True)
class LuaEvent:
    """Lua code of section [lua] that is no rule."""

    name: str
    """`startup`, `nightly`... as the registry spells it."""
    code: str
    where: str
    """`dicom.ini:41`."""


class ScriptTexts(Mapping[str, str]):
    """The entries of section [scripts]; names are found in whatever letter case."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        self._texts = {name.lower(): text for name, text in (texts or {}).items()}

    def __getitem__(self, name: str) -> str:
        """Return the statements called `name`."""
        return self._texts[name.lower()]

    def __iter__(self) -> Iterator[str]:
        """Yield the names, in lower case."""
        return iter(self._texts)

    def __len__(self) -> int:
        """Return the number of named scripts."""
        return len(self._texts)

    def __repr__(self) -> str:
        """Return the names and their statements."""
        return f"ScriptTexts({self._texts!r})"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that this version reads; for the meaning of each see `dgate config explain`."""

    ini_path: Path
    base_folder: Path
    profile: str

    ae_title: str
    tcp_port: int
    pacs_name: str
    tcpip_timeout_s: int
    pdu_size: int
    send_upper_case_ae: bool
    pad_ae_with_zeros: bool
    max_associations: int
    allow_unknown: bool
    classic_status_codes: bool
    accept_unknown_sop_classes: bool
    no_dicom_check: bool

    k_factor_file: Path
    acrnema_map: Path
    sop_class_list: Path
    user_log: Path
    trouble_log: Path
    temp_dir: Path
    debug_level: int
    operator_console: str
    zip_time: str
    """Begin of a time of day, `HH:MM:SS`."""

    engine: Engine
    sql_server: str
    """Database name; the path of the file for SQLite."""
    sql_host: str
    username: str
    password: str = field(repr=False)
    sqlite_startup: str
    mysql_startup: str
    postgres_startup: str
    durability: Durability
    truncate_field_names: int
    max_field_length: int
    allow_truncate: frozenset[str]
    patient_table: str
    study_table: str
    series_table: str
    image_table: str
    worklist_table: str

    enable_computed_fields: bool
    patient_query_sort_order: str
    study_query_sort_order: str
    series_query_sort_order: str
    image_query_sort_order: str
    queries_return_iso_ir: int
    worklist_iso_ir: int
    """Number of the character set of worklist answers, 0 for none."""
    worklist_mode: int
    """0 off, 1 fill objects from their worklist entry, 2 also refuse those without."""
    match_case: bool
    fix_philips: bool
    fix_kodak: bool
    allow_empty_patient_id: bool

    mag_devices: tuple[Path, ...]
    mag_device_full_threshold_mb: int
    ignore_mag_device_threshold: bool
    mag_device_threshold_mb: int
    disk_reserve: Reserve | None
    """Megabytes or a share of each disk that are kept free; None = as the full threshold."""
    inode_reserve: Reserve
    disk_warning_days: int
    nightly_clean_threshold_mb: int
    nightly_move_threshold_mb: int
    nightly_move_target: str
    """`MAGn`; empty when nothing moves by night."""
    nightly_move_minute: int
    """Minute of the day, local time."""
    lru_sort: str
    mirror_devices: tuple[Path, ...]
    """The copy of each storage device, by its number."""
    jukebox_devices: tuple[tuple[int, str], ...]
    """Number and path, with %d in it, of old read-only volumes."""
    cache_devices: tuple[tuple[int, str], ...]
    file_name_syntax: str
    max_file_name_length: int
    rename_on_rewrite: bool
    ignore_rewrite: bool
    duplicate_content: DuplicateContent
    uid_prefix: str
    missing_uids: MissingUids
    v2_content: V2Content
    storage_failed_error_code: int
    import_export_drag_and_drop: bool
    watch_folder: Path | None
    delay_incoming_file_open_ms: int

    incoming_compression: str
    dropped_file_compression: str
    archive_compression: str
    lossy_quality: int

    import_converters: int
    export_converters: int
    converters: tuple[ConverterText, ...]
    scripts: Mapping[str, str]
    script_errors_reject: bool
    reidentification_key: Path
    allow_system_commands: bool
    system_timeout_s: float
    script_folders: tuple[Path, ...]
    lua_unrestricted: bool
    lua_instructions: int
    """Millions; 0 is no limit."""
    lua_memory_mb: int
    lua_seconds: float
    lua_events: tuple[LuaEvent, ...]
    change_log: bool
    change_log_days: int
    ledger_days: int

    read_ahead: int
    virtual_servers: tuple[VirtualServer, ...]
    overlap_virtual_get: int
    cache_virtual_data: bool

    forward_association_level: str
    forward_association_close_delay_s: float
    forward_association_release: bool
    forward_association_refresh_delay_s: float
    delayed_forwarder_threads: int
    retry_first_s: float
    retry_max_s: float
    retry_delay_s: float | None
    fail_hold_off_s: float | None
    maximum_export_retries: int
    maximum_request_tries: int
    forward_collect_delay_s: float
    peers: NodeTable = field(default_factory=NodeTable)
    """The sections `[node NAME]`."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as it counts, with where it comes from."""

    key: Key
    name: str
    text: str = field(repr=False)
    """Kept out of the representation, as it may be a password."""
    line: int | None = None
    """Line of dicom.ini; None for the default."""
    alias: str = ""
    """The other spelling that the file uses."""

    @property
    def is_default(self) -> bool:
        """Tell whether the file does not name the setting."""
        return self.line is None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The four files, read; with everything that is wrong or odd in them."""

    settings: Settings
    nodes: NodeMap
    layout: Layout
    sop_list: SopList
    problems: tuple[Problem, ...] = ()
    values: tuple[Value, ...] = ()
    """Every setting of the main section in the order of the registry, then those of nodes, for
    `dgate config show`."""
    ini: IniFile | None = field(default=None, repr=False)
    """dicom.ini as read; None for a configuration that was not read from a file."""
    contents: Mapping[Path, bytes | None] = field(default_factory=dict, repr=False)
    """What was read of the four files, by absolute path; None for one that could not be read."""

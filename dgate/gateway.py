"""The composition root: builds every part from a configuration, starts and stops them in order.

The only module that knows all parts. Owned by the thread that calls `start` and `stop`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from dgate.archive.database import Database
from dgate.archive.devices import Devices
from dgate.archive.export import Exporter
from dgate.archive.importer import files_below, import_files
from dgate.archive.index import Index
from dgate.archive.ingest import Ingest
from dgate.archive.naming import Naming
from dgate.archive.query import Finder
from dgate.archive.recovery import recover
from dgate.archive.schema import prepare
from dgate.archive.writer import Writer
from dgate.clock import Clock, SystemClock
from dgate.config.settings import Configuration, Engine
from dgate.delivery.dispatcher import Dispatcher
from dgate.delivery.ledger import Ledger
from dgate.errors import DgateError
from dgate.net import STORAGE, CommandField, Handler, Listener, Policy, Router, Timeouts
from dgate.ops.control import Answer, Command, ControlServer, socket_path
from dgate.ops.lock import FolderLock
from dgate.ops.log import UserLog
from dgate.rules.hooks import Rules
from dgate.services.identifier import PATIENT_ROOT, PATIENT_STUDY_ONLY, STUDY_ROOT
from dgate.services.query import QueryService
from dgate.services.retrieve import RetrieveService
from dgate.services.storage import StorageService
from dgate.services.verification import answer_echo

log = logging.getLogger(__name__)

DRAIN_S = 5.0
"""How long running operations may go on after a stop was asked for."""

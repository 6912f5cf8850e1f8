"""Small real file systems for a server alone, to be filled up, made read-only and the like.

The mounts live in a namespace of the server's process and end with it. Without root they are made
in a user namespace; tmpfs may be mounted there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.acceptance.harness import Gateway


def small_disks(options: Mapping[Path, str], *, limit: str = "") -> Sequence[str]:
    """Return a command prefix that runs a program with a tmpfs on each folder.

    Args:
        options: of each mount, such as `size=3m,nr_inodes=100`.
        limit: a shell command that is run before, such as `ulimit -n 64`.
    """
    mounts = []
    for folder, text in options.items():
        folder.mkdir(parents=True, exist_ok=True)
        mounts.append(f'mount -t tmpfs -o {text} tmpfs "{folder}"')
    script = " && ".join([*mounts, *([limit] if limit else []), 'exec "$@"'])
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "sh", "-c", script, "sh"]


def remount(gateway: Gateway, folder: Path, how: str) -> None:
    """Change a mount of the server's, `ro` or `rw`."""
    user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
    enter = ["nsenter", "-t", str(gateway.process.pid), *user, "--mount"]
    subprocess.run([*enter, "mount", "-o", f"remount,{how}", str(folder)], check=True)


def inside(gateway: Gateway, folder: Path) -> Path:
    """Return a folder as the server sees it, through its own root."""
    return Path(f"/proc/{gateway.process.pid}/root") / folder.relative_to("/")

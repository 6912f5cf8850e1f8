"""What importing the upper layer costs."""

from __future__ import annotations

import subprocess
import sys


def test_importing_it_loads_neither_pynetdicom_nor_pydicom_nor_numpy() -> None:
    code = (
        "import sys, dgate.net\n"
        "print(sorted({'pynetdicom', 'pydicom', 'numpy', 'ssl'} & set(sys.modules)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )

    assert run.stdout.strip() == "[]"

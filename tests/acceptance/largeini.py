"""A dicom.ini of two thousand lines, as large sites have: rules, filters, scripts, remarks."""

from __future__ import annotations

from tests.acceptance.harness import Gateway, Node

IMPORT_RULES, EXPORT_RULES, SCRIPTS, REMARKS = 99, 20, 800, 700
NODES = 1000
LINES = 2000


def write_two_thousand_lines(gateway: Gateway) -> None:
    """Fill the configuration of a server that is not running yet; nothing in it is wrong."""
    gateway.name_nodes(Node(f"NODE{number}", 104) for number in range(NODES))
    gateway.configure(**_rules())
    scripts = (
        f'script{n} = ifequal "%m", "MR"; set StudyDescription to "X%d"' for n in range(SCRIPTS)
    )
    with gateway.ini.open("a") as file:
        file.write("\n".join(["# a remark"] * REMARKS + ["[scripts]", *scripts, ""]))
    assert len(gateway.ini.read_text().splitlines()) >= LINES


def _rules() -> dict[str, object]:
    lines: dict[str, object] = {"ExportConverters": EXPORT_RULES}
    for number in range(IMPORT_RULES):
        lines[f"ImportModality{number}"] = "CT"
        lines[f"ImportStationName{number}"] = f"ROOM{number}*"
        lines[f"ImportCallingAE{number}"] = f"SCANNER{number}"
        lines[f"ImportConverter{number}"] = (
            f'ifequal "%m", "CT"; {{ set PatientID to "S{number}%i"; nop %V0008,0090; }}; '
            f'ifnotempty "%V0010,0030"; forward to NODE{number}'
        )
    for number in range(EXPORT_RULES):
        lines[f"ExportModality{number}"] = "M*"
        lines[f"ExportConverter{number}"] = f'ifmatch "%i", "A*"; forward to NODE{number}'
    return lines

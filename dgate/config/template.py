"""The commented set of the four files that `dgate init` writes. Pure functions on packaged text."""

from __future__ import annotations

from importlib import resources

NAMES = ("dicom.ini", "acrnema.map", "dicom.sql", "dgatesop.lst")
AE_TITLE = "DGATE"
PORT = 5678


def default_file(name: str) -> bytes:
    """Return the packaged text of one of the four files."""
    return (resources.files("dgate.config") / "default" / name).read_bytes()


def new_set(ae_title: str = AE_TITLE, port: int = PORT) -> dict[str, bytes]:
    """Return the four files by name, for a server with this AE title and port."""
    files = {name: default_file(name) for name in NAMES}
    ini = files["dicom.ini"]
    for key, old, new in (
        ("MyACRNema", AE_TITLE, ae_title),
        ("TCPPort", str(PORT), str(port)),
    ):
        ini = ini.replace(f"\n{key} = {old}\n".encode(), f"\n{key} = {new}\n".encode())
    files["dicom.ini"] = ini
    old_node = f"{AE_TITLE:<16}{'127.0.0.1':<16}{PORT:<8}as".encode()
    new_node = f"{ae_title:<15} {'127.0.0.1':<16}{port:<8}as".encode()
    files["acrnema.map"] = files["acrnema.map"].replace(old_node, new_node)
    return files

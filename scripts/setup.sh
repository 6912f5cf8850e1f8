# Sourced by scripts/run, scripts/test and scripts/bench: prepares what they need, and nothing that is already there.
# Offers need_commands, make_venv, need_dicom_tools and need_database_servers; sets ROOT and PYTHON. Safe to call any number of times.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python

# As where dgate is installed: its modules are compiled once, not at every start of a server.
unset PYTHONDONTWRITEBYTECODE

# Debian keeps Orthanc where an ordinary user's PATH does not look.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

# Run a command as root, or fail when this user may not do so without being asked for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# Install Debian packages, or print the one line that does it and stop.
install_packages() {
    local line="apt-get install -y --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        die "Missing: $*. Install them with this system's package tool, then start again."
    fi
    if ! as_root true; then
        die "Missing: $*. Install them with this line, then start again:" "" "    sudo $line" ""
    fi
    say "Installing $* ..."
    # A list that cannot be refreshed is not fatal: the packages may be in the lists that are there.
    as_root apt-get update -q >&2 || say "apt-get update failed; going on with the lists that are here."
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive $line >&2 || die "apt-get could not install: $*"
}

# Print the newest usable Python, or nothing.
find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
}

# Install Python, its venv module and git where one is missing.
need_commands() {
    local missing=() python
    python=$(find_python)
    if [ -z "$python" ]; then
        missing+=(python3 python3-venv)
    elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        missing+=("$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')")
        # The name without a version is the one that Debian's own Python has.
        [ "$python" = /usr/bin/python3 ] && missing=(python3-venv)
    fi
    command -v git >/dev/null || missing+=(git)
    if [ ${#missing[@]} -gt 0 ]; then
        install_packages "${missing[@]}"
    fi
    BASE_PYTHON=$(find_python)
    [ -n "$BASE_PYTHON" ] || die "dgate needs Python 3.11 or newer; this system offers $(python3 --version 2>&1)."
}

# What an installed .venv was made from; when this text changes, pip runs again.
venv_stamp() {
    local extras=$1
    sha256sum "$ROOT/pyproject.toml" | cut -d' ' -f1
    "$PYTHON" -c 'import sys; print(sys.version)'
    printf '%s\n%s\n' "$ROOT" "$extras"
}

# Make .venv with dgate in it. make_venv "" for running, make_venv dev for tests (which covers running).
make_venv() {
    local extras=$1 stamp=$VENV/.dgate-stamp
    need_commands
    mkdir -p "$VENV"
    # Two scripts started at once would undo each other's half-made environment.
    exec 9>"$VENV/.dgate-lock"
    flock 9
    if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        say "Making $VENV ..."
        # Not --clear: it would take the lock file away from under those who wait for it.
        rm -rf "$VENV/bin" "$VENV/lib" "$VENV/lib64" "$VENV/include" "$VENV/pyvenv.cfg" "$stamp"
        "$BASE_PYTHON" -m venv "$VENV"
    fi
    if [ -f "$stamp" ] && { [ "$(cat "$stamp")" = "$(venv_stamp dev)" ] ||
        [ "$(cat "$stamp")" = "$(venv_stamp "$extras")" ]; }; then
        exec 9>&-
        return
    fi
    say "Installing dgate${extras:+ with what its tests need} into $VENV ..."
    rm -f "$stamp"
    "$PYTHON" -m pip install --quiet --editable "$ROOT${extras:+[$extras]}" >&2 ||
        die "pip could not install dgate; its message stands above."
    venv_stamp "$extras" >"$stamp"
    exec 9>&-
}

# Install the independent DICOM programs that the acceptance tests and the benchmark talk to.
need_dicom_tools() {
    local missing=()
    command -v storescu >/dev/null || missing+=(dcmtk)
    command -v Orthanc >/dev/null || missing+=(orthanc)
    [ ${#missing[@]} -gt 0 ] || return 0
    install_packages "${missing[@]}"
    case " ${missing[*]} " in
    *" orthanc "*) silence_service orthanc ;;
    esac
}

# Install the database servers that the tests start, each in a folder of its own.
need_database_servers() {
    local missing=()
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || missing+=(mariadb-server)
    [ ${#missing[@]} -gt 0 ] || return 0
    install_packages "${missing[@]}"
    local package
    for package in "${missing[@]}"; do
        case $package in
        postgresql) silence_service postgresql ;;
        mariadb-server) silence_service mariadb ;;
        esac
    done
}

# The package starts a server of its own at once; the tests start theirs. Only done when we installed it.
silence_service() {
    local name=$1
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now "$name" >/dev/null 2>&1 || true
    else
        as_root service "$name" stop >/dev/null 2>&1 || true
        as_root update-rc.d "$name" disable >/dev/null 2>&1 || true
    fi
}

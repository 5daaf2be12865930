# Sourced by samples/demo and tests/run: a virtual environment with modcodec in it.

# Name of the first Python on the path that is 3.11 or newer.
find_python() {
    local candidate
    for candidate in python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "modcodec needs Python 3.11 or newer, and there is none on the path" >&2
    return 1
}

# prepare_venv ROOT FOLDER TARGET: install TARGET ("." or ".[dev]") of the checkout ROOT into the
# environment FOLDER, which is made if it is not there; nothing is done if that is up to date.
prepare_venv() {
    local root=$1 folder=$2 target=$3 python stamp
    stamp="$folder/.modcodec-${target//[^a-z]/}"
    if [ ! -x "$folder/bin/python" ]; then
        python=$(find_python)
        echo "making a virtual environment in $folder"
        "$python" -m venv "$folder"
    fi
    if [ ! "$stamp" -nt "$root/pyproject.toml" ] || [ ! "$stamp" -nt "$root/constraints.txt" ]; then
        echo "installing modcodec and what it needs (some minutes the first time)"
        (cd "$root" && "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
            -c constraints.txt -e "$target")
        touch "$stamp"
    fi
}

#!/bin/sh
# numlstm on 64-bit ARM, on a machine that is none: Debian's Python for ARM under emulation, as a CPU
# of each level. It shows bits and crashes, not speed. What it said last is in docs/arm.md.
#
#     tests/arm64.sh [FOLDER]       ~/.cache/numlstm-arm64: 500 MB, used again where it is there
#
# Runs on Debian, or what has its apt, as any user: nothing is installed, mounted or registered. Needs
# the package qemu-user-static, and a python with pip, numlstm and what its tests need.
set -eu
cd "$(dirname "$0")/.."
folder="$(realpath -m "${1:-$HOME/.cache/numlstm-arm64}")"
root="$folder/root"
export PYTHONDONTWRITEBYTECODE=1

# Debian's Python, unpacked and never configured. apt is told of a machine of its own.
if [ ! -e "$folder/unpacked" ]; then
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial" "$root"
    : > "$folder/apt/status"
    arm_apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
            -o APT::Sandbox::User= -o Dir::State="$folder/apt" \
            -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt" "$@"
    }
    arm_apt update
    arm_apt install --yes --download-only --no-install-recommends python3 libstdc++6
    for package in "$folder"/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" |
            tar -x -C "$root" --no-same-owner --keep-directory-symlink
    done
    touch "$folder/unpacked"
fi

# A script starts it, so that it can start itself again: Linux does not know ARM's programs.
arm="$root/usr/bin/arm-python"
cat > "$arm" <<EOF
#!/bin/sh
exec qemu-aarch64-static -L "$root" -0 "\$0" "$root/usr/bin/python3" "\$@"
EOF
chmod +x "$arm"
version="$("$arm" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

# What numlstm and its tests need, as pip fetches it for that Python.
needs="$(python -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
test = project["optional-dependencies"]["test"]
print(*project["dependencies"], *(need for need in test if need.startswith(("pytest>", "hypo", "safetensors"))))
')"
if [ "$needs" != "$(cat "$folder/installed" 2> /dev/null)" ]; then
    site="$root/usr/local/lib/python$version/dist-packages"
    rm -rf "$site"
    # shellcheck disable=SC2046,SC2086
    python -m pip install --quiet --no-warn-conflicts --target "$site" --only-binary :all: \
        --python-version "$version" --implementation cp \
        --abi "cp$(echo "$version" | tr -d .)" --abi abi3 --abi none \
        $(seq -f "--platform manylinux_2_%g_aarch64" 17 36) --platform manylinux2014_aarch64 $needs
    echo "$needs" > "$folder/installed"
fi

echo "== kernels of each level"
levels="$(python -c '
from numlstm.kernels.compilation import SHIPPED
print(*(level.name for level in SHIPPED if level.machine == "aarch64"))
')"
# shellcheck disable=SC2086
python -m numlstm.kernels.compilation numlstm/kernels/images $levels

echo "== their outputs, and those of this machine"
python -m tests.outputs "$folder/here.npz" all
seen=""
for cpu in cortex-a72 neoverse-n1 max; do
    export QEMU_CPU="$cpu"
    level="$("$arm" -c 'from numlstm.kernels.cpu import LEVEL; print(LEVEL.name)')"
    "$arm" -m tests.outputs "$folder/$cpu.npz" all like "$folder/here.npz"
    seen="$seen $level"
done
for level in $levels; do
    case "$seen " in
        *" $level "*) ;;
        *) echo "none of these CPUs is of level $level" && exit 1 ;;
    esac
done

echo "== the bundled models, as $QEMU_CPU"
"$arm" -m numlstm doctor
for model in $("$arm" -c 'import numlstm; print(*numlstm.bundled())'); do
    echo "$model"
    "$arm" -m numlstm verify "$model"
done

echo "== tests that need no framework, as $QEMU_CPU"
"$arm" -m pytest -q -p no:cacheprovider -m "not slow" tests/kernels tests/machine
"$arm" -m pytest -q -p no:cacheprovider -m quick tests/run tests/stages tests/program \
    tests/test_model.py tests/test_any_network.py tests/test_parts.py tests/test_properties.py

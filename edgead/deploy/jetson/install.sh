#!/bin/sh
# edgead on a Jetson: a virtual environment that sees JetPack's own TensorRT.
#   sudo ./install.sh [--dry-run] [FOLDER] [PACKAGE]     (default: /opt/edgead, edgead from the package index)
# PACKAGE may be a wheel, a checkout, or e.g. 'edgead[onnxruntime,station]'.
set -eu

dry=''
if [ "${1:-}" = --dry-run ]; then
    dry=1
    shift
fi
folder=${1:-/opt/edgead}
package=${2:-edgead}
release_file=${EDGEAD_TEGRA_RELEASE:-/etc/nv_tegra_release}

say() { printf '%s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  -> %s\n' "$2" >&2
    exit 5
}
run() {
    say "+ $*"
    [ -n "$dry" ] || "$@"
}

[ -r "$release_file" ] || die "this is no Jetson: there is no $release_file" "on an x86 box: pip install 'edgead[tensorrt]' or 'edgead[tensorrt-rtx]'"
# "# R36 (release), REVISION: 4.0, ..."
release=$(sed -n 's/^# R\([0-9]*\) .*/\1/p' "$release_file" | head -n 1)
# The CUDA bindings must not be newer than the driver that came with JetPack.
case $release in
    36) jetpack=6 bindings='cuda-python>=12.6,<13' ;;
    3[89] | 4?) jetpack=7 bindings='cuda-python>=13,<14' ;;
    '') die "$release_file does not tell the L4T release" "please report its first line" ;;
    *) die "L4T R$release is not supported: JetPack 6 (R36) or 7 (R38 and later)" "flash JetPack 6 or 7 with NVIDIA's SDK Manager" ;;
esac
say "JetPack $jetpack (L4T R$release)"

python=${EDGEAD_PYTHON:-/usr/bin/python3}
"$python" -c 'import tensorrt' 2>/dev/null || [ -n "$dry" ] ||
    die "JetPack's Python has no TensorRT" "sudo apt install python3-libnvinfer python3-venv"
[ -z "$dry" ] || say "(not checked: does $python find tensorrt?)"

run "$python" -m venv --system-site-packages "$folder"
run "$folder/bin/pip" install --upgrade "$package" "$bindings"
# JetPack's TensorRT must stay the one that is imported; another from the index would not fit its driver.
if [ -z "$dry" ]; then
    "$folder/bin/python" -c 'import tensorrt; print("TensorRT", tensorrt.__version__, "from", tensorrt.__file__)'
    "$folder/bin/edgead" doctor
fi
say "next: sudo ./power.sh, then  $folder/bin/edgead export --on-device BUNDLE --backend tensorrt --precision fp16"

#!/bin/sh
# edgead on a line box without internet, from the folder that wheelhouse.sh made:
#   sudo sh install.sh [--no-service] [TARGET]      (default: /opt/edgead, with its systemd service, which is not started)
# What is in TARGET now is kept as TARGET.before, and put back when anything fails.
set -eu

die() {
    printf 'install.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  -> %s\n' "$2" >&2
    exit 2
}

service=1
if [ "${1:-}" = --no-service ]; then
    service=''
    shift
fi
case ${1:-} in -*) die "there is no option $1" "sh install.sh [--no-service] [TARGET]" ;; esac
[ $# -le 1 ] || die "one TARGET at most" "sh install.sh [--no-service] [TARGET]"
target=${1:-/opt/edgead}
case $target in /*) ;; *) target=$PWD/$target ;; esac
here=$(cd "$(dirname "$0")" && pwd)
python=${EDGEAD_PYTHON:-python3}

[ -z "$service" ] || [ "$target" = /opt/edgead ] || die "the service runs /opt/edgead, not $target" "add --no-service"
[ -z "$service" ] || [ "$(id -u)" = 0 ] || die "the service can be set up by root only" "sudo sh install.sh, or --no-service"
[ -f "$here/made-for" ] || die "$here is not a folder that wheelhouse.sh made" "copy it whole"

# Nothing of it is used before all of it is as it was made.
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || die "a file of $here is not what was made (see above)" "copy the folder again"
read -r version arch glibc <"$here/made-for"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || die "there is no $python" "EDGEAD_PYTHON=python$version"
[ "$found" = "$version" ] || die "this is for Python $version, and $python is $found" "EDGEAD_PYTHON=python$version, or make it for $found"
[ "$(uname -m)" = "$arch" ] || die "this is for $arch, and the box is $(uname -m)" "EDGEAD_ARCH=$(uname -m) ./wheelhouse.sh ..."
libc=$("$python" -c 'import os; print(os.confstr("CS_GNU_LIBC_VERSION").split()[1])')
[ "$(printf '%s\n%s\n' "$glibc" "$libc" | sort -V | head -n 1)" = "$glibc" ] ||
    die "this is for glibc $glibc or newer, and the box has $libc" "EDGEAD_GLIBC=$libc ./wheelhouse.sh ..."

# Nobody's folder but an installation of edgead's is moved, or removed.
before=$target.before
for folder in "$target" "$before"; do
    [ ! -e "$folder" ] || [ -f "$folder/pyvenv.cfg" ] || [ -z "$(ls -A "$folder" 2>/dev/null || printf there)" ] ||
        die "$folder is something else than an installation of edgead" "choose a TARGET that is not there yet, or move this one away"
done
restore() {
    code=$?
    trap - EXIT
    [ "$code" = 0 ] && exit 0
    rm -rf "$target"
    if [ -e "$before" ]; then
        mv "$before" "$target"
        printf 'install.sh: nothing has changed: %s is what it was\n' "$target" >&2
    fi
    exit "$code"
}
rm -rf "$before"
[ ! -e "$target" ] || mv "$target" "$before"
trap restore EXIT
trap 'exit 130' INT TERM

"$python" -m venv --without-pip "$target" # no python3-venv is needed: pip comes along
set -- "$here"/wheels/pip-*.whl
[ -f "$1" ] || die "there is no pip in $here/wheels" "make the folder again"
PYTHONPATH=$1 "$target/bin/python" -m pip install --quiet --no-index --find-links "$here/wheels" --require-hashes --only-binary :all: \
    --disable-pip-version-check --requirement "$here/requirements.txt"
"$target/bin/edgead" --version
"$target/bin/edgead" doctor || die "edgead doctor finds no engine that works here (see above)" "a wheelhouse with [openvino] or [onnxruntime]"

if [ -n "$service" ]; then
    install -m 644 "$here/systemd/edgead-sysusers.conf" /etc/sysusers.d/edgead.conf
    install -m 644 "$here/systemd/edgead-gpio.rules" /etc/udev/rules.d/60-edgead-gpio.rules
    install -m 644 "$here/systemd/edgead.service" /etc/systemd/system/edgead.service
    systemd-sysusers
    install -d -o root -g edgead -m 750 /etc/edgead
    [ -e /etc/edgead/secrets.env ] || install -m 600 /dev/null /etc/edgead/secrets.env
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        udevadm control --reload && udevadm trigger
    fi
    printf 'next: station.yaml and bundles into /etc/edgead, then\n'
    printf '  sudo -u edgead %s/bin/edgead station check /etc/edgead/station.yaml && sudo systemctl enable --now edgead\n' "$target"
fi
printf 'edgead is in %s\n' "$target"

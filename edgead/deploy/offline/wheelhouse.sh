#!/bin/sh
# All that a line box without internet needs, in one folder. On a PC that has internet:
#   ./wheelhouse.sh FOLDER [PACKAGE]       (default: edgead[openvino,station]; a wheel: ./edgead-0.1.0-py3-none-any.whl[openvino,station])
# For another kind of machine:  EDGEAD_ARCH=aarch64 EDGEAD_GLIBC=2.35 ./wheelhouse.sh FOLDER
# For another Python than python3: EDGEAD_PYTHON=python3.12 ./wheelhouse.sh FOLDER   (of the box's version: pip asks the one it runs in)
set -eu

die() {
    printf 'wheelhouse.sh: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  -> %s\n' "$2" >&2
    exit 2
}

case $# in 1 | 2) ;; *) die "one folder, and at most one package" "./wheelhouse.sh FOLDER [PACKAGE]" ;; esac
folder=$1
package=${2:-'edgead[openvino,station]'}
here=$(cd "$(dirname "$0")" && pwd)
python=${EDGEAD_PYTHON:-python3}
[ ! -e "$folder" ] || die "$folder is there already" "another FOLDER, or remove it"
"$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip" "EDGEAD_PYTHON=python3.11 in a virtual environment, for example"
for needed in install.sh ../systemd/edgead.service; do
    [ -f "$here/$needed" ] || die "$here/$needed is missing" "edgead deploy-files DIR writes this script with all that it needs"
done

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
arch=${EDGEAD_ARCH:-$(uname -m)}
glibc=${EDGEAD_GLIBC:-$("$python" -c 'import os; print(os.confstr("CS_GNU_LIBC_VERSION").split()[1])')}
case $glibc in 2.[0-9]*) ;; *) die "EDGEAD_GLIBC is '$glibc', not a version such as 2.36" "ldd --version on the box says it" ;; esac
minor=${glibc#2.}
minor=${minor%%.*}

# All that a box of this glibc takes; the newest first.
set --
while [ "$minor" -ge 17 ]; do
    set -- "$@" --platform "manylinux_2_${minor}_$arch"
    minor=$((minor - 1))
done
set -- "$@" --platform "manylinux2014_$arch" --platform "manylinux_2_12_$arch" --platform "manylinux2010_$arch" \
    --platform "manylinux_2_5_$arch" --platform "manylinux1_$arch" --platform "linux_$arch"

part=$folder.part
rm -rf "$part"
mkdir -p "$part/wheels"
trap 'rm -rf "$part"' EXIT
printf 'edgead for Python %s on %s with glibc %s or newer: %s\n' "$version" "$arch" "$glibc" "$package"
"$python" -m pip download --quiet --only-binary :all: --python-version "$version" --implementation cp "$@" \
    --dest "$part/wheels" "$package" pip || die "not all packages are there as wheels for that machine (see above)"

extras=''
case $package in *\[*\]*) extras=[${package#*\[} && extras=${extras%%\]*}] ;; esac
for wheel in "$part"/wheels/*.whl; do
    file=${wheel##*/}
    name=${file%%-*}
    rest=${file#*-}
    sum=$(sha256sum "$wheel")
    case $name in
        pip) continue ;; # it installs the others
        edgead) name=edgead$extras ;;
    esac
    printf '%s==%s --hash=sha256:%s\n' "$name" "${rest%%-*}" "${sum%% *}"
done >"$part/requirements.txt"
grep -q '^edgead' "$part/requirements.txt" || die "$package does not bring edgead" "name edgead, or a wheel of it"

printf '%s %s %s\n' "$version" "$arch" "$glibc" >"$part/made-for"
cp "$here/install.sh" "$part/"
mkdir "$part/systemd"
cp "$here"/../systemd/* "$part/systemd/"
sums=$(cd "$part" && find . -type f | LC_ALL=C sort | xargs sha256sum)
printf '%s\n' "$sums" >"$part/SHA256SUMS"
mv "$part" "$folder"
trap - EXIT
printf 'wrote %s (%s); on the box: sudo sh %s/install.sh\n' "$folder" "$(du -sh "$folder" | cut -f1)" "${folder##*/}"

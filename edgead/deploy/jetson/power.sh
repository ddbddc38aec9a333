#!/bin/sh
# Steady clocks: the power mode, then all clocks fixed at that mode's highest.
#   sudo ./power.sh [--dry-run] [--list] [MODE]
# Without MODE the present one stays. Modes differ from board to board: --list shows this board's.
set -eu

dry=''
mode=''
for word in "$@"; do
    case $word in
        --dry-run) dry=1 ;;
        --list)
            sed -n 's/^< *POWER_MODEL ID=\([0-9]*\) NAME=\([^ >]*\).*/\1 \2/p' "${EDGEAD_NVPMODEL_CONF:-/etc/nvpmodel.conf}"
            exit 0
            ;;
        *[!0-9]* | '')
            printf 'power.sh: %s is not a number of a power mode\n  -> ./power.sh --list\n' "$word" >&2
            exit 2
            ;;
        *) mode=$word ;;
    esac
done

run() {
    printf '+ %s\n' "$*"
    [ -n "$dry" ] || "$@"
}

for tool in nvpmodel jetson_clocks; do
    if [ -z "$dry" ] && ! command -v "$tool" >/dev/null; then
        printf 'power.sh: there is no %s: this is no Jetson\n' "$tool" >&2
        exit 5
    fi
done
# nvpmodel asks on the terminal when a mode needs a restart: "no" keeps the line running and the mode as it was.
if [ -n "$mode" ]; then
    run sh -c "echo no | nvpmodel -m $mode"
fi
run nvpmodel -q
run jetson_clocks
run jetson_clocks --show

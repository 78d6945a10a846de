# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# What the plugin calls of DevStack, as far as the plugin can tell the difference. A folder with
# DevStack's own files (inc/, functions-common) in $DEVSTACK is used for all but the machine.
if [[ -n "${DEVSTACK:-}" ]]; then
    set +u
    # shellcheck source=/dev/null
    for file in functions-common inc/ini-config inc/python; do source "$DEVSTACK/$file"; done
else
    declare -A GITDIR
    function define_plugin { :; }
    function enable_service { ENABLED_SERVICES+=,$1; }
    function is_service_enabled {
        local service
        for service in "$@"; do
            [[ ",$ENABLED_SERVICES," != *",$service,"* ]] || return 0
        done
        return 1
    }
    function trueorfalse {
        local value=${!2:-$1}
        case "${value,,}" in
            yes | true | 1) echo True ;;
            *) echo False ;;
        esac
    }
    function die {
        echo "$2" >&2
        exit 1
    }
    function iniset {
        "$PYTHON" - "$@" <<'PROGRAM'
import configparser, sys
path, section, option, value = sys.argv[1:]
conf = configparser.RawConfigParser(default_section="")
conf.read(path)
if not conf.has_section(section):
    conf.add_section(section)
conf.set(section, option, value)
with open(path, "w") as file:
    conf.write(file)
PROGRAM
    }
fi

# The machine: nothing is installed on it, and no unit of systemd's is made.
function get_python_exec_prefix { dirname "$PYTHON"; }
function note { echo "$*" >>"$DATA_DIR/machine"; }
function pip_install { note pip_install "$@"; }
function install_package { note install_package "$@"; }
function sudo {
    case "$1" in
        rm) "$@" ;;
        *) note sudo "$@" ;;
    esac
}
function run_process {
    is_service_enabled "$1" || return 0
    note run_process "$@"
    # The discovery client needs a kernel of its own.
    [[ "$1" == lightos-lab ]] || return 0
    # shellcheck disable=SC2086
    setsid $2 >"$DATA_DIR/$1.log" 2>&1 &
    echo $! >"$DATA_DIR/$1.pid"
}
function stop_process {
    is_service_enabled "$1" || return 0
    note stop_process "$1"
    [[ -e "$DATA_DIR/$1.pid" ]] || return 0
    local pid
    pid=$(<"$DATA_DIR/$1.pid")
    kill "$pid"
    tail --pid="$pid" -f /dev/null
}

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh PHASES...: what DevStack's scripts do with the plugin, in the order of stack.sh, unstack.sh
# and clean.sh. The environment has what local.conf would say, and PYTHON, PLUGIN, DATA_DIR.
set -o errexit
here=$(dirname "$0")
# shellcheck source=tests/integration/devstack/functions.sh
source "$here/functions.sh"
# shellcheck disable=SC2034
GITDIR[lightos-openstack]=$PLUGIN
STACK_USER=$(id -un)
CINDER_CONF=$DATA_DIR/cinder.conf

# shellcheck source=devstack/override-defaults
source "$PLUGIN/devstack/override-defaults"
# shellcheck source=devstack/settings
source "$PLUGIN/devstack/settings"

function configure_cinder {
    local each names=
    for each in ${CINDER_ENABLED_BACKENDS//,/ }; do
        if type "configure_cinder_backend_${each%%:*}" >/dev/null 2>&1; then
            "configure_cinder_backend_${each%%:*}" "${each##*:}"
        fi
        names+=,${each##*:}
    done
    iniset "$CINDER_CONF" DEFAULT enabled_backends "${names#,}"
}

for phase in "$@"; do
    case "$phase" in
        configure_cinder) configure_cinder ;;
        *)
            # shellcheck disable=SC2086 source=devstack/plugin.sh
            source "$PLUGIN/devstack/plugin.sh" $phase
            ;;
    esac
done

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# DevStack sources this in each of its phases: plugin.sh MODE [PHASE]. No secret passes through it,
# because DevStack traces what it runs: the token stays in its file.

LIGHTOS_COMMAND=$(get_python_exec_prefix)/lightos

# Whether this host attaches volumes.
function is_lightos_host {
    is_service_enabled c-vol c-bak n-cpu g-api
}

function check_lightos_settings {
    if [[ "$LIGHTOS_LAB" == "True" && -n "$LIGHTOS_API_ADDRESS" ]]; then
        die $LINENO "LIGHTOS_LAB and LIGHTOS_API_ADDRESS name two clusters: set one of the two"
    fi
    if ! is_service_enabled c-vol || [[ "$LIGHTOS_LAB" == "True" ]]; then
        return
    fi
    if [[ -z "$LIGHTOS_API_ADDRESS" ]]; then
        die $LINENO "LIGHTOS_API_ADDRESS is not set, and LIGHTOS_LAB is False: set one of the two"
    fi
    if [[ -n "$LIGHTOS_JWT_FILE" && ! -r "$LIGHTOS_JWT_FILE" ]]; then
        die $LINENO "LIGHTOS_JWT_FILE: $STACK_USER cannot read $LIGHTOS_JWT_FILE"
    fi
}

function install_lightos {
    pip_install -e "${GITDIR[lightos-openstack]}[lab]"
    install_package nvme-cli
    sudo modprobe nvme-tcp
    if [[ ! -s /etc/nvme/hostnqn ]]; then
        nvme gen-hostnqn | sudo tee /etc/nvme/hostnqn
        sed 's/.*uuid://' /etc/nvme/hostnqn | sudo tee /etc/nvme/hostid
    fi
}

# Called by configure_cinder for each back end lightos:NAME of CINDER_ENABLED_BACKENDS.
function configure_cinder_backend_lightos {
    local name=$1
    local address=$LIGHTOS_API_ADDRESS jwt_file=$LIGHTOS_JWT_FILE ca_file=$LIGHTOS_CA_FILE

    if [[ "$LIGHTOS_LAB" == "True" ]]; then
        address=$LIGHTOS_LAB_ADDRESSES
        jwt_file=$LIGHTOS_LAB_DIR/tokens/system.jwt
        ca_file=$LIGHTOS_LAB_DIR/tls/ca.pem
        # Hosts reach a lab on loopback from an address that they do not report.
        iniset "$CINDER_CONF" "$name" lightos_use_ipacl False
    fi
    iniset "$CINDER_CONF" "$name" volume_driver \
        cinder.volume.drivers.lightos.LightOSVolumeDriver
    iniset "$CINDER_CONF" "$name" volume_backend_name "$name"
    iniset "$CINDER_CONF" "$name" lightos_api_address "$address"
    iniset "$CINDER_CONF" "$name" lightos_api_port "$LIGHTOS_API_PORT"
    iniset "$CINDER_CONF" "$name" lightos_default_num_replicas "$LIGHTOS_REPLICAS"
    if [[ -n "$jwt_file" ]]; then
        iniset "$CINDER_CONF" "$name" lightos_jwt_file "$jwt_file"
    fi
    if [[ -n "$ca_file" ]]; then
        iniset "$CINDER_CONF" "$name" driver_ssl_cert_verify True
        iniset "$CINDER_CONF" "$name" driver_ssl_cert_path "$ca_file"
    fi
    if [[ -n "$LIGHTOS_DATA_NETWORKS" ]]; then
        iniset "$CINDER_CONF" "$name" lightos_data_networks "$LIGHTOS_DATA_NETWORKS"
    fi
}

# Before cinder-volume starts, which asks the cluster at once.
function start_lightos {
    if [[ "$LIGHTOS_LAB" == "True" ]]; then
        run_process lightos-lab "$LIGHTOS_COMMAND lab up --state-dir $LIGHTOS_LAB_DIR \
--addresses $LIGHTOS_LAB_ADDRESSES --api-port $LIGHTOS_API_PORT"
        "$LIGHTOS_COMMAND" lab wait --state-dir "$LIGHTOS_LAB_DIR" --timeout 60
    fi
    run_process lightos-discovery-client "$LIGHTOS_COMMAND discovery-client serve" "" root
}

function stop_lightos {
    stop_process lightos-discovery-client
    stop_process lightos-lab
}

# The volumes of the lab. A folder that holds no lab is left alone.
function cleanup_lightos {
    if [[ "$LIGHTOS_LAB" == "True" && -e "$LIGHTOS_LAB_DIR/cluster.sqlite" ]]; then
        sudo rm -rf "$LIGHTOS_LAB_DIR"
    fi
}

if is_lightos_host; then
    case "$1 ${2:-}" in
        "stack pre-install") check_lightos_settings ;;
        "stack install") install_lightos ;;
        "stack post-config") start_lightos ;;
        "unstack ") stop_lightos ;;
        "clean ") cleanup_lightos ;;
    esac
fi

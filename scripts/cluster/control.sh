# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: the control plane, the registries and the bridge that bears the nodes' addresses.

components() {
    echo etcd apiserver controller-manager scheduler
    [ "$PLANE" = second ] || echo registry registry-in-pods private-registry
    local node
    for node in $(nodes); do echo "mounts@$node containerd@$node kubelet@$node"; done
}

# start_component NAME: does nothing if it runs. A name without @NODE means node1 where it is a node's component.
start_component() {
    case $1 in
        node | containerd | kubelet) start_component "$1@node1" && return ;;
    esac
    ! alive "$1" || return 0
    case $1 in
        etcd) start_etcd ;;
        apiserver) start_apiserver ;;
        controller-manager) start_controller_manager ;;
        scheduler)
            spawn scheduler "pipekeeper/$PLANE" kube-scheduler --kubeconfig="$P/pki/scheduler.kubeconfig" \
                --leader-elect=false --port=0 --secure-port=0 --kube-api-qps=100 --kube-api-burst=200 ;;
        registry) start_registry registry "$REGISTRY_PORT" "" ;;
        registry-in-pods)
            # Pods cannot reach this machine's loopback; they get the registry at the first node's address.
            spawn registry-in-pods "pipekeeper/$PLANE" socat \
                "TCP-LISTEN:$REGISTRY_PORT,bind=${REGISTRY_IN_PODS%:*},fork,reuseaddr" "TCP:127.0.0.1:$REGISTRY_PORT" ;;
        private-registry)
            private_credentials
            start_registry private "$PRIVATE_PORT" "auth: {htpasswd: {realm: private, path: $DATA/private/htpasswd}}" ;;
        mounts@* | containerd@* | kubelet@* | node@*)
            node_exists "${1#*@}" || die "there is no node \`${1#*@}\`" "scripts/dev-cluster node add ${1#*@}"
            "start_${1%%@*}" "${1#*@}" ;;
        *) die "there is no component \`$1\`" "scripts/dev-cluster status" ;;
    esac
}

stop_component() {
    case $1 in
        node) node_down node1 ;;
        node@*) node_down "${1#*@}" ;;
        containerd | kubelet) end "$1@node1" "${2:-}" ;;
        *) end "$1" "${2:-}" ;;
    esac
}

kill_component() { stop_component "$1" now; }

start_etcd() {
    # Nothing here outlives the machine, so etcd need not wait for the disk.
    spawn etcd "pipekeeper/$PLANE" etcd --data-dir "$P/etcd" --unsafe-no-fsync \
        --listen-client-urls "http://127.0.0.1:$ETCD_PORT" --advertise-client-urls "http://127.0.0.1:$ETCD_PORT" \
        --listen-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
        --initial-advertise-peer-urls "http://127.0.0.1:$((ETCD_PORT + 1))" \
        --initial-cluster "default=http://127.0.0.1:$((ETCD_PORT + 1))"
}

start_apiserver() {
    local pki=$P/pki
    # Pods leave a lost node after 10 seconds instead of five minutes, so that tests need not wait for it.
    spawn apiserver "pipekeeper/$PLANE" kube-apiserver --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
        --bind-address=127.0.0.1 --secure-port="$API_PORT" --advertise-address=127.0.0.1 --endpoint-reconciler-type=none \
        --service-cluster-ip-range="$SERVICES.0.0/16" --authorization-mode=Node,RBAC --allow-privileged=true \
        --default-not-ready-toleration-seconds=10 --default-unreachable-toleration-seconds=10 \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --service-account-issuer=https://kubernetes.default.svc --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
        --kubelet-certificate-authority="$pki/ca.crt"
}

start_controller_manager() {
    # The default rate of evictions, one node in ten seconds, would make a node's loss wait for an earlier node's start.
    spawn controller-manager "pipekeeper/$PLANE" kube-controller-manager --leader-elect=false --port=0 --secure-port=0 \
        --kubeconfig="$P/pki/controller-manager.kubeconfig" --use-service-account-credentials \
        --service-account-private-key-file="$P/pki/sa.key" --root-ca-file="$P/pki/ca.crt" \
        --node-monitor-period=2s --node-monitor-grace-period=12s --node-eviction-rate=10 --secondary-node-eviction-rate=10 \
        --kube-api-qps=100 --kube-api-burst=200 --flex-volume-plugin-dir="$P/flex"
}

# start_registry FOLDER PORT AUTH
start_registry() {
    local folder=$DATA/$1 name=registry
    [ "$1" = registry ] || name=$1-registry
    mkdir -p "$folder"
    cat >"$folder/config.yml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $folder/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$2", relativeurls: true}
$3
END
    spawn "$name" "pipekeeper/$PLANE" docker-registry serve "$folder/config.yml"
}

# private_credentials: a random password, kept as `ci:PASSWORD` in a file and hashed for the registry, which wants bcrypt.
private_credentials() {
    local folder=$DATA/private password
    [ ! -f "$folder/htpasswd" ] || return 0
    mkdir -p "$folder"
    password=$(openssl rand -hex 16)
    (umask 077 && echo "ci:$password" >"$folder/credentials")
    # shellcheck disable=SC2016
    printf '%s\n%s' "$password" "$(openssl rand -hex 11)" \
        | perl -e 'chomp(my ($p, $s) = <STDIN>); print "ci:", crypt($p, "\$2y\$05\$$s"), "\n"' >"$folder/htpasswd"
}

registries() {
    local name
    mkdir -p "$P/log" "$P/run"
    network
    for name in registry registry-in-pods private-registry; do start_component "$name"; done
    wait_for registry ready registry
    wait_for private-registry ready private-registry
}

# ready NAME: whether a component does its work. Those without a port only need to run.
ready() {
    case $1 in
        node | containerd | kubelet) ready "$1@node1" && return ;;
        node@*) ready "kubelet@${1#*@}" && return ;;
    esac
    alive "$1" || return 1
    case $1 in
        apiserver) api /readyz ;;
        registry) curl -fs --noproxy '*' "http://127.0.0.1:$REGISTRY_PORT/v2/" ;;
        private-registry) curl -s --noproxy '*' "http://127.0.0.1:$PRIVATE_PORT/v2/" ;;
        kubelet@*) curl -fs --noproxy '*' "http://$(node_address "${1#*@}"):10248/healthz" ;;
        containerd@*) ctr --address "$P/nodes/${1#*@}/containerd/containerd.sock" version ;;
    esac
}

kube() { kubectl --kubeconfig "$KUBECONFIG_ADMIN" --cache-dir "$P/kubectl" "$@"; }
# api PATH: what the apiserver answers; kubectl would take several times as long.
api() {
    curl -fs --noproxy '*' --cacert "$P/pki/ca.crt" --cert "$P/pki/admin.crt" --key "$P/pki/admin.key" \
        "https://127.0.0.1:$API_PORT$1"
}

# network: the bridge with the nodes' addresses. Addresses that nobody has must not leave the machine by its default route.
network() {
    [ ! -d "/sys/class/net/$BRIDGE" ] || return 0
    settings_save
    ip link add "$BRIDGE" type bridge
    ip addr add "$NET.255.1/32" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    ip route replace blackhole "$NET.0.0/16"
    ip route replace blackhole "$SERVICES.0.0/16"
}

network_down() {
    local link
    for link in /sys/class/net/"$BRIDGE"*; do
        [ ! -d "$link" ] || ip link del "${link##*/}"
    done
    ip route del blackhole "$NET.0.0/16" 2>/dev/null || true
    ip route del blackhole "$SERVICES.0.0/16" 2>/dev/null || true
}

# What kubelet and the bridge CNI change of this machine; `down` puts it back.
SETTINGS=(net/ipv4/ip_forward vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

settings_save() {
    local name
    [ ! -f "$DATA/settings" ] || return 0
    for name in "${SETTINGS[@]}"; do echo "$name $(cat "/proc/sys/$name")"; done >"$DATA/settings"
}

settings_restore() {
    local name value
    [ -f "$DATA/settings" ] || return 0
    while read -r name value; do echo "$value" >"/proc/sys/$name"; done <"$DATA/settings"
    rm "$DATA/settings"
}

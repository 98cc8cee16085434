# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: nodes. Each has its own containerd, kubelet, address, pod network and control group.
#
# Several nodes live on this one machine, but kubelet and containerd have folders that cannot be set (a kubelet even
# deletes the logs of pods that it does not know from /var/log/pods). So each node has a mount namespace, in which these
# folders are its own. Its mounts are seen only there and vanish with it.

# Folder as the node sees it : where it is below the node's own folder.
NODE_MOUNTS=(/var/lib/kubelet:kubelet /var/lib/cni:cni/lib /var/log/pods:pod-logs /var/log/containers:container-logs
    /run/containerd:containerd/run)

nodes() {
    local folder
    for folder in "$P"/nodes/*/; do
        [ ! -f "$folder/index" ] || basename "$folder"
    done
}
node_exists() { [ -f "$P/nodes/$1/index" ]; }
node_address() { echo "$NET.255.$(cat "$P/nodes/$1/index")"; }
node_group() { echo "pipekeeper/$PLANE-$1"; }

# node_create NAME: its folder, number, address and certificate.
node_create() {
    local node=$P/nodes/$1 index=1 used
    used=" $({ cat "$P"/nodes/*/index 2>/dev/null || true; } | tr '\n' ' ')"
    while [[ $used == *" $index "* ]]; do index=$((index + 1)); done
    mkdir -p "$node"
    client "$node/kubelet" "/O=system:nodes/CN=system:node:$1" "DNS:$1,IP:$NET.255.$index"
    echo "$index" >"$node/index"
}

# node_abandoned NAME: whoever made it for itself has ended, and could not remove it.
node_abandoned() {
    local pid at
    [ -f "$P/nodes/$1/owner" ] || return 1
    read -r pid at <"$P/nodes/$1/owner"
    [ "$(started_at "$pid")" != "$at" ]
}

# node_add NAME [PID]
node_add() {
    [[ $1 =~ ^[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || usage "a node's name has small letters, digits and dashes"
    ready apiserver >/dev/null || die "the cluster is not up" "scripts/dev-cluster up"
    node_exists "$1" || node_create "$1"
    [ -z "${2:-}" ] || echo "$2 $(started_at "$2")" >"$P/nodes/$1/owner"
    start_component "node@$1"
    wait_for "kubelet of $1" ready "kubelet@$1"
    wait_for "node $1" node_ready "$1"
}

node_remove() {
    [ "$1" != node1 ] || usage "node1 stays; see \`stop node\`"
    node_exists "$1" || return 0
    node_down "$1"
    kube delete node "$1" --ignore-not-found --wait=false
    rm -rf "$P/nodes/$1" "$P/log"/*@"$1.log"
}

# node_down NAME: as if its power went: no process, mount or interface of it is left, its disk and its Node object are.
node_down() {
    local node=$P/nodes/$1 name
    end_group "$(node_group "$1")"
    for name in mounts containerd kubelet; do rm -f "$P/run/$name@$1.pid"; done
    ip link del "$(pod_bridge "$1")" 2>/dev/null || true
    # What a real machine has in memory.
    rm -rf "$node/containerd/state" "$node/containerd/run" "$node/containerd/runc"
}

# node_ready NAME: also without the taint of a node that is not, which goes a moment later. The taint of a node that
# somebody cordoned is theirs.
node_ready() {
    local node
    node=$(api "/api/v1/nodes/$1?pretty=false") || return 1
    node=${node//'"key":"node.kubernetes.io/unschedulable"'/}
    [[ $node == *'"type":"Ready","status":"True"'* && $node != *'"key":"node.kubernetes.io/'* ]]
}

start_node() {
    start_component "containerd@$1"
    start_component "kubelet@$1"
}

# start_mounts NAME: a process that does nothing but hold the node's mount namespace.
start_mounts() {
    local node=$P/nodes/$1 mount script=""
    for mount in "${NODE_MOUNTS[@]}"; do
        mkdir -p "${mount%%:*}" "$node/${mount#*:}"
        script+="mount --bind '$node/${mount#*:}' '${mount%%:*}'; "
    done
    spawn "mounts@$1" "$(node_group "$1")/daemons" unshare --mount --propagation slave sh -ec "$script exec sleep infinity"
    wait_for "the mounts of $1" in_node "$1" test -d /run/containerd
    wait_for "the mounts of $1" grep -qx sleep "/proc/$(mounts_pid "$1")/comm"
}
mounts_pid() { cut -d' ' -f1 "$P/run/mounts@$1.pid"; }

# in_node NAME COMMAND...: runs a command in the node's mount namespace.
in_node() { nsenter --mount="/proc/$(mounts_pid "$1")/ns/mnt" -- "${@:2}"; }

pod_bridge() { echo "${BRIDGE}p$(cat "$P/nodes/$1/index")"; }

# start_containerd NAME
start_containerd() {
    local node=$P/nodes/$1 address
    start_component "mounts@$1"
    address=$(node_address "$1")
    ip addr replace "$address/32" dev "$BRIDGE"
    cni_config "$1"
    containerd_config "$1" "$address" "$(snapshotter "$node")" >"$node/containerd/config.toml"
    spawn "containerd@$1" "$(node_group "$1")/daemons" nsenter --mount="/proc/$(mounts_pid "$1")/ns/mnt" -- \
        containerd --config "$node/containerd/config.toml"
    wait_for "containerd of $1" ready "containerd@$1"
}

cni_config() {
    local node=$P/nodes/$1 index
    index=$(cat "$node/index")
    mkdir -p "$node/cni/net.d"
    cat >"$node/cni/net.d/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "$(pod_bridge "$1")", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$NET.$((index - 1)).0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "$node/cni/ipam"}}]}
END
}

# snapshotter FOLDER: overlayfs where the kernel and the file system of that folder can do it.
snapshotter() {
    local try
    try=$(mktemp -d "$1/overlay.XXXXXX")
    mkdir "$try"/{lower,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$try/lower,upperdir=$try/upper,workdir=$try/work" "$try/merged" 2>/dev/null; then
        umount "$try/merged"
        echo overlayfs
    else
        echo native
    fi
    rm -rf "$try"
}

# containerd_config NAME ADDRESS SNAPSHOTTER
containerd_config() {
    local node=$P/nodes/$1 host port
    cat <<END
version = 2
root = "$node/containerd/root"
state = "$node/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "$node/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost:$REGISTRY_PORT/pause:3"
  stream_server_address = "$2"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$3"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    Root = "$node/containerd/runc"
END
    for port in $REGISTRY_PORT $PRIVATE_PORT; do
        for host in localhost 127.0.0.1 "${REGISTRY_IN_PODS%:*}"; do
            echo "  [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"$host:$port\"]"
            echo "    endpoint = [\"http://127.0.0.1:$port\"]"
        done
    done
}

# start_kubelet NAME
start_kubelet() {
    local node=$P/nodes/$1 address
    start_component "containerd@$1"
    address=$(node_address "$1")
    kubelet_config "$1" "$address" >"$node/kubelet.yaml"
    make_group "$(node_group "$1")/daemons"
    spawn "kubelet@$1" "$(node_group "$1")/daemons" nsenter --mount="/proc/$(mounts_pid "$1")/ns/mnt" -- \
        kubelet --config="$node/kubelet.yaml" --kubeconfig="$node/kubelet.kubeconfig" --container-runtime=remote \
        --container-runtime-endpoint="unix://$node/containerd/containerd.sock" --hostname-override="$1" \
        --node-ip="$address" --cert-dir="$node" --volume-plugin-dir="/var/lib/kubelet/volumeplugins"
}

# kubelet_config NAME ADDRESS: a lost node is noticed within 12 seconds, hence the frequent status; the rest lets many
# pods start at once, and keeps kubelet from touching this machine's packet filter.
kubelet_config() {
    local node=$P/nodes/$1
    cat <<END
kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $P/pki/ca.crt}}
authorization: {mode: Webhook}
address: $2
healthzBindAddress: $2
tlsCertFile: $node/kubelet.crt
tlsPrivateKeyFile: $node/kubelet.key
cgroupDriver: cgroupfs
cgroupRoot: /$(node_group "$1")
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
clusterDNS: ["$2"]
clusterDomain: cluster.local
resolvConf: ""
nodeStatusUpdateFrequency: 3s
nodeLeaseDurationSeconds: 12
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
imageGCHighThresholdPercent: 100
maxPods: 250
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
END
}

# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: Debian's packages, and Kubernetes built once from Debian's source package.

K8S_VERSION=v1.20.2
K8S_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
PACKAGES=(etcd-server containerd runc containernetworking-plugins docker-registry busybox-static gcc libc6-dev
    iproute2 iptables conntrack socat ethtool openssl ca-certificates curl perl-base)
BUILD_PACKAGES=(golang-go golang-github-modern-go-reflect2-dev dpkg-dev rsync make gcc libc6-dev)
# How the programs were built; a build after another recipe does not count.
RECIPE="$K8S_VERSION with reflect2 1.0.2"

built() {
    local program
    [ "$(cat "$BIN/recipe" 2>/dev/null)" = "$RECIPE" ] || return 1
    for program in "${K8S_PROGRAMS[@]}"; do [ -x "$BIN/$program" ] || return 1; done
}

installed() {
    built && command -v etcd containerd runc docker-registry busybox kubectl socat gcc curl >/dev/null && [ -d /usr/lib/cni ]
}

# phase TEXT: one line per phase, with the seconds since the start, since a build takes minutes.
phase() { printf '[%4s s] %s\n' $((SECONDS)) "$1" >&2; }

install() {
    local wanted=("${PACKAGES[@]}") missing=() package
    built || wanted+=("${BUILD_PACKAGES[@]}")
    command -v kubectl >/dev/null || wanted+=(kubernetes-client)
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        phase "installing ${missing[*]}"
        apt_install "${missing[@]}"
    fi
    built || build
    phase "installed"
}

# apt_install PACKAGE...: Debian starts some daemons when it installs them; ours run from here instead.
apt_install() {
    local policy=/usr/sbin/policy-rc.d log=$CACHE/packages.log ours=no failed=no
    mkdir -p "$CACHE"
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 9>&- || failed=yes
    [ $ours = no ] || rm -f $policy
    [ $failed = no ] || die "packages could not be installed" "see $log"
}

# debian_uri: where this machine has Debian's own packages from.
debian_uri() {
    local files=(/etc/apt/sources.list /etc/apt/sources.list.d/*)
    { cat "${files[@]}" 2>/dev/null || true; } \
        | sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) bookworm main.*/\2/p' | grep -m 1 '/debian/\?$'
}

# fetch_source SRC: the source package, without touching the machine's own lists of packages.
fetch_source() {
    local apt=$CACHE/apt src=$1 options uri
    uri=$(debian_uri) || die "no source of Debian's packages is known" "see /etc/apt/sources.list"
    mkdir -p "$apt"/{lists/partial,cache/archives/partial} "$src"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bookworm main" >"$apt/sources.list"
    options=(-oDir::State::Lists="$apt/lists" -oDir::Cache="$apt/cache" -oDir::Etc::sourcelist="$apt/sources.list"
        -oDir::Etc::sourceparts=- -oAPT::Sandbox::User=root)
    phase "fetching Debian's source of Kubernetes"
    apt-get "${options[@]}" update -qq >&2
    (cd "$src" && rm -rf k8s && apt-get "${options[@]}" source -qq --download-only kubernetes >&2)
    phase "unpacking it"
    (cd "$src" && dpkg-source --no-check -x ./kubernetes_*.dsc k8s >/dev/null)
    # The reflect2 in it is older than Debian's Go: it calls into Go's runtime with an argument too few, so that JSON
    # with a map in it overwrites memory, and an apiserver soon panics on every new pod. Debian has one that fits.
    local reflect2=github.com/modern-go/reflect2
    rm "$src/k8s/vendor/$reflect2"/*.{go,s}
    cp "/usr/share/gocode/src/$reflect2"/*.{go,s} "$src/k8s/vendor/$reflect2/"
}

# build: about six minutes on two cores, once per machine.
build() {
    local src=$CACHE/src line program
    fetch_source "$src"
    mkdir -p "$BIN" "$CACHE/gopath/src/k8s.io"
    ln -sfn "$src/k8s" "$CACHE/gopath/src/k8s.io/kubernetes"
    phase "building Kubernetes $K8S_VERSION: first its generators, then the programs (the long part); $CACHE/build.log"
    (
        cd "$CACHE/gopath/src/k8s.io/kubernetes"
        export GOPATH=$CACHE/gopath GOCACHE=$CACHE/gocache CGO_ENABLED=0 GOFLAGS='' HOME="${HOME:-/root}"
        export KUBE_GIT_VERSION=$K8S_VERSION KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=clean
        export KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
        make WHAT="${K8S_PROGRAMS[*]/#/cmd/}" 2>&1
    ) | tee "$CACHE/build.log" | while read -r line; do
        case $line in ./vendor/* | cmd/*) phase "building $line" ;; esac
    done || die "Kubernetes could not be built" "see $CACHE/build.log"
    for program in "${K8S_PROGRAMS[@]}"; do
        # Moved, for an earlier build of it may be running.
        cp "$src"/k8s/_output/local/bin/linux/*/"$program" "$BIN/$program.new"
        strip "$BIN/$program.new" 2>/dev/null || true
        mv "$BIN/$program.new" "$BIN/$program"
    done
    echo "$RECIPE" >"$BIN/recipe"
    rm -rf "$src/k8s" "$CACHE/gocache"
    chmod -R u+w "$CACHE/gopath"
    rm -rf "$CACHE/gopath"
}

# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: the certificate authority of a control plane, certificates and kubeconfigs.

# certificate FILE SUBJECT [ALTERNATIVE_NAMES]: makes FILE.key and FILE.crt, signed by the control plane's authority.
certificate() {
    local extensions="extendedKeyUsage=serverAuth,clientAuth"
    [ -z "${3:-}" ] || extensions+=$'\n'"subjectAltName=$3"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA "$P/pki/ca.crt" -CAkey "$P/pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
        -days 3650 -out "$1.crt" -extfile <(echo "$extensions") 2>/dev/null
    rm "$1.csr"
}

# kubeconfig FILE: for the certificate FILE.crt, on standard output.
kubeconfig() {
    cat <<END
apiVersion: v1
kind: Config
clusters:
- {name: $PLANE, cluster: {server: "https://127.0.0.1:$API_PORT", certificate-authority-data: $(base64 -w0 "$P/pki/ca.crt")}}
users:
- {name: user, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}
contexts:
- {name: $PLANE, context: {cluster: $PLANE, user: user}}
current-context: $PLANE
END
}

# client FILE SUBJECT [ALTERNATIVE_NAMES]: a certificate and FILE.kubeconfig with it.
client() {
    certificate "$@"
    (umask 077 && kubeconfig "$1" >"$1.kubeconfig")
}

pki() {
    local pki=$P/pki
    [ ! -f "$pki/complete" ] || return 0
    mkdir -p "$pki"
    chmod 700 "$pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -keyout "$pki/ca.key" \
        -out "$pki/ca.crt" -subj "/CN=pipekeeper-$PLANE" 2>/dev/null
    # Tests reach the apiserver through a proxy on another loopback port, so 127.0.0.1 must be among the names.
    certificate "$pki/apiserver" "/CN=kube-apiserver" \
        "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$SERVICES.0.1"
    client "$pki/admin" "/O=system:masters/CN=admin"
    client "$pki/controller-manager" "/CN=system:kube-controller-manager"
    client "$pki/scheduler" "/CN=system:kube-scheduler"
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$pki/sa.key" 2>/dev/null
    openssl pkey -in "$pki/sa.key" -pubout -out "$pki/sa.pub"
    touch "$pki/complete"
}

# user NAME [GROUP...]: prints a kubeconfig; what the user may do is for RoleBindings to say.
user() {
    local folder subject="" word
    [ -f "$P/pki/complete" ] || die "the cluster was never up" "scripts/dev-cluster up"
    for word in "${@:2}"; do subject+="/O=${word//\//\\/}"; done
    folder=$(mktemp -d)
    client "$folder/user" "$subject/CN=${1//\//\\/}"
    cat "$folder/user.kubeconfig"
    rm -r "$folder"
}

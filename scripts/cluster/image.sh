# shellcheck shell=bash disable=SC2154
# Part of scripts/dev-cluster: packs folders as images, and the images that tests use.
#
# An image is a tar of its files, a JSON about it and a manifest that names both; curl pushes them. That takes a tenth of
# a second, and needs neither a build tool nor anything of the kernel. The same folder always gives the same digest.

# json_list WORD...: a JSON list of strings.
json_list() {
    local word list=""
    for word in "$@"; do
        word=${word//\\/\\\\} word=${word//\"/\\\"} word=${word//$'\n'/\\n} word=${word//$'\t'/\\t}
        list+="${list:+,}\"$word\""
    done
    echo "[$list]"
}

# registry_curl ARGUMENT...: with the credentials where the registry wants them, kept out of the list of processes.
registry_curl() {
    local auth=""
    [ "$registry" != private ] || auth="user = \"$(cat "$DATA/private/credentials")\""
    curl -fsS --noproxy '*' -K <(echo "$auth") "$@"
}

# push_blob FILE: prints its digest.
push_blob() {
    local digest location
    digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
    if ! registry_curl -I -o /dev/null "$url/blobs/$digest" 2>/dev/null; then
        location=$(registry_curl -X POST -o /dev/null -D - "$url/blobs/uploads/" \
            | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
        [[ $location == http* ]] || location=${url%/v2/*}$location
        registry_curl -o /dev/null -H 'Content-Type: application/octet-stream' -T "$1" "$location&digest=$digest"
    fi
    echo "$digest"
}

# image [--private] [--user U] [--workdir D] [--entrypoint WORD]... [--env K=V]... NAME:TAG ROOTFS [CMD...]
image() {
    local registry=public port=$REGISTRY_PORT user="" workdir="" entrypoint=() variables=()
    variables=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    while [[ ${1:-} == --* ]]; do
        case $1 in
            --private) registry=private port=$PRIVATE_PORT && shift && continue ;;
            --user) user=${2:-} ;;
            --workdir) workdir=${2:-} ;;
            --entrypoint) entrypoint+=("${2:-}") ;;
            --env) variables+=("${2:-}") ;;
            *) usage "image: unknown option \`$1\`" ;;
        esac
        [ $# -ge 2 ] || usage "image: \`$1\` wants a value"
        shift 2
    done
    [ $# -ge 2 ] || usage "image wants NAME:TAG and a folder"
    [[ $1 == ?*:?* ]] || usage "image: \`$1\` has no tag"
    [ -d "$2" ] || die "there is no folder \`$2\`"
    local url=http://127.0.0.1:$port/v2/${1%:*} name=${1%:*} tag=${1##*:} root=$2 folder config
    shift 2
    folder=$(mktemp -d)
    # Without the folder itself, whose mode is often that of a temporary one, closed to an image's user.
    (cd "$root" && find . -mindepth 1 -print0 | LC_ALL=C sort -z \
        | tar --null --no-recursion --numeric-owner --mtime=2020-01-01 -T - -cf "$folder/layer")
    local layer size
    layer=$(push_blob "$folder/layer")
    config="\"User\":$(json_list "$user" | tr -d '[]'),\"WorkingDir\":$(json_list "$workdir" | tr -d '[]')"
    config+=",\"Env\":$(json_list "${variables[@]}")"
    [ ${#entrypoint[@]} -eq 0 ] || config+=",\"Entrypoint\":$(json_list "${entrypoint[@]}")"
    [ $# -eq 0 ] || config+=",\"Cmd\":$(json_list "$@")"
    cat >"$folder/config" <<END
{"created":"2020-01-01T00:00:00Z","architecture":"$(dpkg --print-architecture)","os":"linux","config":{$config},
"rootfs":{"type":"layers","diff_ids":["$layer"]}}
END
    size=$(stat -c %s "$folder/layer")
    local type=application/vnd.oci.image
    cat >"$folder/manifest" <<END
{"schemaVersion":2,"mediaType":"$type.manifest.v1+json",
"config":{"mediaType":"$type.config.v1+json","digest":"$(push_blob "$folder/config")","size":$(stat -c %s "$folder/config")},
"layers":[{"mediaType":"$type.layer.v1.tar","digest":"$layer","size":$size}]}
END
    registry_curl -o /dev/null -X PUT -H "Content-Type: $type.manifest.v1+json" --data-binary "@$folder/manifest" "$url/manifests/$tag"
    echo "localhost:$port/$name@sha256:$(sha256sum "$folder/manifest" | cut -d' ' -f1)"
    rm -r "$folder"
}

TEST_IMAGES=(pause:3 busybox:1 nonroot:1 noshell:1 root-service:1 user-service:1)

# test_images: makes those that are missing.
test_images() {
    local image urls=() folder
    for image in "${TEST_IMAGES[@]}"; do
        urls+=(-o /dev/null "http://127.0.0.1:$REGISTRY_PORT/v2/${image%:*}/manifests/${image##*:}")
    done
    if curl -fs --fail-early --noproxy '*' -H 'Accept: application/vnd.oci.image.manifest.v1+json' "${urls[@]}"; then
        return 0
    fi
    for image in "${TEST_IMAGES[@]}"; do
        folder=$(mktemp -d)
        "image_${image%:*}" "$folder" >/dev/null
        rm -r "$folder"
    done
}

# static_program FILE: compiles the C program on standard input.
static_program() { gcc -Os -static -s -x c -o "$1" -; }

# image_pause: what holds a pod together: a program that sleeps, and reaps what others leave behind.
image_pause() {
    static_program "$1/pause" <<'END'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void stop(int s) { (void)s; _exit(0); }
static void reap(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGINT, stop); signal(SIGTERM, stop); signal(SIGCHLD, reap); for (;;) pause(); }
END
    image --entrypoint /pause pause:3 "$1"
}

# busybox_root FOLDER: a small system, with root and a user `dev` (1000).
busybox_root() {
    local applet
    mkdir -p "$1"/{bin,etc,root,tmp,home/dev}
    cp "$(command -v busybox)" "$1/bin/busybox"
    for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000:dev:/home/dev:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\ndev:x:1000:\n' >"$1/etc/group"
    chown 1000:1000 "$1/home/dev"
    chmod 1777 "$1/tmp"
}

image_busybox() {
    busybox_root "$1"
    image busybox:1 "$1" sh
}

image_nonroot() {
    busybox_root "$1"
    image --user 1000:1000 --env HOME=/home/dev --workdir /home/dev nonroot:1 "$1" sh
}

# image_noshell: one program and nothing else, not even a folder for temporary files.
image_noshell() {
    static_program "$1/hello" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    for (int i = 1; i < count; i++) printf("argument: %s\n", words[i]);
    printf("greeting: %s\n", getenv("GREETING") ? getenv("GREETING") : "");
    return getenv("CODE") ? atoi(getenv("CODE")) : 0;
}
END
    image --entrypoint /hello noshell:1 "$1"
}

# service_root FOLDER PORT CONDITION: serves its own name over HTTP, if the condition about its user holds.
service_root() {
    busybox_root "$1"
    mkdir "$1/www"
    echo "service on port $2" >"$1/www/index.html"
    cat >"$1/bin/serve" <<END
#!/bin/sh
if ! [ "\$(id -u)" $3 ]; then echo "serve: must not run as user \$(id -u)" >&2; exit 1; fi
echo "serving on port $2 as user \$(id -u)"
exec httpd -f -p $2 -h /www
END
    chmod +x "$1/bin/serve"
}

image_root-service() {
    service_root "$1" 8080 "= 0"
    image --entrypoint /bin/serve root-service:1 "$1"
}

image_user-service() {
    service_root "$1" 8081 "!= 0"
    image --user 1000:1000 --entrypoint /bin/serve user-service:1 "$1"
}

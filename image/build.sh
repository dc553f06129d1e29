#!/usr/bin/env bash
# Builds the container image from a binary that exists already.
#
#   BINARY   the pgexport binary (required; linked against glibc)
#   TAG      the image's name (default localhost/pgexport:dev)
#   OUT      the archive to write (default STATE/image/pgexport.tar; docker archive)
#   ENGINE   buildah (default where there is one) or docker
#   SOURCE_DATE_EPOCH  the time of everything inside (default 0)
#
# The same binary, certificates and libraries give the same archive. STATE:
# $PGEXPORT_STATE, or .state in the checkout.
set -euo pipefail

fail() { echo "image: $*" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$(realpath -m "${PGEXPORT_STATE:-$here/../.state}")
tag=${TAG:-localhost/pgexport:dev}
out=$(realpath -m "${OUT:-$state/image/pgexport.tar}")
epoch=${SOURCE_DATE_EPOCH:-0}
certificates=/etc/ssl/certs/ca-certificates.crt
engine=${ENGINE:-$(command -v buildah >/dev/null && echo buildah || echo docker)}

[[ -n ${BINARY:-} ]] || fail "set BINARY to the path of the pgexport binary"
[[ -x $BINARY ]] || fail "$BINARY is no executable file"
[[ -f $certificates ]] || fail "$certificates is missing: apt-get install ca-certificates"
command -v "$engine" >/dev/null || fail "$engine is missing: apt-get install buildah, or set ENGINE"

[[ $("$BINARY" --version) != *failpoints* ]] || echo "image: this build has failpoints: the image is for tests only" >&2

mkdir -p "$state/image" "$(dirname "$out")"
work=$(mktemp -d "$state/image/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
context=$work/context
root=$context/rootfs

# libraries prints the absolute paths of all that a binary is loaded with, the
# dynamic loader included. A static binary has none.
libraries() {
  local listing
  listing=$(ldd "$1" 2>&1) || { [[ $listing == *"not a dynamic executable"* ]] && return; fail "$listing"; }
  [[ $listing != *"not found"* ]] || fail "$1 links a library that is not installed: $listing"
  awk '$2 == "=>" { print $3; next } $1 ~ "^/" { print $1 }' <<<"$listing"
}

linked=$(libraries "$BINARY")
install -D -m 0755 "$BINARY" "$root/usr/bin/pgexport"
while read -r library; do
  [[ -n $library ]] || continue
  install -D -m 0755 "$library" "$root$library" # install follows links: a file at the path that is looked up
done <<<"$linked"
install -D -m 0644 "$certificates" "$root$certificates"
install -d -m 1777 "$root/tmp"
echo 'nonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin' >"$root/etc/passwd"
echo 'nonroot:x:65532:' >"$root/etc/group"
chmod 0644 "$root/etc/passwd" "$root/etc/group"
find "$root" -exec touch --no-dereference --date="@$epoch" {} +
cp "$here/Containerfile" "$context/"

case $engine in
buildah)
  # A storage of its own, gone with the folder: builds do not meet, and nothing
  # is left in the user's.
  storage=(--root "$work/storage" --runroot "$work/run" --storage-driver vfs)
  buildah "${storage[@]}" bud --quiet --isolation chroot --timestamp "$epoch" --tag "$tag" "$context" >/dev/null
  buildah "${storage[@]}" push --quiet "$tag" "docker-archive:$work/image.tar:$tag"
  ;;
docker)
  SOURCE_DATE_EPOCH=$epoch docker build --quiet --file "$context/Containerfile" --tag "$tag" "$context" >/dev/null
  docker save --output "$work/image.tar" "$tag"
  ;;
*) fail "ENGINE is buildah or docker, not $engine" ;;
esac
mv "$work/image.tar" "$out"
echo "image: $tag in $out ($(du -h "$out" | cut -f1))"

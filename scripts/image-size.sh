#!/bin/sh
# Prints the table of sizes in docs/benchmarks.md: the parts of this image, and those of the shell worker that it replaces, as far as
# they are available without an image registry: a minimal Debian instead of Ubuntu, with Debian's packages of etcdctl and the Azure
# CLI, without recommended packages and without apt's lists and archives. Needs root.
#   scripts/image-size.sh [image]      (default: etcd-snapshot-azure-blob:dev)
set -eu
image=${1:-etcd-snapshot-azure-blob:dev}
suite=bookworm

# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
  sed -n "s/^Debian $suite //p" | head -n 1)
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# row NAME DIRECTORY: the size of its files, and of what a registry would send.
row() {
  bytes=$(du --apparent-size --block-size=1 --summarize --exclude "$2/var/lib/apt/lists" "$2" | cut -f 1)
  packed=$(tar -C "$2" --exclude ./var/lib/apt/lists -c . | gzip | wc -c)
  printf '| %s | %s | %s |\n' "$1" "$((bytes / 1000000))" "$((packed / 1000000))"
}

printf '| | MB | MB compressed |\n| --- | --- | --- |\n'

ours=$temp/ours
container=$(podman create "$image")
mkdir "$ours"
podman export "$container" | tar -C "$ours" -x
podman rm "$container" >/dev/null
row 'this image' "$ours"
# take NAME PATH…: moves the paths out of the image, and prints their row.
take() {
  name=$1 && shift
  mkdir -p "$temp/$name"
  (cd "$ours" && mv "$@" "$temp/$name/")
  row "- $name" "$temp/$name"
}
take 'the worker' app
take "etcd's tools" usr/local/bin/etcd usr/local/bin/etcdutl
take 'Node' usr/local/bin/node
row '- its libraries' "$ours"

book=$temp/book
install() {
  chroot "$book" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$1" >"$temp/log" 2>&1 ||
    { cat "$temp/log" >&2 && exit 1; }
  chroot "$book" apt-get clean
}
debootstrap --variant=minbase "$suite" "$book" "$mirror" >"$temp/log" || { cat "$temp/log" >&2 && exit 1; }
chroot "$book" apt-get clean
row 'a minimal Debian' "$book"
install etcd-client
row "- with etcdctl" "$book"
install azure-cli
row '- with the Azure CLI, too' "$book"

#!/bin/sh
# Makes replacements for the base images of the Dockerfile, where no image registry can be reached: Node's from Debian's and npm's
# packages, etcd's from the output of test/tools/build.sh. They get the names of the real images in local storage, so that the
# Dockerfile builds unchanged. For tests, not for publishing.
set -eu
cd "$(dirname "$0")/.."

image=$(sed -n 's/^FROM \([^ ]*\/node:[^ ]*\) AS root$/\1/p' Dockerfile) # …/node:24-bookworm-slim
etcd_version=${ETCD_VERSION:-$(sed -n 's/^ARG ETCD_VERSION=//p' Dockerfile)}
etcd_image=$(sed -n 's/^ARG ETCD_IMAGE=//p' Dockerfile | sed "s/\${ETCD_VERSION}/$etcd_version/")
tag=${image##*:}
major=${tag%%-*}
suite=${tag#*-}
suite=${suite%%-*}

missing=''
for tool in buildah podman runc debootstrap; do
  command -v $tool >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  echo "image-base.sh: installing$missing" >&2
  # shellcheck disable=SC2086 # a list of words
  apt-get install -qq -y --no-install-recommends $missing >&2
fi

if ! podman image exists "$etcd_image"; then
  tools=test/tools/bin/$etcd_version
  if [ ! -d "$tools" ]; then
    echo "image-base.sh: cannot create $etcd_image: there is no $tools. Run: test/tools/build.sh" >&2
    exit 3
  fi
  tar -C "$tools" -c --transform 's|^\.|usr/local/bin|' . |
    podman import --quiet --message "stand-in for $etcd_image" - "$etcd_image"
  echo "image-base.sh: created $etcd_image"
fi

if podman image exists "$image"; then
  echo "image-base.sh: $image is in local storage already"
  exit 0
fi

# The mirror that this machine uses.
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
  sed -n "s/^Debian $suite //p" | head -n 1)
if [ -z "$mirror" ]; then
  echo "image-base.sh: cannot create $image: apt has no mirror of Debian $suite." >&2
  exit 3
fi

case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) echo "image-base.sh: npm has no Node for $(uname -m)." >&2; exit 3 ;;
esac

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
root=$temp/root

debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$temp/log" || { cat "$temp/log" >&2; exit 1; }
# Leave nothing of this machine (mirror, name servers, host name) in the image.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/etc/apt/sources.list "$root"/etc/resolv.conf "$root"/etc/hostname

npm pack --silent --pack-destination "$temp" "node-linux-$arch@$major" >/dev/null
tar -xzf "$temp"/node-linux-*.tgz -C "$root/usr/local" --strip-components=1 --no-same-owner package/bin/node package/LICENSE
npm install --silent --global --prefix "$root/usr/local" npm@11

tar -C "$root" -c . | podman import --quiet --message "stand-in for $image" \
  --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["node"]' - "$image"
echo "image-base.sh: created $image: Debian $suite, Node $("$root/usr/local/bin/node" --version)"

#!/bin/sh
# Builds and installs the programs of `npm run test:kubernetes`:
#   bin/tools/kubernetes-node    API server, controller manager, scheduler and kubelet as one program
#   bin/tools/kubernetes-newest  API server and controller manager of the newest release, for test/slow
#   bin/tools/pause              the program of the first container of a pod
# and containerd, runc, buildah and the CNI plugins as packages. Each go.mod pins a release, and go.sum its bytes. The
# first build takes about a quarter of an hour on two cores; later ones take seconds, with Go's cache.
set -eu
cd "$(dirname "$0")"
tools=$PWD/bin/tools

if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
  echo 'build-kubernetes.sh: a node of Kubernetes needs root on Linux: nothing is built, and the tests will be skipped.' >&2
  exit 0
fi
if ! command -v go >/dev/null; then
  echo "build-kubernetes.sh: Go is needed to build Kubernetes for the tests, and there is no 'go' in the PATH." >&2
  exit 3
fi

missing=''
for pair in containerd:containerd ctr:containerd runc:runc buildah:buildah ip:iproute2 nsenter:util-linux mkfs.ext4:e2fsprogs; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
if [ -n "$missing" ]; then
  echo "build-kubernetes.sh: installing$missing" >&2
  apt-get update -q >/dev/null
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

mkdir -p "$tools"
for program in kubernetes-node kubernetes-newest; do
  version=$(sed -n 's|.*k8s\.io/kubernetes \(v[^ ]*\)$|\1|p' $program/go.mod)
  minor=${version#v1.}
  minor=${minor%%.*}
  flags="-s -w -X k8s.io/client-go/pkg/version.gitVersion=$version"
  for setting in gitVersion="$version" gitMajor=1 gitMinor="$minor"; do
    flags="$flags -X k8s.io/component-base/version.$setting"
  done
  (cd $program && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$tools/$program" .)
  if ! "$tools/$program" kube-apiserver --version | grep -qx "Kubernetes $version"; then
    echo "build-kubernetes.sh: go.mod pins $version, but the program says $("$tools/$program" kube-apiserver --version)." >&2
    exit 1
  fi
  echo "Kubernetes $version: built $tools/$program"
done
(cd kubernetes-node && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tools/pause" ./pause)
echo "built $tools/pause"

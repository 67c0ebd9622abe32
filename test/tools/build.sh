#!/bin/sh
# Builds the servers and tools of the tests:
#   bin/<version>/{etcd,etcdctl,etcdutl}   etcd's servers and tools
#   bin/tools/{kubectl,helm,actionlint}    the tools for manifests, chart and workflows
#   bin/tools/{age,age-keygen}-1.3         know post-quantum recipients, which the age of distributions does not yet
#   bin/tools/manifestcheck-<version>      checks that the API of a Kubernetes version knows each field of a manifest
#   bin/tools/manifestvalidate             checks that Kubernetes accepts the values in them
#   bin/tools/podsecurity                  checks that a namespace with Pod Security "restricted" accepts the pods
# Each etcd-*/go.mod pins one release, and go.sum its bytes. They have to be built as dependencies of such a module:
# `go install go.etcd.io/etcd/server/v3@…` refuses, because etcd's own go.mod contains replace directives.
# A newer patch: (cd etcd-3.6 && go get go.etcd.io/etcd/{server,etcdctl,etcdutl}/v3@v3.6.17 && go mod tidy)
set -eu
cd "$(dirname "$0")"

for module in etcd-*/; do
  version=$(sed -n 's|.*go\.etcd\.io/etcd/server/v3 v\([^ ]*\).*|\1|p' "$module/go.mod")
  bin=$PWD/bin/$version

  if [ -x "$bin/etcd" ] && [ -x "$bin/etcdctl" ] && [ -x "$bin/etcdutl" ]; then
    echo "etcd $version: already in $bin"
    continue
  fi

  if ! command -v go >/dev/null; then
    echo "build.sh: Go is needed to build etcd $version for the tests, and there is no 'go' in the PATH." >&2
    exit 3
  fi

  # Built under another name and renamed, so that a killed build leaves no partial binary.
  mkdir -p "$bin"
  temp=$(mktemp -d "$bin/.build.XXXXXX")
  trap 'rm -rf "$temp"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM

  echo "etcd $version: building, a minute or two the first time …"
  # No cgo, as in etcd's own releases: no C compiler is needed, and the binaries run on any Linux.
  (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$temp/" \
    go.etcd.io/etcd/server/v3 go.etcd.io/etcd/etcdctl/v3 go.etcd.io/etcd/etcdutl/v3)
  mv "$temp/server" "$temp/etcd"

  if ! "$temp/etcd" --version | grep -qx "etcd Version: $version"; then
    echo "build.sh: $module pins etcd $version, but the binary says $("$temp/etcd" --version | head -n 1)." >&2
    exit 1
  fi

  mv "$temp/etcd" "$temp/etcdctl" "$temp/etcdutl" "$bin/"
  rmdir "$temp"
  echo "etcd $version: built $bin/{etcd,etcdctl,etcdutl}"
done

if ! command -v go >/dev/null; then
  echo "build.sh: without Go there is nothing that judges manifests, chart and workflows for the tests." >&2
  exit 3
fi
# With Go's cache this takes a second if nothing has changed.
mkdir -p bin/tools
tools=$PWD/bin/tools

# build MODULE [go build options] PACKAGE …
build() {
  module=$1
  shift
  (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" "$@")
}

# check MODULE MODFILE: named after the version of Kubernetes that the file pins.
check() {
  version=$(sed -n 's|.*k8s\.io/api v0\.\([0-9]*\)\..*|1.\1|p' "$1/$2")
  build "$1" -modfile="$2" -o "$tools/manifestcheck-$version" .
}

build kubernetes -o "$tools/" ./kubectl helm.sh/helm/v4/cmd/helm
build actionlint -o "$tools/" github.com/rhysd/actionlint/cmd/actionlint
build age -o "$tools/age-1.3" filippo.io/age/cmd/age
build age -o "$tools/age-keygen-1.3" filippo.io/age/cmd/age-keygen
check manifestcheck go.mod
check manifestcheck kubernetes-1.31.mod
check manifestcheck/newest go.mod
build manifestcheck/newest -o "$tools/" ./podsecurity
build manifestvalidate -o "$tools/" .
echo "kubectl, helm, actionlint, age, manifestcheck, manifestvalidate, podsecurity: built bin/tools"

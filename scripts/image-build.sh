#!/bin/sh
# Builds the image without a Docker engine. (With one, `docker build -t etcd-snapshot-azure-blob:dev .` does the same.)
set -eu
cd "$(dirname "$0")/.."

case ${1-} in
  -*)
    echo 'usage: scripts/image-build.sh [tag]      (default: etcd-snapshot-azure-blob:dev)'
    echo
    echo 'ETCD_VERSION=3.5.35: uses the tools of this version of etcd instead of the version in the Dockerfile.'
    echo 'The base images are always pulled, so that no image with a replacement base is ever published.'
    echo 'STAND_IN_BASE=1: pulls nothing. Uses the base images in local storage; image-base.sh creates those that are missing.'
    echo 'NO_CACHE=1: runs every step again.'
    exit 0
    ;;
esac
tag=${1:-etcd-snapshot-azure-blob:dev}

if [ "${STAND_IN_BASE:-}" = 1 ]; then
  scripts/image-base.sh
  pull=--pull-never
else
  pull=--pull-always
fi

# npm in the build uses the same registry and CA as npm here. They are mounted as secrets for one RUN and leave no trace in the
# image.
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
ca=$(npm config get cafile)
[ "$ca" != null ] || ca=${NODE_EXTRA_CA_CERTS:-}
{
  echo "registry=$(npm config get registry)"
  [ -z "$ca" ] || echo 'cafile=/run/secrets/ca'
} >"$secrets/npmrc"
cat ${ca:+"$ca"} </dev/null >"$secrets/ca"

# A fixed time for every file and for the image, so that the same sources make the same layers.
time=0

# Also as labels: buildah takes a LABEL from its cache even if its arguments have other values.
created=$(git log -1 --format=%cI || true)
revision=$(git rev-parse --verify --quiet HEAD || true)

# chroot isolation works inside containers and virtual machines where a nested runtime does not.
buildah bud $pull --isolation chroot --layers ${NO_CACHE:+--no-cache} --timestamp "$time" --tag "$tag" \
  --secret "id=npmrc,src=$secrets/npmrc" --secret "id=ca,src=$secrets/ca" \
  --build-arg "VERSION=$(npm pkg get version | tr -d '"')" \
  ${ETCD_VERSION:+--build-arg "ETCD_VERSION=$ETCD_VERSION"} \
  --build-arg "SOURCE_DATE_EPOCH=$time" \
  --build-arg "CREATED=$created" --label "org.opencontainers.image.created=$created" \
  --build-arg "REVISION=$revision" --label "org.opencontainers.image.revision=$revision" \
  .
buildah images --format '{{.Name}}:{{.Tag}}  {{.Size}}' "$tag"

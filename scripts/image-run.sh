#!/bin/sh
# Runs an image with podman and runc, under the limits of the manifests:
#   scripts/image-run.sh [podman run options] IMAGE [worker arguments]
# Read-only, without capabilities, with a memory limit.
set -eu

# Ulimits are set because podman's defaults can be higher than this machine allows, and then runc does not start.
# Swap has the value of memory, which means no swap: otherwise the limit is not strict.
exec podman --runtime runc run --rm --network host \
  --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
  --read-only --read-only-tmpfs=false \
  --cap-drop ALL --security-opt no-new-privileges \
  --memory 256m --memory-swap 256m \
  "$@"

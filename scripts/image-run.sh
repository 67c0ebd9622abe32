#!/bin/sh
# Runs an image under the limits that the manifests set, with podman and runc:
#   scripts/image-run.sh [podman run options] IMAGE [worker arguments]
# Root's files are readable, nothing is writable, no capability is left, memory is bounded.
set -eu

# Ulimits are named because podman's defaults may be higher than this machine allows, and runc then refuses to start.
# Swap is set to the same as memory, which means: no swap, so that the limit is one.
exec podman --runtime runc run --rm --network host \
  --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
  --read-only --read-only-tmpfs=false \
  --cap-drop ALL --security-opt no-new-privileges \
  --memory 256m --memory-swap 256m \
  "$@"

#!/bin/sh
# Makes Node's compile cache of what a backup loads, and that of code-cache.ts: compile-cache.sh PROGRAM DIRECTORY
# Two runs that reach neither etcd nor Azure do it; with a seed, the same sources make the same bytes. Node uses the cache for the
# same program at the same path, with the same flags, by the same user.
set -eu

# run EXIT_CODE PROGRAM DIRECTORY COMMAND: nothing listens on port 1.
run() {
  code=0
  env NODE_COMPILE_CACHE="$3" SNAPSHOT_ETCD_ENDPOINTS=http://127.0.0.1:1 \
    SNAPSHOT_AZURE_BLOB_ENDPOINT=http://127.0.0.1:1/account SNAPSHOT_AZURE_ACCOUNT_NAME=account \
    SNAPSHOT_AZURE_ACCOUNT_KEY="$(printf '%086d==' 0)" SNAPSHOT_AZURE_CONTAINER_NAME=container SNAPSHOT_LOG_LEVEL=error \
    node --random-seed=1 --max-semi-space-size=1 -- "$2" "$4" || code=$?
  [ "$code" -eq "$1" ]
}
run 10 "$1" "$2" backup
run 12 "$1" "$2" list

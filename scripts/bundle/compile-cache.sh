#!/bin/sh
# Makes Node's compile cache and that of load.ts, of what a backup loads: compile-cache.sh PROGRAM DIRECTORY
# Runs that reach neither etcd nor Azure do it; with a seed, the same sources make the same bytes. Node uses the caches for the
# same program at the same path, with the same flags, by the same user.
set -eu

# run EXIT_CODE PROGRAM DIRECTORY COMMAND [OPTION]...: nothing listens on port 1.
run() {
  expected=$1 program=$2 directory=$3 command=$4 code=0
  shift 4
  env NODE_COMPILE_CACHE="$directory" SNAPSHOT_ETCD_ENDPOINTS=http://127.0.0.1:1 \
    SNAPSHOT_AZURE_BLOB_ENDPOINT=http://127.0.0.1:1/account SNAPSHOT_AZURE_ACCOUNT_NAME=account \
    SNAPSHOT_AZURE_ACCOUNT_KEY="$(printf '%086d==' 0)" SNAPSHOT_AZURE_CONTAINER_NAME=container SNAPSHOT_LOG_LEVEL=error \
    node --random-seed=1 --max-semi-space-size=1 "$@" -- "$program" "$command" || code=$?
  [ "$code" -eq "$expected" ]
}

# V8's baseline compiler works when it has time, and what it has compiled is noted in the cache of load.ts. Therefore it is off until
# the end of a run, and on again when the cache is written, because V8 takes a cache with the same flags only.
flag="import { setFlagsFromString as set } from 'node:v8'; set('--no-sparkplug'); process.on('exit', () => set('--sparkplug'));"
run 10 "$1" "$2" backup --import "data:text/javascript,$flag"
run 12 "$1" "$2" list --import "data:text/javascript,$flag"
# Node's own cache is of another moment.
find "$2" -type f ! -name '*.cjs' -delete
run 10 "$1" "$2" backup

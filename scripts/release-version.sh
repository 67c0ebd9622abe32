#!/bin/sh
# For the release workflow: checks that the tag is `v` plus the version of package.json, and prints the outputs for the other jobs.
#   scripts/release-version.sh v1.2.3 Owner/Repository
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)
if [ "$1" != "v$version" ]; then
  echo "release-version.sh: the tag is $1, but package.json says $version." >&2
  exit 1
fi
echo "version=$version"
# Registries accept lower case only.
echo "repository=$(printf %s "$2" | tr '[:upper:]' '[:lower:]')"

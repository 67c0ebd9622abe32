#!/bin/sh
# For the release workflow: checks that a tag is v and the version of package.json, and prints what the other jobs need.
#   scripts/release-version.sh v1.2.3 Owner/Repository
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' package.json)
if [ "$1" != "v$version" ]; then
  echo "release-version.sh: the tag is $1, but package.json says $version." >&2
  exit 1
fi
echo "version=$version"
# Registries take lower case only.
echo "repository=$(printf %s "$2" | tr '[:upper:]' '[:lower:]')"

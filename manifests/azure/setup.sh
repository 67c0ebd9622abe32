#!/usr/bin/env bash
# Makes in Azure what the worker needs and nothing more, with the Azure CLI. May be run again: what is there stays, and is
# brought to these settings.
#
#   setup.sh RESOURCE_GROUP LOCATION ACCOUNT CONTAINER WRITER [PRUNER]
#
# WRITER and PRUNER are object ids of service principals or managed identities (az ad sp show --id APPID --query id). The
# writer stores snapshots and reads them back, and can neither overwrite nor delete one; with SNAPSHOT_KEEP_… set it must be
# the pruner too. A pruner of its own is for `etcd-snapshot prune` in another place than the backup, say outside the cluster.
set -euo pipefail

if [ $# -lt 5 ] || [ $# -gt 6 ]; then
  echo "usage: $0 RESOURCE_GROUP LOCATION ACCOUNT CONTAINER WRITER [PRUNER]" >&2
  exit 2
fi
group=$1 location=$2 account=$3 container=$4 writer=$5 pruner=${6:-}
here=$(cd "$(dirname "$0")" && pwd)

scope=$(az group create --name "$group" --location "$location" --query id --output tsv)

# Zone-redundant, for a backup must outlive the zone of its cluster.
az storage account create --resource-group "$group" --name "$account" --location "$location" --sku Standard_ZRS \
  --kind StorageV2 --https-only true --min-tls-version TLS1_2 --allow-blob-public-access false --output none

# What is deleted or overwritten, by whomever, can be had back for two weeks.
az storage account blob-service-properties update --resource-group "$group" --account-name "$account" \
  --enable-delete-retention true --delete-retention-days 14 --enable-versioning true --output none

az storage container-rm create --resource-group "$group" --storage-account "$account" --name "$container" --output none

# allow ROLE PRINCIPAL: defines the role in the resource group, and assigns it in the container only.
allow() {
  local definition name command=create
  definition=$(sed "s|SCOPE|$scope|" "$here/$1-role.json")
  name="etcd-snapshot $1"
  if [ -n "$(az role definition list --name "$name" --scope "$scope" --query '[].name' --output tsv)" ]; then
    command=update
  fi
  az role definition "$command" --role-definition "$definition" --output none
  az role assignment create --role "$name" --assignee-object-id "$2" --assignee-principal-type ServicePrincipal \
    --scope "$scope/providers/Microsoft.Storage/storageAccounts/$account/blobServices/default/containers/$container" \
    --output none
}

allow writer "$writer"
if [ -n "$pruner" ]; then allow pruner "$pruner"; fi

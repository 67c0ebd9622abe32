#!/usr/bin/env bash
# Creates what the worker needs in Azure and nothing more, with the Azure CLI. It can be run again: existing resources are updated
# to these settings. template.json does the same for Azure Resource Manager: use one of the two.
set -euo pipefail

usage() {
  cat <<END
usage: $0 --group NAME --location REGION --account NAME --container NAME [options]

  --writer ID               can store snapshots and read them back, but cannot overwrite or delete one
  --pruner ID               can read and delete snapshots, for retention
  --reader ID               can only read snapshots, to copy them to a second place or to drill them
  --report ID               can read snapshots, and store reports in a container of their own, CONTAINER-reports
  --legal-hold ID           can read snapshots, mark them as kept, and set and remove their legal holds, which the
                            container must support from its creation on; not together with --immutable-days
                            ID is the object id of a service principal or managed identity
                            (az ad sp show --id APPID --query id); a worker with SNAPSHOT_KEEP_… must be both
  --workload-identity URL   creates a managed identity for a service account of the cluster with this OIDC issuer,
                            and makes it a writer
  --subject SUBJECT         that service account (default: system:serviceaccount:kube-system:etcd-snapshot)
  --identity NAME           name of that managed identity (default: etcd-snapshot-CONTAINER)
  --identity-may-prune      makes that identity a pruner as well
  --soft-delete-days N      keeps deleted and overwritten blobs recoverable for N days (default: 14)
  --immutable-days N        nobody can delete a snapshot for N days (default: no policy); the policy is not locked
  --no-account-key          disables access with the account key
END
}

# refuse SENTENCE: ends the script before anything is changed.
refuse() {
  echo "$0: $1" >&2
  echo "Run $0 --help for the options." >&2
  exit 2
}

group='' location='' account='' container='' issuer='' subject=system:serviceaccount:kube-system:etcd-snapshot identity=''
writers='' pruners='' readers='' reports='' holders='' identity_may_prune=false soft_delete_days=14 immutable_days=0 account_key=true
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --identity-may-prune) identity_may_prune=true && shift && continue ;;
    --no-account-key) account_key=false && shift && continue ;;
    --*) [ $# -gt 1 ] || refuse "$1 needs a value." ;;
    *) refuse "$1 is not an option." ;;
  esac
  case $1 in
    --group) group=$2 ;;
    --location) location=$2 ;;
    --account) account=$2 ;;
    --container) container=$2 ;;
    --writer) writers="$writers $2" ;;
    --pruner) pruners="$pruners $2" ;;
    --reader) readers="$readers $2" ;;
    --report) reports="$reports $2" ;;
    --legal-hold) holders="$holders $2" ;;
    --workload-identity) issuer=$2 ;;
    --subject) subject=$2 ;;
    --identity) identity=$2 ;;
    --soft-delete-days) soft_delete_days=$2 ;;
    --immutable-days) immutable_days=$2 ;;
    *) refuse "$1 is not an option." ;;
  esac
  shift 2
done

# Everything is checked before anything is created.
[ -n "$group" ] || refuse '--group is missing.'
[ -n "$location" ] || refuse '--location is missing.'
[[ $account =~ ^[a-z0-9]{3,24}$ ]] || refuse '--account must be 3 to 24 lower-case letters and digits.'
[[ $container =~ ^.{3,63}$ && $container =~ ^[a-z0-9]+(-[a-z0-9]+)*$ ]] ||
  refuse '--container must be 3 to 63 lower-case letters, digits and single hyphens between them.'
[ -n "$writers$issuer" ] || refuse 'name the identity that stores the snapshots: --writer ID or --workload-identity URL.'
for id in $writers $pruners $readers $reports $holders; do
  [[ $id =~ ^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$ ]] || refuse "$id is not an object id."
done
[[ -z $issuer || $issuer =~ ^https://[^[:space:]]+$ ]] || refuse '--workload-identity must be an https:// URL.'
[[ $subject =~ ^system:serviceaccount:[^:]+:[^:]+$ ]] || refuse '--subject must be system:serviceaccount:NAMESPACE:NAME.'
[[ $soft_delete_days =~ ^[1-9][0-9]{0,2}$ && $soft_delete_days -le 365 ]] || refuse '--soft-delete-days must be 1 to 365.'
[[ $immutable_days =~ ^(0|[1-9][0-9]{0,5})$ && $immutable_days -le 146000 ]] || refuse '--immutable-days must be 1 to 146000.'
[[ -z $reports || ${#container} -le 55 ]] || refuse '--container must have at most 55 characters with --report.'
[[ -z $holders || $immutable_days -eq 0 ]] ||
  refuse '--legal-hold cannot be combined with --immutable-days: choose one of them for a container.'
az account show --output none || refuse 'the Azure CLI is missing or not logged in: az login.'
here=$(cd "$(dirname "$0")" && pwd)
identity=${identity:-etcd-snapshot-$container}

scope=$(az group create --name "$group" --location "$location" --query id --output tsv)

# Zone-redundant, because a backup must survive the loss of the zone of its cluster.
az storage account create --resource-group "$group" --name "$account" --location "$location" --sku Standard_ZRS \
  --kind StorageV2 --https-only true --min-tls-version TLS1_2 --allow-blob-public-access false \
  --allow-cross-tenant-replication false --allow-shared-key-access "$account_key" --output none

# Deleted and overwritten blobs stay recoverable.
az storage account blob-service-properties update --resource-group "$group" --account-name "$account" \
  --enable-delete-retention true --delete-retention-days "$soft_delete_days" \
  --enable-container-delete-retention true --container-delete-retention-days "$soft_delete_days" \
  --enable-versioning true --output none

# With versioning, a deleted blob stays as a previous version, and is billed, until that version is deleted. This policy deletes it;
# soft delete then keeps it for --soft-delete-days.
az storage account management-policy create --resource-group "$group" --account-name "$account" \
  --policy "@$here/lifecycle.json" --output none

# Azure accepts legal holds for blobs only in a container with version-level immutability support.
# shellcheck disable=SC2086 # two words or none
az storage container-rm create --resource-group "$group" --storage-account "$account" --name "$container" \
  ${holders:+--enable-vlw true} --output none
if [ -n "$holders" ]; then
  supports=$(az storage container-rm show --resource-group "$group" --storage-account "$account" --name "$container" \
    --query immutableStorageWithVersioning.enabled --output tsv)
  if [ "$supports" != true ]; then
    echo "$container was created without version-level immutability support: it accepts no legal holds for blobs." >&2
  fi
fi
if [ -n "$reports" ]; then
  az storage container-rm create --resource-group "$group" --storage-account "$account" --name "$container-reports" --output none
fi

# A container-level policy, not a version-level one: a name keeps its bytes forever. With version-level policies, an attacker could put other
# bytes under the name of a good snapshot. A locked policy cannot be set again, only extended.
if [ "$immutable_days" -gt 0 ]; then
  state=$(az storage container-rm show --resource-group "$group" --storage-account "$account" --name "$container" \
    --query immutabilityPolicy.state --output tsv)
  if [ "$state" = Locked ]; then
    echo "The immutability policy of $container is locked and stays unchanged." >&2
  else
    az storage container immutability-policy create --resource-group "$group" --account-name "$account" \
      --container-name "$container" --period "$immutable_days" --allow-protected-append-writes false --output none
  fi
fi

# define ROLE: in the resource group. Its name contains the account because names of roles are unique in the tenant.
define() {
  local definition command=create
  definition=$(sed "s|SCOPE|$scope|; s|ACCOUNT|$account|" "$here/$1-role.json")
  if [ -n "$(az role definition list --name "etcd-snapshot $1 $account" --scope "$scope" --query '[].name' --output tsv)" ]; then
    command=update
  fi
  az role definition "$command" --role-definition "$definition" --output none
}

# assign ROLE CONTAINER IDS: in this container only.
assign() {
  local id
  for id in $3; do
    az role assignment create --role "etcd-snapshot $1 $account" --assignee-object-id "$id" \
      --assignee-principal-type ServicePrincipal --output none \
      --scope "$scope/providers/Microsoft.Storage/storageAccounts/$account/blobServices/default/containers/$2"
  done
}

# allow ROLE IDS: defines the role, and assigns it in the container of the snapshots.
allow() {
  if [ -n "$2" ]; then define "$1"; fi
  assign "$1" "$container" "$2"
}

if [ -n "$issuer" ]; then
  ids=$(az identity create --resource-group "$group" --location "$location" --name "$identity" \
    --query '[principalId, clientId]' --output tsv)
  read -r principal client <<<"${ids//$'\n'/ }"
  az identity federated-credential create --resource-group "$group" --identity-name "$identity" --name kubernetes \
    --issuer "$issuer" --subject "$subject" --audiences api://AzureADTokenExchange --output none
  writers="$writers $principal"
  if [ "$identity_may_prune" = true ]; then pruners="$pruners $principal"; fi
  echo "Annotate the service account: azure.workload.identity/client-id: $client"
fi

allow writer "$writers"
allow pruner "$pruners"
allow reader "$readers$reports"
allow legal-hold "$holders"
assign writer "$container-reports" "$reports"

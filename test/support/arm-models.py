"""Reads resources from standard input and prints every property that Azure's own models of that API version do not know.

The models drop what they do not know when they read an object, so what does not come back from them is misspelt, in the wrong
place, or of another version. They are those of Debian's package python3-azure, which azure-cli needs.
"""

import importlib
import json
import sys

STORAGE, ROLES, IDENTITIES = "azure.mgmt.storage", "azure.mgmt.authorization", "azure.mgmt.msi"
MODELS = {
    "Microsoft.Storage/storageAccounts": (STORAGE, "StorageAccountCreateParameters"),
    "Microsoft.Storage/storageAccounts/blobServices": (STORAGE, "BlobServiceProperties"),
    "Microsoft.Storage/storageAccounts/managementPolicies": (STORAGE, "ManagementPolicy"),
    "Microsoft.Storage/storageAccounts/blobServices/containers": (STORAGE, "BlobContainer"),
    "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies": (STORAGE, "ImmutabilityPolicy"),
    "Microsoft.Authorization/roleDefinitions": (ROLES, "RoleDefinition"),
    "Microsoft.Authorization/roleAssignments": (ROLES, "RoleAssignmentCreateParameters"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": (IDENTITIES, "Identity"),
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials": (
        IDENTITIES,
        "FederatedIdentityCredential",
    ),
}
# Of the envelope, which every resource has and no model.
ENVELOPE = {"comments", "type", "apiVersion", "name", "scope", "dependsOn"}
# The newest with federated credentials that the package has; the stable version that the template names came after it.
INSTEAD = {"2023-01-31": "2022-01-31-preview"}


def lost(given, back, path):
    if isinstance(given, dict):
        for name, inner in given.items():
            # As if it were not there.
            if inner is None:
                continue
            if not isinstance(back, dict) or name not in back:
                yield f"{path}.{name}"
            else:
                yield from lost(inner, back[name], f"{path}.{name}")
    elif isinstance(given, list):
        for at, inner in enumerate(given):
            yield from lost(inner, back[at] if isinstance(back, list) and at < len(back) else None, f"{path}[{at}]")
    elif given != back:
        yield f"{path} is not {json.dumps(given)} but {json.dumps(back)}"


for resource in json.load(sys.stdin):
    package, name = MODELS[resource["type"]]
    version = INSTEAD.get(resource["apiVersion"], resource["apiVersion"])
    try:
        models = importlib.import_module(f"{package}.v{version.replace('-', '_')}.models")
    except ModuleNotFoundError:
        print(f"{resource['type']}: there is no API version {version}")
        continue
    given = {key: value for key, value in resource.items() if key not in ENVELOPE}
    # Read-only ones too: a role's type is one of them in some versions.
    back = getattr(models, name).deserialize(given).serialize(keep_readonly=True)
    for fault in lost(given, back, resource["type"]):
        print(fault)

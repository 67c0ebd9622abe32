import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Deployment, deploy, GROUP, idOf, type Resource, type Template } from '../support/arm.ts';

const AZURE = join(import.meta.dirname, '..', '..', 'manifests', 'azure');
const ACCOUNT = 'Microsoft.Storage/storageAccounts';
const CONTAINER = `${ACCOUNT}/blobServices/containers`;
const PLACE = { accountName: 'account', containerName: 'my-cluster' };
const IDENTITY = { workloadIdentityIssuer: 'https://issuer.example/', identityMayPrune: true };
const EVERYTHING = {
  ...PLACE,
  ...IDENTITY,
  writerPrincipalIds: ['w1', 'w2'],
  prunerPrincipalIds: ['w2'],
  readerPrincipalIds: ['r1', 'r2'],
  reportPrincipalIds: ['r2', 'r3'],
  legalHoldPrincipalIds: ['h1'],
  immutabilityDays: 30,
  allowedIpRanges: ['192.0.2.1'],
  allowedSubnetIds: ['/subscriptions/s/subnet'],
};

function read(file: string): unknown {
  return JSON.parse(readFileSync(join(AZURE, file), 'utf8'));
}

const template = read('template.json') as Template;

function of(type: string, { resources }: Deployment): Resource[] {
  return resources.filter((resource) => resource.type === type);
}

/** Who gets which role, by the names that a person sees. */
function rights(deployment: Deployment): string[] {
  const roles = new Map(
    of('Microsoft.Authorization/roleDefinitions', deployment).map(({ name, properties }) => [
      `/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/${name}`,
      properties?.['roleName'],
    ]),
  );
  return of('Microsoft.Authorization/roleAssignments', deployment).map(
    ({ properties }) => `${properties?.['principalId']}: ${roles.get(String(properties?.['roleDefinitionId']))}`,
  );
}

t.test('everything in the template is used, consistent, and has a unique name', (t) => {
  const { resources, outputs, used } = deploy(template, EVERYTHING);
  const { copy, ...variables } = template.variables;
  for (const name of Object.keys(template.parameters)) t.ok(used.has(`parameter ${name}`), name);
  for (const name of [...Object.keys(variables), ...copy.map((list) => list.name)]) {
    t.ok(used.has(`variable ${name}`), name);
  }
  const ids = resources.map(idOf);
  t.strictSame([...new Set(ids)], ids, 'no two are one');
  for (const resource of resources) {
    for (const needed of resource.dependsOn ?? []) t.ok(ids.includes(needed), `${resource.name} needs ${needed}`);
    // A child is made after its parent, or Azure refuses it at times.
    const parent = idOf(resource).split('/').slice(0, -2).join('/');
    if (ids.includes(parent)) t.ok(resource.dependsOn?.includes(parent), `${resource.name} after ${parent}`);
  }
  t.match(outputs, {
    AZURE_CLIENT_ID: /client of .*etcd-snapshot-my-cluster/,
    SNAPSHOT_AZURE_CONTAINER_NAME: 'my-cluster',
  });
  t.end();
});

t.test('the account is closed to all but its own, and what is deleted comes back', (t) => {
  const deployment = deploy(template, PLACE);
  const [account] = of(ACCOUNT, deployment);
  t.match(account, {
    sku: { name: 'Standard_ZRS' },
    properties: {
      minimumTlsVersion: 'TLS1_2',
      supportsHttpsTrafficOnly: true,
      allowBlobPublicAccess: false,
      networkAcls: { defaultAction: 'Allow', ipRules: [], virtualNetworkRules: [] },
    },
  });
  t.match(of(`${ACCOUNT}/blobServices`, deployment), [
    {
      properties: {
        isVersioningEnabled: true,
        deleteRetentionPolicy: { enabled: true, days: 14 },
        containerDeleteRetentionPolicy: { enabled: true, days: 14 },
      },
    },
  ]);
  t.strictSame(
    of(CONTAINER, deployment).map(({ properties }) => properties),
    [{ publicAccess: 'None', immutableStorageWithVersioning: null }],
  );
  t.strictSame(of(`${ACCOUNT}/managementPolicies`, deployment)[0]?.properties, { policy: read('lifecycle.json') });
  t.strictSame(of(`${CONTAINER}/immutabilityPolicies`, deployment), [], 'no policy that nobody asked for');
  t.strictSame(rights(deployment), [], 'and no right');
  t.equal(of('Microsoft.Authorization/roleDefinitions', deployment).length, 3, 'nor the role for legal holds');
  t.end();
});

t.test('the roles are those of the script, and hold in the container only', (t) => {
  const deployment = deploy(template, EVERYTHING);
  const roles = of('Microsoft.Authorization/roleDefinitions', deployment).map(({ properties }) => properties);
  t.strictSame(
    roles,
    ['writer', 'pruner', 'reader', 'legal-hold'].map((role) => {
      const file = read(`${role}-role.json`) as Record<string, unknown>;
      return {
        roleName: String(file['Name']).replace('ACCOUNT', 'account'),
        description: file['Description'],
        type: 'CustomRole',
        permissions: [
          {
            actions: file['Actions'],
            notActions: file['NotActions'],
            dataActions: file['DataActions'],
            notDataActions: file['NotDataActions'],
          },
        ],
        assignableScopes: [GROUP],
      };
    }),
  );
  const container = `${GROUP}/providers/${ACCOUNT}/account/blobServices/default/containers/my-cluster`;
  t.strictSame(
    of('Microsoft.Authorization/roleAssignments', deployment)
      .filter(({ scope }) => scope !== container)
      .map(({ scope, properties }) => [scope, properties?.['principalId']]),
    ['r2', 'r3'].map((id) => [`${container}-reports`, id]),
  );
  const identity = `principal of ${GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/etcd-snapshot-my-cluster`;
  t.strictSame(rights(deployment), [
    'w1: etcd-snapshot writer account',
    'w2: etcd-snapshot writer account',
    'w2: etcd-snapshot pruner account',
    'r1: etcd-snapshot reader account',
    'r2: etcd-snapshot reader account',
    'r3: etcd-snapshot reader account',
    'h1: etcd-snapshot legal-hold account',
    'r2: etcd-snapshot writer account',
    'r3: etcd-snapshot writer account',
    `${identity}: etcd-snapshot writer account`,
    `${identity}: etcd-snapshot pruner account`,
  ]);
  t.end();
});

t.test('the container for reports, and the support for legal holds, when they are asked for', (t) => {
  const containersOf = (values: object): unknown[] =>
    of(CONTAINER, deploy(template, { ...PLACE, ...values })).map(({ name, properties }) => [name, properties]);
  const properties = { publicAccess: 'None', immutableStorageWithVersioning: null };
  t.strictSame(containersOf({ reportPrincipalIds: ['r1'] }), [
    ['account/default/my-cluster', properties],
    ['account/default/my-cluster-reports', { publicAccess: 'None' }],
  ]);
  t.strictSame(containersOf({ legalHoldPrincipalIds: ['h1'] }), [
    ['account/default/my-cluster', { ...properties, immutableStorageWithVersioning: { enabled: true } }],
  ]);
  t.end();
});

t.test('a second place: the identity of the copy reads the first, and writes to the second', (t) => {
  const first = deploy(template, { ...PLACE, writerPrincipalIds: ['w1'], readerPrincipalIds: ['copy'] });
  const second = deploy(template, { ...PLACE, accountName: 'second', writerPrincipalIds: ['copy'] });
  t.strictSame(rights(first), ['w1: etcd-snapshot writer account', 'copy: etcd-snapshot reader account']);
  t.strictSame(rights(second), ['copy: etcd-snapshot writer second']);
  t.end();
});

t.test('a policy, a network and an identity when they are asked for', (t) => {
  const deployment = deploy(template, { ...EVERYTHING, networkDefaultAction: 'Deny', allowSharedKeyAccess: false });
  t.match(of(ACCOUNT, deployment)[0]?.properties, {
    allowSharedKeyAccess: false,
    networkAcls: {
      defaultAction: 'Deny',
      ipRules: [{ value: '192.0.2.1', action: 'Allow' }],
      virtualNetworkRules: [{ id: '/subscriptions/s/subnet', action: 'Allow' }],
    },
  });
  t.strictSame(of(`${CONTAINER}/immutabilityPolicies`, deployment)[0]?.properties, {
    immutabilityPeriodSinceCreationInDays: 30,
    allowProtectedAppendWrites: false,
  });
  t.strictSame(
    of('Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials', deployment)[0]?.properties,
    {
      issuer: 'https://issuer.example/',
      subject: 'system:serviceaccount:kube-system:etcd-snapshot',
      audiences: ['api://AzureADTokenExchange'],
    },
  );
  t.strictSame(rights(deploy(template, { ...PLACE, ...IDENTITY, identityMayPrune: false })).length, 1);
  t.end();
});

t.test('the example of its parameters fits it', (t) => {
  const { parameters } = read('parameters.example.json') as { parameters: Record<string, { value: unknown }> };
  const values = Object.fromEntries(Object.entries(parameters).map(([name, { value }]) => [name, value]));
  t.match(rights(deploy(template, values)), [/^00000000-.*: etcd-snapshot writer/]);
  t.end();
});

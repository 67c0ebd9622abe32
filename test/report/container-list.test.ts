import t from 'tap';
import { readConfig } from '../../src/config/config.ts';
import { WorkerError } from '../../src/errors.ts';
import { parseContainerList } from '../../src/report/container-list.ts';
import type { Variables } from '../support/process.ts';

const KEY = { SNAPSHOT_AZURE_ACCOUNT_NAME: 'main1', SNAPSHOT_AZURE_ACCOUNT_KEY: `${'a'.repeat(86)}==` };
const IDENTITY = {
  SNAPSHOT_AZURE_ACCOUNT_NAME: 'main1',
  SNAPSHOT_AZURE_AUTH: 'managed-identity',
  SNAPSHOT_AZURE_BLOB_ENDPOINT: 'https://main1.privatelink.example',
};

function parse(text: string, variables: Variables = IDENTITY) {
  const { storage } = readConfig(variables, { etcd: false, storage: true, otherContainers: true });
  if (storage === undefined) throw new Error('no storage');
  return parseContainerList(text, 'list.txt', storage);
}

function messageOf(text: string, variables?: Variables): string {
  try {
    parse(text, variables);
  } catch (error) {
    if (error instanceof WorkerError && error.exitCode === 2) return error.message;
    throw error;
  }
  return 'no error';
}

t.test('accounts, prefixes, names, URLs and comments', (t) => {
  const list = `# all of them
main1/prod
  other2/backups/prod-eu/   Production, Europe

main1/backups/kube\r
https://third3.blob.core.windows.net/prod
https://fourth4.z12.blob.storage.azure.net/prod/eu/ four
https://main1.privatelink.example/own/x/
`;
  t.strictSame(
    parse(list).map(({ endpoint, container, prefix, account, name }) => [endpoint, account, container, prefix, name]),
    [
      ['https://main1.privatelink.example', 'main1', 'prod', '', 'prod'],
      ['https://other2.blob.core.windows.net', 'other2', 'backups', 'prod-eu/', 'Production, Europe'],
      ['https://main1.privatelink.example', 'main1', 'backups', 'kube', 'backups/kube'],
      ['https://third3.blob.core.windows.net', 'third3', 'prod', '', 'third3/prod'],
      ['https://fourth4.z12.blob.storage.azure.net', 'fourth4', 'prod', 'eu/', 'four'],
      ['https://main1.privatelink.example', 'main1', 'own', 'x/', 'own/x'],
    ],
  );
  const china = { ...IDENTITY, SNAPSHOT_AZURE_CLOUD: 'china' };
  t.match(parse('other2/c00', china), [{ endpoint: 'https://other2.blob.core.chinacloudapi.cn' }]);
  t.end();
});

t.test('no credential is sent to a host that is not of the cloud, nor a key to another account', (t) => {
  for (const url of [
    'https://evil.example/container',
    'https://main1.blob.core.windows.net.evil.example/container',
    'https://evil.example/main1.blob.core.windows.net/container',
    'http://third3.blob.core.windows.net/container',
    'https://third3.blob.core.windows.net:8443/container',
    'https://third3.blob.core.chinacloudapi.cn/container',
    'https://169.254.169.254/container',
    'https://main1.privatelink.example.evil.example/container',
  ]) {
    t.match(
      messageOf(url),
      /^The file list\.txt has 1 error: line 1 names a host to which no credential can be sent/,
      url,
    );
  }
  t.match(messageOf('https://a@third3.blob.core.windows.net/c00'), 'without a query or a user: https://…@third3');
  const withSas = messageOf('https://third3.blob.core.windows.net/c00?sv=1&sig=geheim');
  t.match(withSas, 'without a query or a user');
  t.notMatch(withSas, 'geheim');
  t.match(messageOf('other2/prod', KEY), 'line 1 is in account other2, but the account key is for account main1');
  t.equal(messageOf('main1/prod', KEY), 'no error');
  t.end();
});

t.test('all problems at once, each with its line', (t) => {
  const message = messageOf(`main1/prod
MAIN/prod
main1/-x
main1/prod//x
main1/prod again
other2/x00 prod
other2/y00 \u202egnp
justaname
main1
`);
  t.match(message, 'has 8 errors');
  for (const [line, problem] of [
    [2, 'has an account that must be 3 to 24'],
    [3, 'has a container that must be 3 to 63'],
    [4, 'has a prefix that must be letters'],
    [5, 'names the same place as line 1'],
    [6, 'has the same name as line 1: prod'],
    [7, 'has a name that is too long or cannot be shown'],
    [8, 'has an account that must be'],
    [9, 'has an account that must be'],
  ] as const) {
    t.match(message, `line ${line} ${problem}`);
  }
  t.match(messageOf('# nothing\n'), 'has 1 error: it lists no container');
  t.match(messageOf('x\n'.repeat(50)), /has 50 errors: .*; and 40 more\.$/);
  t.end();
});

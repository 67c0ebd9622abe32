import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { messageOf } from '../src/errors.ts';
import { noNamespaces, withFiles } from './support/namespace.ts';
import { freePort, run, temporaryFolder } from './support/process.ts';
import { MAIN } from './support/worker.ts';

const dir = temporaryFolder('several-addresses');

t.test('a host with several addresses: what each of them said', { skip: noNamespaces ?? false }, async (t) => {
  const hosts = join(dir, 'hosts');
  writeFileSync(hosts, '127.0.0.1 both\n::1 both\n');
  const port = await freePort();
  const variables = {
    SNAPSHOT_ETCD_ENDPOINTS: `http://both:${port}`,
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'account',
    SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
    SNAPSHOT_AZURE_CONTAINER_NAME: 'cluster',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: `https://both:${port}/account`,
    SNAPSHOT_PUSHGATEWAY_URL: `http://both:${port}`,
  };
  for (const [args, message] of [
    [['backup'], /pushing metrics to both:\d+ failed.*ECONNREFUSED/],
    [['list'], /"error".*ECONNREFUSED/],
    [['backup'], /etcd at http:\/\/both:\d+: connection refused/],
  ] as const) {
    const [command = '', ...rest] = withFiles({ '/etc/hosts': hosts }, [process.execPath, '--', MAIN, ...args]);
    const { stderr } = await run(command, rest, variables);
    t.match(stderr, message);
  }
});

t.test('an error without a message has those of its causes', (t) => {
  const refused = (address: string): Error => new Error(`connect ECONNREFUSED ${address}`);
  const both = new AggregateError([refused('::1:1'), refused('127.0.0.1:1'), refused('::1:1')]);
  t.equal(messageOf(both), 'connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1');
  t.equal(messageOf(new AggregateError([refused('x')], 'said')), 'said');
  t.end();
});

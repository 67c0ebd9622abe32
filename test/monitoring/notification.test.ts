import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Notification, notificationBody } from '../../src/monitoring/notification.ts';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { startBackupSite } from '../support/backup-site.ts';
import { putSnapshot } from '../support/catalogue.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { Listener } from '../support/listener.ts';
import { collect, type Finished, freePort, type Variables } from '../support/process.ts';
import { startSilentServer } from '../support/server.ts';
import { nextSecond, until } from '../support/until.ts';
import { errorOf, runWorker, startWorker } from '../support/worker.ts';

const { dir, azurite, variablesOf } = await startBackupSite(t, 'notification');
const TOKEN = 'webhook~token~that~no~output~may~show';
const webhook = await Listener.start(202);
t.teardown(async () => webhook.stop());

const working = (container: string): Variables => ({
  ...variablesOf(container),
  SNAPSHOT_NOTIFY_URL: `${webhook.origin}/${TOKEN}`,
  SNAPSHOT_LOG_LEVEL: 'debug',
});
const DEAD = { SNAPSHOT_ETCD_ENDPOINTS: `http://127.0.0.1:${await freePort()}` };

/** What was posted since the last time. */
function posted(): Notification[] {
  webhook.asked.splice(0);
  return webhook.bodies.splice(0).map((body) => JSON.parse(body) as Notification);
}

async function failureNotes(container: string): Promise<string[]> {
  return (await azurite.names(container)).filter((name) => name.includes('etcd-snapshot-marks/failed-'));
}

t.test('a failure is posted once for each run, and the recovery once', async (t) => {
  const variables = { ...working('recovered'), SNAPSHOT_BLOB_PREFIX: 'prod/eu/' };
  t.equal((await runWorker([], variables)).code, 0);
  t.strictSame(posted(), [], 'the first success is no news');
  await nextSecond();
  for (const _ of [1, 2]) {
    const failed = await runWorker([], { ...variables, ...DEAD });
    t.equal(failed.code, 10);
    const { message, hint } = errorOf(failed);
    const [body, ...more] = posted();
    t.strictSame(more, []);
    t.match(body, { status: 'failed', command: 'backup', exitCode: 10, container: 'recovered/prod/eu', message, hint });
    t.equal(body?.clusterId, null, 'etcd did not say it');
  }
  t.match(await failureNotes('recovered'), [/^prod\/eu\/etcd-snapshot-marks\/failed-/, /^prod\/eu\//]);
  const { code, stderr } = await runWorker([], variables);
  t.equal(code, 0, stderr);
  const [recovered, ...more] = posted();
  t.strictSame(more, []);
  t.match(recovered, { status: 'recovered', exitCode: 0, container: 'recovered/prod/eu', hint: null });
  t.match(
    recovered?.message,
    /^Backup prod\/eu\/kubernetes\S+ uploaded successfully! .* 2 runs failed before it; the previous snapshot is \d+s older\.$/,
  );
  t.match(recovered?.clusterId, /^[0-9a-f]{1,16}$/);
  t.equal((await runWorker([], variables)).code, 0);
  t.strictSame(posted(), []);
});

t.test('a gap is a recovery although nothing failed', async (t) => {
  const container = azurite.container('gap');
  await container.create();
  const first = await runWorker(['--json'], working('gap-id'));
  const { clusterId } = JSON.parse(first.stdout) as { clusterId: string };
  posted();
  const fourDays = new Date(Date.now() - 4.1 * 86_400_000);
  await putSnapshot(container, fourDays, {
    metadata: { clusterid: clusterId, livekeys: '0', totalkeys: '0', revision: '0' },
  });
  await runWorker([], working('gap'));
  t.match(posted(), [{ status: 'recovered', message: /The previous snapshot is 4d older\.$/ }]);
});

t.test('a drill that succeeds after one that failed', async (t) => {
  const variables = working('drills');
  t.equal((await runWorker([], variables)).code, 0);
  t.equal((await runWorker(['drill'], variables)).code, 0);
  t.strictSame(posted(), [], 'the first success is no news');
  await nextSecond();
  const noTools = { PATH: '/usr/bin:/bin' };
  t.not((await runWorker(['drill'], { ...variables, ...noTools })).code, 0);
  t.match(posted(), [{ status: 'failed', command: 'drill', container: 'drills' }]);
  await nextSecond();
  t.equal((await runWorker([], variables)).code, 0);
  t.strictSame(posted(), [], 'the failure was none of a backup');
  t.equal((await runWorker(['drill'], variables)).code, 0);
  t.match(posted(), [
    { status: 'recovered', command: 'drill', message: /restorable: .*\. 1 drill failed before it\.$/ },
  ]);
  t.equal((await runWorker(['drill'], variables)).code, 0);
  t.strictSame(posted(), []);
});

t.test('an incomplete backup', async (t) => {
  const { recipient } = await generateIdentity('x25519');
  const bundle = { SNAPSHOT_ENCRYPTION_RECIPIENTS: recipient, SNAPSHOT_BUNDLE: join(dir, 'nowhere') };
  const { code } = await runWorker([], { ...working('incomplete'), ...bundle });
  t.equal(code, 3);
  t.match(posted(), [{ status: 'incomplete', exitCode: 3, message: /its bundle /, hint: /SNAPSHOT_BUNDLE/ }]);
  t.strictSame(await failureNotes('incomplete'), []);
});

t.test('failures of every kind, and what is no failure', async (t) => {
  const wrongKey = { SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64, 'wrong key').toString('base64') };
  const refused = await runWorker([], { ...working('failures'), ...wrongKey });
  t.equal(refused.code, 12);
  t.match(posted(), [{ status: 'failed', exitCode: 12, clusterId: /^[0-9a-f]+$/ }]);
  t.equal((await runWorker([], { ...working('failures'), SNAPSHOT_KEEP_LAST: 'many' })).code, 2);
  t.match(posted(), [{ exitCode: 2, message: /SNAPSHOT_KEEP_LAST/ }]);
  t.equal((await runWorker([], { ...working('failures'), SNAPSHOT_AZURE_CONTAINER_NAME: 'No_Name' })).code, 2);
  t.match(posted(), [{ container: null }]);
  t.equal((await runWorker(['drill'], working('failures'))).code, 12, 'there is no container');
  t.match(posted(), [{ status: 'failed', command: 'drill', exitCode: 12 }]);
  for (const args of [['list'], ['bakcup']]) await runWorker(args, working('failures'));
  t.strictSame(posted(), [], 'other commands are not reported');
  t.strictSame(await azurite.names('failures'), []);
});

t.test('a webhook that does not take it changes nothing', async (t) => {
  const [elsewhere, broken, hanging] = await Promise.all([
    Listener.start(302),
    Listener.start(500),
    Listener.start('hang'),
  ]);
  t.teardown(async () => Promise.all([elsewhere.stop(), broken.stop(), hanging.stop()]));
  for (const [origin, reason] of [
    [elsewhere.origin, 'the answer was 302: a server said so'],
    [broken.origin, 'the answer was 500: a server said so'],
    [hanging.origin, 'no answer in time'],
    [await startSilentServer(t), 'no answer in time'],
    [`http://localhost:${await freePort()}`, 'ECONNREFUSED'],
  ] as const) {
    const variables = { ...working('webhooks'), ...DEAD, SNAPSHOT_NOTIFY_URL: `${origin}/${TOKEN}` };
    const finished = await runWorker([], variables);
    t.equal(finished.code, 10, finished.stderr);
    t.match(finished.stderr, new RegExp(`notification to localhost:\\d+ failed .*${reason}|to 127.0.0.1:.*${reason}`));
    showsNoToken(t, finished);
  }
  t.strictSame(elsewhere.asked, [`POST /${TOKEN}`], 'it follows no redirect');
});

function showsNoToken(t: Test, { stdout, stderr }: Finished): void {
  t.notOk(`${stdout}${stderr}`.includes(TOKEN));
}

t.test('a signal ends the wait for the webhook', async (t) => {
  const hanging = await Listener.start('hang');
  const stuck = await FaultProxy.start(azurite.url, ({ method }) => (method === 'HEAD' ? 'hang' : 'pass'));
  t.teardown(async () => Promise.all([hanging.stop(), stuck.stop()]));
  const variables = { ...working('signals'), SNAPSHOT_NOTIFY_URL: `${hanging.origin}/${TOKEN}` };
  const failing = startWorker([], { ...variables, ...DEAD });
  const failed = collect(failing);
  await until(() => hanging.bodies.length > 0);
  failing.kill('SIGTERM');
  t.equal((await failed).code, 10, 'the run had failed before');
  const child = startWorker([], { ...variables, SNAPSHOT_AZURE_BLOB_ENDPOINT: stuck.url });
  const ended = collect(child);
  await until(() => stuck.seen.length > 0);
  child.kill('SIGTERM');
  t.equal((await ended).code, 143);
  t.match(JSON.parse(hanging.bodies.at(-1) ?? ''), { status: 'failed', exitCode: 143 });
});

const NOTIFICATION: Notification = {
  ...{ status: 'failed', command: 'backup', exitCode: 10, container: 'my-cluster', clusterId: 'c1' },
  message: 'etcd said <!channel> & [click](http://evil) a_b_c secret<value \u202e\n*bold*',
  ...{ hint: 'Do this.', at: new Date(0), version: '1.0.0' },
};
const mask = (text: string): string => text.replaceAll('secret<value', '[secret]');

t.test('a message for Slack', (t) => {
  t.strictSame(JSON.parse(notificationBody(NOTIFICATION, 'slack', mask)), {
    mrkdwn: false,
    text: [
      'etcd backup failed: my-cluster (exit code 10)',
      'etcd said &lt;!channel&gt; &amp; [click](http://evil) a_b_c [secret] \\u{202e}\\u{a}*bold*',
      'Do this.',
      'Cluster id: c1',
    ].join('\n'),
  });
  t.end();
});

t.test('a message for Teams', (t) => {
  const { type, attachments } = JSON.parse(notificationBody(NOTIFICATION, 'teams', mask)) as {
    type: string;
    attachments: {
      contentType: string;
      content: { type: string; body: { type: string; inlines: { text: string }[] }[] };
    }[];
  };
  t.equal(type, 'message');
  t.equal(attachments[0]?.contentType, 'application/vnd.microsoft.card.adaptive');
  const { body = [] } = attachments[0]?.content ?? {};
  t.ok(
    body.every((part) => part.type === 'RichTextBlock'),
    'which knows no Markdown',
  );
  t.strictSame(
    body.flatMap(({ inlines }) => inlines.map(({ text }) => text)),
    [
      'etcd backup failed: my-cluster (exit code 10)',
      'etcd said <!channel> & [click](http://evil) a_b_c [secret] \\u{202e}\\u{a}*bold*',
      'Do this.',
      'Cluster id: c1',
    ],
  );
  t.end();
});

t.test('JSON', (t) => {
  const body = JSON.parse(notificationBody(NOTIFICATION, 'json', mask)) as Notification;
  t.strictSame(body, { ...NOTIFICATION, message: mask(NOTIFICATION.message), at: '1970-01-01T00:00:00.000Z' });
  t.end();
});

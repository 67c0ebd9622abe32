import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { findEtcd } from '../support/etcd.ts';
import { Azurite } from '../support/azurite.ts';
import { nameOf } from '../support/catalogue.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { openStore, put, RECORD } from '../support/store.ts';
import { errorOf, withTools } from '../support/worker.ts';

const dir = temporaryFolder('taken-before');
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
const variables = { ...azurite.variables('times'), ...withTools(tools) };

const [first, second, third] = ['2026-01-01T06:00:00.400Z', '2026-01-02T00:00:00.000Z', '2026-01-02T06:00:00.000Z'].map(
  (time) => new Date(time),
);
if (first === undefined || second === undefined || third === undefined) throw new Error('no times');
const store = await openStore(variables);
for (const takenAt of [first, second, third]) await put(store, SNAPSHOT, nameOf(takenAt), { ...RECORD, takenAt });
const other = new Date('2026-01-01T12:00:00Z');

t.test('the newest snapshot taken before a time', async (t) => {
  for (const [time, takenAt] of [
    ['2026-01-03', third],
    ['2026-01-02T06:00:00Z', second],
    ['2026-01-02T07:30:00+02:00', second],
    // Its own time is not before itself, not even by the part of a second that its name omits.
    [second.toISOString(), first],
    ['2026-01-02', first],
    ['2026-01-01T06:00:00.401Z', first],
    ['2027-01-01', third],
  ] as const) {
    const { name } = await jsonOf<{ name: string }>(['verify', '--taken-before', time], variables);
    t.equal(name, nameOf(takenAt), time);
  }
  const none = await runCommand(['verify', '--taken-before', first.toISOString()], variables);
  t.equal(none.code, 13);
  t.match(errorOf(none).message, 'no verified snapshot in container times, taken before 2026-01-01T06:00:00.400Z');
});

t.test('every command that takes a snapshot', async (t) => {
  const file = join(dir, 'downloaded.db');
  for (const args of [
    ['inspect'],
    ['inspect', '--objects'],
    ['extract', '-o', join(dir, 'objects')],
    ['bundle'],
    ['restore', '--download', file],
    ['restore', '--plan', '--layout', 'kubeadm', '--force'],
    ['restore', '--name', 'm1', '--data-dir', join(dir, 'data'), '--force'],
    ['drill'],
  ]) {
    const { stderr } = await runCommand([...args, '--taken-before', '2026-01-02'], variables);
    t.match(stderr, `"reading a stored snapshot","name":"${nameOf(first)}"`, args.join(' '));
  }
  t.strictSame(await readFile(file), SNAPSHOT);
  t.match(await jsonOf(['keep', '--taken-before', '2026-01-02'], variables), { name: nameOf(first) });
});

t.test('with several clusters one must be chosen', async (t) => {
  const record = { ...RECORD, takenAt: other, clusterId: 'c2' };
  await put(store, SNAPSHOT, nameOf(other), record);
  t.teardown(async () => azurite.container('times').deleteBlob(nameOf(other)));
  const args = ['verify', '--taken-before', '2026-01-02'];
  const several = await runCommand(args, variables);
  t.equal(several.code, 2);
  t.match(errorOf(several).hint, /^Give --cluster-id ID/);
  t.match(await jsonOf([...args, '--cluster-id', 'c2'], variables), { name: nameOf(other) });
  t.match(await jsonOf([...args, '--cluster-id', 'c1'], variables), { name: nameOf(first) });
  t.match(await jsonOf(['verify', '--taken-before', '2026-01-01T07:00:00Z'], variables), { name: nameOf(first) });
});

t.test('what contradicts it', async (t) => {
  const name = nameOf(first);
  for (const [args, message] of [
    [
      ['verify', name, '--taken-before', '2026-01-02'],
      `--taken-before chooses a snapshot, but ${name} is named as well`,
    ],
    [['restore', './x.db', '--taken-before', '2026-01-02'], './x.db is named as well'],
    [['inspect', '--taken-before', 'yesterday'], '--taken-before yesterday is not a time'],
    [['inspect', '--taken-before', '2026-02-30'], '2026-02-30 is not a time'],
    [['restore', '--from-plan', 'p.json', '--taken-before', '2026-01-02'], 'cannot be combined with --from-plan'],
    [
      ['restore', '--swap', '--data-dir', dir, '--taken-before', '2026-01-02'],
      'cannot be combined with --taken-before',
    ],
    [['verify', '--taken-before', '2026-01-02', '--skip-hash-check'], 'applies to files only'],
    [['verify', '--taken-before', ''], '--taken-before is empty'],
    [['list', '--taken-before', '2026-01-02'], 'list has no option --taken-before'],
  ] as const) {
    const refused = await runCommand(args, variables);
    t.equal(refused.code, 2, args.join(' '));
    t.match(errorOf(refused).message, message);
  }
});

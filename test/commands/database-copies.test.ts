import { appendFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { databaseOf, databasePath, databaseVectors, idleCopy, Writer } from '../support/databases.ts';
import { EtcdCluster, findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { contentOf, metadataOf, type Restored } from '../support/restored.ts';
import { tools as oracles } from '../support/tools.ts';
import { jsonOf, runCommand } from '../support/command.ts';
import { errorOf, startWorker, withTools } from '../support/worker.ts';

interface Report {
  readonly ok: boolean;
  readonly hashChecked: boolean;
  readonly hash: string;
  readonly revision: number;
  readonly effectiveRevision: number;
  readonly totalKeys: number;
  readonly liveKeys: number;
  readonly totalSize: number;
}

const dir = temporaryFolder('left-files');
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());
t.jobs = 2;
const newest = findEtcd().at(-1);
if (newest === undefined) throw new Error('no etcd');
const SKIP = '--skip-hash-check';

/** A copy of the database of a member of etcd 3.4, which every version here restores. */
const copy = join(dir, 'copy.db');
const vector = databaseVectors().find(({ name }) => name.startsWith('etcd-3.4') && name.endsWith('load'));
if (vector === undefined) throw new Error('no vector');
await writeFile(copy, databaseOf(vector));

for (const tools of findEtcd()) {
  t.test(`etcd ${tools.version}: what is left on the disk of a member comes back`, async (t) => {
    const folder = join(dir, tools.version);
    const cluster = await EtcdCluster.start({ tools, dir: folder });
    t.teardown(async () => cluster.stop());
    const variables = withTools(tools);
    await cluster.fill(200, 1000);
    await cluster.etcdctl('del', '/registry/pods/default/pod-7');
    await cluster.etcdctl('compact', '2');

    const idle = join(folder, 'idle.db');
    await writeFile(idle, await idleCopy(databasePath(folder)));
    const refused = await runCommand(['verify', idle], {});
    t.equal(refused.code, 11);
    t.match(errorOf(refused).message, "seems to be a copy of a member's database");
    t.match(errorOf(refused).hint, `etcd-snapshot verify ${idle} --skip-hash-check`);
    const report = await jsonOf<Report>(['verify', idle, SKIP], {});
    t.match(report, { ok: true, hashChecked: false, liveKeys: 199 });
    for (const oracle of oracles()) {
      const status = await oracle.status(idle);
      const totalKey = oracle.is36 ? report.liveKeys : report.totalKeys;
      const { revision, totalSize } = report;
      t.match(status, { hash: Number.parseInt(report.hash, 16), revision, totalKey, totalSize }, oracle.name);
    }
    const about = await runCommand(['inspect', idle, SKIP], {});
    t.match(about.stdout, 'its sha256 was not checked');
    t.match(about.stdout, /^pods +199 +\d/m);
    t.match(await jsonOf(['inspect', idle, SKIP], {}), { hashChecked: false, members: [{ name: 'm1' }] });

    // Copies while etcd writes; what it held at the revision of one that is whole is asked of the server itself.
    const writer = new Writer(cluster, { compacts: false });
    t.teardown(async () => writer.stop());
    await writer.rounds(30);
    const load = join(folder, 'load.db');
    for (let tries = 1; ; tries++) {
      await copyFile(databasePath(folder), load);
      if ((await runCommand(['verify', load, SKIP], {})).code === 0) break;
      if (tries === 30) throw new Error('no copy is whole');
    }
    const { effectiveRevision, liveKeys } = await jsonOf<Report>(['verify', load, SKIP], {});
    await writer.stop();
    const answer = await cluster.etcdctl('get', '', '--prefix', '--rev', String(effectiveRevision), '-w', 'json');
    const { kvs } = JSON.parse(answer) as { kvs: { key: string; value: string }[] };
    const truth = new Map(kvs.map(({ key, value }) => [key, value]));
    t.equal(truth.size, liveKeys);
    const difference = await jsonOf<{ added: { key: string }[] }>(['inspect', idle, load, SKIP], {});
    t.ok(difference.added.length > 0 && difference.added.every(({ key }) => key.startsWith('/registry/leases/')));

    const drill = await jsonOf<{ ok: boolean }>(['drill', load, SKIP], variables);
    t.ok(drill.ok, 'a real etcd starts from it, with the same HashKV');

    await cluster.stop();
    await rm(join(folder, 'm1'), { recursive: true });
    const restored = await jsonOf<Restored>(
      ['restore', load, SKIP, '--name', 'm1', '--data-dir', join(folder, 'm1')],
      variables,
    );
    t.ok(restored.findings.some((finding) => finding.includes('sha256')));
    await cluster.startMember('m1');
    const after = await contentOf(cluster);
    t.strictSame(after.keys, truth, 'every key, with its value');
  });
}

t.test('what a file without a checked sha256 does not prove is a warning', { skip: unfitFor(newest) }, async (t) => {
  const wrong = Buffer.from(SNAPSHOT);
  wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
  for (const [name, bytes, says] of [
    ['wrong', wrong, /The sha256 of .* was not checked: it does not match/],
    ['missing', SNAPSHOT.subarray(0, -32), /The sha256 of .* was not checked: the file has none/],
    ['valid', SNAPSHOT, undefined],
  ] as const) {
    const file = join(dir, `${name}.db`);
    await writeFile(file, bytes);
    const verify = await runCommand(['verify', file, SKIP], {});
    t.equal(verify.code, 0, verify.stderr);
    const drill = await jsonOf<{ findings: string[] }>(['drill', file, SKIP], withTools(newest));
    const args = ['restore', file, SKIP, '--name', 'm1', '--data-dir', join(dir, `restored-${name}`)];
    const restored = await jsonOf<Restored>(args, withTools(newest));
    for (const text of [verify.stderr, drill.findings.join('\n'), restored.findings.join('\n')]) {
      if (says === undefined) t.notMatch(text, 'sha256', name);
      else t.match(text, says, name);
    }
  }
});

t.test('the option is for files only', async (t) => {
  const name = 'kubernetes-etcd-snapshot_20260101_000000.db';
  const variables = azurite.variables('none');
  for (const args of [
    ['verify', name],
    ['inspect', name],
    ['inspect', copy, name],
    ['restore', name, '--data-dir', join(dir, 'data')],
    ['restore', '--data-dir', join(dir, 'data')],
    ['restore', name, '--plan'],
    ['restore', name, '--download', join(dir, 'download.db')],
    ['drill', name],
    ['drill'],
  ]) {
    // Said before anything else is asked for.
    const finished = await runCommand([...args, SKIP], args.length === 1 ? variables : {});
    t.equal(finished.code, 2, args.join(' '));
    t.match(errorOf(finished).message, /^--skip-hash-check applies to files/);
  }
  t.equal((await runCommand(['list', SKIP], variables)).code, 2);
  t.equal((await runCommand(['backup', SKIP], variables)).code, 2);
});

t.test('what is stored under the name of a snapshot is never taken without its sha256', async (t) => {
  const container = azurite.container('stored');
  await container.createIfNotExists();
  const variables = { ...azurite.variables('stored'), ...withTools(newest) };
  const files: Record<string, readonly [bytes: Buffer, message: RegExp, hint: RegExp]> = {
    'kubernetes-etcd-snapshot_20260101_000000.db': [
      databaseOf(vector),
      /seems to be a copy of a member's database/,
      /^Download it .*--skip-hash-check/,
    ],
    'kubernetes-etcd-snapshot_20260101_010000.db': [
      gzipSync(SNAPSHOT),
      /it is compressed with gzip/,
      /^Download it .*gzip -dc FILE/,
    ],
    'kubernetes-etcd-snapshot_20260101_020000.db': [Buffer.from('<?xml version="1.0"?><Error/>'), /XML/, /list/],
  };
  const metadata = metadataOf({ etcdversion: newest.version });
  for (const [name, [bytes, message, hint]] of Object.entries(files)) {
    await container.getBlockBlobClient(name).upload(bytes, bytes.length, { metadata });
    for (const args of [
      ['verify', name],
      ['inspect', name],
      ['restore', name, '--name', 'm1', '--data-dir', join(dir, 'refused-stored')],
      ['restore', name, '--download', join(dir, 'refused-stored.db')],
      ['drill', name],
    ]) {
      const finished = await runCommand(args, variables);
      const what = args.join(' ');
      t.equal(finished.code, 11, what);
      t.match(errorOf(finished).message, message, what);
      t.match(errorOf(finished).hint, hint, what);
    }
    await t.rejects(stat(join(dir, 'refused-stored')), { code: 'ENOENT' });
    await t.rejects(stat(join(dir, 'refused-stored.db')), { code: 'ENOENT' });
  }
});

t.test('a file that is something else is named, with what to do', async (t) => {
  const folder = join(dir, 'an other');
  await mkdir(folder);
  const gzip = join(folder, 'snapshot.db.gz');
  await writeFile(gzip, gzipSync(SNAPSHOT));
  for (const args of [
    ['verify', gzip],
    ['verify', gzip, SKIP],
    ['inspect', gzip],
    ['restore', gzip, '--name', 'm1', '--data-dir', join(dir, 'refused-other')],
    ['drill', gzip],
  ]) {
    const finished = await runCommand(args, withTools(newest));
    t.equal(finished.code, 11);
    t.match(errorOf(finished), {
      message: `${gzip} is not a valid snapshot: it is compressed with gzip.`,
      hint: `Unpack it with \`gzip -dc '${gzip}' >snapshot.db\`, and use the result.`,
    });
  }
  const report = await jsonOf<{ faults: object[] }>(['verify', gzip], {}, 11);
  t.strictSame(report.faults, [{ kind: 'format', message: 'it is compressed with gzip' }]);
});

t.test('a torn copy is refused, and the hint gives the possible reason', async (t) => {
  const torn = databaseVectors().filter(({ scenario }) => scenario === 'torn');
  const file = join(dir, 'torn.db');
  for (const each of torn) {
    await writeFile(file, databaseOf(each));
    const args = ['restore', file, SKIP, '--name', 'm1', '--data-dir', join(dir, 'refused-torn')];
    const finished = await runCommand(args, withTools(newest));
    t.equal(finished.code, 11, each.name);
    t.match(errorOf(finished).hint, /while etcd writes/);
    t.match(errorOf(await runCommand(['verify', file, SKIP], {})).hint, /while etcd writes/);
    await t.rejects(stat(join(dir, 'refused-torn')), { code: 'ENOENT' });
  }
});

t.test('a file that is written to while it is read is no copy', async (t) => {
  const file = join(dir, 'written.db');
  await copyFile(copy, file);
  const worker = startWorker(['verify', file, SKIP], {});
  const writing = setInterval(() => appendFileSync(file, 'x'), 1);
  const code = await new Promise((resolve) => worker.on('close', resolve));
  clearInterval(writing);
  t.equal(code, 20);

  // The tool that restores it reads it once more.
  const bin = join(dir, 'bin');
  await mkdir(bin);
  const [program] = newest.snapshotTool.split('/').slice(-1);
  const wrapper = join(bin, program ?? '');
  await copyFile(copy, file);
  await writeFile(
    wrapper,
    `#!/bin/sh\n'${newest.snapshotTool}' "$@"\ncase "$*" in *--data-dir*) printf x >>'${file}';; esac\n`,
  );
  await chmod(wrapper, 0o755);
  const dataDir = join(dir, 'refused-written');
  const variables = { PATH: `${bin}:${dirname(newest.etcd)}:/usr/bin:/bin` };
  const finished = await runCommand(['restore', file, SKIP, '--name', 'm1', '--data-dir', dataDir], variables);
  t.equal(finished.code, 20);
  t.match(errorOf(finished).message, 'was changed while it was read');
  await t.rejects(stat(dataDir), { code: 'ENOENT' });

  // Another file of the same name is another file, too.
  await copyFile(copy, file);
  await writeFile(
    wrapper,
    `#!/bin/sh\n'${newest.snapshotTool}' "$@"\ncase "$*" in *--data-dir*) cp '${copy}' '${file}.new'; mv '${file}.new' '${file}';; esac\n`,
  );
  t.equal((await runCommand(['drill', file, SKIP], variables)).code, 20);
  await rename(file, `${file}.old`);
});

import { lstatSync, readdirSync } from 'node:fs';
import { chown, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { HeldDirectory } from '../../src/directories.ts';
import { SpoolFile } from '../../src/spool/spool-file.ts';
import { Azurite } from '../support/azurite.ts';
import { runCommand } from '../support/command.ts';
import { findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { metadataOf, RECORDED_NAME as STORED } from '../support/restored.ts';
import { asOther, noSecondUser, openTo, OTHER_USER } from '../support/users.ts';
import { errorOf, withTools } from '../support/worker.ts';

const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const skip = noSecondUser();
const dir = openTo(temporaryFolder('links'));
const file = join(dir, 'snapshot.db');
await writeFile(file, SNAPSHOT);
/** Of root, writable for root only. */
const victim = join(dir, 'victim');
await mkdir(victim);
/** Of the other user, with links of both users to the directory of root. */
const foreign = join(dir, 'foreign');
await mkdir(foreign);

if (skip === false) {
  await chown(foreign, OTHER_USER, OTHER_USER);
  await asOther(`ln -s ${victim} ${foreign}/theirs`);
  await symlink(victim, join(foreign, 'ours'));
  await symlink('foreign/theirs', join(dir, 'chain'));
}

t.test('no command writes through a link of another user', { skip: skip || unfitFor(tools) }, async (t) => {
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => azurite.stop());
  const container = azurite.container('links');
  await container.createIfNotExists();
  await container.getBlockBlobClient(STORED).upload(SNAPSHOT, SNAPSHOT.length, { metadata: metadataOf() });
  const variables = { ...azurite.variables('links'), ...withTools(tools) };
  const one = ['restore', file, '--name', 'm1'];
  const commands: Record<string, (parent: string) => string[]> = {
    'restore --data-dir': (parent) => [...one, '--data-dir', join(parent, 'data')],
    'restore --wal-dir': (parent) => [...one, '--data-dir', join(dir, 'data'), '--wal-dir', join(parent, 'wal')],
    'restore --swap': (parent) => ['restore', '--swap', '--data-dir', parent],
    'restore --download': (parent) => ['restore', STORED, '--download', join(parent, 'made.db')],
    'restore --plan --output': (parent) => [
      'restore',
      STORED,
      '--plan',
      '--layout',
      'kubeadm',
      '--output',
      join(parent, 'plan.json'),
    ],
    'drill --temp-dir': (parent) => ['drill', file, '--temp-dir', parent],
  };
  for (const [command, args] of Object.entries(commands)) {
    for (const parent of [join(foreign, 'theirs'), join(dir, 'chain')]) {
      const finished = await runCommand(args(parent), variables);
      t.equal(finished.code, 20, `${command}: ${finished.stderr}`);
      t.match(errorOf(finished).message, `${foreign}/theirs, a part of`, command);
      t.strictSame(readdirSync(victim), [], `${command}: nothing is there`);
    }
  }
  const own = await runCommand([...one, '--data-dir', join(foreign, 'ours/data')], variables);
  t.equal(own.code, 0, own.stderr);
  t.strictSame(readdirSync(victim), ['data'], 'a link of root is followed');
});

t.test('the spool does not follow a link of another user', { skip }, async (t) => {
  const options = { reserve: { bytes: 0 }, bytes: 1000, maxRecord: 1000 };
  await t.rejects(SpoolFile.create({ dir: join(foreign, 'theirs'), ...options }), {
    exitCode: 20,
    message: /is a symbolic link that belongs to another user/,
  });
  const spool = await SpoolFile.create({ dir: join(foreign, 'ours'), ...options });
  await spool.close();
});

t.test('all other paths are resolved as the kernel does', { skip }, async (t) => {
  await mkdir(join(victim, 'deep/er'), { recursive: true });
  await symlink('loop', join(dir, 'loop'));
  const paths = [
    ...['.', '..', '/', '/proc/self/root/tmp', `/proc/${process.pid}/cwd`, join(victim, 'deep')],
    ...[`${dir}/foreign/ours/deep/../deep//er/./`, `${foreign}/ours/..`],
  ];
  for (const path of paths) {
    const [held, named] = [HeldDirectory.open(path).stats(), lstatSync(`${path}/.`)];
    t.strictSame([held.dev, held.ino], [named.dev, named.ino], path);
  }
  for (const [path, code] of [
    [join(dir, 'loop'), 'ELOOP'],
    [join(dir, 'none/deeper'), 'ENOENT'],
    [file, 'ENOTDIR'],
  ] as const) {
    t.throws(() => HeldDirectory.open(path), { code });
  }
});

t.test('a target that exists is refused before anything is read', async (t) => {
  // Nobody answers there.
  const nowhere = {
    ...withTools(tools),
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'nobody',
    SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
    SNAPSHOT_AZURE_CONTAINER_NAME: 'nothing',
    SNAPSHOT_AZURE_BLOB_ENDPOINT: 'http://127.0.0.1:9',
  };
  const [dangling, folder] = [join(dir, 'dangling'), join(dir, 'folder')];
  await symlink(join(dir, 'to-nothing'), dangling);
  await mkdir(folder);
  for (const target of [dangling, folder]) {
    const plan = await runCommand(['restore', STORED, '--plan', '--layout', 'kubeadm', '--output', target], nowhere);
    t.equal(plan.code, 2, plan.stderr);
    t.match(errorOf(plan).message, `${target} already exists`);
    const download = await runCommand(['restore', STORED, '--download', target], nowhere);
    t.equal(download.code, 2, download.stderr);
    t.match(errorOf(download).message, target === dangling ? 'is a symbolic link' : 'is a directory');
  }
});

import { once } from 'node:events';
import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import t from 'tap';
import { openRegular, readNamed, whyUnreadable } from '../../src/files.ts';
import { Azurite } from '../support/azurite.ts';
import { findEtcd } from '../support/etcd.ts';
import { FIXTURES, SNAPSHOT } from '../support/fixtures.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { asOther, noSecondUser, openTo } from '../support/users.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

const dir = openTo(temporaryFolder('operands'));
const [tools] = findEtcd();
if (tools === undefined) throw new Error('no etcd');
const folder = join(dir, 'cwd');
await mkdir(folder);
const OTHER = join(FIXTURES, 'etcd-3.5.16-cluster3.snap');

t.test('a name is of the container, a path of this machine', async (t) => {
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => azurite.stop());
  const container = azurite.container('names');
  await container.createIfNotExists();
  await container.getBlockBlobClient('both.db').uploadFile(OTHER);
  const variables = azurite.variables('names');
  await writeFile(join(folder, 'both.db'), SNAPSHOT);
  await writeFile(join(folder, 'only-here.db'), SNAPSHOT);
  await mkdir(join(folder, 'sub'));
  await copyFile(OTHER, join(folder, 'sub/deep.db'));

  const stored = await runWorker(['verify', 'both.db', '--json'], variables, folder);
  t.equal(stored.code, 0, stored.stderr);
  t.match(JSON.parse(stored.stdout), {
    size: (await container.getBlobClient('both.db').getProperties()).contentLength,
  });
  t.match(stored.stderr, /reading a stored snapshot","name":"both.db","container":"names"/);
  for (const path of ['./both.db', join(folder, 'both.db'), 'sub/deep.db']) {
    const local = await runWorker(['verify', path, '--json'], variables, folder);
    if (path.startsWith('sub')) t.equal(local.code, 13, 'a name may have slashes');
    else {
      t.match(JSON.parse(local.stdout), { size: SNAPSHOT.length }, path);
      t.match(local.stderr, `"reading a local file","file":"${path}"`);
    }
  }
  t.match((await runWorker(['verify', '../cwd/both.db'], {}, folder)).stdout, 'a8e91a41');

  const commands = [['verify'], ['inspect'], ['drill'], ['restore', '--data-dir', join(dir, 'no'), '--name', 'm']];
  for (const [command = '', ...options] of commands) {
    const absent = await runWorker(
      [command, 'only-here.db', ...options],
      { ...variables, ...withTools(tools) },
      folder,
    );
    t.equal(absent.code, 13, `${command}: ${absent.stderr}`);
    t.match(errorOf(absent), {
      message: /no snapshot only-here\.db in container names/,
      hint: /give \.\/only-here\.db/,
    });
    const bare = await runWorker([command, 'only-here.db', ...options], withTools(tools), folder);
    t.equal(bare.code, 2, `${command}, without storage`);
    t.match(errorOf(bare).hint, /To use the file only-here\.db in this directory, give \.\/only-here\.db/);
  }
  const unchecked = await runWorker(['verify', 'only-here.db', '--skip-hash-check'], variables, folder);
  t.equal(unchecked.code, 2);
  t.match(errorOf(unchecked).hint, /give \.\/only-here\.db/);
});

/** One of each kind, by what is said of it; the last ones are read. */
const kinds: Record<string, string> = {
  fifo: 'is a FIFO, not a regular file',
  socket: 'is a socket, not a regular file',
  '/dev/zero': 'is a device, not a regular file',
  '/dev/null': 'is a device, not a regular file',
  directory: 'is a directory, not a regular file',
  'to-fifo': 'is a FIFO, not a regular file',
  dangling: 'does not exist',
  loop: 'is a loop of symbolic links',
  missing: 'does not exist',
  'file/below': 'does not exist: a part of its path is not a directory',
  linked: '',
  'hard-link': '',
  'of-another': '',
  writable: '',
};

t.test('no kind of file makes a command wait, and the message names it', async (t) => {
  const place = openTo(join(dir, 'cwd'));
  const at = (name: string): string => (name.startsWith('/') ? name : join(place, name));
  await mustRun('mkfifo', [at('fifo')]);
  const socket = createServer().listen(at('socket'));
  t.teardown(() => socket.close());
  await once(socket, 'listening');
  await mkdir(at('directory'));
  await symlink('fifo', at('to-fifo'));
  await symlink('nothing', at('dangling'));
  await symlink('loop', at('loop'));
  await writeFile(at('file'), 'content');
  await symlink('file', at('linked'));
  await mustRun('ln', [at('file'), at('hard-link')]);
  await writeFile(at('writable'), 'content', { mode: 0o666 });
  const isAlone = noSecondUser();
  if (isAlone === false) {
    await mustRun('chmod', ['1777', place]);
    await asOther(`printf content >${at('of-another')}`);
  } else t.comment(`of-another: ${isAlone}`);

  for (const [name, says] of Object.entries(kinds)) {
    if (name === 'of-another' && isAlone !== false) continue;
    const reading = readNamed(at(name), 'file', 'Check it.').then(String);
    if (says === '') t.equal(await reading, 'content', `${name} is read: who named it chose it`);
    else await t.rejects(reading, { message: `The file ${at(name)} ${says}.` }, name);
    const opening = openRegular(at(name), 'refuse').then(async ({ file }) => file.close());
    if (name.includes('link') && name !== 'hard-link') {
      await t.rejects(
        opening.catch((error: unknown) => Promise.reject(new Error(whyUnreadable(error)))),
        {
          message: 'is a symbolic link, not a regular file',
        },
      );
    } else await opening.catch(() => {});
  }

  const etcd = { SNAPSHOT_ETCD_ENDPOINTS: 'https://127.0.0.1:1' };
  const azure = {
    SNAPSHOT_AZURE_ACCOUNT_NAME: 'account',
    SNAPSHOT_AZURE_CONTAINER_NAME: 'container',
    AZURE_CLIENT_ID: '5bd3a0fb-7c5c-4a4e-8b2e-2f4c0a4f6a55',
    AZURE_TENANT_ID: '86be0945-a0f3-44c2-8868-9b6aa96b0b62',
  };
  type Use = (path: string) => { args: string[]; code: number; variables?: Record<string, string> };
  const uses: Record<string, Use> = {
    verify: (path) => ({ args: ['verify', path], code: 13 }),
    inspect: (path) => ({ args: ['inspect', path], code: 13 }),
    drill: (path) => ({ args: ['drill', path], code: 13 }),
    restore: (path) => ({ args: ['restore', path, '--name', 'm', '--data-dir', join(dir, 'made')], code: 13 }),
    '--from-plan': (path) => ({ args: ['restore', '--plan', '--from-plan', path], code: 2 }),
    '--from': (path) => ({ args: ['restore', './x.db', '--from', path], code: 2 }),
    '--swap --from': (path) => ({ args: ['restore', '--swap', '--from', path], code: 2 }),
    '--env-file': (path) => ({ args: ['list', '--env-file', path], code: 2 }),
    CA: (path) => ({ args: ['health'], code: 2, variables: { ...etcd, SNAPSHOT_ETCD_CA_FILE: path } }),
    token: (path) => ({ args: ['list'], code: 2, variables: { ...azure, AZURE_FEDERATED_TOKEN_FILE: path } }),
  };
  for (const [use, make] of Object.entries(uses)) {
    for (const name of ['fifo', '/dev/zero']) {
      const { args, code, variables } = make(at(name));
      const finished = await runWorker(args, { PATH: `${dirname(tools.etcd)}:/usr/bin:/bin`, ...variables }, dir);
      t.equal(finished.code, code, `${use} ${name}: ${finished.stderr}`);
      t.match(errorOf(finished).message, `is a ${name === 'fifo' ? 'FIFO' : 'device'}, not a regular file`);
    }
  }
});

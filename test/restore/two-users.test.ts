import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { chmod, chown, link, mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { findEtcd } from '../support/etcd.ts';
import { SNAPSHOT, unfitFor } from '../support/fixtures.ts';
import { collect, type Finished, mustRun, temporaryFolder } from '../support/process.ts';
import { metadataOf } from '../support/restored.ts';
import {
  asOther,
  memberOfOther,
  noSecondUser,
  openTo,
  OTHER_USER,
  ownerOf,
  precious,
  startAsOther,
  stateOf,
} from '../support/users.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

const skip = noSecondUser();
const tools = findEtcd().at(-1);
if (tools === undefined) throw new Error('no etcd');
const unfit = skip || unfitFor(tools);
const bare = withTools(tools);
const dir = openTo(temporaryFolder('two-users'));
const snapshot = join(dir, 'snapshot.db');
await writeFile(snapshot, SNAPSHOT);
t.jobs = 4;

const dbIn = (place: string): string => readFileSync(join(place, 'member/snap/db'), 'utf8');

const swap = async (place: string): Promise<Finished> => runWorker(['restore', '--swap', '--data-dir', place], bare);

t.test('a swap gives nothing away that somebody planted in the restored data', { skip }, async (t) => {
  const shadow = await precious(join(dir, 'shadow'));
  const secret = join(shadow, 'secret');
  const socket = createServer();
  t.teardown(() => socket.close());
  const plants: Record<string, { plant: (member: string) => Promise<unknown>; says: RegExp }> = {
    'a link to a file of root': {
      plant: async (member) => asOther(`ln -s ${secret} ${member}/x`),
      says: /member\/x is a symbolic link/,
    },
    'a link that leads nowhere': {
      plant: async (member) => asOther(`ln -s /nowhere ${member}/snap/x`),
      says: /member\/snap\/x is a symbolic link/,
    },
    'a link instead of a directory': {
      plant: async (member) => asOther(`rmdir ${member}/wal; ln -s ${shadow} ${member}/wal`),
      says: /member\/wal is a symbolic link/,
    },
    'a link instead of the member': {
      plant: async (member) => asOther(`mv ${member} ${member}-2; ln -s member-2 ${member}`),
      says: /restored\/member is a symbolic link/,
    },
    'a FIFO': { plant: async (member) => asOther(`mkfifo ${member}/wal/x`), says: /wal\/x is a FIFO/ },
    'a FIFO instead of the database': {
      plant: async (member) => asOther(`rm ${member}/snap/db; mkfifo ${member}/snap/db`),
      says: /snap\/db is a FIFO/,
    },
    'a socket': {
      plant: async (member) => once(socket.listen(join(member, 'x')), 'listening'),
      says: /member\/x is a socket/,
    },
    'a device': {
      plant: async (member) => mustRun('mknod', [join(member, 'x'), 'c', '1', '5']),
      says: /member\/x is a device/,
    },
    'another name of a file of root': {
      plant: async (member) => link(secret, join(member, 'x')),
      says: /member\/x is a file with several hard links/,
    },
  };
  for (const [name, { plant, says }] of Object.entries(plants)) {
    const place = await memberOfOther(join(dir, name.replaceAll(' ', '-')));
    await plant(join(place, 'restored/member'));
    const before = stateOf(shadow);
    const finished = await swap(place);
    t.equal(finished.code, 20, `${name}: ${finished.stderr}`);
    t.match(errorOf(finished).message, says);
    t.strictSame(stateOf(shadow), before, `${name}: what is root's stays root's`);
    t.equal(dbIn(place), 'old', `${name}: nothing was moved`);
    t.strictSame(readdirSync(place).toSorted(), ['member', 'restored']);
    t.equal(ownerOf(join(place, 'restored')), `${OTHER_USER}:${OTHER_USER} 755`);
    await rm(place, { recursive: true });
  }
});

t.test('files that another user plants during a restore are not followed', { skip }, async (t) => {
  const shadow = await precious(join(dir, 'race-shadow'));
  const before = stateOf(shadow);
  const ends = new Set<number | null>();
  for (let round = 0; round < 8; round++) {
    const place = await memberOfOther(join(dir, `race-${round}`));
    const member = join(place, 'restored/member');
    // Many files, so that the window is wide.
    await asOther(`cd ${member}/wal; for i in $(seq 400); do : >$i.wal; done`);
    const attacker = startAsOther(
      `echo ready; while :; do for i in 1 2 3 4; do ln -s ${shadow}/secret x$i; done; sleep 0.00${round + 1}; rm x*; sleep 0.01; done`,
      join(member, 'wal'),
    );
    const ended = collect(attacker);
    if (attacker.stdout !== null) await once(attacker.stdout, 'data');
    const finished = await swap(place);
    attacker.kill('SIGKILL');
    await ended;
    ends.add(finished.code);
    t.strictSame(stateOf(shadow), before, `round ${round}: ended with ${finished.code}`);
  }
  t.comment(`the swaps ended with ${[...ends].join(' and ')}`);
});

t.test('a work directory that somebody else made is not used', { skip: unfit }, async (t) => {
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => azurite.stop());
  const container = azurite.container('planted');
  await container.createIfNotExists();
  const members = JSON.stringify([{ id: '1', name: 'a', peerURLs: ['https://10.0.0.1:2380'], isLearner: false }]);
  const metadata = metadataOf({ members });
  await container.getBlockBlobClient('stored.db').upload(SNAPSHOT, SNAPSHOT.length, { metadata });
  const variables = { ...bare, ...azurite.variables('planted') };

  const target = await precious(join(dir, 'target'));
  const plants: Record<string, { plant: (work: string) => Promise<unknown>; says: RegExp }> = {
    'a link to a directory': { plant: async (work) => asOther(`ln -s ${target} ${work}`), says: /a symbolic link/ },
    'a link to nowhere': { plant: async (work) => asOther(`ln -s ${target}/no ${work}`), says: /a symbolic link/ },
    'a directory of another user': {
      plant: async (work) => asOther(`mkdir -m 700 ${work}; echo precious >${work}/data-x`),
      says: /belongs to another user \(uid 12379\)/,
    },
    'a directory that others can write to': {
      plant: async (work) => mkdir(work).then(async () => chmod(work, 0o777)),
      says: /its mode is not 0700/,
    },
    'a directory that others can read': {
      plant: async (work) => mkdir(work).then(async () => chmod(work, 0o750)),
      says: /its mode is not 0700/,
    },
    'a file': { plant: async (work) => asOther(`: >${work}`), says: /is a file/ },
    'a FIFO': { plant: async (work) => asOther(`mkfifo ${work}`), says: /is a FIFO/ },
  };
  const commands: Record<string, (made: string) => [args: string[], planted: string]> = {
    'restore --data-dir': (made) => [['restore', snapshot, '--name', 'm1', '--data-dir', made], made],
    'restore --wal-dir': (made) => [
      ['restore', snapshot, '--name', 'm1', '--data-dir', `${made}-data`, '--wal-dir', made],
      made,
    ],
    'restore --download': (made) => [['restore', 'stored.db', '--download', made], made],
  };
  for (const [command, make] of Object.entries(commands)) {
    // One rule for all commands: all of it is tried on the first one.
    const tried = Object.entries(plants).slice(0, command === 'restore --data-dir' ? undefined : 3);
    for (const [name, { plant, says }] of tried) {
      const place = join(dir, 'planted');
      await mkdir(place);
      await chown(place, OTHER_USER, OTHER_USER);
      const [args, made] = make(join(place, 'made'));
      await plant(`${made}.restoring`);
      const before = [stateOf(target), stateOf(place)];
      const finished = await runWorker(args, variables);
      t.equal(finished.code, 20, `${command}, ${name}: ${finished.stderr}`);
      t.match(errorOf(finished).message, says);
      t.strictSame([stateOf(target), stateOf(place)], before, `${command}, ${name}: nothing was touched`);
      await rm(place, { recursive: true });
    }
  }
});

t.test('a work directory that is exchanged while it is used is not followed', { skip: unfit }, async (t) => {
  const target = await precious(join(dir, 'exchanged-target'));
  const before = stateOf(target);
  const place = join(dir, 'exchanged');
  await mkdir(place);
  await chown(place, OTHER_USER, OTHER_USER);
  for (let round = 0; round < 4; round++) {
    const attacker = startAsOther(
      `echo ready; while :; do mv -T made.restoring aside 2>/dev/null && ln -s ${target} made.restoring; sleep 0.0${round + 1}; done`,
      place,
    );
    const ended = collect(attacker);
    if (attacker.stdout !== null) await once(attacker.stdout, 'data');
    const args = ['restore', snapshot, '--name', 'm1', '--data-dir', join(place, 'made'), '--owner-from', place];
    const finished = await runWorker(args, bare);
    attacker.kill('SIGKILL');
    await ended;
    t.strictSame(stateOf(target), before, `round ${round}: ended with ${finished.code}`);
    await rm(place, { recursive: true });
    await mkdir(place);
    await chown(place, OTHER_USER, OTHER_USER);
  }
});

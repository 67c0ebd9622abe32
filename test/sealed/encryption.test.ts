import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { createHeader, generateIdentity, type Identity, isRecipient, openHeader } from '../../src/sealed/age-header.ts';
import { readIdentities } from '../../src/sealed/identities.ts';
import { Sealer } from '../../src/sealed/sealer.ts';
import { unseal } from '../../src/sealed/unseal.ts';
import { Secret } from '../../src/secret.ts';
import type { Encoding } from '../../src/snapshot/snapshot-name.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { findJudge, without } from '../support/judges.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';

const dir = temporaryFolder('encryption');
const [classic, other, postQuantum] = await Promise.all([
  generateIdentity('x25519'),
  generateIdentity('x25519'),
  generateIdentity('post-quantum'),
]);

async function seal(file: Buffer, encoding: Encoding, identities: readonly Identity[]) {
  const written: Buffer[] = [];
  const header = await createHeader(identities.map(({ recipient }) => recipient));
  const fingerprints = identities.map(({ fingerprint }) => fingerprint);
  const sink = { write: async (piece: Uint8Array) => void written.push(Buffer.from(piece)) };
  const sealer = new Sealer(encoding, { ...header, fingerprints }, sink);
  for (let at = 0; at < file.length; at += 30_000) await sealer.write(file.subarray(at, at + 30_000));
  const result = await sealer.finish();
  sealer.close();
  return { ...result, stored: Buffer.concat(written), headerSize: header.bytes.length };
}

interface Wanted {
  readonly encoding: Encoding;
  readonly identities: readonly Identity[];
  readonly size?: number;
  readonly storedSha256?: string;
}

async function open(stored: Buffer, { encoding, identities, size, storedSha256 }: Wanted): Promise<Buffer> {
  const pieces = async function* () {
    for (let at = 0; at < stored.length; at += 9001) yield stored.subarray(at, at + 9001);
  };
  const opened: Buffer[] = [];
  const expected = { name: 'x', encoding, size, storedSha256, identities };
  for await (const piece of unseal(pieces(), expected)) opened.push(Buffer.from(piece));
  return Buffer.concat(opened);
}

/** Sizes around those of chunks. */
const SIZES = [0, 1, 65_535, 65_536, 65_537, 2 * 65_536, 5_000_000];

t.test('every recipient opens what was encrypted, and nobody else', async (t) => {
  for (const encoding of ['age', 'zstd+age'] as const) {
    for (const size of SIZES) {
      const file = randomBytes(size);
      const { stored, storedSha256, recipients } = await seal(file, encoding, [classic, postQuantum]);
      t.strictSame(recipients, [classic.fingerprint, postQuantum.fingerprint]);
      for (const identity of [classic, postQuantum]) {
        const opened = await open(stored, { encoding, identities: [other, identity], size, storedSha256 });
        t.ok(opened.equals(file), `${encoding}, ${size} bytes`);
      }
      await t.rejects(open(stored, { encoding, identities: [other], size }), { exitCode: 2, message: /No identity/ });
    }
  }
});

t.test(
  'age opens what was encrypted, and the other way round',
  { skip: without('age') || without('zstd') },
  async (t) => {
    const key = join(dir, 'key.txt');
    await writeFile(key, `# a comment\n${classic.secret.reveal()}\n`, { mode: 0o600 });
    for (const size of SIZES) {
      const file = randomBytes(size);
      const { stored } = await seal(file, 'age', [classic, other]);
      const path = join(dir, `${size}`);
      await writeFile(`${path}.age`, stored);
      await mustRun('sh', ['-c', `age -d -i ${key} ${path}.age >${path}.opened`]);
      t.ok((await readFile(`${path}.opened`)).equals(file), `${size} bytes`);
      await mustRun('age', ['-r', classic.recipient, '-o', `${path}.theirs`, `${path}.opened`]);
      const theirs = await readFile(`${path}.theirs`);
      t.ok((await open(theirs, { encoding: 'age', identities: [classic], size })).equals(file), 'encrypted by age');
    }
    const { stored } = await seal(SNAPSHOT, 'zstd+age', [classic]);
    const sealed = join(dir, 'x.db.zst.age');
    await writeFile(sealed, stored);
    await mustRun('sh', ['-c', `age -d -i ${key} ${sealed} | zstd -q -d >${join(dir, 'x.db')}`]);
    t.ok((await readFile(join(dir, 'x.db'))).equals(SNAPSHOT));
    const keygen = join(dir, 'keygen.txt');
    await mustRun('age-keygen', ['-o', keygen]);
    const [identity] = await readIdentities(keygen, undefined);
    t.equal(identity?.recipient, (await mustRun('age-keygen', ['-y', keygen])).trim());
  },
);

t.test('every change of the stored bytes is found', async (t) => {
  const file = randomBytes(3 * 65_536 + 10);
  const { stored, storedSha256, headerSize } = await seal(file, 'age', [classic, other]);
  const random = new Random(23);
  const chunk = 65_536 + 16;
  const payload = headerSize + 16;
  const edges = [0, 1, 2, 3].flatMap((index) =>
    [-2, -1, 0, 1, 15, 16, 17].map((more) => payload + index * chunk + more),
  );
  const flipped = (at: number): Buffer => {
    const bytes = Buffer.from(stored);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    return bytes;
  };
  const within = [...Array(headerSize + 16).keys(), ...edges].filter((at) => at >= 0 && at < stored.length);
  const anywhere = Array.from({ length: 400 }, () => random.below(stored.length));
  const cuts = [...edges, headerSize, headerSize - 1, 10, 0].filter((at) => at < stored.length);
  const swapped = Buffer.concat([
    stored.subarray(0, payload),
    stored.subarray(payload + chunk, payload + 2 * chunk),
    stored.subarray(payload, payload + chunk),
    stored.subarray(payload + 2 * chunk),
  ]);
  const changes = [
    ...[...within, ...anywhere].map(flipped),
    ...cuts.map((at) => stored.subarray(0, at)),
    swapped,
    Buffer.concat([stored, Buffer.from([0])]),
    Buffer.concat([stored, randomBytes(16)]),
    Buffer.concat([stored, stored]),
  ];
  // A changed recipient is one whom this identity is not for: only the other way to find it is the sha256 of the record.
  const codes = new Map<number, number>();
  for (const bytes of changes) {
    const wanted = { encoding: 'age', identities: [classic], size: file.length, storedSha256 } as const;
    const error = await open(bytes, wanted).then(
      () => ({ exitCode: 0 }),
      (thrown: { exitCode?: number }) => thrown,
    );
    codes.set(error.exitCode ?? -1, (codes.get(error.exitCode ?? -1) ?? 0) + 1);
  }
  t.strictSame([...codes], [[11, changes.length]], 'each ends with 11');
});

t.test('recipients and headers that are not valid', async (t) => {
  for (const text of [classic.recipient, postQuantum.recipient]) t.equal(isRecipient(text), true);
  for (const text of [
    ...['', 'age1', 'age1xyz', `${classic.recipient.slice(0, -1)}q`, classic.recipient.toUpperCase()],
    ...[classic.secret.reveal(), 'ssh-ed25519 AAAA', 'age1tag1qqq', 'age1yubikey1qqq', `${classic.recipient}x`],
  ]) {
    t.equal(isRecipient(text), false, text.startsWith('AGE') ? 'a private key' : text);
  }
  const { bytes } = await createHeader([classic.recipient]);
  t.equal(await openHeader(bytes, [other]), undefined);
  t.equal(await openHeader(bytes, []), undefined);
  await t.rejects(openHeader(bytes.subarray(0, -10), [classic]), Error);
  await t.rejects(openHeader(Buffer.concat([Buffer.from('x'), bytes]), [classic]), Error);
});

t.test('identity files', async (t) => {
  const path = join(dir, 'identity.txt');
  const write = async (text: string | Buffer): Promise<void> => writeFile(path, text);
  await write(`# created: today\n# public key: x\n\n${classic.secret.reveal()}\r\n${postQuantum.secret.reveal()}`);
  const found = await readIdentities(path, undefined);
  t.strictSame(
    found.map(({ fingerprint }) => fingerprint),
    [classic.fingerprint, postQuantum.fingerprint],
  );
  t.notMatch(JSON.stringify(found), 'AGE-SECRET-KEY');
  for (const text of ['', '# nothing\n', classic.recipient, `${classic.secret.reveal().slice(0, -1)}\n`]) {
    await write(text);
    await t.rejects(readIdentities(path, undefined), { name: 'UsageError', exitCode: 2 });
    await readIdentities(path, undefined).catch((error: Error) => t.notMatch(error.message, /AGE-SECRET-KEY/));
  }
  await t.rejects(readIdentities(join(dir, 'missing.txt'), undefined), { name: 'UsageError', exitCode: 2 });
  await t.rejects(readIdentities(classic.secret.reveal(), undefined), { exitCode: 2, message: /^(?!.*AGE-SECRET)/ });
});

t.test('identity files with a passphrase', { skip: without('age') || without('script') }, async (t) => {
  const [plain, sealed] = [join(dir, 'plain.txt'), join(dir, 'sealed.txt')];
  await writeFile(plain, `${classic.secret.reveal()}\n`);
  // Only on a terminal does age ask for a passphrase.
  for (const armor of ['', '-a']) {
    await new Promise<void>((resolve, reject) => {
      const command = `age -p ${armor} -o ${sealed} ${plain}`;
      const child = execFile(findJudge('script') ?? '', ['-qec', command, '/dev/null'], (error) =>
        error === null ? resolve() : reject(error),
      );
      child.stdin?.write('correct horse\n');
      setTimeout(() => child.stdin?.write('correct horse\n'), 1000);
    });
    const [identity] = await readIdentities(sealed, async () => new Secret('correct horse'));
    t.equal(identity?.fingerprint, classic.fingerprint);
    await t.rejects(
      readIdentities(sealed, async () => new Secret('wrong')),
      { exitCode: 2, message: /is wrong/ },
    );
    await t.rejects(readIdentities(sealed, undefined), { exitCode: 2, message: /not a terminal/ });
    await mustRun('rm', [sealed]);
  }
});

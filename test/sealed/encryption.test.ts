import { createHash, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { createHeader, generateIdentity, isRecipient, openHeader } from '../../src/sealed/age-header.ts';
import { readIdentities } from '../../src/sealed/identities.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { findJudge, without } from '../support/judges.ts';
import { mustRun, temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { mutationsOf, open, seal } from '../support/sealed-bytes.ts';

const dir = temporaryFolder('encryption');
const [classic, other, postQuantum] = await Promise.all([
  generateIdentity('x25519'),
  generateIdentity('x25519'),
  generateIdentity('post-quantum'),
]);

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

t.test('age 1.3 and this program open what the other one encrypted', { skip: without('age-1.3') }, async (t) => {
  const age = findJudge('age-1.3') ?? '';
  for (const [kind, identity] of Object.entries({ classic, postQuantum })) {
    const key = join(dir, `${kind}.txt`);
    await writeFile(key, `${identity.secret.reveal()}\n`, { mode: 0o600 });
    for (const size of SIZES) {
      const file = randomBytes(size);
      const path = join(dir, `${kind}-${size}`);
      await writeFile(path, file);
      for (const recipients of [[identity], [classic, postQuantum]]) {
        await writeFile(`${path}.age`, (await seal(file, 'age', recipients)).stored);
        await mustRun(age, ['-d', '-i', key, '-o', `${path}.opened`, `${path}.age`]);
        t.ok((await readFile(`${path}.opened`)).equals(file), `${kind}, ${size} bytes`);
        // It encrypts for recipients of one kind only.
        const same = recipients.filter((each) => recipients.length === 1 || each !== postQuantum);
        await mustRun(age, [...same.flatMap(({ recipient }) => ['-r', recipient]), '-o', `${path}.theirs`, path]);
        const opened = await open(await readFile(`${path}.theirs`), { encoding: 'age', identities: same, size });
        t.ok(opened.equals(file), `${kind}, ${size} bytes by age`);
      }
    }
  }
});

t.test('age-keygen 1.3 and keygen read the keys of the other one', { skip: without('age-keygen-1.3') }, async (t) => {
  const keygen = findJudge('age-keygen-1.3') ?? '';
  for (const options of [[], ['-pq']]) {
    const path = join(dir, `by-age-keygen${options.join('')}.txt`);
    await mustRun(keygen, [...options, '-o', path]);
    const [identity] = await readIdentities(path, undefined);
    t.equal(`${identity?.recipient}\n`, await mustRun(keygen, ['-y', path]));
    t.equal(isRecipient(identity?.recipient ?? ''), true);
  }
  for (const identity of [classic, postQuantum]) {
    const path = join(dir, 'by-keygen.txt');
    await writeFile(path, `# a comment\n${identity.secret.reveal()}\n`);
    t.equal(await mustRun(keygen, ['-y', path]), `${identity.recipient}\n`);
  }
});

t.test(
  'what age encrypts in other ways is refused',
  { skip: without('age-1.3') || without('ssh-keygen') },
  async (t) => {
    const [path, ssh] = [join(dir, 'other'), join(dir, 'ssh')];
    await writeFile(path, 'x');
    await mustRun('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', ssh]);
    const encrypted = async (...args: string[]): Promise<Buffer> => {
      await mustRun(findJudge('age-1.3') ?? '', [...args, '-o', `${path}.age`, path]);
      return readFile(`${path}.age`);
    };
    const wanted = { encoding: 'age', identities: [classic, postQuantum] } as const;
    await t.rejects(open(await encrypted('-R', `${ssh}.pub`), wanted), { exitCode: 2, message: /No identity/ });
    await t.rejects(open(await encrypted('-r', other.recipient), wanted), { exitCode: 2, message: /No identity/ });
    const armored = await encrypted('-a', '-r', classic.recipient);
    await t.rejects(open(armored, wanted), { exitCode: 11, message: /it has no header of age/ });
  },
);

t.test('every change of the stored bytes is found, also where the record was changed with them', async (t) => {
  const file = Buffer.concat([SNAPSHOT.subarray(0, 65_536), randomBytes(65_536 + 10)]);
  for (const encoding of ['age', 'zstd+age'] as const) {
    const sealed = await seal(file, encoding, [classic, other]);
    const codes = new Map<unknown, number>();
    for (const { bytes } of mutationsOf(sealed, new Random(23), 50)) {
      const forged = createHash('sha256').update(bytes).digest('hex');
      for (const storedSha256 of [sealed.storedSha256, forged]) {
        const wanted = { encoding, identities: [classic], size: file.length, storedSha256 };
        const code = await open(bytes, wanted).then(
          () => 0,
          (error: { exitCode?: number }) => error.exitCode,
        );
        codes.set(code, (codes.get(code) ?? 0) + 1);
      }
    }
    t.strictSame([...codes.keys()], [11], encoding);
    t.ok((codes.get(11) ?? 0) > 600);
  }
});

t.test('recipients and headers that are not valid', async (t) => {
  const changed = classic.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q'));
  for (const text of [classic.recipient, postQuantum.recipient]) t.equal(isRecipient(text), true);
  for (const text of [
    ...['', 'age1', 'age1xyz', changed, classic.recipient.toUpperCase()],
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
  const header = Buffer.concat([(await createHeader([classic.recipient])).bytes, Buffer.alloc(32)]);
  for (const [text, problem] of [
    ['', /contains no identity/],
    ['# nothing\n', /contains no identity/],
    [`# mine\n${classic.recipient}`, /a recipient instead of a private key in line 2/],
    [`${classic.secret.reveal().slice(0, -1)}\n`, /not an identity of age in line 1/],
    ['AGE-PLUGIN-YUBIKEY-1QQQ', /plugin/],
    [header, /is itself encrypted for a recipient/],
  ] as const) {
    await write(text);
    await t.rejects(readIdentities(path, undefined), { name: 'UsageError', exitCode: 2, message: problem });
    await readIdentities(path, undefined).catch((error: Error) => t.notMatch(error.message, /AGE-SECRET-KEY/));
  }
  await t.rejects(readIdentities(join(dir, 'missing.txt'), undefined), { name: 'UsageError', exitCode: 2 });
  await t.rejects(readIdentities(classic.secret.reveal(), undefined), { exitCode: 2, message: /^(?!.*AGE-SECRET)/ });
});

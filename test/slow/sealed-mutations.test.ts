import { createHash } from 'node:crypto';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { generateIdentity } from '../../src/sealed/age-header.ts';
import { isEncrypted } from '../../src/snapshot/snapshot-name.ts';
import { Azurite } from '../support/azurite.ts';
import { findEtcd } from '../support/etcd.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { Random } from '../support/random.ts';
import { metadataOf, RECORDED_NAME } from '../support/restored.ts';
import { type Mutation, mutationsOf, open, seal, type SealedBytes } from '../support/sealed-bytes.ts';
import { errorOf, runWorker, withTools } from '../support/worker.ts';

const MUTATIONS = 2000;
/** Of those, through the program. Each one is three runs. */
const RUNS = 12;
const ENCODINGS = ['zstd', 'age', 'zstd+age'] as const;
const SUFFIXES = { zstd: '.zst', age: '.age', 'zstd+age': '.zst.age' };

const dir = temporaryFolder('mutations');
const [mine, theirs] = await Promise.all([generateIdentity('x25519'), generateIdentity('post-quantum')]);
const random = new Random(2026);

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

for (const encoding of ENCODINGS) {
  t.test(`${MUTATIONS} mutations of a snapshot that is stored with ${encoding}`, async (t) => {
    // Several chunks, compressed or not.
    const file = Buffer.concat([SNAPSHOT, random.bytes(300_000)]);
    const sealed = await seal(file, encoding, [mine, theirs]);
    const resultOf = async (bytes: Buffer, storedSha256: string): Promise<Buffer | number | undefined> =>
      open(bytes, { encoding, size: file.length, storedSha256, identities: [mine] }).catch(
        (error: { exitCode?: number }) => error.exitCode,
      );
    t.ok(file.equals((await resultOf(sealed.stored, sealed.storedSha256)) as Buffer), 'it can be opened');
    let count = 0;
    for (const { what, bytes } of mutationsOf(sealed, random, MUTATIONS)) {
      count += 1;
      const result = await resultOf(bytes, sealed.storedSha256);
      if (result !== 11) t.fail(`${what}: ${String(result)}`);
      // A record that was changed as well, so that its sha256 of the blob matches.
      const forged = await resultOf(bytes, sha256Of(bytes));
      const isSame = !isEncrypted(encoding) && Buffer.isBuffer(forged) && forged.equals(file);
      if (forged !== 11 && !isSame) t.fail(`${what}, with its own sha256: ${String(forged)}`);
    }
    t.ok(count > MUTATIONS, `${count} mutations`);
  });
}

t.test('the program refuses them, and leaves no files', async (t) => {
  const tools = findEtcd().at(-1);
  if (tools === undefined) throw new Error('no etcd');
  const azurite = await Azurite.start(join(dir, 'azurite'));
  t.teardown(async () => azurite.stop());
  const container = azurite.container('mutations');
  await container.create();
  const key = join(dir, 'key.txt');
  await writeFile(key, mine.secret.reveal());
  const out = join(dir, 'out');
  await mkdir(out);
  const variables = { ...azurite.variables('mutations'), ...withTools(tools), SNAPSHOT_ENCRYPTION_IDENTITY_FILE: key };

  for (const encoding of ENCODINGS) {
    const name = `${RECORDED_NAME}${SUFFIXES[encoding]}`;
    const sealed = await seal(SNAPSHOT, encoding, isEncrypted(encoding) ? [mine] : []);
    const put = async (bytes: Buffer): Promise<void> => {
      const metadata = metadataOf(recordOf(sealed, bytes));
      await container.getBlockBlobClient(name).upload(bytes, bytes.length, { metadata });
    };
    await put(sealed.stored);
    t.equal((await runWorker(['verify', name], variables)).code, 0, `${encoding}: unchanged, it is valid`);
    const all = [...mutationsOf(sealed, random, RUNS)];
    for (const { what, bytes } of Array.from({ length: RUNS }, (): Mutation => random.of(all))) {
      if (bytes.length === 0) continue;
      await put(bytes);
      for (const command of [
        ['verify', name],
        ['restore', name, '--download', join(out, 'x.db'), '--open'],
        ['restore', name, '--name', 'm1', '--data-dir', join(out, 'data')],
      ]) {
        const finished = await runWorker(command, variables);
        const label = `${encoding}, ${what}: ${command[0]}`;
        t.equal(finished.code, 11, `${label}: ${finished.stderr}`);
        t.match(errorOf(finished).message, 'is not a valid snapshot', label);
        t.strictSame(await readdir(out), [], label);
      }
    }
    await container.deleteBlob(name);
  }
});

/** A record that matches the changed bytes. */
function recordOf({ encoding, recipients }: SealedBytes, bytes: Buffer): Record<string, string> {
  const ofRecipients = recipients.length === 0 ? {} : { recipients: recipients.join(',') };
  return { encoding, storedsize: String(bytes.length), storedsha256: sha256Of(bytes), ...ofRecipients };
}

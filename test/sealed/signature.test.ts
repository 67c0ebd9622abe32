import { createHash, generateKeyPairSync } from 'node:crypto';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { createLog } from '../../src/log.ts';
import { planRetention } from '../../src/retention/retention-plan.ts';
import { Secret } from '../../src/secret.ts';
import { canonicalRecord, Signatures } from '../../src/sealed/signature.ts';
import { loadSignatures } from '../../src/sealed/signing-keys.ts';
import { type CataloguedBlob, isRecorded, newestSnapshot, takeInventory } from '../../src/snapshot/inventory.ts';
import { storable, storedBlob } from '../../src/store/catalogue.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';
import { findJudge } from '../support/judges.ts';
import { mustRun, run, temporaryFolder } from '../support/process.ts';

const dir = temporaryFolder('signature');
const HOUR = 3_600_000;
const NOW = new Date('2026-11-24T13:00:00Z');
const hoursAgo = (hours: number): Date => new Date(NOW.getTime() - hours * HOUR);

type Metadata = Readonly<Record<string, string>>;

function makeKeys(type: 'ed25519' | 'ed448' = 'ed25519') {
  // The two kinds have the same options, but not one signature.
  const { privateKey, publicKey } = type === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ed448');
  const pem = {
    signing: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    verification: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
  return { pem, publicKey, secret: new Secret(pem.signing) };
}

const own = makeKeys();
const other = makeKeys();
const signer = new Signatures(own.secret, []);
const reader = new Signatures(undefined, [own.publicKey]);
const KEY_ID = signer.signingKeyId ?? '';

function signed(takenAt: Date, more: Metadata = {}, by = signer): Metadata {
  return by.sign(nameOf(takenAt), { ...recordOf(takenAt), ...more });
}

function blobOf(takenAt: Date, metadata: Metadata, signatures: Signatures | 'none' = reader): CataloguedBlob {
  const name = nameOf(takenAt);
  const properties = { contentLength: 4096 + 32, etag: name, createdOn: takenAt };
  return storedBlob('x/', `x/${name}`, metadata, properties, signatures === 'none' ? undefined : signatures);
}

function withoutSignature(metadata: Metadata): Metadata {
  return Object.fromEntries(Object.entries(metadata).filter(([field]) => field !== 'signature'));
}

t.test('a signature is valid for this record under this name', (t) => {
  const takenAt = hoursAgo(1);
  t.match(blobOf(takenAt, signed(takenAt)), { signature: { state: 'valid', keyId: KEY_ID } });
  t.match(reader.verificationKeyIds, [KEY_ID]);
  t.match(blobOf(takenAt, recordOf(takenAt)), { signature: { state: 'unsigned', keyId: null } });
  t.match(blobOf(takenAt, signed(takenAt), 'none'), { signature: { state: 'unknown-key', keyId: KEY_ID } }, 'no keys');
  t.match(blobOf(takenAt, signed(takenAt), signer), { signature: { state: 'valid' } }, 'the own key is known');
  const byOther = signed(takenAt, {}, new Signatures(other.secret, []));
  t.match(blobOf(takenAt, byOther), { signature: { state: 'unknown-key', keyId: byOther['keyid'] } });
  const both = new Signatures(undefined, [other.publicKey, own.publicKey]);
  for (const metadata of [byOther, signed(takenAt)])
    t.match(blobOf(takenAt, metadata, both), { signature: { state: 'valid' } });
  t.end();
});

t.test('every changed, removed, added, swapped or replayed part of a record is found', (t) => {
  const takenAt = hoursAgo(1);
  const metadata = signed(takenAt, {
    encoding: 'zstd',
    storedsize: '100',
    storedsha256: 'cd'.repeat(32),
    recipients: 'a',
  });
  const state = (changed: Metadata, at = takenAt): string => reader.check(nameOf(at), changed).signature.state;
  t.equal(state(metadata), 'valid');
  for (const [field, value] of Object.entries(metadata)) {
    if (field === 'keyid' || field === 'signature') continue;
    t.equal(state({ ...metadata, [field]: `${value}0` }), 'bad', `changed ${field}`);
    const { [field]: _, ...rest } = metadata;
    t.equal(state(rest), 'bad', `removed ${field}`);
  }
  t.equal(state({ ...metadata, alater: 'field' }), 'bad', 'added a field that this version does not know');
  t.equal(state(withoutSignature(metadata)), 'unsigned', 'stripped');
  t.equal(state({ ...metadata, keyid: 'ab'.repeat(8) }), 'unknown-key', 'another key ID');
  const { keyid: _, ...nameless } = metadata;
  t.equal(state(nameless), 'unknown-key', 'no key ID');
  t.equal(state(metadata, hoursAgo(2)), 'bad', 'the record of another name');
  const older = signed(hoursAgo(3));
  t.equal(state({ ...metadata, signature: older['signature'] ?? '' }), 'bad', 'the signature of an older record');
  t.equal(state({ ...metadata, clusterid: 'c2' }), 'bad', 'of another cluster');
  for (const signature of ['', 'v1:', 'v1:AAAA', `v1:${'A'.repeat(86)}==`, 'x', `${metadata['signature']} `, 'v1:é']) {
    t.equal(state({ ...metadata, signature }), 'bad', `signature ${signature}`);
  }
  const lines = { ...withoutSignature(metadata), hash: 'ab\nrevision=1' };
  t.equal(state({ ...lines, signature: metadata['signature'] ?? '' }), 'bad', 'a value that looks like two lines');
  t.equal(canonicalRecord('x', lines), undefined);
  const forged = new Signatures(other.secret, []).sign(nameOf(takenAt), metadata);
  t.equal(state({ ...forged, keyid: KEY_ID }), 'bad', 'signed by another key under this key ID');
  t.end();
});

t.test('what a later version adds is covered, and a later form is not called bad', (t) => {
  const takenAt = hoursAgo(1);
  const later = signed(takenAt, { zfuture: 'x', a_new_field: 'y' });
  t.match(blobOf(takenAt, later), { signature: { state: 'valid' } });
  t.match(blobOf(takenAt, { ...later, zfuture: 'z' }), { signature: { state: 'bad' } });
  t.match(blobOf(takenAt, { ...later, signature: 'v2:something' }), {
    signature: { state: 'unknown-key', keyId: KEY_ID },
  });
  t.end();
});

t.test('with verification keys only what they verify counts', (t) => {
  const good = blobOf(hoursAgo(5), signed(hoursAgo(5)));
  const unsigned = blobOf(hoursAgo(4), recordOf(hoursAgo(4)));
  const unknown = blobOf(hoursAgo(3), signed(hoursAgo(3), {}, new Signatures(other.secret, [])));
  const bad = blobOf(hoursAgo(2), { ...signed(hoursAgo(2)), revision: '9999' });
  const stranger = blobOf(hoursAgo(1), signed(hoursAgo(1), { clusterid: 'c2' }));
  const blobs = [good, unsigned, unknown, bad, stranger];
  const names = (areRequired: boolean): string[] =>
    takeInventory('x/', blobs, undefined, areRequired)
      .filter(isRecorded)
      .map(({ name }) => name);
  t.strictSame(names(true), [good.name, stranger.name]);
  t.strictSame(names(false), [good.name, unsigned.name, unknown.name, stranger.name], 'a bad one never counts');
  const inventory = takeInventory('x/', blobs, undefined, true);
  t.strictSame(
    inventory.map(({ problem }) => problem),
    [
      undefined,
      'it is unsigned',
      `it is signed by unknown key ${unknown.signature?.keyId}`,
      'BAD SIGNATURE, its record was changed after it was signed',
      undefined,
    ],
  );
  const ids = { clusterId: 'c1', previousClusterIds: [] };
  t.equal(newestSnapshot(inventory, ids, NOW)?.name, good.name);
  const fresh = takeInventory('x/', [...blobs, blobOf(hoursAgo(0), signed(hoursAgo(0)))], undefined, true);
  const { decisions } = planRetention(fresh, { rules: rules({ last: 1 }), previousClusterIds: [] }, NOW);
  t.strictSame(
    decisions.map(({ keep, reasons }) => [keep, reasons[0]]),
    [
      [false, 'not kept by last 1'],
      [true, 'unsigned'],
      [true, `signed by unknown key ${unknown.signature?.keyId}`],
      [true, 'BAD SIGNATURE'],
      [true, 'of another cluster'],
      [true, 'newest'],
    ],
    'unsigned ones neither count nor go',
  );
  // A copy of a good one that was stored before, without its signature, is not its original.
  const early = { ...blobOf(hoursAgo(5), withoutSignature(signed(hoursAgo(5)))), storedAt: hoursAgo(6) };
  t.ok(takeInventory('x/', [early, good], undefined, true).some((blob) => isRecorded(blob) && blob.etag === good.etag));
  t.end();
});

interface Rules {
  readonly last?: number;
  readonly daily?: number;
  readonly yearly?: number;
}

function rules(some: Rules) {
  const none = { last: undefined, hourly: undefined, daily: undefined, weekly: undefined };
  return { ...none, monthly: undefined, yearly: undefined, within: undefined, ...some };
}

/** Snapshots with so many hours of age, the oldest first, each of which refers to the one before it. */
function chain(...hours: readonly number[]): CataloguedBlob[] {
  const blobs: CataloguedBlob[] = [];
  for (const hour of hours) {
    const last = blobs.at(-1);
    const previous = last && { previous: last.name.slice(2), previoussha256: last.recordSha256 ?? '' };
    blobs.push(blobOf(hoursAgo(hour), signed(hoursAgo(hour), previous)));
  }
  return blobs;
}

t.test('a snapshot that retention did not remove is missed', (t) => {
  const missing = (blobs: readonly CataloguedBlob[], some: Rules): readonly string[] =>
    planRetention(takeInventory('x/', blobs, undefined, true), { rules: rules(some), previousClusterIds: [] }, NOW)
      .missing;
  const all = chain(60, 50, 40, 30, 20, 10, 1);
  const without = (...indexes: number[]): CataloguedBlob[] => all.filter((_, index) => !indexes.includes(index));
  const nameAt = (index: number): string => all[index]?.name.slice(2) ?? '';
  t.strictSame(missing(all, { last: 7 }), []);
  t.strictSame(missing(without(5), {}), [], 'without a rule here, another job can have others');
  t.strictSame(missing(without(5), { last: 7 }), [nameAt(5)]);
  t.strictSame(missing(without(2, 4), { last: 7 }), [nameAt(2), nameAt(4)]);
  t.strictSame(missing(without(0, 1), { last: 7 }), [nameAt(1)], 'nobody is left who knows of the oldest');
  t.strictSame(missing(without(0, 1, 2, 3, 4, 5), { last: 7 }), [nameAt(5)], 'only the newest is left');
  t.strictSame(missing(without(0, 1), { last: 5 }), [], 'the oldest go');
  t.strictSame(missing(without(0, 1), { yearly: 3 }), [], 'only the oldest of all would have been kept');
  t.strictSame(missing(without(6), { last: 7 }), [], 'nothing refers to the newest');
  t.strictSame(missing(without(5), { last: 1 }), [], 'no rule keeps it');
  t.strictSame(missing(without(1), { daily: 7 }), [], 'not the newest of its day, as one of the same day is left');
  const unsigned = all.map((blob, index) => (index === 6 ? { ...blob, record: undefined } : blob));
  t.strictSame(
    missing(
      unsigned.filter((_, index) => index !== 5),
      { last: 7 },
    ),
    [],
    'only what is signed is believed',
  );
  const bad = [...all];
  bad[5] = blobOf(hoursAgo(10), { ...signed(hoursAgo(10)), revision: '9' });
  t.strictSame(missing(bad, { last: 7 }), [], 'a bad one is reported as such');
  t.end();
});

t.test(
  'openssl verifies a record by hand, as the docs say',
  { skip: findJudge('openssl') === undefined && 'no openssl here' },
  async (t) => {
    const takenAt = hoursAgo(1);
    const name = nameOf(takenAt);
    const metadata = signed(takenAt, { previous: nameOf(hoursAgo(2)), previoussha256: 'ab'.repeat(32) });
    await writeFile(join(dir, 'metadata.json'), JSON.stringify(metadata));
    await writeFile(join(dir, 'verification.pem'), own.pem.verification);
    const fields = Object.entries(metadata).filter(([field]) => field !== 'signature');
    // `sort` of the C locale: the lines are sorted by their bytes.
    await writeFile(join(dir, 'fields'), fields.map(([field, value]) => `${field}=${value}\n`).join(''));
    await mustRun('sh', [
      '-ec',
      `cd ${dir}; { echo 'etcd-snapshot-record v1'; echo ${name}; LC_ALL=C sort fields; } >record.txt`,
    ]);
    await writeFile(join(dir, 'signature'), Buffer.from(metadata['signature']?.replace('v1:', '') ?? '', 'base64'));
    const verify = ['pkeyutl', '-verify', '-pubin', '-inkey', join(dir, 'verification.pem'), '-rawin'];
    const files = ['-in', join(dir, 'record.txt'), '-sigfile', join(dir, 'signature')];
    t.match(await mustRun('openssl', [...verify, ...files]), 'Signature Verified Successfully');
    const record = await mustRun('cat', [join(dir, 'record.txt')]);
    t.equal(record, canonicalRecord(name, metadata));
    t.equal(reader.check(name, metadata).recordSha256, createHash('sha256').update(record).digest('hex'));
    const der = await mustRun('sh', ['-c', `openssl pkey -pubin -in ${dir}/verification.pem -outform DER | sha256sum`]);
    t.equal(der.slice(0, 16), KEY_ID, 'the key ID');
    await writeFile(join(dir, 'record.txt'), `${record}x`);
    t.not((await run('openssl', [...verify, ...files])).code, 0);
  },
);

t.test('a signature fits into the metadata with the longest list of members', (t) => {
  const takenAt = hoursAgo(1);
  for (const length of [7000, 7200, 7300, 7400, 7500, 7600, 7700, 8000]) {
    const metadata = storable({ ...recordOf(takenAt), members: 'x'.repeat(length) });
    t.ok(
      Object.entries(signer.sign(nameOf(takenAt), metadata))
        .flat()
        .join('').length <=
        8 * 1024,
      String(length),
    );
  }
  t.end();
});

t.test('files that are no keys are refused, and the message names the variable', async (t) => {
  const log = createLog('json', 'warn', () => {});
  const file = async (name: string, text: string): Promise<string> => {
    await writeFile(join(dir, name), text, { mode: 0o600 });
    return join(dir, name);
  };
  const rsa = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const encrypted = generateKeyPairSync('ed25519', {
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'x' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  const ed448 = makeKeys('ed448');
  const { signing, verification } = own.pem;
  const cases: [variable: 'signing' | 'verification', text: string, problem: RegExp][] = [
    ['signing', '', /contains no private key/],
    ['signing', 'nonsense', /contains no private key/],
    ['signing', verification, /contains no private key/],
    ['signing', rsa.privateKey, /does not contain an Ed25519 private key/],
    ['signing', ed448.pem.signing, /does not contain an Ed25519 private key/],
    ['signing', encrypted.privateKey, /is encrypted/],
    ['signing', signing.replace(/\n.*\n-/, '\nAAAA\n-'), /does not contain an Ed25519 private key/],
    ['verification', '', /contains no public key/],
    ['verification', signing, /contains a private key/],
    ['verification', `${verification}${signing}`, /contains a private key/],
    ['verification', `${verification}${rsa.publicKey}`, /something else than Ed25519 public keys/],
    ['verification', verification.replace(/\n.*\n-/, '\nAAAA\n-'), /something else than Ed25519/],
    ['verification', verification.replace(/-----END.*/, ''), /something else than Ed25519/],
  ];
  for (const [kind, text, problem] of cases) {
    const path = await file('key', text);
    const config = {
      signingKeyFile: kind === 'signing' ? path : undefined,
      verificationKeysFile: kind === 'verification' ? path : undefined,
    };
    const variable = kind === 'signing' ? /SNAPSHOT_SIGNING_KEY_FILE: / : /SNAPSHOT_VERIFICATION_KEYS_FILE: /;
    const error = await loadSignatures(config, log).then(
      () => undefined,
      (thrown: unknown) => thrown as { exitCode: number; message: string },
    );
    t.match(error, { exitCode: 2, message: variable });
    t.match(error, { message: problem });
    t.notMatch(error?.message, /PRIVATE|MC4C|AAAA/, 'no content of a file');
  }
  const both = { signingKeyFile: join(dir, 'none'), verificationKeysFile: join(dir, 'neither') };
  await t.rejects(loadSignatures(both, log), {
    message: /^The configuration has 2 errors: SNAPSHOT_SIGN.* SNAPSHOT_VERI/,
  });
  const signingKeyFile = await file('signing.pem', signing);
  const foreign = { signingKeyFile, verificationKeysFile: await file('other.pem', other.pem.verification) };
  await t.rejects(loadSignatures(foreign, log), {
    message: /does not contain the public key of SNAPSHOT_SIGNING_KEY_FILE/,
  });
  const several = await file('several.pem', `# old\n${other.pem.verification}\n# new\n${verification}`);
  const loaded = await loadSignatures({ signingKeyFile, verificationKeysFile: several }, log);
  t.match(loaded, { signingKeyId: KEY_ID, areRequired: true });
  t.equal(loaded.verificationKeyIds.length, 2);
  t.notMatch(JSON.stringify(loaded), 'PRIVATE');
});

t.test('a signing key that others can read causes a warning, unless it is in a mounted Secret', async (t) => {
  const warnings = async (path: string): Promise<string> => {
    let text = '';
    const log = createLog('json', 'warn', (line) => (text += line));
    await loadSignatures({ signingKeyFile: path, verificationKeysFile: undefined }, log);
    return text;
  };
  const path = join(dir, 'readable.pem');
  await writeFile(path, own.pem.signing);
  for (const mode of [0o600, 0o400]) {
    await chmod(path, mode);
    t.equal(await warnings(path), '');
  }
  for (const mode of [0o644, 0o440]) {
    await chmod(path, mode);
    t.match(await warnings(path), /can be read by other users.*chmod 600/);
  }
  await mkdir(join(dir, '..2026_11_28_10_20_30.123456789'));
  await symlink('..2026_11_28_10_20_30.123456789', join(dir, '..data'));
  await writeFile(join(dir, '..data', 'mounted.pem'), own.pem.signing, { mode: 0o644 });
  await symlink(join('..data', 'mounted.pem'), join(dir, 'mounted.pem'));
  t.equal(await warnings(join(dir, 'mounted.pem')), '');
});

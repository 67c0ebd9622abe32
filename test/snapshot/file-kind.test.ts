import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { hintFor, recognize, RECOGNIZED_BYTES } from '../../src/snapshot/file-kind.ts';
import { SnapshotVerifier } from '../../src/snapshot/verify/verifier.ts';
import { databaseOf, databaseVectors } from '../support/databases.ts';
import { DATABASE, SNAPSHOT } from '../support/fixtures.ts';
import { Random } from '../support/random.ts';
import { verify } from '../support/verify.ts';

const random = new Random(5);
const hex = (digits: string): Buffer => Buffer.concat([Buffer.from(digits, 'hex'), random.bytes(2000)]);
const words = (text: string): Buffer => Buffer.from(text.padEnd(900, ' x\n'));
/** The start of a tar archive: a name, and the mark of the format behind the fields of the first header. */
const tar = (mark: string): Buffer => {
  const bytes = Buffer.alloc(10_240);
  bytes.write('member/snap/db');
  bytes.write(mark, 257, 'latin1');
  return bytes;
};

/** What people have in place of a snapshot, with what it is said to be and how it is unpacked. */
const FILES: Record<string, readonly [bytes: Buffer, name: RegExp, unpack?: RegExp]> = {
  empty: [Buffer.alloc(0), /^empty$/],
  zeros: [Buffer.alloc(100_000), /^filled with zeros from its first byte on/],
  'zeros of a few bytes': [Buffer.alloc(10), /^filled with zeros from/],
  gzip: [gzipSync(SNAPSHOT), /^compressed with gzip$/, /^gzip -dc FILE/],
  'gzip of a tar archive': [gzipSync(tar('ustar\0')), /^compressed with gzip$/, /^gzip -dc FILE/],
  zstd: [zstdCompressSync(SNAPSHOT), /^compressed with zstd$/, /^zstd -dc FILE/],
  xz: [hex('fd377a585a000004e6d6b446'), /^compressed with xz$/, /^xz -dc FILE/],
  bzip2: [hex('425a68393141592653597f'), /^compressed with bzip2$/, /^bzip2 -dc FILE/],
  lz4: [hex('04224d186440a7'), /^compressed with lz4$/, /^lz4 -dc FILE/],
  zip: [hex('504b03041400000008'), /^a zip archive$/, /^unzip FILE/],
  'an empty zip': [Buffer.from('504b0506'.padEnd(44, '0'), 'hex'), /^an empty zip archive$/],
  '7z': [hex('377abcaf271c0004'), /^a 7z archive$/, /^7z x FILE/],
  'tar of GNU': [tar('ustar  \0'), /^a tar archive$/, /^tar -xf FILE/],
  'tar of POSIX': [tar('ustar\x0000'), /^a tar archive$/, /^tar -xf FILE/],
  age: [
    Buffer.concat([Buffer.from('age-encryption.org/v1\n-> X25519 abc\n'), random.bytes(900)]),
    /^encrypted with age$/,
    /^age -d/,
  ],
  'armored age': [words('-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n'), /^encrypted with age$/, /^age -d/],
  'gpg with a passphrase': [hex('8c0d04090302c2df44252ec2815dffd2'), /^encrypted with GPG$/, /^gpg/],
  'gpg with an RSA key': [hex('85010c03aabbccddeeff0011'), /^encrypted with GPG$/, /^gpg/],
  'gpg with a curve': [hex('845e03aabbccddeeff001112'), /^encrypted with GPG$/, /^gpg/],
  'armored gpg': [words('-----BEGIN PGP MESSAGE-----\n\nhQEMA\n'), /^encrypted with GPG$/, /^gpg/],
  openssl: [Buffer.concat([Buffer.from('Salted__'), random.bytes(900)]), /^encrypted with openssl$/],
  certificate: [words('-----BEGIN CERTIFICATE-----\nMIIB\n'), /^a PEM file/],
  key: [words('-----BEGIN PRIVATE KEY-----\nMIIB\n'), /^a PEM file/],
  program: [hex('7f454c4602010100'), /^a program \(ELF\)$/],
  SQLite: [Buffer.concat([Buffer.from('SQLite format 3\0'), random.bytes(900)]), /^an SQLite database/],
  'an error page': [words('<!DOCTYPE html>\n<html><head>'), /^an HTML page/],
  'a login page': [words('\n\n  <HTML lang="de">'), /^an HTML page/],
  "Azure's error": [words('<?xml version="1.0" encoding="utf-8"?><Error><Code>'), /^an XML document/],
  "Azure's error in UTF-8": [Buffer.from('\ufeff<?xml version="1.0"?><Error/>'), /^an XML document/],
  JSON: [words('{"error": {"code": "AuthorizationFailure", "message": "é"}}'), /^a JSON document$/],
  'JSON cut within a character': [Buffer.from(`{"a":"${'é'.repeat(600)}"}`).subarray(0, 511), /^a JSON document$/],
  'a JSON list': [words('[\n  {"name": "x"}'), /^a JSON document$/],
  base64: [Buffer.from(DATABASE.toString('base64')), /^base64$/, /^base64 -d FILE/],
  'base64 in lines': [
    Buffer.from(DATABASE.toString('base64').replaceAll(/.{76}/g, '$&\n')),
    /^base64$/,
    /^base64 -d FILE/,
  ],
  'a short base64': [Buffer.from(`${random.bytes(100).toString('base64')}\n`), /^base64$/, /^base64/],
  'text of Windows': [Buffer.from('\ufeff{"a": 1}', 'utf16le'), /^text in UTF-16$/],
  YAML: [words('apiVersion: v1\nkind: Secret\n'), /^text$/],
  'one line': [Buffer.from('No such file or directory\n'), /^text$/],
  'the write-ahead log': [hex('04000000000000840804100000000000200000'), /write-ahead log/],
  'the log of a later file': [hex('0800000000000000080410a1b2c3d40f20000000'), /write-ahead log/],
  'a raft snapshot': [
    Buffer.concat([Buffer.from('08b6f8818f0112d1320ab932', 'hex'), words('{"Root":{"Path":"/"')]),
    /raft snapshot/,
  ],
};

t.test('files that are something else are named, however few of their bytes come at once', async (t) => {
  for (const [name, [bytes, expected, unpack]] of Object.entries(FILES)) {
    for (const finish of ['finish', 'finishWithoutHash'] as const) {
      const verifier = new SnapshotVerifier();
      for (let at = 0; at < bytes.length; at += 1000) verifier.push(bytes.subarray(at, at + 1000));
      const verdict = verifier[finish]();
      t.notOk(verdict.ok, name);
      if (verdict.ok) continue;
      t.match(verdict.kind?.name, expected, name);
      t.strictSame(verdict.problems, [{ kind: 'format', message: `it is ${verdict.kind?.name}` }], 'and nothing else');
      t.equal(verdict.undecided, false);
      if (unpack === undefined) t.equal(verdict.kind?.unpack, undefined, name);
      else t.match(verdict.kind?.unpack, unpack, name);
    }
  }
});

t.test('what is not known, or is a broken snapshot, gets no name', async (t) => {
  const header = (bytes: Buffer): Buffer =>
    Buffer.from(bytes)
      .fill(0xee, 16, 32)
      .fill(0xee, 4096 + 16, 4096 + 32);
  const files = {
    random: Buffer.concat([Buffer.from([0xfe]), random.bytes(5000)]),
    'a few bytes': Buffer.from([1, 2, 3]),
    'a snapshot with broken meta pages': header(SNAPSHOT),
  };
  for (const [name, bytes] of Object.entries(files)) {
    const verdict = verify(bytes);
    t.notOk(verdict.ok);
    if (!verdict.ok) t.equal(verdict.kind, undefined, name);
    t.not(verdict.report.faults[0]?.kind, 'format');
  }
});

t.test('no database is taken for something else, and nothing is thrown', async (t) => {
  for (const bytes of [SNAPSHOT, ...databaseVectors().map(databaseOf)]) {
    t.equal(recognize(bytes), undefined);
    for (let length = 1; length < RECOGNIZED_BYTES; length += 13) {
      // Its first bytes are zero, and so is all of it for as long as nothing else has come.
      t.match(recognize(bytes.subarray(0, length))?.name ?? 'filled with zeros', /^filled with zeros/);
    }
  }
  for (let i = 0; i < 3000; i++) recognize(random.bytes(random.below(600)));
});

t.test('the hint gives the command, for a file with its name', async (t) => {
  const gzip = recognize(gzipSync('x'));
  t.ok(gzip);
  if (gzip === undefined) return;
  t.equal(
    hintFor(gzip, './my backup.gz', false),
    "Unpack it with `gzip -dc './my backup.gz' >snapshot.db`, and use the result.",
  );
  t.match(hintFor(gzip, 'x$&.gz', false), "gzip -dc 'x$&.gz'");
  const stored = hintFor(gzip, 'eu/x.gz', true);
  t.match(stored, /^Download it with another tool/);
  t.match(stored, 'gzip -dc FILE');
  t.match(hintFor({ name: 'text' }, 'x', false), /etcdctl snapshot save/);
  t.match(hintFor({ name: 'text' }, 'x', true), /etcd-snapshot list/);
});

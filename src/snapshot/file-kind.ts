import { quoteShell } from '../text.ts';
import type { Encoding } from './snapshot-name.ts';

/** The format of a file that is not a snapshot. */
export interface FileKind {
  /** Follows `it is`. */
  readonly name: string;
  /** The command that makes a snapshot of it, with FILE for its name; undefined when it contains none. */
  readonly unpack?: string | undefined;
  /** It can be a sealed snapshot. */
  readonly encoding?: Encoding;
  /** It can contain a snapshot, which `import` unpacks. */
  readonly packing?: 'gzip' | 'zip';
  /** It is a database whose pages can be verified, but not its checksum. */
  readonly lacksChecksum?: boolean;
}

/** This many of the first bytes are enough. */
export const RECOGNIZED_BYTES = 512;

export const DATABASE_WITHOUT_CHECKSUM: FileKind = {
  name: "a copy of a member's database, or a snapshot without its sha256",
  lacksChecksum: true,
};

const GPG: FileKind = { name: 'encrypted with GPG', unpack: 'gpg -o snapshot.db -d FILE' };
const AGE: FileKind = { name: 'encrypted with age', unpack: 'age -d -i KEY -o snapshot.db FILE' };

/** Kinds whose files begin with a mark; the longer one first where two have the same start. */
const MARKED: readonly (readonly [mark: Buffer, kind: FileKind])[] = [
  [hex('1f8b'), { name: 'compressed with gzip', unpack: 'gzip -dc FILE >snapshot.db', packing: 'gzip' }],
  [hex('28b52ffd'), { name: 'compressed with zstd', unpack: 'zstd -dc FILE >snapshot.db', encoding: 'zstd' }],
  [hex('fd377a585a00'), { name: 'compressed with xz', unpack: 'xz -dc FILE >snapshot.db' }],
  [hex('425a68'), { name: 'compressed with bzip2', unpack: 'bzip2 -dc FILE >snapshot.db' }],
  [hex('04224d18'), { name: 'compressed with lz4', unpack: 'lz4 -dc FILE >snapshot.db' }],
  [hex('504b0304'), { name: 'a zip archive', unpack: 'unzip FILE', packing: 'zip' }],
  [hex('504b0506'), { name: 'an empty zip archive' }],
  [hex('377abcaf271c'), { name: 'a 7z archive', unpack: '7z x FILE' }],
  [text('age-encryption.org/'), { ...AGE, encoding: 'age' }],
  [text('-----BEGIN AGE ENCRYPTED FILE'), AGE],
  [text('-----BEGIN PGP MESSAGE'), GPG],
  [text('Salted__'), { name: 'encrypted with openssl' }],
  [text('-----BEGIN '), { name: 'a PEM file, such as a certificate or a key' }],
  [hex('7f454c46'), { name: 'a program (ELF)' }],
  [hex('fffe'), { name: 'text in UTF-16' }],
  [text('SQLite format 3\0'), { name: 'an SQLite database, which k3s uses without etcd' }],
];

/** The format of a file with these first bytes, undefined if unknown; never a bbolt database. */
export function recognize(bytes: Uint8Array): FileKind | undefined {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, RECOGNIZED_BYTES));
  if (head.length === 0) return { name: 'empty' };
  const marked = MARKED.find(([mark]) => head.subarray(0, mark.length).equals(mark));
  if (marked !== undefined) return marked[1];
  if (head.every((byte) => byte === 0)) {
    return { name: 'filled with zeros from its first byte on, like a file that was allocated but never written' };
  }
  return recognizeBinary(head) ?? recognizeText(head);
}

/** A hint for the operator. @param isStored it is a blob, not a local file */
export function hintFor({ unpack, lacksChecksum }: FileKind, name: string, isStored: boolean): string {
  const download = isStored ? 'Download it with another tool, such as `az storage blob download`. Then: ' : '';
  const file = isStored ? 'FILE' : quoteShell(name);
  if (unpack !== undefined)
    return `${download}Unpack it with \`${unpack.replace('FILE', () => file)}\`, and use the result.`;
  if (lacksChecksum === true) {
    return `${download}Verify everything except the sha256 with \`etcd-snapshot verify ${file} --skip-hash-check\`.`;
  }
  return isStored
    ? 'Run `etcd-snapshot list` to see which blobs are snapshots.'
    : 'Check where it comes from: snapshots are written by `etcdctl snapshot save`, or stored by this program.';
}

/** Formats whose first bytes have a shape rather than a mark. */
function recognizeBinary(head: Buffer): FileKind | undefined {
  const [first = 0, second = 0, third = 0, fourth = 0] = head;
  // GPG: an encrypted session key, of a passphrase or of a public key, begins each message.
  const isSessionKey =
    (first === 0x8c && second < 64 && third >= 4 && third <= 6) ||
    (first === 0x84 && third === 3) ||
    (first === 0x85 && second < 4 && fourth === 3);
  if (isSessionKey) return GPG;
  if (head.subarray(257, 262).equals(text('ustar'))) return { name: 'a tar archive', unpack: 'tar -xf FILE' };
  // The length of the first record, which holds a checksum.
  if (head.length >= 16 && head.readUInt32LE(0) < 32 && head.subarray(8, 11).equals(hex('080410'))) {
    return { name: "a file of etcd's write-ahead log (member/wal), not a database" };
  }
  if (first === 0x08 && head.subarray(0, 32).includes('{"Root":')) {
    return { name: 'a raft snapshot (member/snap/*.snap), without the keys of etcd 3' };
  }
  return undefined;
}

function recognizeText(head: Buffer): FileKind | undefined {
  const whole = head.toString('latin1').replace(/^\xef\xbb\xbf/, '');
  const begin = whole.trimStart();
  if (/^<(!doctype\s+html|html)/i.test(begin)) return { name: 'an HTML page, such as an error or a login page' };
  if (begin.startsWith('<')) return { name: 'an XML document, such as an error of Azure' };
  // The text can be cut within a character.
  if (!/^[\t\n\r\x20-\x7e\x80-\xff]+$/.test(whole)) return undefined;
  if (/^[[{]/.test(begin)) return { name: 'a JSON document' };
  if (/^[A-Za-z0-9+/]{60,}/.test(begin) && /^[A-Za-z0-9+/\s]+=*\s*$/.test(begin)) {
    return { name: 'base64', unpack: 'base64 -d FILE >snapshot.db' };
  }
  return { name: 'text' };
}

function hex(digits: string): Buffer {
  return Buffer.from(digits, 'hex');
}

function text(characters: string): Buffer {
  return Buffer.from(characters, 'latin1');
}

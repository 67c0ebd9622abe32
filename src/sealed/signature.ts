import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import type { Secret } from '../secret.ts';
import { claimedSignature, type RecordSignature } from '../snapshot/signature-state.ts';

/** Metadata as the service has it: names in lower case. */
type Metadata = Readonly<Record<string, unknown>>;

/** The first line of what is signed. A later form has another one, and another mark in front of its signatures. */
const FORM = 'etcd-snapshot-record v1';
const MARK = 'v1:';

/** Ed25519 signatures have 64 bytes. */
const SIGNATURE = /^v1:[A-Za-z0-9+/]{86}==$/;

/** What is known of a record with the keys at hand. */
export interface CheckedRecord {
  readonly signature: RecordSignature;
  /** Of what is signed; the next record of the cluster contains it. */
  readonly recordSha256: string;
}

/**
 * The text that is signed, as docs/sealed-snapshots.md describes it: all of a blob's metadata except the signature, so that
 * what a later version adds to records is covered.
 * @param name of the blob, without the prefix
 * @returns undefined for metadata with names or values that could be taken for several lines
 */
export function canonicalRecord(name: string, metadata: Metadata): string | undefined {
  const entries = Object.entries(metadata).filter(([field]) => field !== 'signature');
  const lines = entries.map(([field, value]) => `${field}=${String(value)}`).toSorted();
  const isPlain = entries.every(([field]) => /^\w+$/.test(field)) && /^[\x20-\x7e]*$/.test(name + lines.join(''));
  return isPlain ? [FORM, name, ...lines, ''].join('\n') : undefined;
}

/** The first 16 digits of the sha256 of a public key in DER (SubjectPublicKeyInfo). */
export function keyIdOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, 16);
}

/** Signs and verifies the records of snapshots with the keys of a run. */
export class Signatures {
  /** Of the key that signs; undefined where nothing is signed. */
  readonly signingKeyId: string | undefined;
  /** Of the keys of which only what they verify counts; empty where everything counts. */
  readonly verificationKeyIds: readonly string[];
  readonly #signingKey: Secret | undefined;
  readonly #publicKeys: readonly (readonly [keyId: string, key: KeyObject])[];

  /** @param signingKey a private key, PEM. Its own signatures are verified also where there are no verification keys. */
  constructor(signingKey: Secret | undefined, verificationKeys: readonly KeyObject[]) {
    const own = signingKey === undefined ? [] : [createPublicKey(signingKey.reveal())];
    this.#signingKey = signingKey;
    this.#publicKeys = [...own, ...verificationKeys].map((key) => [keyIdOf(key), key]);
    this.signingKeyId = own.map(keyIdOf)[0];
    this.verificationKeyIds = [...new Set(verificationKeys.map(keyIdOf))];
  }

  /** Whether a snapshot that is not signed by a verification key counts for nothing. */
  get areRequired(): boolean {
    return this.verificationKeyIds.length > 0;
  }

  /** The metadata of a new blob with its signature, where there is a key to sign with. @param name without the prefix */
  sign(name: string, metadata: Readonly<Record<string, string>>): Record<string, string> {
    if (this.#signingKey === undefined || this.signingKeyId === undefined) return { ...metadata };
    const signed = { ...metadata, keyid: this.signingKeyId };
    const text = canonicalRecord(name, signed);
    if (text === undefined) throw new Error('the metadata cannot be signed');
    const signature = sign(null, Buffer.from(text), createPrivateKey(this.#signingKey.reveal()));
    return { ...signed, signature: `${MARK}${signature.toString('base64')}` };
  }

  /** @param name without the prefix */
  check(name: string, metadata: Metadata): CheckedRecord {
    const text = canonicalRecord(name, metadata);
    const recordSha256 = createHash('sha256')
      .update(text ?? '')
      .digest('hex');
    return { signature: this.#verify(text, metadata), recordSha256 };
  }

  #verify(text: string | undefined, metadata: Metadata): RecordSignature {
    const claimed = claimedSignature(metadata);
    const { keyId } = claimed;
    const signature = String(metadata['signature']);
    const keys = this.#publicKeys.filter(([id]) => id === keyId);
    if (claimed.state === 'unsigned' || keys.length === 0) return claimed;
    // Nobody but a later version makes another form.
    if (/^v\d+:/.test(signature) && !signature.startsWith(MARK)) return claimed;
    if (text === undefined || !SIGNATURE.test(signature)) return { state: 'bad', keyId };
    const bytes = Buffer.from(signature.slice(MARK.length), 'base64');
    const isValid = keys.some(([, key]) => verify(null, Buffer.from(text), key, bytes));
    return { state: isValid ? 'valid' : 'bad', keyId };
  }
}

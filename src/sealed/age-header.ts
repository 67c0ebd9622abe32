import { createHash } from 'node:crypto';
import {
  armor,
  Decrypter,
  Encrypter,
  generateHybridIdentity,
  generateX25519Identity,
  identityToRecipient,
} from 'age-encryption';
import { Secret } from '../secret.ts';

/* The header of an age file, which contains the file's key for each recipient: made and opened by the library of age's author. */

/** A key pair of age. */
export interface Identity {
  readonly secret: Secret;
  readonly recipient: string;
  /** Of the recipient. */
  readonly fingerprint: string;
}

export interface Header {
  readonly bytes: Buffer;
  readonly fileKey: Uint8Array;
}

/** Bytes that follow the header of a file with an empty payload: a nonce, and a chunk that is only a tag. */
const EMPTY_PAYLOAD = 32;

const NO_MATCH = "no identity matched any of the file's recipients";

/** The header of a new file, with a new key. @param recipients valid ones */
export async function createHeader(recipients: readonly string[]): Promise<Header> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  let fileKey: Uint8Array | undefined;
  encrypter.addRecipient({
    wrapFileKey(key) {
      fileKey = key;
      return [];
    },
  });
  const file = Buffer.from(await encrypter.encrypt(new Uint8Array()));
  if (fileKey === undefined) throw new Error('the library did not ask for the key of the file to be wrapped');
  return { bytes: file.subarray(0, -EMPTY_PAYLOAD), fileKey };
}

/** The file's key; undefined when the header is for none of these identities. @throws Error when it is malformed or was changed */
export async function openHeader(header: Uint8Array, identities: readonly Identity[]): Promise<Uint8Array | undefined> {
  const decrypter = new Decrypter();
  for (const { secret } of identities) decrypter.addIdentity(secret.reveal());
  try {
    return await decrypter.decryptHeader(header);
  } catch (error) {
    if (error instanceof Error && error.message === NO_MATCH) return undefined;
    throw error;
  }
}

/** Whether it is a well-formed recipient of a kind that can be used: X25519 or post-quantum. */
export function isRecipient(text: string): boolean {
  if (!/^age1(?!tag)/.test(text)) return false;
  try {
    new Encrypter().addRecipient(text);
    return true;
  } catch {
    return false;
  }
}

/** Only these protect from a quantum computer, and only where all recipients of a file are. */
export function isPostQuantum(recipient: string): boolean {
  return recipient.startsWith('age1pq1');
}

/** The key pair of an identity as `age-keygen` writes it; undefined if it is not one. */
export async function parseIdentity(text: string): Promise<Identity | undefined> {
  try {
    return await identityOf(text);
  } catch {
    return undefined;
  }
}

/** A new key pair. */
export async function generateIdentity(kind: 'x25519' | 'post-quantum'): Promise<Identity> {
  const secret = await (kind === 'post-quantum' ? generateHybridIdentity() : generateX25519Identity());
  return identityOf(secret);
}

async function identityOf(secret: string): Promise<Identity> {
  const recipient = await identityToRecipient(secret);
  return { secret: new Secret(secret), recipient, fingerprint: fingerprintOf(recipient) };
}

/** The first 16 digits of the sha256 of its text: enough to recognise it. */
export function fingerprintOf(recipient: string): string {
  return createHash('sha256').update(recipient).digest('hex').slice(0, 16);
}

/** Whether a file is encrypted with a passphrase, and not for a recipient. @param file binary or armored */
export function hasPassphrase(file: Buffer): boolean {
  try {
    return withoutArmor(file).toString('latin1').includes('\n-> scrypt ');
  } catch {
    return false;
  }
}

/** Undefined when the passphrase is wrong. @param file binary or armored */
export async function decryptWithPassphrase(file: Buffer, passphrase: Secret): Promise<Buffer | undefined> {
  const decrypter = new Decrypter();
  decrypter.addPassphrase(passphrase.reveal());
  try {
    return Buffer.from(await decrypter.decrypt(withoutArmor(file)));
  } catch {
    return undefined;
  }
}

/** @throws Error when the armor is malformed */
function withoutArmor(file: Buffer): Buffer {
  return file.subarray(0, 5).toString() === '-----' ? Buffer.from(armor.decode(file.toString())) : file;
}

/**
 * What is known of the signature of a record. `unknown-key`: it cannot be verified, because its key is not known here, or because
 * a later version of this program made it.
 */
export interface RecordSignature {
  readonly state: 'valid' | 'unsigned' | 'bad' | 'unknown-key';
  /** The one that the record names; null without a signature. */
  readonly keyId: string | null;
}

const KEY_ID = /^[0-9a-f]{16}$/;

/** What metadata says itself: nothing is verified. */
export function claimedSignature({ signature, keyid }: Readonly<Record<string, unknown>>): RecordSignature {
  if (signature === undefined) return { state: 'unsigned', keyId: null };
  return { state: 'unknown-key', keyId: typeof keyid === 'string' && KEY_ID.test(keyid) ? keyid : null };
}

/** As tables and lists show it. */
export function signatureText({ state, keyId }: RecordSignature): string {
  switch (state) {
    case 'valid':
      return `signed by ${keyId}`;
    case 'unsigned':
      return 'unsigned';
    case 'bad':
      return 'BAD SIGNATURE';
    case 'unknown-key':
      return `signed by unknown key ${keyId ?? '(not named)'}`;
  }
}

/** Why a record with this signature is not trusted, in words that can follow "it is not counted:"; undefined = it is. */
export function whyNotTrusted(signature: RecordSignature): string | undefined {
  switch (signature.state) {
    case 'valid':
      return undefined;
    case 'bad':
      return 'BAD SIGNATURE, its record was changed after it was signed';
    case 'unsigned':
    case 'unknown-key':
      return `it is ${signatureText(signature)}`;
  }
}

/** Confidential, as a snapshot holds every Secret, and authenticated: other bytes than the written ones are never returned. */
export const CIPHER = 'aes-256-gcm';

/** Unique under a key that is used for one file only, which is all that GCM asks of a nonce (NIST SP 800-38D, 8.2.1). */
export function nonceOf(sequence: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(sequence, 6, 6);
  return nonce;
}

/** Bytes in a memory of their own, which can be handed from one thread to another. */
export type Piece = Uint8Array<ArrayBuffer>;

/** What the sealing thread is told: encrypt these bytes as the record of this number, and write it to this place. */
export interface Order {
  readonly sequence: number;
  readonly offset: number;
  readonly pieces: readonly Piece[];
}

/** What it answers, in the order of the orders: the tag, or why the record is not in the file, with the bytes. */
export type Sealing = { readonly tag: Uint8Array } | { readonly failure: string; readonly pieces: readonly Piece[] };

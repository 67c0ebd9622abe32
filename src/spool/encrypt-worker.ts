import { createCipheriv } from 'node:crypto';
import { writeSync, writevSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../errors.ts';
import { CIPHER, nonceOf, type Order, type Piece, type Sealing } from './encryption.ts';

// The program of the thread that encrypts and writes, one record after the other, for the main one has its hands full with
// the stream. It waits for the disk, so that nobody else has to.

const { fd, key } = workerData as { fd: number; key: Uint8Array };

parentPort?.on('message', ({ sequence, offset, pieces }: Order) => {
  try {
    const cipher = createCipheriv(CIPHER, key, nonceOf(sequence));
    const sealed = pieces.map((piece) => cipher.update(piece));
    cipher.final();
    write(sealed, offset);
    answer({ tag: cipher.getAuthTag() });
  } catch (error) {
    answer({ failure: messageOf(error), pieces }, pieces);
  }
});

function write(sealed: readonly Buffer[], offset: number): void {
  const written = writevSync(fd, sealed, offset);
  const length = sealed.reduce((sum, { byteLength }) => sum + byteLength, 0);
  // Up to a full disk a write succeeds with fewer bytes; the next one says why.
  if (written < length) writeRest(Buffer.concat(sealed), written, offset);
}

function writeRest(bytes: Buffer, written: number, offset: number): void {
  for (let done = written; done < bytes.length;) {
    done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
  }
}

function answer(sealing: Sealing, pieces: readonly Piece[] = []): void {
  parentPort?.postMessage(
    sealing,
    pieces.map(({ buffer }) => buffer),
  );
}

import { Header, Pax } from 'tar';

/* Tar archives as other programs could write them. */

type Fields = ConstructorParameters<typeof Pax>[0];

/** Two empty blocks. */
export const END = Buffer.alloc(1024);

export function entry(fields: Fields, content: Uint8Array | string = ''): Buffer {
  const bytes = Buffer.from(content);
  const all = { mode: 0o644, mtime: new Date(0), size: bytes.length, type: 'File' as const, ...fields };
  const block = Buffer.alloc(512);
  const needsPax = new Header(all).encode(block, 0);
  return Buffer.concat([...(needsPax ? [new Pax(all).encode()] : []), block, bytes, Buffer.alloc(-bytes.length & 511)]);
}

/** A PAX header with such records as `path=x`, for the entry after it or for all of them. */
export function paxHeader(type: 'ExtendedHeader' | 'GlobalExtendedHeader', ...records: readonly string[]): Buffer {
  const lines = records.map((text) => {
    // The length counts its own digits.
    const rest = Buffer.byteLength(text) + 2;
    const digits = String(rest + String(rest).length).length;
    return `${rest + digits} ${text}\n`;
  });
  return entry({ path: 'PaxHeader/x', type }, lines.join(''));
}

export function archive(...entries: readonly Buffer[]): Buffer {
  return Buffer.concat([...entries, END]);
}

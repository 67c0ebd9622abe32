import { crc32, deflateRawSync } from 'node:zlib';

interface Member {
  readonly name: string;
  readonly content: Buffer;
}

/** What differs from an archive of Go's archive/zip, which k3s uses. */
interface Differences {
  readonly method?: number;
  readonly flags?: number;
  readonly size?: number;
  readonly packedSize?: number;
  readonly checksum?: number;
  readonly offset?: number;
  readonly count?: number;
  readonly comment?: Buffer;
  readonly zip64?: boolean;
}

/** An archive, written by hand: sizes are in the directory only, as after a member that was streamed. */
export function zipOf(members: readonly Member[], differences: Differences = {}): Buffer {
  const { flags = 8, comment = Buffer.alloc(0), zip64 = false } = differences;
  const parts: Buffer[] = [];
  const entries: Buffer[] = [];
  const length = (buffers: readonly Buffer[]): number => buffers.reduce((sum, part) => sum + part.length, 0);
  for (const { name, content } of members) {
    const { method = 8 } = differences;
    const packed = method === 8 ? deflateRawSync(content) : content;
    const { size = content.length, packedSize = packed.length, checksum = crc32(content) } = differences;
    const { offset = length(parts) } = differences;
    parts.push(
      numbers(
        [4, 0x04034b50],
        [2, 20],
        [2, flags],
        [2, method],
        [4, 0],
        [4, 0],
        [4, 0],
        [4, 0],
        [2, name.length],
        [2, 0],
      ),
      ...[
        Buffer.from(name),
        packed,
        numbers([4, 0x08074b50], [4, crc32(content)], [4, packed.length], [4, content.length]),
      ],
    );
    const large = zip64 ? numbers([2, 1], [2, 24], [8, size], [8, packedSize], [8, offset]) : Buffer.alloc(0);
    const small = (value: number): [number, number] => [4, zip64 ? 0xffff_ffff : value];
    entries.push(
      numbers(
        [4, 0x02014b50],
        [2, 20],
        [2, 20],
        [2, flags],
        [2, method],
        [4, 0],
        [4, checksum],
        small(packedSize),
        small(size),
      ),
      ...[
        numbers([2, name.length], [2, large.length], [2, 0], [2, 0], [2, 0], [4, 0], small(offset)),
        Buffer.from(name),
        large,
      ],
    );
  }
  const { count = members.length } = differences;
  const [directoryAt, directorySize] = [length(parts), length(entries)];
  const endAt = directoryAt + directorySize;
  const end64 = zip64
    ? [
        numbers(
          [4, 0x06064b50],
          [8, 44],
          [2, 45],
          [2, 45],
          [4, 0],
          [4, 0],
          [8, count],
          [8, count],
          [8, directorySize],
          [8, directoryAt],
        ),
        numbers([4, 0x07064b50], [4, 0], [8, endAt], [4, 1]),
      ]
    : [];
  const [shownCount, shownSize, shownAt] = zip64
    ? [0xffff, 0xffff_ffff, 0xffff_ffff]
    : [count, directorySize, directoryAt];
  const end = [
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, shownCount],
    [2, shownCount],
    [4, shownSize],
    [4, shownAt],
    [2, comment.length],
  ];
  return Buffer.concat([...parts, ...entries, ...end64, numbers(...(end as [number, number][])), comment]);
}

/** Little-endian integers. */
function numbers(...values: readonly (readonly [bytes: number, value: number])[]): Buffer {
  return Buffer.concat(
    values.map(([bytes, value]) => {
      const buffer = Buffer.alloc(8);
      buffer.writeBigUInt64LE(BigInt(value));
      return buffer.subarray(0, bytes);
    }),
  );
}

import type { IStatusResponse } from 'etcd3';
import { excerpt } from '../text.ts';

/** Characters of a version, such as `3.5.0-rc.1+meta`: it becomes part of messages, of the record, and so of headers. */
const VERSION_LENGTH = 64;

/** Errors of a status, and characters of each of them. */
const MAX_ERRORS = 32;
const ERROR_LENGTH = 200;

/** An alarm among the errors of a status. */
const ALARM = /memberID:(\d{1,20}) alarm:(\w{1,32})\b/;

export interface MemberAlarm {
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`. */
  readonly alarm: string;
}

/** A member's own status. Ids are lower-case hex without padding, as etcdctl prints them. */
export interface MemberStatus {
  readonly endpoint: string;
  readonly clusterId: string;
  readonly memberId: string;
  readonly version: string;
  readonly isLeader: boolean;
  readonly isLearner: boolean;
  /** False while the member sees no leader, as without quorum. */
  readonly hasLeader: boolean;
  /** Bytes of the database file, and those of them that are in use: defragmentation frees the rest. */
  readonly dbSize: number;
  readonly dbSizeInUse: number;
  /** Of the store, as far as this member has applied it. */
  readonly revision: number;
  readonly raftTerm: number;
  /** Entries of the raft log that the member has, and those of them that are in its database. */
  readonly raftIndex: number;
  readonly raftAppliedIndex: number;
  /** Alarms of the whole cluster, as this member knows them. */
  readonly alarms: readonly MemberAlarm[];
  /** Other errors of this member, in etcd's words. */
  readonly errors: readonly string[];
}

export function statusFrom(endpoint: string, status: IStatusResponse): MemberStatus {
  const errors = status.errors.slice(0, MAX_ERRORS);
  return {
    endpoint,
    clusterId: hex(status.header.cluster_id),
    memberId: hex(status.header.member_id),
    version: versionFrom(status.version),
    isLeader: status.leader === status.header.member_id,
    isLearner: status.isLearner,
    hasLeader: status.leader !== '0',
    dbSize: countFrom(status.dbSize),
    dbSizeInUse: countFrom(status.dbSizeInUse),
    revision: countFrom(status.header.revision),
    raftTerm: Number(status.raftTerm),
    raftIndex: Number(status.raftIndex),
    raftAppliedIndex: Number(status.raftAppliedIndex),
    alarms: errors.flatMap((error) => {
      const [, memberId, alarm] = ALARM.exec(error) ?? [];
      return memberId === undefined || alarm === undefined ? [] : { memberId: hex(memberId), alarm };
    }),
    errors: errors.filter((error) => !ALARM.test(error)).map((error) => excerpt(error, ERROR_LENGTH)),
  };
}

/** An id in lower-case hex without padding, as etcdctl prints it. @param decimal of 64 bits, as etcd3 decodes it */
export function hex(decimal: string): string {
  return BigInt(decimal).toString(16);
}

/** A member could send a negative number. */
function countFrom(decimal: string): number {
  return Math.max(0, Number(decimal));
}

function versionFrom(text: string): string {
  return text.slice(0, VERSION_LENGTH).replace(/[^\w.+-]/g, '?');
}

/** One message of the Snapshot stream (specification: the Snapshot RPC). */
export interface SnapshotMessage {
  /** Database bytes still to come after this message, without the trailer. */
  readonly remaining: number;
  /** Its bytes of the database. */
  readonly pieces: readonly Buffer[];
  /** The server's storage version, the same in every message; empty before 3.6. */
  readonly version: string;
}

/** @throws Error for bytes that are no message */
export function decodeSnapshotMessage(bytes: MessageBytes): SnapshotMessage {
  const message = { remaining: 0, pieces: [] as readonly Buffer[], version: '' };
  for (const [field, value] of fieldsOf(bytes)) {
    if (field === 2 && typeof value === 'bigint') message.remaining = Number(value);
    else if (field === 3 && typeof value === 'object') message.pieces = value;
    else if (field === 4 && typeof value === 'object') message.version = versionFrom(textOf(value));
  }
  return message;
}

/** What else a member's status says, with the quota, which etcd3's own definition lacks. */
export interface MoreStatus extends Pick<MemberStatus, 'clusterId' | 'memberId' | 'version'> {
  /** Limit of the database size in bytes; 0 before etcd 3.6. */
  readonly quota: number;
}

/** @throws Error for bytes that are no message */
export function decodeStatus(bytes: MessageBytes): MoreStatus {
  const status = { clusterId: '0', memberId: '0', version: '', quota: 0 };
  for (const [field, value] of fieldsOf(bytes)) {
    if (field === 2 && typeof value === 'object') status.version = versionFrom(textOf(value));
    else if (field === 12 && typeof value === 'bigint') status.quota = Number(value);
    else if (field === 1 && typeof value === 'object') {
      for (const [inner, id] of fieldsOf(new MessageBytes(value))) {
        if (inner === 1 && typeof id === 'bigint') status.clusterId = id.toString(16);
        if (inner === 2 && typeof id === 'bigint') status.memberId = id.toString(16);
      }
    }
  }
  return status;
}

/** The fields of a message: numbers, and what has a length. etcd's messages have nothing else. @throws Error */
function* fieldsOf(bytes: MessageBytes): Generator<[field: number, value: bigint | readonly Buffer[]], void, void> {
  while (bytes.size > 0) {
    const tag = Number(bytes.varint());
    const type = tag & 7;
    if (type !== 0 && type !== 2) throw malformed();
    const value = bytes.varint();
    yield [tag >>> 3, type === 0 ? value : bytes.take(Number(value))];
  }
}

function textOf(pieces: readonly Buffer[]): string {
  return Buffer.concat(pieces).toString();
}

/** Bytes in the chunks in which they arrived, not copied. */
export class MessageBytes {
  readonly #chunks: Buffer[] = [];
  /** Bytes of the first chunk that were taken. */
  #taken = 0;
  #size = 0;

  constructor(chunks: readonly Buffer[] = []) {
    for (const chunk of chunks) this.push(chunk);
  }

  get size(): number {
    return this.#size;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  /** @throws Error where there are fewer */
  take(count: number): Buffer[] {
    if (count > this.#size) throw malformed();
    const pieces: Buffer[] = [];
    for (let left = count; left > 0;) {
      const piece = this.#chunks[0]!.subarray(this.#taken, this.#taken + left);
      pieces.push(piece);
      left -= piece.length;
      this.#drop(piece.length);
    }
    return pieces;
  }

  /** @throws Error where there is none */
  byte(): number {
    const byte = this.#chunks[0]?.[this.#taken];
    if (byte === undefined) throw malformed();
    this.#drop(1);
    return byte;
  }

  /** Of 64 bits. @throws Error */
  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw malformed();
  }

  #drop(count: number): void {
    this.#taken += count;
    this.#size -= count;
    if (this.#taken < this.#chunks[0]!.length) return;
    this.#chunks.shift();
    this.#taken = 0;
  }
}

function malformed(): Error {
  return new Error('Protocol error: a malformed message');
}

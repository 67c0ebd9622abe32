import type { IStatusResponse } from 'etcd3';
import protobuf from 'protobufjs/minimal.js';
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
  readonly blob: Buffer;
  /** The server's storage version, the same in every message; empty before 3.6. */
  readonly version: string;
}

/** etcd3's own definition lacks the version. @throws Error for bytes that are no message, which ends the call */
export function decodeSnapshotMessage(bytes: Buffer): SnapshotMessage {
  const reader = protobuf.Reader.create(bytes);
  const message = { remaining: 0, blob: asBuffer(new Uint8Array()), version: '' };
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((2 << 3) | 0)) message.remaining = toNumber(reader.uint64());
    else if (tag === ((3 << 3) | 2)) message.blob = asBuffer(reader.bytes());
    else if (tag === ((4 << 3) | 2)) message.version = versionFrom(reader.string());
    else reader.skipType(tag & 7);
  }
  return message;
}

/** The quota of a status, in bytes, which etcd3's own definition lacks; 0 before etcd 3.6. */
export function decodeQuota(bytes: Buffer): number {
  const reader = protobuf.Reader.create(bytes);
  let quota = 0;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === ((12 << 3) | 0)) quota = toNumber(reader.uint64());
    else reader.skipType(tag & 7);
  }
  return quota;
}

/** protobufjs returns 64-bit numbers in two halves. A database is far below 2^53 bytes. */
function toNumber({ high, low }: { readonly high: number; readonly low: number }): number {
  return (high >>> 0) * 2 ** 32 + (low >>> 0);
}

/** The same bytes, not copied. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

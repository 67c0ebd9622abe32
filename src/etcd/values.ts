import { excerpt } from '../text.ts';

/** Characters of a version, such as `3.5.0-rc.1+meta`: it goes into sentences, into the record, and so into headers. */
const VERSION_LENGTH = 64;

/** Errors of a status, and characters of each of them. */
const MAX_ERRORS = 32;
const ERROR_LENGTH = 200;

/** How an alarm stands among the errors of a status. */
const ALARM = /memberID:(\d{1,20}) alarm:(\w{1,32})\b/;

/** The version as a member gives it, with whatever no version has in it replaced. */
export function versionFrom(text: string): string {
  return text.slice(0, VERSION_LENGTH).replace(/[^\w.+-]/g, '?');
}

/** An id in lower-case hex without padding, as etcdctl prints it. @param decimal of 64 bits, as it is decoded */
export function hex(decimal: string): string {
  return BigInt(decimal).toString(16);
}

/** A size or a count, which a member could give as a negative number. */
export function countFrom(decimal: string): number {
  return Math.max(0, Number(decimal));
}

export interface MemberAlarm {
  readonly memberId: string;
  /** `NOSPACE` or `CORRUPT`. */
  readonly alarm: string;
}

/** What a member finds wrong with the cluster, and with itself in etcd's words. */
export function errorsFrom(errors: readonly string[]): { alarms: MemberAlarm[]; errors: string[] } {
  const few = errors.slice(0, MAX_ERRORS);
  return {
    alarms: few.flatMap((error) => {
      const [, memberId, alarm] = ALARM.exec(error) ?? [];
      return memberId === undefined || alarm === undefined ? [] : { memberId: hex(memberId), alarm };
    }),
    errors: few.filter((error) => !ALARM.test(error)).map((error) => excerpt(error, ERROR_LENGTH)),
  };
}

export interface ValueType {
  /** With a group for the number, and one for the unit if there are several. */
  readonly pattern: RegExp;
  /** Completes "SNAPSHOT_… …". */
  readonly rule: string;
  /** Limits, in seconds or bytes. */
  readonly min?: number;
  readonly max?: number;
}

/** Texts, and values that their own method of the reader checks. */
const ANY: ValueType = { pattern: /^/, rule: '' };

/** One regular expression per type. */
export const TYPES = {
  text: ANY,
  path: ANY,
  url: ANY,
  origin: ANY,
  endpoints: ANY,
  choice: ANY,
  account: { pattern: /^[a-z0-9]{3,24}$/, rule: 'must be 3 to 24 lower-case letters and digits' },
  accountKey: {
    pattern: /^[A-Za-z0-9+/]{86}==$/,
    rule: 'must be 64 bytes in base64, as the portal shows it',
  },
  container: {
    pattern: /^(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/,
    rule: 'must be 3 to 63 lower-case letters, digits and single hyphens, with no hyphen at either end',
  },
  /** Of an application or a tenant; a tenant may also have the name of its domain. */
  directoryId: { pattern: /^[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9.-]*$/, rule: 'must be an id like the example' },
  prefix: {
    pattern: /^(?!.*(\/\/|\.\/|\.$))[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$/,
    rule: 'must be letters, digits and ._-/ only, without a leading slash, an empty part or a part that ends with a dot',
  },
  clusterIds: {
    pattern: /^[0-9a-f]{1,16}(\s*,\s*[0-9a-f]{1,16})*$/,
    rule: 'must be cluster ids as `list` shows them, separated by commas',
  },
  count: { pattern: /^([1-9]\d{0,5})$/, rule: 'must be a whole number, at least 1' },
  /** A timer of Node holds at most 2^31 ms, which is 24 days. */
  duration: {
    pattern: /^(\d{1,7})([smhd]?)$/,
    rule: 'must be seconds, or a duration such as 90s, 10m or 2h, from 1s to 20d',
    min: 1,
    max: 20 * 86_400,
  },
  /** Its unit is required, and one hour is the minimum: elsewhere `14` is days and `6m` months, and a mistake deletes snapshots. */
  age: {
    pattern: /^(\d{1,7})([smhd])$/,
    rule: 'must be a duration such as 36h or 14d, at least 1h (m is minutes)',
    min: 3600,
  },
  size: { pattern: /^(\d{1,9})(|B|KiB|MiB|GiB|TiB)$/, rule: 'must be a size such as 512MiB or 1GiB' },
  /** Bytes per second. A block must arrive before its request times out. */
  rate: {
    pattern: /^(\d{1,9})(|B|KiB|MiB|GiB|TiB)$/,
    rule: 'must be bytes per second, such as 20MiB, at least 256KiB',
    min: 256 * 2 ** 10,
  },
  sizeOrPercent: {
    pattern: /^(?:(\d{1,9})(|B|KiB|MiB|GiB|TiB)|(?:\d|[1-8]\d|90)%)$/,
    rule: 'must be a size such as 2GiB, or a percentage from 0% to 90%',
  },
} as const satisfies Record<string, ValueType>;

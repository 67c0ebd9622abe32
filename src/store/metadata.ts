/** Bytes that the service takes as metadata of one blob, names included. */
const MAX_BYTES = 8 * 1024;

/** Of a single value, but for the list of members. */
const MAX_VALUE = 512;

/**
 * A record as headers can carry it. What the snapshot and its source say of themselves is in it, so each value is bounded
 * printable ASCII; members that have no room are left out, as though nobody knew them.
 */
export function storable(metadata: Readonly<Record<string, string>>): Record<string, string> {
  const clean = Object.entries(metadata).map(([name, value]): [string, string] => {
    const ascii = value.replace(/[^\x20-\x7e]/g, '?').trim();
    return [name, name === 'members' ? ascii : ascii.slice(0, MAX_VALUE)];
  });
  const bytes = clean.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  return { ...Object.fromEntries(clean), ...(bytes > MAX_BYTES ? { members: '[]' } : {}) };
}

import { drawTable, humanSize } from '../text.ts';

interface Status {
  readonly hash: string | null;
  readonly revision: number | null;
  readonly totalKeys: number | null;
  readonly totalSize: number | null;
}

/** The table of `etcdctl snapshot status -w table`; a dash for what could not be computed. */
export function statusTable({ hash, revision, totalKeys, totalSize }: Status): string {
  const size = totalSize === null ? '-' : humanSize(totalSize);
  const cells = [hash ?? '-', String(revision ?? '-'), String(totalKeys ?? '-'), size];
  return drawTable(['HASH', 'REVISION', 'TOTAL KEYS', 'TOTAL SIZE'], [cells]);
}

const NAME = /^kubernetes-etcd-snapshot_(\d{4})(\d{2})(\d{2})_(\d{2})(\d{2})(\d{2})\.db$/;

/** `<prefix>kubernetes-etcd-snapshot_YYYYMMDD_HHMMSS.db` in UTC: fixed width, so names sort by age. */
export function snapshotName(prefix: string, takenAt: Date): string {
  const [day, time] = takenAt.toISOString().split(/[T.]/);
  return `${prefix}kubernetes-etcd-snapshot_${day?.replaceAll('-', '')}_${time?.replaceAll(':', '')}.db`;
}

/** When a snapshot of this name was taken, or undefined for a name that is none of ours under this prefix. */
export function takenAtOf(prefix: string, name: string): Date | undefined {
  const match = name.startsWith(prefix) ? NAME.exec(name.slice(prefix.length)) : null;
  if (match === null) return undefined;
  const [, year, month, day, hour, minute, second] = match;
  const takenAt = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(takenAt.getTime()) ? undefined : takenAt;
}

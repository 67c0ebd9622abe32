import type { StorageConfig } from '../config/config.ts';
import type { Log } from '../log.ts';
import { openService, sdkCredential } from './azure-credential.ts';
import { DEADLINES, Requests } from './requests.ts';

const CONTENT_TYPES = { html: 'text/html; charset=utf-8', json: 'application/json' } as const;

/**
 * Stores a report in a container of the configured account, which must exist. Nothing is overwritten.
 * @returns the names of the new blobs
 * @throws StorageError
 */
export async function uploadReport(
  access: StorageConfig,
  container: string,
  at: Date,
  files: Readonly<Record<keyof typeof CONTENT_TYPES, Buffer>>,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Log },
): Promise<void> {
  const service = openService(access, await sdkCredential(access.credential, access.place));
  const { accountName: account, url } = service;
  const endpoint = { place: access.place, host: new URL(url).host, account, container, source: access.source };
  const requests = new Requests(endpoint, signal, log, DEADLINES);
  const client = service.getContainerClient(container);
  const time = at.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
  for (const kind of ['json', 'html'] as const) {
    const body = files[kind];
    const name = `etcd-snapshot-report_${time}.${kind}`;
    const options = {
      blobHTTPHeaders: { blobContentType: CONTENT_TYPES[kind] },
      conditions: { ifNoneMatch: '*' },
    };
    await requests.send(
      'storing the report',
      (abortSignal) => client.getBlockBlobClient(name).upload(body, body.length, { ...options, abortSignal }),
      { bytes: body.length },
    );
    log.info('report stored', { container, name });
  }
}

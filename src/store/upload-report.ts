import { randomBytes } from 'node:crypto';
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
  files: Readonly<Record<keyof typeof CONTENT_TYPES, Iterable<string>>>,
  { signal, log }: { readonly signal: AbortSignal; readonly log: Log },
): Promise<void> {
  const service = openService(access, await sdkCredential(access.credential, access.place));
  const { accountName: account, url } = service;
  const endpoint = { place: access.place, host: new URL(url).host, account, container, source: access.source };
  const requests = new Requests(endpoint, signal, log, DEADLINES);
  const client = service.getContainerClient(container);
  // Several reports can be stored in the same second.
  const own = randomBytes(2).toString('hex');
  const time = at.toISOString().slice(0, 19).replaceAll(/[-:]/g, '').replace('T', '_');
  for (const kind of ['json', 'html'] as const) {
    const name = `etcd-snapshot-report_${time}_${own}.${kind}`;
    const blob = client.getBlockBlobClient(name);
    const ids: string[] = [];
    // In blocks: a report on ten thousand clusters has some fifty megabytes.
    for (const block of blocksOf(files[kind])) {
      const id = Buffer.from(`${own}${String(ids.length).padStart(6, '0')}`).toString('base64');
      await requests.send(DOING, (abortSignal) => blob.stageBlock(id, block, block.length, { abortSignal }), {
        bytes: block.length,
      });
      ids.push(id);
    }
    const options = {
      blobHTTPHeaders: { blobContentType: CONTENT_TYPES[kind] },
      conditions: { ifNoneMatch: '*' },
    };
    await requests.send(DOING, (abortSignal) => blob.commitBlockList(ids, { ...options, abortSignal }));
    log.info('report stored', { container, name });
  }
}

const DOING = 'storing the report';

/** Bytes of a block. */
const BLOCK_SIZE = 4 * 2 ** 20;

function* blocksOf(parts: Iterable<string>): Generator<Buffer, void> {
  let [pieces, size]: [Buffer[], number] = [[], 0];
  for (const part of parts) {
    const piece = Buffer.from(part);
    pieces.push(piece);
    size += piece.length;
    if (size < BLOCK_SIZE) continue;
    yield Buffer.concat(pieces);
    [pieces, size] = [[], 0];
  }
  if (size > 0) yield Buffer.concat(pieces);
}

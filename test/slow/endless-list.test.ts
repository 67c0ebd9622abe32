import { createServer } from 'node:http';
import t from 'tap';
import { ofCopy } from '../support/azurite.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';
import { collectPeak } from '../support/peak.ts';
import { addressOf, listen } from '../support/server.ts';
import { errorOf, startWorker } from '../support/worker.ts';

const PAGE = 500;
const START = Date.UTC(2020, 0, 1);

/** As large as metadata can be. */
const MEMBERS = JSON.stringify(
  Array.from({ length: 60 }, (_, index) => ({
    id: (index + 1).toString(16),
    name: `member-${index}`,
    peerURLs: [`https://10.0.0.${index}:2380`],
    isLearner: false,
  })),
);

function blob(index: number, members: string | undefined): string {
  const takenAt = new Date(START + index * 1000);
  const fields = (all: Readonly<Record<string, string>>): string =>
    Object.entries(all)
      .map(([name, value]) => `<${name}>${value}</${name}>`)
      .join('');
  const date = takenAt.toUTCString();
  const properties = { 'Creation-Time': date, 'Last-Modified': date, Etag: `0x${index}`, 'Content-Length': '4128' };
  const metadata = members === undefined ? {} : { ...recordOf(takenAt), members };
  return `<Blob><Name>${nameOf(takenAt)}</Name><Properties>${fields(properties)}</Properties><Metadata>${fields(metadata)}</Metadata></Blob>`;
}

for (const [what, members, place] of [
  ['snapshots', MEMBERS, 'first'],
  ['blobs of others', undefined, 'first'],
  ['blobs of others', undefined, 'copy'],
] as const) {
  t.test(`a list of ${what} in the ${place} place that never ends, each marker another one`, async (t) => {
    let pages = 0;
    const server = createServer((request, response) => {
      const first = pages++ * PAGE;
      const blobs = Array.from({ length: PAGE }, (_, index) => blob(first + index, members)).join('');
      const xml = `<EnumerationResults><Blobs>${blobs}</Blobs><NextMarker>${pages}</NextMarker></EnumerationResults>`;
      request.resume().once('end', () => {
        response.writeHead(200, { 'content-type': 'application/xml', 'x-ms-request-id': 'azure-request' }).end(xml);
      });
    });
    await listen(server);
    t.teardown(() => server.close());
    const variables = {
      SNAPSHOT_AZURE_ACCOUNT_NAME: 'testaccount',
      SNAPSHOT_AZURE_ACCOUNT_KEY: Buffer.alloc(64).toString('base64'),
      SNAPSHOT_AZURE_CONTAINER_NAME: 'endless',
      SNAPSHOT_AZURE_BLOB_ENDPOINT: `http://127.0.0.1:${addressOf(server).port}/testaccount`,
    };
    const worker =
      place === 'first'
        ? startWorker(['list'], { ...variables, SNAPSHOT_TIMEOUT: '20m' })
        : startWorker(['list', '--from-copy'], { ...ofCopy(variables), SNAPSHOT_TIMEOUT: '20m' });
    const finished = await collectPeak(worker);
    t.equal(finished.code, 12, finished.stderr);
    t.match(errorOf(finished).message, /There are more than \d+ blobs under the prefix/);
    t.match(errorOf(finished).hint, place === 'first' ? / SNAPSHOT_BLOB_PREFIX/ : / SNAPSHOT_COPY_BLOB_PREFIX/);
    const { peak } = finished;
    t.ok(peak > 0 && peak < 700, `${pages} pages, ${Math.round(peak)} MiB, ${Math.round(finished.ms)} ms`);
  });
}

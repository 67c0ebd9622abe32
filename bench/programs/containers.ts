/**
 * A blob store that has every container it is asked for: each holds the same snapshots, six hours apart, and weekly drills. It
 * counts requests, and tells their number at `/requests`.
 *
 *   node bench/programs/containers.ts PORT SNAPSHOTS
 */
import { createServer } from 'node:http';
import { nameOf, recordOf } from '../../test/support/catalogue.ts';

const [port = '0', snapshots = '120'] = process.argv.slice(2);
const HOUR = 3_600_000;
const start = Date.now();
let requests = 0;

function blob(name: string, at: Date, size: number, metadata: Readonly<Record<string, string>>): string {
  const fields = Object.entries(metadata).map(([key, value]) => `<${key}>${value.replaceAll('"', '&quot;')}</${key}>`);
  const date = at.toUTCString();
  return `<Blob><Name>${name}</Name><Properties><Creation-Time>${date}</Creation-Time><Last-Modified>${date}</Last-Modified><Etag>0x8DE</Etag><Content-Length>${size}</Content-Length><Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties><Metadata>${fields.join('')}</Metadata></Blob>`;
}

const blobs = [
  ...Array.from({ length: 13 }, (_, week) => {
    const at = new Date(start - (week * 7 * 24 + 5) * HOUR);
    const metadata = { at: at.toISOString(), snapshot: nameOf(at), recoveryms: '12345' };
    return blob(`etcd-snapshot-drills/${at.toISOString().replaceAll(':', '-')}.json`, at, 90, metadata);
  }),
  ...Array.from({ length: Number(snapshots) }, (_, index) => {
    const at = new Date(start - (index * 6 + 1) * HOUR);
    return blob(nameOf(at), at, 4096 + 32, recordOf(at));
  }),
];
const list = Buffer.from(
  `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>${blobs.join('')}</Blobs><NextMarker/></EnumerationResults>`,
);

createServer((request, response) => {
  request.resume();
  if (request.url === '/requests') {
    response.end(String(requests));
    return;
  }
  requests += 1;
  response.setHeader('x-ms-request-id', 'bench').setHeader('x-ms-version', '2025-11-05');
  if (request.url?.includes('comp=list') === true) response.setHeader('content-type', 'application/xml').end(list);
  else response.setHeader('x-ms-has-immutability-policy', 'true').end();
}).listen(Number(port), '127.0.0.1');

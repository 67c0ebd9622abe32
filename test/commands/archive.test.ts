import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Azurite } from '../support/azurite.ts';
import { type BlobAnswer, BlobService } from '../support/blob-service.ts';
import { nameOf, recordOf } from '../support/catalogue.ts';
import { makeAuthority, trust } from '../support/certificates.ts';
import { runCommand } from '../support/command.ts';
import { SNAPSHOT } from '../support/fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { openStore, put, RECORD } from '../support/store.ts';
import { errorOf } from '../support/worker.ts';

const dir = temporaryFolder('archive');
const authority = await makeAuthority(join(dir, 'certs'));
await trust(authority);
const azurite = await Azurite.start(join(dir, 'azurite'));
t.teardown(async () => azurite.stop());

t.test('a snapshot that was moved to the archive tier', async (t) => {
  const variables = azurite.variables('archive');
  const name = nameOf(RECORD.takenAt);
  await put(await openStore(variables), SNAPSHOT, name);
  const blob = azurite.container('archive').getBlockBlobClient(name);
  await blob.setAccessTier('Archive');
  const file = join(dir, 'downloaded.db');

  for (const args of [
    ['verify', name],
    ['restore', '--download', file],
  ]) {
    const archived = await runCommand(args, variables);
    t.equal(archived.code, 12, archived.stderr);
    t.match(errorOf(archived), { message: /archive tier, and cannot be read .* \[BlobArchived/, hint: /--rehydrate/ });
  }

  // Azurite is done at once.
  const started = await runCommand(['restore', '--download', file, '--rehydrate'], variables);
  t.equal(started.code, 12);
  t.match(errorOf(started), {
    message: `${name} is in the archive tier: rehydration was started. It usually takes less than an hour`,
    hint: /^Run the same command again later/,
  });
  t.equal((await blob.getProperties()).accessTier, 'Hot');
  const done = await runCommand(['restore', '--download', file, '--rehydrate'], variables);
  t.equal(done.code, 0, done.stderr);
  t.strictSame(await readFile(file), SNAPSHOT);
});

t.test('what Azurite does not have', async (t) => {
  const takenAt = new Date('2026-01-01T00:00:00Z');
  const metadata = Object.entries({ ...recordOf(takenAt), totalsize: String(SNAPSHOT.length - 32) });
  const archived: BlobAnswer = {
    status: 200,
    headers: {
      ...{ etag: '"0x1"', 'content-length': String(SNAPSHOT.length), 'last-modified': takenAt.toUTCString() },
      ...Object.fromEntries(metadata.map(([key, value]) => [`x-ms-meta-${key}`, value])),
      'x-ms-access-tier': 'Archive',
    },
  };
  const pending = { ...archived, headers: { ...archived.headers, 'x-ms-archive-status': 'rehydrate-pending-to-hot' } };
  for (const [answers, message, requests] of [
    [[pending], /rehydration is not finished\. It usually takes less than an hour/, 2],
    [[archived, archived, { status: 202, code: 'none' }], /rehydration was started\./, 3],
    [[archived, archived, { status: 409, code: 'BlobBeingRehydrated' }], /rehydration was started\./, 3],
    [
      [archived, archived, { status: 403, code: 'AuthorizationPermissionMismatch' }],
      /has no permission on container mycluster \(failed while starting the rehydration of /,
      3,
    ],
  ] as const) {
    const service = await BlobService.start(authority, answers);
    t.teardown(async () => service.stop());
    const variables = { ...azurite.variables('mycluster'), SNAPSHOT_AZURE_BLOB_ENDPOINT: service.url };
    const args = ['restore', nameOf(takenAt), '--download', join(dir, 'never.db'), '--rehydrate'];
    const refused = await runCommand(args, variables);
    t.equal(refused.code, 12, refused.stderr);
    t.match(errorOf(refused).message, message);
    t.equal(service.times.length, requests);
  }
});

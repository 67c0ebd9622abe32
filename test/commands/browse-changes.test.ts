import { rename, rm, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { startBrowse } from '../support/browse-server.ts';
import { runCommand } from '../support/command.ts';
import { clusterSnapshot } from '../support/object-fixtures.ts';
import { temporaryFolder } from '../support/process.ts';
import { until } from '../support/until.ts';

const dir = temporaryFolder('browse-changes');
const bytes = clusterSnapshot();

const CHANGES: Readonly<Record<string, (file: string) => Promise<void>>> = {
  truncated: async (file) => truncate(file, 8192),
  emptied: async (file) => truncate(file, 0),
  overwritten: async (file) => writeFile(file, Buffer.alloc(bytes.length, 0xff), { flag: 'r+' }),
  appended: async (file) => writeFile(file, 'x', { flag: 'a' }),
  replaced: async (file) => {
    await writeFile(`${file}.new`, bytes);
    await rename(`${file}.new`, file);
  },
  removed: async (file) => rm(file),
};

for (const [change, make] of Object.entries(CHANGES)) {
  t.test(`a file that was ${change} is not taken for an empty one`, async (t) => {
    const file = join(dir, `${change}.db`);
    await writeFile(file, bytes);
    const { worker, url, logged } = await startBrowse(file);
    t.teardown(() => worker.kill());
    await make(file);
    const problem = change === 'removed' ? /does not exist/ : /was changed while it was read/;
    for (const path of ['configmaps', 'configmaps/texts']) {
      const answer = await fetch(`${url}/api/v1/namespaces/shop/${path}`);
      t.equal(answer.status, 500, path);
      t.match(await answer.json(), { kind: 'Status', code: 500, message: problem });
    }
    await until(() => logged().filter((line) => line.startsWith('a request failed')).length === 2);
    for (const line of logged()) t.match(line, problem);
  });
}

t.test('ages count from the time of the file where there is no record', async (t) => {
  const file = join(dir, 'dated.db');
  await writeFile(file, bytes);
  const key = '/registry/configmaps/shop/texts';
  const { stdout } = await runCommand(['inspect', file, '--get', key, '-o', 'json'], {});
  const { metadata } = JSON.parse(stdout) as { metadata: { creationTimestamp: string } };
  const created = Date.parse(metadata.creationTimestamp) / 1000;
  await utimes(file, created + 3 * 86_400, created + 3 * 86_400);
  const listed = await runCommand(['inspect', file, '--objects', '-n', 'shop', '--kind', 'ConfigMap'], {});
  t.match(listed.stdout, /configmap\/texts .* 3d\n/, listed.stderr);
  const { worker, url } = await startBrowse(file);
  t.teardown(() => worker.kill());
  const headers = { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' };
  for (const path of ['configmaps/texts', 'configmaps?fieldSelector=metadata.name%3Dtexts']) {
    const answer = await fetch(`${url}/api/v1/namespaces/shop/${path}`, { headers });
    const { rows } = (await answer.json()) as { rows: { cells: string[] }[] };
    t.equal(rows[0]?.cells.at(-1), '3d', path);
  }
});

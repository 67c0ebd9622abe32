import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { findJudge, without } from './support/judges.ts';
import { run } from './support/process.ts';

const ROOT = join(import.meta.dirname, '..');
const WORKFLOWS = join(ROOT, '.github', 'workflows');
const RELEASE_VERSION = join(ROOT, 'scripts', 'release-version.sh');

const files = readdirSync(WORKFLOWS).map((file) => ({ file, text: readFileSync(join(WORKFLOWS, file), 'utf8') }));

t.test('actionlint has nothing to say', { skip: without('actionlint') }, async (t) => {
  const { code, stdout, stderr } = await run(findJudge('actionlint') ?? '', [], {}, ROOT);
  t.equal(code, 0, stdout + stderr);
});

t.test('foreign actions are pinned by commit, jobs have the rights they need, and there is no secret', (t) => {
  for (const { file, text } of files) {
    for (const [, action = ''] of text.matchAll(/uses: (.+)/g)) {
      t.match(action, /^(\.\/|[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$)/, file);
    }
    const { permissions } = parse(text) as { permissions: unknown };
    t.ok(['{}', '{"contents":"read"}'].includes(JSON.stringify(permissions)), `${file}: rights are given to jobs`);
    t.strictSame(
      [...text.matchAll(/secrets\.(\w+)/g)].filter(([, name]) => name !== 'GITHUB_TOKEN'),
      [],
      file,
    );
  }
  t.end();
});

t.test('a release has the version of package.json', async (t) => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  t.match(await run(RELEASE_VERSION, [`v${version}`, 'Owner/Repo']), {
    code: 0,
    stdout: `version=${version}\nrepository=owner/repo\n`,
  });
  t.match(await run(RELEASE_VERSION, ['v99.0.0', 'Owner/Repo']), { code: 1, stderr: /the tag is v99\.0\.0, but/ });
});

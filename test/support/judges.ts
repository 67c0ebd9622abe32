import { accessSync, constants, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Finished, run, temporaryFolder } from './process.ts';

/** Built by test/tools/build.sh. */
const BUILT = join(import.meta.dirname, '..', 'tools', 'bin', 'tools');

/**
 * The path of a tool that judges what stands beside the program (kubectl, helm, actionlint, promtool …), or undefined where
 * this machine has none: then a test skips what needs it, and says so. CI demands them all by REQUIRED_TOOLS.
 */
export function findJudge(name: string): string | undefined {
  const places = [BUILT, ...(process.env['PATH'] ?? '').split(delimiter)].map((dir) => join(dir, name));
  return places.find(isExecutable);
}

/** For a test that cannot do without: false, or why it is skipped. */
export function without(name: string): string | false {
  return findJudge(name) === undefined && `there is no ${name} here`;
}

/** The verdict of a tool of ours, which reads manifests from its standard input. */
export async function judge(tool: string, yaml: string): Promise<Finished> {
  const file = join(temporaryFolder('judge'), 'manifests.yaml');
  writeFileSync(file, yaml);
  return run('sh', ['-c', 'exec "$0" <"$1"', findJudge(tool) ?? tool, file]);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
